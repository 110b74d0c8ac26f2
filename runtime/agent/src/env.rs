//! A container's environment, command and arguments with every reference resolved. Pure: what it
//! refers to is fetched beforehand.

use std::collections::{BTreeMap, BTreeSet};

use windlass_runtime_volume::{Facts, field, resource};
use windlass_sdk_types::{
    Kind, Service,
    api::core::v1::{Container, EnvVarSource, FileKeySelector, Pod},
};

use crate::{env_file, mounts::EnvFiles};

/// The data of a ConfigMap or Secret.
pub type Data = BTreeMap<String, String>;

/// Names of the objects that a container's environment refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    /// Volumes and paths in them.
    pub files: BTreeSet<(String, String)>,
}

/// Everything a resolution looks at.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// Those of `needs` that exist.
    pub config_maps: &'a BTreeMap<String, Data>,
    pub secrets: &'a BTreeMap<String, Data>,
    /// Those of `needs`, and why one can't be read.
    pub files: &'a EnvFiles,
    /// What `HOSTNAME` says where the pod doesn't set it.
    pub hostname: &'a str,
    /// Services whose address is told in variables; see [`visible_services`].
    pub services: &'a [std::sync::Arc<Service>],
    pub facts: Facts<'a>,
}

/// What the runtime is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub env: Vec<(String, String)>,
    pub command: Vec<String>,
    pub args: Vec<String>,
}

/// What must be fetched for this container.
pub fn needs(container: &Container) -> Needs {
    let mut needs = Needs::default();
    for from in container.env_from.iter().flatten() {
        needs.config_maps.extend(from.config_map_ref.iter().map(|map| map.name.clone()));
        needs.secrets.extend(from.secret_ref.iter().map(|secret| secret.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        needs.config_maps.extend(from.config_map_key_ref.iter().map(|key| key.name.clone()));
        needs.secrets.extend(from.secret_key_ref.iter().map(|key| key.name.clone()));
        let files = from.file_key_ref.iter();
        needs.files.extend(files.map(|file| (file.volume_name.clone(), file.path.clone())));
    }
    needs
}

/// Resolves a container; the error is a message as upstream writes it, for the reason
/// CreateContainerConfigError.
pub fn resolve(inputs: &Inputs<'_>) -> Result<Resolved, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |env: &mut BTreeMap<String, String>, name: String, value: String| {
        if env.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    set(&mut env, "HOSTNAME".to_owned(), inputs.hostname.to_owned());
    for (name, value) in service_variables(inputs) {
        set(&mut env, name, value);
    }
    for (name, value) in from_sources(inputs)? {
        set(&mut env, name, value);
    }
    for variable in inputs.container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &env)),
            Some(from) => from_reference(inputs, from)?,
        };
        if let Some(value) = value {
            set(&mut env, variable.name.clone(), value);
        }
    }
    let expand_all =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, &env)).collect();
    let command = expand_all(&inputs.container.command);
    let args = expand_all(&inputs.container.args);
    let env = order
        .into_iter()
        .map(|name| {
            let value = env.remove(&name).unwrap_or_default();
            (name, value)
        })
        .collect();
    Ok(Resolved { env, command, args })
}

/// As [`expand`]; a variable that isn't set is an error.
pub fn expand_strictly(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, _)) = rest.strip_prefix('(').and_then(|open| open.split_once(')'))
            && !env.contains_key(name)
        {
            return Err(format!("missing value for {name:?}"));
        }
    }
    Ok(expand(text, env))
}

/// `$(NAME)` becomes the variable's value where it is set and stays as it is where not; `$$` is a
/// dollar sign (as in `$$(NAME)`, which isn't replaced).
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|open| open.split_once(')'))
        {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Where a container writes its last words.
pub fn termination_path(container: &Container) -> &str {
    let path = container.termination_message_path.as_deref();
    path.filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log")
}

/// None where an optional reference leads nowhere.
fn from_reference(inputs: &Inputs<'_>, from: &EnvVarSource) -> Result<Option<String>, String> {
    if let Some(reference) = &from.field_ref {
        return field(&inputs.facts, &reference.field_path).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return resource(&inputs.facts, Some(inputs.container), selector).map(Some);
    }
    if let Some(file) = &from.file_key_ref {
        return from_file(inputs, file);
    }
    let (known, sort, lower, name, key, optional) = if let Some(from) = &from.config_map_key_ref {
        (inputs.config_maps, "ConfigMap", "configmap", &from.name, &from.key, from.optional)
    } else if let Some(from) = &from.secret_key_ref {
        (inputs.secrets, "Secret", "secret", &from.name, &from.key, from.optional)
    } else {
        return Ok(None);
    };
    let optional = optional == Some(true);
    match known.get(name).map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(value.clone())),
        _ if optional => Ok(None),
        Some(None) => {
            let namespace = inputs.pod.namespace();
            Err(format!("couldn't find key {key} in {sort} {namespace}/{name}"))
        }
        None => Err(format!("{lower} {name:?} not found")),
    }
}

/// The errors are those of upstream's Event.
fn from_file(inputs: &Inputs<'_>, file: &FileKeySelector) -> Result<Option<String>, String> {
    let (key, path) = (&file.key, &file.path);
    let text = match inputs.files.get(&(file.volume_name.clone(), path.clone())) {
        Some(Ok(text)) => text,
        _ if file.optional == Some(true) => return Ok(None),
        Some(Err(why)) => return Err(format!("couldn't read env file {path:?}: {why}")),
        None => return Err(format!("couldn't read env file {path:?}")),
    };
    let found = env_file::find(text, key)
        .map_err(|why| format!("couldn't parse env file {path:?}: {why}"))?;
    match found {
        None if file.optional != Some(true) => {
            Err(format!("environment variable key {key:?} not found in file {path:?}"))
        }
        found => Ok(found),
    }
}

/// Variables of `envFrom`, in order; later ones win.
fn from_sources(inputs: &Inputs<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for from in inputs.container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (known, lower, name, optional) = if let Some(map) = &from.config_map_ref {
            (inputs.config_maps, "configmap", &map.name, map.optional)
        } else if let Some(secret) = &from.secret_ref {
            (inputs.secrets, "secret", &secret.name, secret.optional)
        } else {
            continue;
        };
        match known.get(name) {
            Some(data) => {
                let variables = data.iter().map(|(key, value)| (key.clone(), value.clone()));
                found.extend(variables.map(|(key, value)| (format!("{prefix}{key}"), value)));
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{lower} {name:?} not found")),
        }
    }
    Ok(found)
}

/// The services a pod is told of in variables: those of its namespace, unless `enableServiceLinks`
/// is false, and always `kubernetes` of `default`.
pub fn visible_services(
    pod: &Pod,
    all: &[std::sync::Arc<Service>],
) -> Vec<std::sync::Arc<Service>> {
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
    let is_master =
        |service: &Service| service.namespace() == "default" && service.name() == "kubernetes";
    let is_seen =
        |service: &Service| is_master(service) || (links && service.namespace() == pod.namespace());
    all.iter().filter(|service| is_seen(service)).cloned().collect()
}

/// Upstream's variables of services, and those of Docker links.
fn service_variables(inputs: &Inputs<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for service in inputs.services {
        let Some(spec) = &service.spec else { continue };
        let ip = match spec.cluster_ip.as_deref() {
            None | Some("" | "None") => continue,
            Some(ip) => ip,
        };
        let prefix = service.name().to_ascii_uppercase().replace('-', "_");
        let mut add = |name: String, value: String| found.push((name, value));
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        add(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        add(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in ports.iter().filter(|port| port.name.as_deref().is_some_and(|n| !n.is_empty()))
        {
            let name = port.name.as_deref().unwrap_or_default();
            let name = name.to_ascii_uppercase().replace('-', "_");
            add(format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string());
        }
        let url = |protocol: &str, port: i32| format!("{protocol}://{ip}:{port}");
        for (at, port) in ports.iter().enumerate() {
            let upper = port.protocol.as_deref().unwrap_or("TCP");
            let lower = upper.to_ascii_lowercase();
            if at == 0 {
                add(format!("{prefix}_PORT"), url(&lower, port.port));
            }
            let link = format!("{prefix}_PORT_{}_{upper}", port.port);
            add(link.clone(), url(&lower, port.port));
            add(format!("{link}_PROTO"), lower);
            add(format!("{link}_PORT"), port.port.to_string());
            add(format!("{link}_ADDR"), ip.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(container: Value, services: Value, expected: Expect) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "hello"},
                "annotations": {"a/b": "c"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": []}
        }))
        .expect("pod");
        let mut container = container;
        container["name"] = "c".into();
        let container: Container = serde_json::from_value(container).expect("container");
        let services: Vec<Service> = serde_json::from_value(services).expect("services");
        let services: Vec<Arc<Service>> = services.into_iter().map(Arc::new).collect();
        let data = |pairs: &[(&str, &str)]| -> Data {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        let inputs = Inputs {
            pod: &pod,
            container: &container,
            config_maps: &[("cm".to_owned(), data(&[("k", "v"), ("l", "w")]))].into(),
            secrets: &[("s".to_owned(), data(&[("password", "hush")]))].into(),
            files: &[
                (("v".to_owned(), "f".to_owned()), Ok("K='from a file'".to_owned())),
                (("v".to_owned(), "no".to_owned()), Err("no such file".to_owned())),
            ]
            .into(),
            hostname: "p",
            services: &visible_services(&pod, &services),
            facts: Facts {
                pod: &pod,
                pod_ip: "127.64.0.1",
                host_ip: "127.0.0.1",
                node_cpu_millis: 2000,
                node_memory_bytes: 1 << 30,
            },
        };
        let text = match resolve(&inputs) {
            Err(message) => format!("error: {message}\n"),
            Ok(resolved) => {
                let mut lines: Vec<String> = Vec::new();
                let shown = resolved.env.iter().filter(|(name, _)| name != "HOSTNAME");
                lines.extend(shown.map(|(name, value)| format!("{name}={value}\n")));
                if !resolved.command.is_empty() || !resolved.args.is_empty() {
                    lines.push(format!("{:?} {:?}\n", resolved.command, resolved.args));
                }
                lines.concat()
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn values_and_references() {
        check(
            json!({"env": [
                {"name": "A", "value": "one"},
                {"name": "B", "value": "$(A) $$(A) $(NO) $A $"},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
                {"name": "G", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "H", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "I", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}},
                {"name": "A", "value": "again"},
             ],
             "command": ["/bin/$(A)"], "args": ["$(C)", "$$(C)"]}),
            json!([]),
            expect![[r#"
                A=again
                B=one $(A) $(NO) $A $
                C=v
                D=hush
                E=hello
                F=c
                G=127.64.0.1
                H=node
                ["/bin/again"] ["v", "$(C)"]
            "#]],
        );
    }

    #[test]
    fn files_of_an_init_container() {
        let from = |key: &str, path: &str, optional: bool| {
            json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v",
                "path": path, "key": key, "optional": optional}}}]})
        };
        check(
            from("K", "f", false),
            json!([]),
            expect![[r#"
            A=from a file
        "#]],
        );
        check(from("L", "f", true), json!([]), expect![[r#""#]]);
        check(from("L", "no", true), json!([]), expect![[r#""#]]);
        check(
            from("L", "f", false),
            json!([]),
            expect![[r#"
            error: environment variable key "L" not found in file "f"
        "#]],
        );
        check(
            from("L", "no", false),
            json!([]),
            expect![[r#"
            error: couldn't read env file "no": no such file
        "#]],
        );
    }

    #[test]
    fn whole_maps() {
        check(
            json!({"envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"},
                {"secretRef": {"name": "no", "optional": true}}],
                "env": [{"name": "P_k", "value": "own"}]}),
            json!([]),
            expect![[r#"
                P_k=own
                P_l=w
            "#]],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let from = |from: Value| json!({"env": [{"name": "A", "valueFrom": from}]});
        check(
            from(json!({"configMapKeyRef": {"name": "no", "key": "k"}})),
            json!([]),
            expect![[r#"
                error: configmap "no" not found
            "#]],
        );
        check(
            from(json!({"configMapKeyRef": {"name": "cm", "key": "no"}})),
            json!([]),
            expect![[r#"
                error: couldn't find key no in ConfigMap n/cm
            "#]],
        );
        check(
            from(json!({"secretKeyRef": {"name": "s", "key": "no"}})),
            json!([]),
            expect![[r#"
                error: couldn't find key no in Secret n/s
            "#]],
        );
        check(
            json!({"envFrom": [{"secretRef": {"name": "no"}}]}),
            json!([]),
            expect![[r#"
                error: secret "no" not found
            "#]],
        );
    }

    #[test]
    fn services_in_variables() {
        let service = |namespace: &str, name: &str, ip: &str| {
            json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip,
                "ports": [{"name": "http", "port": 80}, {"name": "x-y", "port": 81, "protocol": "UDP"}]}})
        };
        check(
            json!({}),
            json!([
                service("n", "my-web", "127.96.0.5"),
                service("n", "headless", "None"),
                service("other", "unseen", "127.96.0.6"),
            ]),
            expect![[r#"
                MY_WEB_SERVICE_HOST=127.96.0.5
                MY_WEB_SERVICE_PORT=80
                MY_WEB_SERVICE_PORT_HTTP=80
                MY_WEB_SERVICE_PORT_X_Y=81
                MY_WEB_PORT=tcp://127.96.0.5:80
                MY_WEB_PORT_80_TCP=tcp://127.96.0.5:80
                MY_WEB_PORT_80_TCP_PROTO=tcp
                MY_WEB_PORT_80_TCP_PORT=80
                MY_WEB_PORT_80_TCP_ADDR=127.96.0.5
                MY_WEB_PORT_81_UDP=udp://127.96.0.5:81
                MY_WEB_PORT_81_UDP_PROTO=udp
                MY_WEB_PORT_81_UDP_PORT=81
                MY_WEB_PORT_81_UDP_ADDR=127.96.0.5
            "#]],
        );
    }
}
