//! Rules of containers, with upstream's words for what is wrong.

use serde_json::{Value, json};

use super::{mounts::validate_mounts, resources, restart, security, volumes::no_backsteps};
use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    strategies::core::{
        resource_names::quantity,
        service_rules::{PROTOCOLS, port_number, port_number_or_name},
    },
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

/// Rules of `containers`. `volumes` are those of the pod that are fine.
pub fn validate(spec: &Value, volumes: &[&Value], path: Path<'_>, causes: &mut Causes) {
    let containers = tree::list(spec, "containers");
    if containers.is_empty() {
        return causes.required(path, "");
    }
    for (at, container) in containers.iter().enumerate() {
        let item = path.index(at);
        common(container, spec, volumes, item, causes);
        unique_name(container, &containers[..at], item, causes);
        probes(container, spec, item, causes);
        restart::validate(container, item, causes);
    }
    host_ports(containers, path, causes);
}

/// Rules of `initContainers`; only those that run on may have probes and hooks.
pub fn validate_init(spec: &Value, volumes: &[&Value], path: Path<'_>, causes: &mut Causes) {
    let containers = tree::list(spec, "initContainers");
    for (at, container) in containers.iter().enumerate() {
        let item = path.index(at);
        common(container, spec, volumes, item, causes);
        unique_name(container, tree::list(spec, "containers"), item, causes);
        if !tree::text(container, "name").is_empty() {
            unique_name(container, &containers[..at], item, causes);
        }
        if tree::text(container, "restartPolicy") == "Always" {
            probes(container, spec, item, causes);
        } else {
            for key in PROBES.iter().chain(&["lifecycle"]) {
                if tree::has(container, key) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    causes.forbidden(item.child(key), why);
                }
            }
            let all = item.child("resizePolicy");
            for (at, policy) in tree::list(container, "resizePolicy").iter().enumerate() {
                if tree::text(policy, "restartPolicy") == "RestartContainer" {
                    let why =
                        "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    let here = all.index(at);
                    causes.invalid_text(here.child("restartPolicy"), "RestartContainer", why);
                }
            }
        }
        restart::validate_init(container, item, causes);
        host_ports(std::slice::from_ref(container), path, causes);
    }
}

pub(super) fn unique_name(
    container: &Value,
    others: &[Value],
    path: Path<'_>,
    causes: &mut Causes,
) {
    let name = tree::text(container, "name");
    if others.iter().any(|other| tree::text(other, "name") == name) {
        causes.duplicate(path.child("name"), &container["name"]);
    }
}

pub(super) fn common(
    container: &Value,
    spec: &Value,
    volumes: &[&Value],
    path: Path<'_>,
    causes: &mut Causes,
) {
    match tree::text(container, "name") {
        "" => causes.required(path.child("name"), ""),
        name => causes.complaints(path.child("name"), name, names::label(name)),
    }
    if tree::text(container, "image").is_empty() {
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
    validate_mounts(container, volumes, path, causes);
    let claims = tree::list(spec, "resourceClaims").iter().map(|claim| tree::text(claim, "name"));
    let claims: Vec<&str> = claims.filter(|name| !name.is_empty()).collect();
    resources::validate(&container["resources"], &claims, path.child("resources"), causes);
    restart::resize(container, spec, path.child("resizePolicy"), causes);
    let host_users = spec["hostUsers"] != false;
    let here = path.child("securityContext");
    security::validate_container(&container["securityContext"], host_users, here, causes);
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
        match tree::text(port, "protocol") {
            "" => causes.required(item.child("protocol"), ""),
            protocol if !PROTOCOLS.contains(&protocol) => {
                causes.not_supported(item.child("protocol"), &port["protocol"], &PROTOCOLS);
            }
            _ => {}
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
        let known = ["configMapRef", "secretRef"];
        let given: Vec<&str> = known.into_iter().filter(|key| tree::has(source, key)).collect();
        for key in &given {
            let here = item.child(key);
            match tree::text(&source[*key], "name") {
                "" => causes.required(here.child("name"), ""),
                // Upstream judges these names as if something could follow them.
                name => {
                    let complaints = NameRule::Subdomain.complaints(name, true);
                    causes.complaints(here.child("name"), name, complaints);
                }
            }
        }
        match given.len() {
            0 => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                causes.invalid_text(all, "", why);
            }
            1 => {}
            _ => {
                causes.invalid_text(all, "", "may not have more than one field specified at a time")
            }
        }
    }
}

fn value_from(variable: &Value, path: Path<'_>, causes: &mut Causes) {
    let source = &variable["valueFrom"];
    let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given: Vec<&str> = known.into_iter().filter(|key| tree::has(source, key)).collect();
    for key in &given {
        let (reference, here) = (&source[*key], path.child(key));
        match *key {
            "fieldRef" => field_ref(reference, &FIELD_PATHS, here, causes),
            "resourceFieldRef" => resource_ref(reference, false, here, causes),
            "configMapKeyRef" | "secretKeyRef" => {
                let name = tree::text(reference, "name");
                causes.complaints(here.child("name"), name, names::subdomain(name));
                match tree::text(reference, "key") {
                    "" => causes.required(here.child("key"), ""),
                    name => causes.complaints(here.child("key"), name, names::config_key(name)),
                }
            }
            _ => file_key(reference, here, causes),
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

fn file_key(reference: &Value, path: Path<'_>, causes: &mut Causes) {
    match tree::text(reference, "key") {
        "" => causes.required(path.child("key"), ""),
        key => causes.complaints(path.child("key"), key, names::env_name(key)),
    }
    match tree::text(reference, "volumeName") {
        "" => {
            causes.required(path.child("volumeName"), "");
            causes.not_found(path.child("volumeName"), &"".into());
        }
        name => causes.complaints(path.child("volumeName"), name, names::label(name)),
    }
    match tree::text(reference, "path") {
        "" => causes.required(path.child("path"), ""),
        file => no_backsteps(file, path.child("path"), causes),
    }
}

/// A field of the pod; `known` are those that may be read at this place.
pub(super) fn field_ref(reference: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let (version, field) =
        (tree::text(reference, "apiVersion"), tree::text(reference, "fieldPath"));
    let subscript = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    let refused = if version.is_empty() {
        return causes.required(path.child("apiVersion"), "");
    } else if field.is_empty() {
        return causes.required(path.child("fieldPath"), "");
    } else if version != "v1" {
        format!("unsupported pod version: {version}")
    } else if let Some((of, key)) = subscript {
        match of {
            "metadata.annotations" => {
                let key = key.to_ascii_lowercase();
                return causes.complaints(path, &key, names::qualified(&key));
            }
            "metadata.labels" => return causes.complaints(path, key, names::qualified(key)),
            _ => format!("field label does not support subscript: {field}"),
        }
    } else if !FIELD_PATHS.contains(&field) && !OTHER_FIELD_PATHS.contains(&field) {
        format!("field label not supported: {field}")
    } else {
        if !known.contains(&field) {
            causes.not_supported(path.child("fieldPath"), &reference["fieldPath"], known);
        }
        return;
    };
    let why = format!("error converting fieldPath: {refused}");
    causes.invalid_text(path.child("fieldPath"), field, why);
}

/// An amount of a container's resources; in a volume the container must be named.
pub(super) fn resource_ref(
    reference: &Value,
    in_volume: bool,
    path: Path<'_>,
    causes: &mut Causes,
) {
    let resource = tree::text(reference, "resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"];
    let is_huge = huge.iter().any(|one| resource.starts_with(one));
    if in_volume && tree::text(reference, "containerName").is_empty() {
        causes.required(path.child("containerName"), "");
    } else if resource.is_empty() {
        causes.required(path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !is_huge {
        causes.not_supported(path.child("resource"), &reference["resource"], &RESOURCES);
    }
    let divisor = tree::text(reference, "divisor");
    if quantity(&reference["divisor"]).is_none_or(|divisor| divisor.millis() == 0) {
        return;
    }
    let units = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let (what, known) = match resource {
        "limits.cpu" | "requests.cpu" => ("cpu", "1m, 1"),
        "limits.memory" | "requests.memory" => ("memory", units),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            ("local ephemeral storage", units)
        }
        _ if is_huge => ("hugepages", units),
        _ => return,
    };
    if !known.split(", ").any(|one| one == divisor) {
        let shown = if what == "cpu" { "1m and 1" } else { units };
        let why = format!("only divisor's values {shown} are supported with the {what} resource");
        causes.invalid_text(path.child("divisor"), resource, why);
    }
}

fn probes(container: &Value, spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in PROBES {
        let probe = &container[key];
        if probe.is_null() {
            continue;
        }
        let here = path.child(key);
        handler(probe, spec, &HANDLERS, here, causes);
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
        if key != "readinessProbe" && tree::number(probe, "successThreshold") != Some(1) {
            causes.invalid(here.child("successThreshold"), &probe["successThreshold"], "must be 1");
        }
        let grace = tree::number(probe, "terminationGracePeriodSeconds");
        let field = here.child("terminationGracePeriodSeconds");
        if key == "readinessProbe" && grace.is_some() {
            causes.invalid(field, &json!(grace), "must not be set for readinessProbes");
        }
        if grace.is_some_and(|seconds| seconds <= 0) {
            causes.invalid(field, &json!(grace), "must be greater than 0");
        }
    }
    let here = path.child("lifecycle");
    for key in ["postStart", "preStop"] {
        let hook = &container["lifecycle"][key];
        if !hook.is_null() {
            handler(hook, spec, &LIFECYCLE_HANDLERS, here.child(key), causes);
        }
    }
    restart::stop_signal(&container["lifecycle"], spec, here.child("stopSignal"), causes);
}

/// One way to act, and what it needs.
fn handler(of: &Value, spec: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
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
            for header in tree::list(action, "httpHeaders") {
                let name = tree::text(header, "name");
                causes.complaints(here.child("httpHeaders"), name, names::http_header(name));
            }
        }
        "tcpSocket" => port_number_or_name(&action["port"], here.child("port"), causes),
        "grpc" => port_number(&action["port"], here.child("port"), causes),
        "sleep" => {
            let grace = tree::number(spec, "terminationGracePeriodSeconds");
            let asked = tree::number(action, "seconds").unwrap_or(0);
            if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&asked)) {
                let why = format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                );
                causes.invalid(here, &json!(asked), why);
            }
        }
        _ => {}
    }
}
