//! A Spin application, as the locked document in its image says it (`spin_lock_version` 0 and 1): its
//! components and their files, variables and rights, and the HTTP trigger's routes. What would run
//! differently here than there is refused by name, before a byte of it is fetched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{PackageError, oci::is_digest};

/// Files of one component.
const FILES: usize = 10_000;
/// A base64 text in the document itself; the builder puts up to 128 bytes there.
const INLINE_CHARACTERS: usize = 64 * 1024;
const COMPONENTS: usize = 100;
const ROUTES: usize = 1000;
/// Requirements on the host that are met here.
const MET: [&str; 1] = ["local_service_chaining"];
const UNDERSTOOD: [&str; 2] = ["host_requirements", "component_host_requirements"];
/// Ways to call a component that mean `wasi:http`.
const EXECUTORS: [&str; 3] = ["http", "spin", "wasi"];

/// An application of the HTTP trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinApp {
    pub name: String,
    pub variables: Vec<SpinVariable>,
    pub components: Vec<SpinComponent>,
    pub routes: Vec<SpinRoute>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinVariable {
    pub name: String,
    /// None: it must be set.
    pub default: Option<String>,
    pub secret: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinComponent {
    pub id: String,
    /// Of its wasm.
    pub digest: String,
    pub env: Vec<(String, String)>,
    pub files: Vec<SpinFile>,
    /// Its own variables: templates over the application's.
    pub variables: Vec<(String, String)>,
    pub key_value_stores: Vec<String>,
    pub sqlite_databases: Vec<String>,
    pub allowed_outbound_hosts: Vec<String>,
}

/// A file that a component finds below `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinFile {
    /// Relative, without `.` and `..`.
    pub path: String,
    pub content: SpinContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpinContent {
    /// A layer's, or that of a file in an archive layer.
    Digest(String),
    /// In base64.
    Inline(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinRoute {
    pub component: String,
    /// None: only other components reach it.
    pub route: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Locked {
    spin_lock_version: u64,
    must_understand: Vec<String>,
    metadata: Value,
    host_requirements: BTreeMap<String, Value>,
    variables: BTreeMap<String, LockedVariable>,
    triggers: Vec<LockedTrigger>,
    components: Vec<LockedComponent>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedVariable {
    default: Option<String>,
    secret: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedTrigger {
    trigger_type: String,
    trigger_config: Value,
    trigger_dependencies: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedComponent {
    id: String,
    metadata: Value,
    source: LockedContent,
    env: BTreeMap<String, String>,
    files: Vec<LockedFile>,
    config: BTreeMap<String, String>,
    dependencies: BTreeMap<String, Value>,
    trigger_dependencies: BTreeMap<String, Value>,
    host_requirements: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedContent {
    digest: Option<String>,
    inline: Option<String>,
}

#[derive(Deserialize)]
struct LockedFile {
    path: String,
    #[serde(flatten)]
    content: LockedContent,
}

impl SpinApp {
    /// Reads the document. The error says what of the application doesn't run here.
    pub fn read(document: &[u8]) -> Result<Self, PackageError> {
        let locked: Locked = serde_json::from_slice(document).map_err(|error| {
            PackageError::Refused(format!("its Spin application can't be read: {error}"))
        })?;
        app(locked).map_err(|what| {
            PackageError::Refused(format!(
                "it is a Spin application {what}, which doesn't run here"
            ))
        })
    }
}

fn app(locked: Locked) -> Result<SpinApp, String> {
    if locked.spin_lock_version > 1 {
        return Err(format!("of lock version {}", locked.spin_lock_version));
    }
    let strange = locked.must_understand.iter().find(|what| !UNDERSTOOD.contains(&what.as_str()));
    if let Some(strange) = strange {
        return Err(format!("that must be understood with its {strange:?}"));
    }
    required(&locked.host_requirements)?;
    if locked.components.is_empty() || locked.components.len() > COMPONENTS {
        return Err(format!("of {} components", locked.components.len()));
    }
    let routes = routes(&locked)?;
    let name = locked.metadata["name"].as_str().unwrap_or("spin").to_owned();
    let variables = locked.variables.into_iter().map(|(name, variable)| SpinVariable {
        name,
        default: variable.default,
        secret: variable.secret,
    });
    Ok(SpinApp {
        name,
        variables: variables.collect(),
        routes,
        components: locked.components.into_iter().map(component).collect::<Result<_, _>>()?,
    })
}

fn required(requirements: &BTreeMap<String, Value>) -> Result<(), String> {
    let unmet =
        requirements.iter().find(|(name, how)| *how != "optional" && !MET.contains(&name.as_str()));
    unmet.map_or(Ok(()), |(name, _)| Err(format!("that requires {name:?} of its host")))
}

fn routes(locked: &Locked) -> Result<Vec<SpinRoute>, String> {
    if locked.triggers.is_empty() || locked.triggers.len() > ROUTES {
        return Err(format!("of {} triggers", locked.triggers.len()));
    }
    let base = ["trigger", "triggers"].iter().find_map(|key| {
        let trigger = &locked.metadata[*key];
        trigger["base"].as_str().or(trigger["http"]["base"].as_str())
    });
    let base = base.unwrap_or_default().trim_end_matches('/');
    let mut routes = Vec::new();
    for LockedTrigger { trigger_type, trigger_config, trigger_dependencies } in &locked.triggers {
        if trigger_type != "http" {
            return Err(format!("with the trigger {trigger_type:?}"));
        }
        if let Some(name) = trigger_dependencies.keys().next() {
            return Err(format!("with the trigger dependency {name:?}"));
        }
        let executor = trigger_config["executor"]["type"].as_str().unwrap_or(EXECUTORS[0]);
        if !EXECUTORS.contains(&executor) {
            return Err(format!("with the executor {executor:?}"));
        }
        let component = trigger_config["component"].as_str().unwrap_or_default();
        if !locked.components.iter().any(|known| known.id == component) {
            return Err(format!("whose route leads to the component {component:?} that it lacks"));
        }
        let route = match &trigger_config["route"] {
            Value::String(route) => Some(absolute(base, route)?),
            private if private["private"] == true => None,
            other => return Err(format!("with the route {other}")),
        };
        routes.push(SpinRoute { component: component.to_owned(), route });
    }
    Ok(routes)
}

/// A route that can be matched: `...` and `*` only at its end.
fn absolute(base: &str, route: &str) -> Result<String, String> {
    let path = format!("{base}/{}", route.trim_start_matches('/'));
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let wildcard = part == "..." || part == "*";
        if part == ":" || (wildcard && parts.peek().is_some()) {
            return Err(format!("with the route {route:?}"));
        }
    }
    Ok(path)
}

fn component(locked: LockedComponent) -> Result<SpinComponent, String> {
    let id = locked.id;
    required(&locked.host_requirements)?;
    let dependency = locked.dependencies.keys().chain(locked.trigger_dependencies.keys()).next();
    if let Some(name) = dependency {
        return Err(format!("whose component {id} has the dependency {name:?} (push it composed)"));
    }
    let digest = locked.source.digest.filter(|digest| is_digest(digest));
    if locked.files.len() > FILES {
        return Err(format!("whose component {id} has more than {FILES} files"));
    }
    let names = |key: &str| -> Vec<String> {
        let list = locked.metadata[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let mut hosts = names("allowed_outbound_hosts");
    hosts.extend(names("allowed_http_hosts").into_iter().map(|host| older_host(&host)));
    Ok(SpinComponent {
        digest: digest
            .ok_or_else(|| format!("whose component {id} names no wasm by its digest"))?,
        env: locked.env.into_iter().collect(),
        files: locked.files.into_iter().map(|of| file(&id, of)).collect::<Result<_, _>>()?,
        variables: locked.config.into_iter().collect(),
        key_value_stores: names("key_value_stores"),
        sqlite_databases: names("databases"),
        allowed_outbound_hosts: hosts,
        id,
    })
}

/// Applications of the older manifest name hosts of HTTP requests alone.
fn older_host(host: &str) -> String {
    match host {
        "insecure:allow-all" => "*://*:*".to_owned(),
        host if host.contains("://") => host.to_owned(),
        host => format!("*://{host}"),
    }
}

fn file(component: &str, LockedFile { path, content }: LockedFile) -> Result<SpinFile, String> {
    let of = |what: &str| format!("whose component {component} has the file {path:?} {what}");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty()
        || parts.iter().any(|part| matches!(*part, "." | "..") || part.contains('\0'))
    {
        return Err(of("outside its folder"));
    }
    let content = match (content.inline, content.digest) {
        (Some(inline), _) if inline.len() <= INLINE_CHARACTERS => SpinContent::Inline(inline),
        (_, Some(digest)) if is_digest(&digest) => SpinContent::Digest(digest),
        _ => return Err(of("without content")),
    };
    Ok(SpinFile { path: parts.join("/"), content })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let digest = format!("sha256:{}", "a".repeat(64));
        json!({
            "spin_lock_version": 1,
            "must_understand": ["host_requirements"],
            "metadata": {"name": "shop", "version": "1.0.0"},
            "host_requirements": {"local_service_chaining": "required", "moon": "optional"},
            "variables": {"greeting": {"default": "hi"}, "token": {"secret": true}},
            "triggers": [
                {"id": "t1", "trigger_type": "http",
                    "trigger_config": {"component": "web", "route": "/users/:id/..."}},
                {"id": "t2", "trigger_type": "http",
                    "trigger_config": {"component": "db", "route": {"private": true}, "executor": {"type": "http"}}},
            ],
            "components": [
                {"id": "web", "source": {"content_type": "application/wasm", "digest": digest},
                    "env": {"A": "1"}, "config": {"text": "{{ greeting }}!"},
                    "files": [{"digest": digest, "path": "/static//a.txt"}, {"inline": "YQ==", "path": "b"}],
                    "metadata": {"allowed_outbound_hosts": ["http://self"], "key_value_stores": ["default"], "databases": ["main"]}},
                {"id": "db", "source": {"digest": digest}, "metadata": {"allowed_http_hosts": ["a.example", "insecure:allow-all"]}},
            ],
        })
    }

    fn check(change: impl FnOnce(&mut Value), expected: Expect) {
        let mut document = document();
        change(&mut document);
        let text = match SpinApp::read(document.to_string().as_bytes()) {
            Err(error) => error.to_string(),
            Ok(app) => serde_json::to_string(&app).expect("json").replace(&"a".repeat(64), "AA"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn documents_are_read() {
        check(
            |_| {},
            expect![[
                r#"{"name":"shop","variables":[{"name":"greeting","default":"hi","secret":false},{"name":"token","default":null,"secret":true}],"components":[{"id":"web","digest":"sha256:AA","env":[["A","1"]],"files":[{"path":"static/a.txt","content":{"digest":"sha256:AA"}},{"path":"b","content":{"inline":"YQ=="}}],"variables":[["text","{{ greeting }}!"]],"keyValueStores":["default"],"sqliteDatabases":["main"],"allowedOutboundHosts":["http://self"]},{"id":"db","digest":"sha256:AA","env":[],"files":[],"variables":[],"keyValueStores":[],"sqliteDatabases":[],"allowedOutboundHosts":["*://a.example","*://*:*"]}],"routes":[{"component":"web","route":"/users/:id/..."},{"component":"db","route":null}]}"#
            ]],
        );
        check(
            |app| app["metadata"]["trigger"] = json!({"type": "http", "base": "/v1/"}),
            expect![[
                r#"{"name":"shop","variables":[{"name":"greeting","default":"hi","secret":false},{"name":"token","default":null,"secret":true}],"components":[{"id":"web","digest":"sha256:AA","env":[["A","1"]],"files":[{"path":"static/a.txt","content":{"digest":"sha256:AA"}},{"path":"b","content":{"inline":"YQ=="}}],"variables":[["text","{{ greeting }}!"]],"keyValueStores":["default"],"sqliteDatabases":["main"],"allowedOutboundHosts":["http://self"]},{"id":"db","digest":"sha256:AA","env":[],"files":[],"variables":[],"keyValueStores":[],"sqliteDatabases":[],"allowedOutboundHosts":["*://a.example","*://*:*"]}],"routes":[{"component":"web","route":"/v1/users/:id/..."},{"component":"db","route":null}]}"#
            ]],
        );
    }

    #[test]
    fn what_would_not_run_is_refused_by_name() {
        let trigger = |app: &mut Value, key: &str, value: Value| {
            app["triggers"][0]["trigger_config"][key] = value;
        };
        check(
            |app| app["spin_lock_version"] = json!(2),
            expect![
                "not an image that runs here: it is a Spin application of lock version 2, which doesn't run here"
            ],
        );
        check(
            |app| app["must_understand"] = json!(["the_sea"]),
            expect![[
                r#"not an image that runs here: it is a Spin application that must be understood with its "the_sea", which doesn't run here"#
            ]],
        );
        check(
            |app| app["host_requirements"]["moon"] = json!("required"),
            expect![[
                r#"not an image that runs here: it is a Spin application that requires "moon" of its host, which doesn't run here"#
            ]],
        );
        check(
            |app| app["triggers"][0]["trigger_type"] = json!("redis"),
            expect![[
                r#"not an image that runs here: it is a Spin application with the trigger "redis", which doesn't run here"#
            ]],
        );
        check(
            |app| app["triggers"] = json!([]),
            expect![
                "not an image that runs here: it is a Spin application of 0 triggers, which doesn't run here"
            ],
        );
        check(
            |app| trigger(app, "executor", json!({"type": "wagi"})),
            expect![[
                r#"not an image that runs here: it is a Spin application with the executor "wagi", which doesn't run here"#
            ]],
        );
        check(
            |app| trigger(app, "component", json!("nobody")),
            expect![[
                r#"not an image that runs here: it is a Spin application whose route leads to the component "nobody" that it lacks, which doesn't run here"#
            ]],
        );
        check(
            |app| trigger(app, "route", json!("/a/.../b")),
            expect![[
                r#"not an image that runs here: it is a Spin application with the route "/a/.../b", which doesn't run here"#
            ]],
        );
        check(
            |app| trigger(app, "route", json!({"private": false})),
            expect![[
                r#"not an image that runs here: it is a Spin application with the route {"private":false}, which doesn't run here"#
            ]],
        );
        check(
            |app| app["components"][0]["dependencies"] = json!({"a:b/c": {}}),
            expect![[
                r#"not an image that runs here: it is a Spin application whose component web has the dependency "a:b/c" (push it composed), which doesn't run here"#
            ]],
        );
        check(
            |app| app["components"][0]["source"] = json!({"source": "file:///x"}),
            expect![
                "not an image that runs here: it is a Spin application whose component web names no wasm by its digest, which doesn't run here"
            ],
        );
        check(
            |app| app["components"][0]["files"][0]["path"] = json!("../a"),
            expect![[
                r#"not an image that runs here: it is a Spin application whose component web has the file "../a" outside its folder, which doesn't run here"#
            ]],
        );
        check(
            |app| app["components"] = json!([]),
            expect![
                "not an image that runs here: it is a Spin application of 0 components, which doesn't run here"
            ],
        );
        check(
            |app| *app = json!([]),
            expect![
                "not an image that runs here: it is a Spin application of 0 components, which doesn't run here"
            ],
        );
    }
}
