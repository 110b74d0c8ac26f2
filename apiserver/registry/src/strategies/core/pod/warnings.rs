//! What is legal in a pod and most likely not meant: told in Warning headers, in upstream's words.

use serde_json::Value;

use super::overlaps;
use crate::{addresses, cause::Path, names, strategies::core::resource_names::quantity, tree};

/// Labels of nodes that have another name by now.
const OLD_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Volumes that nothing mounts any more; the second name is that of the message.
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const FRACTION: &str = "is invalid, must be an integer";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Of a pod (`path` is the root) or of a template.
pub fn of_pod(pod: &Value, path: Path<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let (metadata, spec) = (path.child("metadata"), &pod["spec"]);
    let annotations = metadata.child("annotations");
    for (key, why) in OLD_ANNOTATIONS {
        if tree::has(&pod["metadata"]["annotations"], key) {
            found.push(format!("{}: {why}", annotations.key(key)));
        }
    }
    let here = path.child("spec");
    scheduling(spec, here, &mut found);
    volumes(spec, here.child("volumes"), &mut found);
    lists(spec, here, &mut found);
    fractions(&spec["overhead"], here.child("overhead"), &mut found);
    containers(spec, here, &mut found);
    if tree::number(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let field = here.child("terminationGracePeriodSeconds");
        found.push(format!(
            "{field}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    found
}

/// Of a workload whose name becomes that of its pods.
pub fn of_name(object: &Value, of: &str) -> Option<String> {
    let complaints = names::label(tree::text(&object["metadata"], "name"));
    let advice = "which can result in surprising behavior; a DNS label is recommended";
    let all = complaints.join(" ");
    (!complaints.is_empty())
        .then(|| format!("metadata.name: this is used in {of}, {advice}: [{all}]"))
}

/// What a node's label is called by now.
fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

/// Amounts of bytes with a fraction.
pub fn fractions(amounts: &Value, path: Path<'_>, found: &mut Vec<String>) {
    for key in ["memory", "ephemeral-storage"] {
        fraction(amounts, key, path, found);
    }
}

pub fn fraction(amounts: &Value, key: &str, path: Path<'_>, found: &mut Vec<String>) {
    if quantity(&amounts[key]).is_some_and(|amount| amount.millis() % 1000 != 0) {
        let shown = amounts[key].as_str().unwrap_or_default();
        found.push(format!("{}: fractional byte value {shown:?} {FRACTION}", path.key(key)));
    }
}

fn scheduling(spec: &Value, path: Path<'_>, found: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for (key, _) in tree::entries(spec, "nodeSelector") {
        if let Some(why) = old_label(key) {
            found.push(format!("{}: {why}", selector.key(key)));
        }
    }
    let (affinity, here) = (&spec["affinity"], path.child("affinity"));
    node_affinity(&affinity["nodeAffinity"], here.child("nodeAffinity"), found);
    let all = path.child("topologySpreadConstraints");
    for (at, constraint) in tree::list(spec, "topologySpreadConstraints").iter().enumerate() {
        let item = all.index(at);
        let key = tree::text(constraint, "topologyKey");
        if let Some(why) = old_label(key) {
            found.push(format!("{}: {key} is {why}", item.child("topologyKey")));
        }
        if constraint["labelSelector"].is_null() {
            found.push(format!("{}: {NULL_SELECTOR}", item.child("labelSelector")));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (of, here) = (&affinity[kind], here.child(kind));
        let all = here.child(REQUIRED);
        for (at, term) in tree::list(of, REQUIRED).iter().enumerate() {
            if term["labelSelector"].is_null() {
                found.push(format!("{}: {NULL_SELECTOR}", all.index(at).child("labelSelector")));
            }
        }
        let all = here.child(PREFERRED);
        for (at, term) in tree::list(of, PREFERRED).iter().enumerate() {
            if term["podAffinityTerm"]["labelSelector"].is_null() {
                let item = all.index(at);
                let field = item.child("podAffinityTerm");
                found.push(format!("{}: {NULL_SELECTOR}", field.child("labelSelector")));
            }
        }
    }
}

fn node_affinity(of: &Value, path: Path<'_>, found: &mut Vec<String>) {
    let required = path.child(REQUIRED);
    let all = required.child("nodeSelectorTerms");
    for (at, term) in tree::list(&of[REQUIRED], "nodeSelectorTerms").iter().enumerate() {
        node_term(term, false, all.index(at), found);
    }
    let all = path.child(PREFERRED);
    for (at, term) in tree::list(of, PREFERRED).iter().enumerate() {
        node_term(&term["preference"], true, all.index(at).child("preference"), found);
    }
}

fn node_term(term: &Value, look_at_values: bool, path: Path<'_>, found: &mut Vec<String>) {
    let all = path.child("matchExpressions");
    for (at, expression) in tree::list(term, "matchExpressions").iter().enumerate() {
        let item = all.index(at);
        let key = tree::text(expression, "key");
        if let Some(why) = old_label(key) {
            found.push(format!("{}: {key} is {why}", item.child("key")));
        }
        let values = item.child("values");
        for (at, value) in tree::list(expression, "values").iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            for why in names::label_value(value).iter().filter(|_| look_at_values) {
                found.push(format!("{}: {value} is invalid, {why}", values.index(at)));
            }
        }
    }
}

fn volumes(spec: &Value, path: Path<'_>, found: &mut Vec<String>) {
    for (at, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let item = path.index(at);
        for (key, shown, why) in OLD_VOLUMES {
            if tree::has(volume, key) {
                found.push(format!("{}: {why}", item.child(shown)));
            }
        }
        for source in tree::list(&volume["projected"], "sources") {
            if source.as_object().is_some_and(serde_json::Map::is_empty) {
                let name = tree::text(volume, "name");
                found.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
        }
        overlaps::warnings(volume, found);
        let template = &volume["ephemeral"]["volumeClaimTemplate"];
        let here = item.child("ephemeral");
        let here = here.child("volumeClaimTemplate");
        of_claim(&template["spec"], here.child("spec"), found);
    }
}

/// Of the specification of a PersistentVolumeClaim.
pub fn of_claim(spec: &Value, path: Path<'_>, found: &mut Vec<String>) {
    let here = path.child("resources");
    for key in ["requests", "limits"] {
        fraction(&spec["resources"][key], "storage", here.child(key), found);
    }
}

fn lists(spec: &Value, path: Path<'_>, found: &mut Vec<String>) {
    for (list, key, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let (items, all) = (tree::list(spec, list), path.child(list));
        for (at, item) in items.iter().enumerate() {
            let value = tree::text(item, key);
            let field = all.index(at);
            let field = field.child(key);
            if items[..at].iter().any(|other| tree::text(other, key) == value) {
                found.push(format!("{field}: duplicate {what} {value:?}"));
            }
            if list == "imagePullSecrets" && value.is_empty() {
                found.push(format!("{field}: invalid empty name {value:?}"));
            }
        }
    }
    let config = path.child("dnsConfig");
    let all = config.child("nameservers");
    for (at, server) in tree::list(&spec["dnsConfig"], "nameservers").iter().enumerate() {
        found.extend(addresses::warning(server.as_str().unwrap_or_default(), all.index(at)));
    }
    let all = path.child("hostAliases");
    for (at, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        found.extend(addresses::warning(tree::text(alias, "ip"), all.index(at).child("ip")));
    }
}

/// A port, where it stands, and what it looks like.
struct Port<'a> {
    place: String,
    port: &'a Value,
}

fn containers(spec: &Value, path: Path<'_>, found: &mut Vec<String>) {
    let mut ports: Vec<Port<'_>> = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let all = path.child(list);
        for (at, container) in tree::list(spec, list).iter().enumerate() {
            let item = all.index(at);
            let resources = item.child("resources");
            for key in ["limits", "requests"] {
                fractions(&container["resources"][key], resources.child(key), found);
            }
            variables(container, item.child("env"), found);
            let all = item.child("ports");
            for (at, port) in tree::list(container, "ports").iter().enumerate() {
                let place = all.index(at).to_string();
                host_address(&place, port, found);
                clashes(&place, port, &ports, found);
                ports.push(Port { place, port });
            }
        }
    }
}

/// A variable that hides one before it without building on it.
fn variables(container: &Value, path: Path<'_>, found: &mut Vec<String>) {
    let all = tree::list(container, "env");
    for (at, variable) in all.iter().enumerate() {
        let name = tree::text(variable, "name");
        let reference = format!("$({name})");
        let value = tree::text(variable, "value");
        let builds_on = value != reference && value.contains(&reference);
        let again = all[..at].iter().any(|other| tree::text(other, "name") == name);
        if again && (tree::has(variable, "valueFrom") || !builds_on) {
            let place = path.index(at);
            found.push(format!(
                "{place}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// An address of the host without a port of it means nothing.
fn host_address(place: &str, port: &Value, found: &mut Vec<String>) {
    let (text, host) = (|key: &str| tree::text(port, key), tree::number(port, "hostPort"));
    if text("hostIP").is_empty() || host.unwrap_or(0) != 0 {
        return;
    }
    let number = tree::number(port, "containerPort").unwrap_or(0);
    found.push(format!(
        "{place}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{} HostIP:{}}}",
        text("name"),
        text("protocol"),
        text("hostIP")
    ));
}

fn clashes(place: &str, port: &Value, others: &[Port<'_>], found: &mut Vec<String>) {
    let number = |port: &Value, key: &str| tree::number(port, key).unwrap_or(0);
    let host = |port: &Value| tree::text(port, "hostIP").to_owned();
    for other in others.iter().filter(|other| {
        number(other.port, "containerPort") == number(port, "containerPort")
            && tree::text(other.port, "protocol") == tree::text(port, "protocol")
    }) {
        let (own, theirs) = (number(port, "hostPort"), number(other.port, "hostPort"));
        let (own_host, their_host) = (host(port), host(other.port));
        let what = if own_host == their_host && own == theirs {
            "duplicate"
        } else if own == 0 || theirs == 0 {
            "overlapping"
        } else if own == theirs && own_host.is_empty() != their_host.is_empty() {
            "dangerously ambiguous"
        } else {
            continue;
        };
        found.push(format!("{place}: {what} port definition with {}", other.place));
    }
    let name = tree::text(port, "name");
    let same = others.iter().find(|other| tree::text(other.port, "name") == name);
    if let Some(other) = same.filter(|_| !name.is_empty()) {
        let first = &other.place;
        found.push(format!(
            "{place}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
        ));
    }
}
