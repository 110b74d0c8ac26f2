//! Rules of containers, with upstream's words for what is wrong.

use serde_json::{Value, json};
use windlass_sdk_meta::Quantity;

use super::volumes::validate_mounts;
use crate::{
    cause::{Causes, Path},
    names,
    strategies::core::service_rules::{PROTOCOLS, port_number, port_number_or_name},
    tree,
};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const LIFECYCLE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];
const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Known, but not for environment variables.
const OTHER_FIELD_PATHS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Rules of `containers`.
pub fn validate(spec: &Value, volumes: &[&str], path: Path<'_>, causes: &mut Causes) {
    let containers = tree::list(spec, "containers");
    if containers.is_empty() {
        return causes.required(path, "");
    }
    for (at, container) in containers.iter().enumerate() {
        let item = path.index(at);
        common(container, volumes, item, causes);
        unique_name(container, &containers[..at], item, causes);
        probes(container, item, causes);
        restart_policy(container, item, causes);
    }
    host_ports(containers, path, causes);
}

/// Rules of `initContainers`; only those that run on may have probes and hooks.
pub fn validate_init(spec: &Value, volumes: &[&str], path: Path<'_>, causes: &mut Causes) {
    let containers = tree::list(spec, "initContainers");
    for (at, container) in containers.iter().enumerate() {
        let item = path.index(at);
        common(container, volumes, item, causes);
        unique_name(container, tree::list(spec, "containers"), item, causes);
        unique_name(container, &containers[..at], item, causes);
        if tree::text(container, "restartPolicy") == "Always" {
            probes(container, item, causes);
        } else {
            for key in PROBES.iter().chain(&["lifecycle"]) {
                if tree::has(container, key) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    causes.forbidden(item.child(key), why);
                }
            }
        }
        restart_policy(container, item, causes);
    }
}

pub(super) fn unique_name(
    container: &Value,
    others: &[Value],
    path: Path<'_>,
    causes: &mut Causes,
) {
    let name = tree::text(container, "name");
    if !name.is_empty() && others.iter().any(|other| tree::text(other, "name") == name) {
        causes.duplicate(path.child("name"), &container["name"]);
    }
}

pub(super) fn common(container: &Value, volumes: &[&str], path: Path<'_>, causes: &mut Causes) {
    match tree::text(container, "name") {
        "" => causes.required(path.child("name"), ""),
        name => causes.complaints(path.child("name"), name, names::label(name)),
    }
    let image = tree::text(container, "image");
    if image.is_empty() {
        causes.required(path.child("image"), "");
    }
    for (key, known) in [
        ("terminationMessagePolicy", &["File", "FallbackToLogsOnError"][..]),
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"][..]),
    ] {
        match tree::text(container, key) {
            // Templates are validated with their defaults in place, so an empty one was sent.
            "" => causes.required(path.child(key), ""),
            value if !known.contains(&value) => {
                causes.not_supported(path.child(key), &container[key], known);
            }
            _ => {}
        }
    }
    ports(container, path.child("ports"), causes);
    environment(container, path, causes);
    validate_mounts(container, volumes, path.child("volumeMounts"), causes);
    resources(&container["resources"], path.child("resources"), causes);
}

fn ports(container: &Value, path: Path<'_>, causes: &mut Causes) {
    let ports = tree::list(container, "ports");
    for (at, port) in ports.iter().enumerate() {
        let item = path.index(at);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            let complaints = names::port_name(name);
            let known = ports[..at].iter().any(|other| tree::text(other, "name") == name);
            if complaints.is_empty() && known {
                causes.duplicate(item.child("name"), &port["name"]);
            }
            causes.complaints(item.child("name"), name, complaints);
        }
        match tree::number(port, "containerPort").unwrap_or(0) {
            0 => causes.required(item.child("containerPort"), ""),
            _ => port_number(&port["containerPort"], item.child("containerPort"), causes),
        }
        if tree::number(port, "hostPort").unwrap_or(0) != 0 {
            port_number(&port["hostPort"], item.child("hostPort"), causes);
        }
        let protocol = tree::text(port, "protocol");
        if !PROTOCOLS.contains(&protocol) {
            causes.not_supported(item.child("protocol"), &port["protocol"], &PROTOCOLS);
        }
    }
}

/// No two containers of a pod take one port of the host.
fn host_ports(containers: &[Value], path: Path<'_>, causes: &mut Causes) {
    let mut taken: Vec<(String, String, i64)> = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        let item = path.index(at);
        let ports = item.child("ports");
        for (at, port) in tree::list(container, "ports").iter().enumerate() {
            let number = tree::number(port, "hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let (protocol, address) = (tree::text(port, "protocol"), tree::text(port, "hostIP"));
            let key = (protocol.to_owned(), address.to_owned(), number);
            if taken.contains(&key) {
                let text = format!("{protocol}/{address}/{number}");
                causes.duplicate(ports.index(at).child("hostPort"), &Value::from(text));
            } else {
                taken.push(key);
            }
        }
    }
}

fn environment(container: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = path.child("env");
    for (at, variable) in tree::list(container, "env").iter().enumerate() {
        let item = all.index(at);
        match tree::text(variable, "name") {
            "" => causes.required(item.child("name"), ""),
            name => causes.complaints(item.child("name"), name, names::env_name(name)),
        }
        if tree::has(variable, "valueFrom") {
            value_from(variable, item.child("valueFrom"), causes);
        }
    }
    let all = path.child("envFrom");
    for (at, source) in tree::list(container, "envFrom").iter().enumerate() {
        let item = all.index(at);
        let prefix = tree::text(source, "prefix");
        if !prefix.is_empty() {
            causes.complaints(item.child("prefix"), prefix, names::env_name(prefix));
        }
        let given: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|key| tree::has(source, key))
            .collect();
        match given.as_slice() {
            [] => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                causes.invalid_text(all, "", why);
            }
            [one] if tree::text(&source[*one], "name").is_empty() => {
                causes.required(item.child(one).child("name"), "");
            }
            [_] => {}
            _ => causes.invalid_text(
                item,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn value_from(variable: &Value, path: Path<'_>, causes: &mut Causes) {
    let source = &variable["valueFrom"];
    let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given: Vec<&str> = known.into_iter().filter(|key| tree::has(source, key)).collect();
    for key in &given {
        let reference = &source[*key];
        match *key {
            "fieldRef" => field_ref(reference, path.child(key), causes),
            "resourceFieldRef" => resource_ref(reference, path.child(key), causes),
            "configMapKeyRef" | "secretKeyRef" => {
                for part in ["name", "key"] {
                    if tree::text(reference, part).is_empty() {
                        causes.required(path.child(key).child(part), "");
                    }
                }
                let name = tree::text(reference, "key");
                if !name.is_empty() {
                    causes.complaints(path.child(key).child("key"), name, names::config_key(name));
                }
            }
            _ => {}
        }
    }
    if given.is_empty() {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        causes.invalid_text(path, "", why);
    } else if !tree::text(variable, "value").is_empty() {
        causes.invalid_text(path, "", "may not be specified when `value` is not empty");
    } else if given.len() > 1 {
        causes.invalid_text(path, "", "may not have more than one field specified at a time");
    }
}

fn field_ref(reference: &Value, path: Path<'_>, causes: &mut Causes) {
    let field = tree::text(reference, "fieldPath");
    let subscript = |of: &str| {
        field.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned)
    };
    if field.is_empty() {
        causes.required(path.child("fieldPath"), "");
    } else if let Some(key) = subscript("metadata.annotations") {
        causes.complaints(path, &key, names::qualified(&key.to_ascii_lowercase()));
    } else if let Some(key) = subscript("metadata.labels") {
        causes.complaints(path, &key, names::qualified(&key));
    } else if !FIELD_PATHS.contains(&field) && !OTHER_FIELD_PATHS.contains(&field) {
        let why = format!("error converting fieldPath: field label not supported: {field}");
        causes.invalid_text(path.child("fieldPath"), field, why);
    } else if !FIELD_PATHS.contains(&field) {
        causes.not_supported(path.child("fieldPath"), &reference["fieldPath"], &FIELD_PATHS);
    }
}

fn resource_ref(reference: &Value, path: Path<'_>, causes: &mut Causes) {
    let resource = tree::text(reference, "resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"];
    if resource.is_empty() {
        causes.required(path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge.iter().any(|one| resource.starts_with(one)) {
        causes.not_supported(path.child("resource"), &reference["resource"], &RESOURCES);
    }
}

fn resources(resources: &Value, path: Path<'_>, causes: &mut Causes) {
    let parse = |amount: &Value| amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
    for of in ["limits", "requests"] {
        let list = path.child(of);
        for (name, amount) in tree::entries(resources, of) {
            causes.complaints(list.key(name), name, names::qualified(name));
            match parse(amount) {
                Some(parsed) if parsed.is_negative() => {
                    causes.invalid(list.key(name), amount, NOT_NEGATIVE);
                }
                Some(_) => {}
                None => causes.invalid(list.key(name), amount, "must be a quantity"),
            }
        }
    }
    let requests = path.child("requests");
    let mut unlimited = false;
    for (name, request) in tree::entries(resources, "requests") {
        let limit = &resources["limits"][name];
        let shared = may_overcommit(name);
        let (Some(asked), Some(most)) = (parse(request), parse(limit)) else {
            unlimited |= limit.is_null() && !shared;
            continue;
        };
        let most_text = limit.as_str().unwrap_or_default();
        if asked != most && !shared {
            let why = format!("must be equal to {name} limit of {most_text}");
            causes.invalid(requests, request, why);
        } else if asked > most {
            let why = format!("must be less than or equal to {name} limit of {most_text}");
            causes.invalid(requests, request, why);
        }
    }
    if unlimited {
        let why = "Limit must be set for non overcommitable resources";
        causes.required(path.child("limits"), why);
    }
}

/// Only what the system itself can take back may be promised twice.
fn may_overcommit(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    native && !resource.starts_with("hugepages-")
}

fn probes(container: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in PROBES {
        let probe = &container[key];
        if probe.is_null() {
            continue;
        }
        let here = path.child(key);
        handler(probe, &HANDLERS, here, causes);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            if tree::number(probe, number).is_some_and(|number| number < 0) {
                causes.invalid(here.child(number), &probe[number], NOT_NEGATIVE);
            }
        }
        if key != "readinessProbe"
            && tree::number(probe, "successThreshold").is_some_and(|count| count != 1)
        {
            causes.invalid(here.child("successThreshold"), &probe["successThreshold"], "must be 1");
        }
        let grace = tree::number(probe, "terminationGracePeriodSeconds");
        let field = here.child("terminationGracePeriodSeconds");
        if key == "readinessProbe" && grace.is_some() {
            causes.invalid(field, &json!(grace), "must not be set for readinessProbes");
        } else if grace.is_some_and(|seconds| seconds <= 0) {
            causes.invalid(field, &json!(grace), "must be greater than 0");
        }
    }
    let here = path.child("lifecycle");
    for key in ["postStart", "preStop"] {
        let hook = &container["lifecycle"][key];
        if !hook.is_null() {
            handler(hook, &LIFECYCLE_HANDLERS, here.child(key), causes);
        }
    }
}

/// One way to act, and what it needs.
fn handler(of: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let given: Vec<&&str> = known.iter().filter(|key| tree::has(of, key)).collect();
    let Some(first) = given.first() else {
        return causes.required(path, "must specify a handler type");
    };
    for extra in given.iter().skip(1) {
        causes.forbidden(path.child(extra), "may not specify more than 1 handler type");
    }
    let (action, here) = (&of[**first], path.child(first));
    match **first {
        "exec" if tree::list(action, "command").is_empty() => {
            causes.required(here.child("command"), "");
        }
        "httpGet" => {
            if tree::text(action, "path").is_empty() {
                causes.required(here.child("path"), "");
            }
            port_number_or_name(&action["port"], here.child("port"), causes);
            if !["HTTP", "HTTPS"].contains(&tree::text(action, "scheme")) {
                causes.not_supported(here.child("scheme"), &action["scheme"], &["HTTP", "HTTPS"]);
            }
        }
        "tcpSocket" => port_number_or_name(&action["port"], here.child("port"), causes),
        "grpc" => port_number(&action["port"], here.child("port"), causes),
        _ => {}
    }
}

fn restart_policy(container: &Value, path: Path<'_>, causes: &mut Causes) {
    let known = ["Always", "Never", "OnFailure"];
    if tree::has(container, "restartPolicy")
        && !known.contains(&tree::text(container, "restartPolicy"))
    {
        causes.not_supported(path.child("restartPolicy"), &container["restartPolicy"], &known);
    }
}
