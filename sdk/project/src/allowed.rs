//! What a component may do: what it imports and its manifest names, and nothing else. Whether nodes
//! have all that it imports is told here too, before anything is sent to a cluster.

use windlass_sdk_package::{Inspection, Sort};

use crate::{Backend, Kind, Manifest};

/// Packages of interfaces that nodes have, and how their versions begin (`runtime/wasm`'s linkers
/// are what counts; a node refuses what it lacks, with the name).
const OFFERED: [(&str, &[&str]); 12] = [
    ("wasi:cli", &["0.2.", "0.3."]),
    ("wasi:clocks", &["0.2.", "0.3."]),
    ("wasi:filesystem", &["0.2.", "0.3."]),
    ("wasi:http", &["0.2.", "0.3."]),
    ("wasi:io", &["0.2."]),
    ("wasi:random", &["0.2.", "0.3."]),
    ("wasi:sockets", &["0.2.", "0.3."]),
    ("wasi:config", &["0.2.0-"]),
    ("wasi:keyvalue", &["0.2.0-draft2"]),
    ("wasi:logging", &["", "0.1.0-draft"]),
    ("wasi:tls", &["0.2.0-draft", "0.3.0-draft"]),
    ("fermyon:spin", &["2.0.0"]),
];
/// What modules import from.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1.", "wasi_unstable."];

const SERVES_HTTP: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];
const RUNS: [&str; 2] = ["wasi:cli/run@0.2.", "wasi:cli/run@0.3."];
const CALLS: [&str; 3] = ["wasi:http/outgoing-handler@", "wasi:http/client@", "wasi:sockets/"];
const KEEPS: [&str; 2] = ["wasi:keyvalue/", "fermyon:spin/key-value@"];

/// The grants of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The only hosts it may call; empty: none.
    pub hosts: Vec<String>,
    /// The key-value stores it may open.
    pub keyvalue: Vec<String>,
    /// Grants of the manifest that it doesn't get, because it imports nothing that would use them.
    pub unused: Vec<String>,
}

impl Allowed {
    /// Compares what a component is with what its manifest says; the error is for people.
    pub fn judge(manifest: &Manifest, found: &Inspection) -> Result<Self, String> {
        match (kind(found), manifest.kind) {
            (Some(Kind::Http), Kind::Http) | (Some(Kind::Command), Kind::Command) => {}
            (Some(Kind::Http), Kind::Command) => {
                return Err("it answers HTTP, and windlass.toml says kind = \"command\"".into());
            }
            (Some(Kind::Command), Kind::Http) => {
                return Err("it runs to completion, and windlass.toml says kind = \"http\"".into());
            }
            (None, _) => {
                return Err("it exports neither wasi:http/incoming-handler (0.2), \
                     wasi:http/handler (0.3), wasi:cli/run nor _start: nothing can start it"
                    .into());
            }
        }
        let missing: Vec<&str> =
            found.imports.iter().filter_map(|name| missing(found, name)).collect();
        if !missing.is_empty() {
            return Err(format!("it imports what no node has: {}", missing.join(", ")));
        }
        let imports = |some: &[&str]| starts(&found.imports, some);
        if imports(&KEEPS) && manifest.allow.keyvalue.is_empty() {
            return Err("it imports wasi:keyvalue, and windlass.toml grants no store: say \
                 `keyvalue = [\"default\"]` in [allow]"
                .into());
        }
        let mut allowed = Self::default();
        if let Some(backend) = &manifest.backend {
            if !imports(&CALLS) {
                return Err(
                    "windlass.toml has a [backend], and the component imports nothing that \
                     it could call it by"
                        .into(),
                );
            }
            allowed.hosts.push(format!("{}:{}", Backend::name(&manifest.name), backend.port));
        }
        allowed.grant("hosts", &manifest.allow.hosts, imports(&CALLS));
        allowed.grant("keyvalue", &manifest.allow.keyvalue, imports(&KEEPS));
        Ok(allowed)
    }

    fn grant(&mut self, key: &str, names: &[String], is_used: bool) {
        let granted = if key == "hosts" { &mut self.hosts } else { &mut self.keyvalue };
        if is_used {
            granted.extend(names.iter().cloned());
        } else if !names.is_empty() {
            self.unused.push(key.to_owned());
        }
    }
}

fn kind(found: &Inspection) -> Option<Kind> {
    match found.sort {
        Sort::Module => found.exports.iter().any(|name| name == "_start").then_some(Kind::Command),
        Sort::Component if starts(&found.exports, &SERVES_HTTP) => Some(Kind::Http),
        Sort::Component if starts(&found.exports, &RUNS) => Some(Kind::Command),
        Sort::Component => None,
    }
}

/// The import, where no node has it.
fn missing<'a>(found: &Inspection, import: &'a str) -> Option<&'a str> {
    if found.sort == Sort::Module {
        return (!MODULES.iter().any(|known| import.starts_with(known))).then_some(import);
    }
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    let package = path.split('/').next().unwrap_or(path);
    let is_offered = OFFERED.iter().any(|(known, versions)| {
        *known == package
            && versions.iter().any(|begin| {
                if begin.is_empty() { version.is_empty() } else { version.starts_with(begin) }
            })
    });
    (!is_offered).then_some(import)
}

fn starts(names: &[String], some: &[&str]) -> bool {
    names.iter().any(|name| some.iter().any(|begin| name.starts_with(begin)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const HANDLER: &str = "wasi:http/incoming-handler@0.2.12";

    fn check(kind: &str, allow: &str, imports: &[&str], exports: &[&str], expected: Expect) {
        let text = format!(
            "name = 'cart'\nversion = '1'\nkind = '{kind}'\nbuild.language = 'rust'\n\
             allow = {allow}"
        );
        let manifest = Manifest::parse(&text).expect("a manifest");
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let sort = match exports {
            ["_start"] => Sort::Module,
            _ => Sort::Component,
        };
        let found = Inspection {
            sort,
            imports: names(imports),
            exports: names(exports),
            annotations: Default::default(),
        };
        let shown = match Allowed::judge(&manifest, &found) {
            Ok(allowed) => format!("{allowed:?}"),
            Err(why) => why,
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn only_what_is_imported_and_named_is_granted() {
        let cli = "wasi:cli/stdout@0.2.3";
        let out = "wasi:http/outgoing-handler@0.2.12";
        let keyvalue = "wasi:keyvalue/store@0.2.0-draft2";
        let all = "{hosts = ['example.com'], keyvalue = ['default', 'carts']}";
        check(
            "http",
            "{}",
            &[cli],
            &[HANDLER],
            expect!["Allowed { hosts: [], keyvalue: [], unused: [] }"],
        );
        check(
            "http",
            "{}",
            &[cli, out],
            &[HANDLER],
            expect!["Allowed { hosts: [], keyvalue: [], unused: [] }"],
        );
        check(
            "http",
            all,
            &[cli],
            &[HANDLER],
            expect![[r#"Allowed { hosts: [], keyvalue: [], unused: ["hosts", "keyvalue"] }"#]],
        );
        check(
            "http",
            all,
            &[out, keyvalue],
            &[HANDLER],
            expect![[
                r#"Allowed { hosts: ["example.com"], keyvalue: ["default", "carts"], unused: [] }"#
            ]],
        );
        check(
            "http",
            "{}",
            &[keyvalue],
            &[HANDLER],
            expect![[
                r#"it imports wasi:keyvalue, and windlass.toml grants no store: say `keyvalue = ["default"]` in [allow]"#
            ]],
        );
        check(
            "command",
            all,
            &["wasi:sockets/tcp@0.3.0"],
            &["wasi:cli/run@0.3.0"],
            expect![[r#"Allowed { hosts: ["example.com"], keyvalue: [], unused: ["keyvalue"] }"#]],
        );
    }

    #[test]
    fn a_back_end_may_be_called() {
        let grants = "{hosts = ['example.com']}\nbackend = {image = 'a', port = 80}";
        let out = "wasi:http/outgoing-handler@0.2.12";
        check(
            "http",
            grants,
            &[out],
            &[HANDLER],
            expect![[
                r#"Allowed { hosts: ["cart-backend:80", "example.com"], keyvalue: [], unused: [] }"#
            ]],
        );
        check(
            "http",
            grants,
            &[],
            &[HANDLER],
            expect![
                "windlass.toml has a [backend], and the component imports nothing that it could call it by"
            ],
        );
    }

    #[test]
    fn what_it_is_must_be_what_is_said() {
        let p1 = "wasi_snapshot_preview1.fd_write";
        check(
            "command",
            "{}",
            &[p1],
            &["_start"],
            expect!["Allowed { hosts: [], keyvalue: [], unused: [] }"],
        );
        check(
            "http",
            "{}",
            &[p1],
            &["_start"],
            expect![[r#"it runs to completion, and windlass.toml says kind = "http""#]],
        );
        check(
            "command",
            "{}",
            &[],
            &[HANDLER],
            expect![[r#"it answers HTTP, and windlass.toml says kind = "command""#]],
        );
        check(
            "http",
            "{}",
            &[],
            &["acme:shop/cart"],
            expect![
                "it exports neither wasi:http/incoming-handler (0.2), wasi:http/handler (0.3), wasi:cli/run nor _start: nothing can start it"
            ],
        );
    }

    #[test]
    fn what_no_node_has_is_named() {
        let imports = [
            "wasi:nn/graph@0.2.0-rc",
            "wasi:io/poll@0.2.0",
            "wasi:io/poll@0.4.0",
            "acme:shop/cart",
        ];
        check(
            "http",
            "{}",
            &imports,
            &[HANDLER],
            expect![
                "it imports what no node has: wasi:nn/graph@0.2.0-rc, wasi:io/poll@0.4.0, acme:shop/cart"
            ],
        );
        check(
            "http",
            "{}",
            &["wasi:logging/logging"],
            &[HANDLER],
            expect!["Allowed { hosts: [], keyvalue: [], unused: [] }"],
        );
        check(
            "command",
            "{}",
            &["env.abort"],
            &["_start"],
            expect!["it imports what no node has: env.abort"],
        );
    }
}
