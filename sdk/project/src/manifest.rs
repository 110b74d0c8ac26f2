//! `windlass.toml`: what a component is called, how it is built, how it runs, and what it may do.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use windlass_sdk_meta::Quantity;

/// The file's name.
pub const MANIFEST: &str = "windlass.toml";

/// More would be no microservice but a load test.
const MOST_REPLICAS: u32 = 10_000;
const MOST_NAME_BYTES: usize = 63;
const MOST_ENTRIES: usize = 256;

/// A key that isn't known is refused, so that a misspelt grant is no silent denial.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A DNS label: pods, the Service and the image are called by it.
    pub name: String,
    pub version: String,
    pub kind: Kind,
    pub build: Build,
    #[serde(default)]
    pub run: Run,
    #[serde(default)]
    pub allow: Allow,
    /// A container beside it.
    pub backend: Option<Backend>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Answers HTTP, for as long as it is deployed.
    Http,
    /// Runs to completion.
    Command,
}

/// Either a language, whose tool is known, or a command and the file that it makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub language: Option<Language>,
    /// A program and its arguments, run in the project's folder.
    pub command: Option<Vec<String>>,
    /// The WebAssembly file that `command` makes, below the project's folder.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    Go,
    C,
    Python,
    JavaScript,
}

impl Language {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::C => "C",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    pub replicas: u32,
    /// Where it answers, in its pods and at its Service.
    pub port: u16,
    /// Of all instances of a pod together, as Kubernetes writes quantities.
    pub memory: String,
    /// A path that answers 2xx or 3xx when the component is ready; none: it is ready once it listens.
    pub health: Option<String>,
    /// Of a command.
    pub arguments: Vec<String>,
}

impl Default for Run {
    fn default() -> Self {
        let memory = "64Mi".to_owned();
        Self { replicas: 1, port: 8080, memory, health: None, arguments: Vec::new() }
    }
}

/// What it may do beyond what every component may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// The only hosts it may call, as `windlass.dev/allowed-hosts` writes them.
    pub hosts: Vec<String>,
    /// The stores of `wasi:keyvalue` it may open.
    pub keyvalue: Vec<String>,
}

/// A container that the component calls, in pods of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Of any registry, or of the nodes' engines.
    pub image: String,
    /// Where it listens.
    pub port: u16,
    #[serde(default = "one")]
    pub replicas: u32,
    /// Of each of its pods, as Kubernetes writes quantities.
    #[serde(default = "container_memory")]
    pub memory: String,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Folders that it may write to, which begin empty.
    #[serde(default)]
    pub writable: Vec<String>,
}

fn one() -> u32 {
    1
}

fn container_memory() -> String {
    "128Mi".to_owned()
}

impl Backend {
    /// The variable that tells the component where it is.
    pub const VARIABLE: &str = "BACKEND";

    /// What its Deployment, its Service and its pods are called.
    pub fn name(of: &str) -> String {
        format!("{of}-backend")
    }

    fn wrong(&self, manifest: &Manifest) -> Option<(&'static str, String)> {
        if manifest.kind == Kind::Command {
            let why = "is of no use to a component of kind command".to_owned();
            return Some(("backend", why));
        }
        if let Some(why) = wrong_name(&Self::name(&manifest.name)) {
            return Some(("name", format!("is that of the back end too, and {why} with -backend")));
        }
        if manifest.environment.contains_key(Self::VARIABLE) {
            return Some((
                "environment",
                format!("holds {:?}, which [backend] sets", Self::VARIABLE),
            ));
        }
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return Some(("backend.image", format!("{:?} is no name of an image", self.image)));
        }
        if !self.writable.iter().all(|folder| folder.starts_with('/') && folder.len() > 1) {
            return Some(("backend.writable", "is to hold absolute paths below /".to_owned()));
        }
        wrong_scale("backend.replicas", self.replicas)
            .or_else(|| wrong_port("backend.port", self.port))
            .or_else(|| wrong_memory("backend.memory", &self.memory))
            .or_else(|| wrong_variable("backend.environment", &self.environment))
    }
}

impl Manifest {
    /// Reads the text of a manifest; the error says which key is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        match manifest.wrong() {
            Some((key, why)) => Err(format!("{key} {why}")),
            None => Ok(manifest),
        }
    }

    /// The first key whose value is of no use.
    fn wrong(&self) -> Option<(&'static str, String)> {
        if let Some(why) = wrong_name(&self.name) {
            return Some(("name", format!("{:?} is refused: {why}", self.name)));
        }
        if !is_label(&self.version) {
            let why = "is to be letters, digits, -, _ and . (63 at most)".to_owned();
            return Some(("version", why));
        }
        let known_ways = match &self.build {
            Build { language: Some(_), command: None, file: None } => true,
            Build { language: None, command: Some(command), file: Some(_) } => !command.is_empty(),
            _ => false,
        };
        if !known_ways {
            return Some(("build", "needs `language`, or `command` and `file`".to_owned()));
        }
        let of_backend = || self.backend.as_ref().and_then(|backend| backend.wrong(self));
        self.wrong_run().or_else(|| self.wrong_grant()).or_else(of_backend)
    }

    fn wrong_run(&self) -> Option<(&'static str, String)> {
        let run = &self.run;
        let amounts = wrong_scale("run.replicas", run.replicas)
            .or_else(|| wrong_port("run.port", run.port))
            .or_else(|| wrong_memory("run.memory", &run.memory));
        if amounts.is_some() {
            return amounts;
        }
        if run.health.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Some(("run.health", "is to be a path that begins with /".to_owned()));
        }
        match self.kind {
            Kind::Http if !run.arguments.is_empty() => {
                Some(("run.arguments", "are of no use to a component of kind http".to_owned()))
            }
            Kind::Command if run.health.is_some() => {
                Some(("run.health", "is of no use to a component of kind command".to_owned()))
            }
            _ => None,
        }
    }

    fn wrong_grant(&self) -> Option<(&'static str, String)> {
        let is_one = |word: &String| {
            !word.is_empty() && !word.contains(|c: char| c == ',' || c.is_whitespace())
        };
        for (key, list) in
            [("allow.hosts", &self.allow.hosts), ("allow.keyvalue", &self.allow.keyvalue)]
        {
            if let Some(word) = list.iter().find(|word| !is_one(word)) {
                return Some((key, format!("holds {word:?}, which is no single name")));
            }
            if list.len() > MOST_ENTRIES {
                return Some((key, format!("has more than {MOST_ENTRIES} entries")));
            }
        }
        wrong_variable("environment", &self.environment)
    }
}

fn wrong_scale(key: &'static str, replicas: u32) -> Option<(&'static str, String)> {
    let why = || (key, format!("is to be {MOST_REPLICAS} at most"));
    (replicas > MOST_REPLICAS).then(why)
}

fn wrong_port(key: &'static str, port: u16) -> Option<(&'static str, String)> {
    (port == 0).then(|| (key, "is to be from 1 to 65535".to_owned()))
}

fn wrong_memory(key: &'static str, memory: &str) -> Option<(&'static str, String)> {
    let is_amount = memory.parse::<Quantity>().is_ok_and(|memory| memory.units() > 0);
    (!is_amount).then(|| (key, format!("{memory:?} is no amount such as 64Mi")))
}

fn wrong_variable(
    key: &'static str,
    environment: &BTreeMap<String, String>,
) -> Option<(&'static str, String)> {
    let is_variable = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
    let wrong = environment.keys().find(|name| !is_variable(name))?;
    Some((key, format!("holds {wrong:?}, which is no name of a variable")))
}

/// Why a name can't be that of a Service (RFC 1035's label, the narrowest of those it is used for).
pub(crate) fn wrong_name(name: &str) -> Option<&'static str> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > MOST_NAME_BYTES {
        Some("it has more than 63 characters")
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Some("it is to begin with a lower-case letter")
    } else if !name.chars().all(is_allowed) {
        Some("it is to be lower-case letters, digits and hyphens")
    } else if name.ends_with('-') {
        Some("it is to end with a letter or a digit")
    } else {
        None
    }
}

/// Can it be the value of a label?
fn is_label(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= MOST_NAME_BYTES
        && text.chars().all(is_allowed)
        && is_end(text.chars().next())
        && is_end(text.chars().last())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const LEAST: &str = "name = 'cart'\nversion = '1.0'\nkind = 'http'\n";
    const RUST: &str = "build = {language = 'rust'}\n";

    fn check(text: &str, expected: Expect) {
        let shown = match Manifest::parse(text) {
            Ok(manifest) => format!("{manifest:?}"),
            Err(why) => why,
        };
        expected.assert_eq(&shown);
    }

    fn refused(more: &str, expected: Expect) {
        check(&format!("{LEAST}{RUST}{more}"), expected);
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        check(
            &format!("{LEAST}{RUST}"),
            expect![[
                r#"Manifest { name: "cart", version: "1.0", kind: Http, build: Build { language: Some(Rust), command: None, file: None }, run: Run { replicas: 1, port: 8080, memory: "64Mi", health: None, arguments: [] }, allow: Allow { hosts: [], keyvalue: [] }, backend: None, environment: {} }"#
            ]],
        );
        check(
            "name = 'cart'\nversion = '1.0'\nkind = 'command'\n\
             build = {command = ['make'], file = 'cart.wasm'}\n\
             run = {replicas = 2, port = 80, memory = '1Gi', arguments = ['a']}\n\
             allow = {hosts = ['*.example.com:443'], keyvalue = ['default']}\n\
             environment = {MODE = 'fast'}",
            expect![[
                r#"Manifest { name: "cart", version: "1.0", kind: Command, build: Build { language: None, command: Some(["make"]), file: Some("cart.wasm") }, run: Run { replicas: 2, port: 80, memory: "1Gi", health: None, arguments: ["a"] }, allow: Allow { hosts: ["*.example.com:443"], keyvalue: ["default"] }, backend: None, environment: {"MODE": "fast"} }"#
            ]],
        );
    }

    #[test]
    fn a_wrong_key_is_named() {
        refused(
            "alow = {}",
            expect![[r#"
                TOML parse error at line 5, column 1
                  |
                5 | alow = {}
                  | ^^^^
                unknown field `alow`, expected one of `name`, `version`, `kind`, `build`, `run`, `allow`, `backend`, `environment`"#]],
        );
        refused(
            "[run]\nreplica = 2",
            expect![[r#"
            TOML parse error at line 6, column 1
              |
            6 | replica = 2
              | ^^^^^^^
            unknown field `replica`, expected one of `replicas`, `port`, `memory`, `health`, `arguments`"#]],
        );
        refused(
            "[allow]\nhost = ['example.com']",
            expect![[r#"
            TOML parse error at line 6, column 1
              |
            6 | host = ['example.com']
              | ^^^^
            unknown field `host`, expected `hosts` or `keyvalue`"#]],
        );
        check(
            "name = 'cart'",
            expect![[r#"
            TOML parse error at line 1, column 1
              |
            1 | name = 'cart'
              | ^
            missing field `version`"#]],
        );
        check(
            &format!("{LEAST}build = {{language = 'cobol'}}"),
            expect![[r#"
                TOML parse error at line 4, column 21
                  |
                4 | build = {language = 'cobol'}
                  |                     ^^^^^^^
                unknown variant `cobol`, expected one of `rust`, `go`, `c`, `python`, `javascript`"#]],
        );
    }

    #[test]
    fn a_wrong_value_is_named() {
        check(
            &format!("{LEAST}build = {{}}"),
            expect!["build needs `language`, or `command` and `file`"],
        );
        check(
            &format!("{LEAST}build = {{command = ['make']}}"),
            expect!["build needs `language`, or `command` and `file`"],
        );
        check(
            &LEAST.replace("cart", "Cart").replace("kind", "build.language = 'go'\nkind"),
            expect![[r#"name "Cart" is refused: it is to begin with a lower-case letter"#]],
        );
        check(
            &LEAST.replace("1.0", "1 0").replace("kind", "build.language = 'go'\nkind"),
            expect!["version is to be letters, digits, -, _ and . (63 at most)"],
        );
        refused("run.replicas = 1000000", expect!["run.replicas is to be 10000 at most"]);
        refused("run.port = 0", expect!["run.port is to be from 1 to 65535"]);
        refused("run.memory = 'much'", expect![[r#"run.memory "much" is no amount such as 64Mi"#]]);
        refused("run.health = 'healthz'", expect!["run.health is to be a path that begins with /"]);
        refused(
            "run.arguments = ['a']",
            expect!["run.arguments are of no use to a component of kind http"],
        );
        refused(
            "allow.hosts = ['a.example, b.example']",
            expect![[r#"allow.hosts holds "a.example, b.example", which is no single name"#]],
        );
        refused(
            "allow.keyvalue = ['']",
            expect![[r#"allow.keyvalue holds "", which is no single name"#]],
        );
        let backend = "backend = {image = 'a', port = 1";
        refused(
            &format!("{backend}, writable = ['tmp']}}"),
            expect!["backend.writable is to hold absolute paths below /"],
        );
        refused(
            &format!("{backend}, memory = 'much'}}"),
            expect![[r#"backend.memory "much" is no amount such as 64Mi"#]],
        );
        refused(
            &format!("{backend}}}\nenvironment.BACKEND = 'b'"),
            expect![[r#"environment holds "BACKEND", which [backend] sets"#]],
        );
        refused(
            "backend = {image = '', port = 1}",
            expect![[r#"backend.image "" is no name of an image"#]],
        );
        refused(
            "backend = {image = 'a'}",
            expect![[r#"
            TOML parse error at line 5, column 11
              |
            5 | backend = {image = 'a'}
              |           ^^^^^^^^^^^^^
            missing field `port`"#]],
        );
        refused(
            "environment = {'A=B' = 'c'}",
            expect![[r#"environment holds "A=B", which is no name of a variable"#]],
        );
    }
}
