//! Rules of a pod's specification, in a pod or in a template.

use serde_json::Value;

use super::{containers, volumes};
use crate::{
    cause::{Causes, Path},
    metadata::{validate_annotations, validate_labels},
    names,
    strategies::core::service_rules::is_address,
    tree,
};

const MAX_DEADLINE_SECONDS: i64 = i32::MAX as i64;
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Rules of a PodTemplateSpec.
pub fn validate_template(template: &Value, path: Path<'_>, causes: &mut Causes) {
    // The paths lack `metadata`, as upstream's do.
    let metadata = &template["metadata"];
    validate_labels(&metadata["labels"], path.child("labels"), causes);
    validate_annotations(&metadata["annotations"], path.child("annotations"), causes);
    let (spec, here) = (&template["spec"], path.child("spec"));
    validate_spec(spec, here, causes);
    if !tree::list(spec, "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        causes.forbidden(here.child("ephemeralContainers"), why);
    }
}

/// Rules of a pod's own specification: names of images are exact there.
pub fn validate_pod(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    validate_spec(spec, path, causes);
    for list in ["containers", "initContainers"] {
        let here = path.child(list);
        for (at, container) in tree::list(spec, list).iter().enumerate() {
            let image = tree::text(container, "image");
            if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                causes.invalid_text(here.index(at).child("image"), image, why);
            }
        }
    }
}

fn validate_spec(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let volumes = volumes::validate(tree::list(spec, "volumes"), path.child("volumes"), causes);
    containers::validate(spec, &volumes, path.child("containers"), causes);
    containers::validate_init(spec, &volumes, path.child("initContainers"), causes);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, causes);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", &policies, path, causes);
    validate_labels(&spec["nodeSelector"], path.child("nodeSelector"), causes);
    host_network(spec, path, causes);
    affinity(&spec["affinity"], path.child("affinity"), causes);
    gates(spec, path, causes);
    named(spec, path, causes);
    dns(spec, path, causes);
    if let Some(seconds) = tree::number(spec, "activeDeadlineSeconds")
        && !(1..=MAX_DEADLINE_SECONDS).contains(&seconds)
    {
        let why = format!("must be between 1 and {MAX_DEADLINE_SECONDS}, inclusive");
        causes.invalid(path.child("activeDeadlineSeconds"), &spec["activeDeadlineSeconds"], why);
    }
    validate_tolerations(tree::list(spec, "tolerations"), path.child("tolerations"), causes);
    if tree::has(spec, "preemptionPolicy") {
        one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, causes);
    }
    spread(spec, path.child("topologySpreadConstraints"), causes);
}

fn one_of(of: &Value, key: &str, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        value if !known.contains(&value) => causes.not_supported(path.child(key), &of[key], known),
        _ => {}
    }
}

fn host_network(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    if !tree::flag(spec, "hostNetwork") {
        return;
    }
    let list = path.child("containers");
    for (at, container) in tree::list(spec, "containers").iter().enumerate() {
        let item = list.index(at);
        let ports = item.child("ports");
        for (at, port) in tree::list(container, "ports").iter().enumerate() {
            let host_port = tree::number(port, "hostPort");
            if host_port != tree::number(port, "containerPort") {
                let why = "must match `hostPort` when `hostNetwork` is true";
                causes.invalid(ports.index(at).child("containerPort"), &port["containerPort"], why);
            }
        }
    }
}

/// Names of other objects and of the pod in DNS.
fn named(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = tree::text(spec, key);
        if !name.is_empty() {
            causes.complaints(path.child(key), name, names::subdomain(name));
        }
    }
    for key in ["hostname", "subdomain"] {
        let name = tree::text(spec, key);
        if !name.is_empty() {
            causes.complaints(path.child(key), name, names::label(name));
        }
    }
}

/// What the pod's names and its look-ups are made of.
fn dns(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let here = path.child("hostAliases");
    for (at, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        let item = here.index(at);
        is_address(&alias["ip"], item.child("ip"), causes);
        let all = item.child("hostnames");
        for (at, name) in tree::list(alias, "hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            causes.complaints(all.index(at), name, names::subdomain(name));
        }
    }
    let (config, here) = (&spec["dnsConfig"], path.child("dnsConfig"));
    let (servers, list) = (tree::list(config, "nameservers"), here.child("nameservers"));
    if tree::text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            causes.required(here, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            causes.required(list, why);
        }
    }
    if servers.len() > MOST_NAMESERVERS {
        let why = format!("must not have more than {MOST_NAMESERVERS} nameservers");
        causes.invalid(list, &config["nameservers"], why);
    }
    for (at, server) in servers.iter().enumerate() {
        is_address(server, list.index(at), causes);
    }
    let (searches, list) = (tree::list(config, "searches"), here.child("searches"));
    if searches.len() > MOST_SEARCHES {
        let why = format!("must not have more than {MOST_SEARCHES} search paths");
        causes.invalid(list, &config["searches"], why);
    }
    for (at, search) in searches.iter().enumerate() {
        let domain = search.as_str().unwrap_or_default();
        if domain != "." {
            let bare = domain.strip_suffix('.').unwrap_or(domain);
            causes.complaints(list.index(at), domain, names::subdomain(bare));
        }
    }
    let list = here.child("options");
    for (at, option) in tree::list(config, "options").iter().enumerate() {
        if tree::text(option, "name").is_empty() {
            causes.required(list.index(at), "must not be empty");
        }
    }
}

fn gates(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let here = path.child("schedulingGates");
    let gates = tree::list(spec, "schedulingGates");
    for (at, gate) in gates.iter().enumerate() {
        let name = tree::text(gate, "name");
        causes.complaints(here.index(at), name, names::qualified(name));
        if gates[..at].iter().any(|other| tree::text(other, "name") == name) {
            causes.duplicate(here.index(at), &gate["name"]);
        }
    }
    let here = path.child("readinessGates");
    for (at, gate) in tree::list(spec, "readinessGates").iter().enumerate() {
        let name = tree::text(gate, "conditionType");
        causes.complaints(here.index(at).child("conditionType"), name, names::qualified(name));
    }
}

/// Rules of tolerations, of a pod or of an update of it.
pub fn validate_tolerations(tolerations: &[Value], path: Path<'_>, causes: &mut Causes) {
    for (at, toleration) in tolerations.iter().enumerate() {
        let item = path.index(at);
        let (key, operator) = (tree::text(toleration, "key"), tree::text(toleration, "operator"));
        let (value, effect) = (tree::text(toleration, "value"), tree::text(toleration, "effect"));
        if !key.is_empty() {
            causes.complaints(item.child("key"), key, names::qualified(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.invalid_text(item.child("operator"), operator, why);
        }
        if tree::has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.invalid_text(item.child("effect"), effect, why);
        }
        match operator {
            "" | "Equal" => {
                let complaints = names::label_value(value);
                if !complaints.is_empty() {
                    causes.invalid_text(item.child("operator"), value, complaints.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                causes.invalid_text(item.child("operator"), value, why);
            }
            "Exists" => {}
            _ => {
                let known = ["Equal", "Exists"];
                causes.not_supported(item.child("operator"), &toleration["operator"], &known);
            }
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            causes.not_supported(item.child("effect"), &toleration["effect"], &EFFECTS);
        }
    }
}

fn affinity(affinity: &Value, path: Path<'_>, causes: &mut Causes) {
    let (node, here) = (&affinity["nodeAffinity"], path.child("nodeAffinity"));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if tree::has(node, required) {
        let here = here.child(required);
        let terms = tree::list(&node[required], "nodeSelectorTerms");
        let all = here.child("nodeSelectorTerms");
        if terms.is_empty() {
            causes.required(all, "must have at least one node selector term");
        }
        for (at, term) in terms.iter().enumerate() {
            node_term(term, all.index(at), causes);
        }
    }
    let preferred = here.child("preferredDuringSchedulingIgnoredDuringExecution");
    let list = tree::list(node, "preferredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in list.iter().enumerate() {
        let item = preferred.index(at);
        let weight = tree::number(term, "weight").unwrap_or(0);
        if !(1..=100).contains(&weight) {
            causes.invalid(
                item.child("weight"),
                &Value::from(weight),
                "must be in the range 1-100",
            );
        }
        node_term(&term["preference"], item.child("preference"), causes);
    }
}

/// Rules of one term of a node selector.
pub fn node_term(term: &Value, path: Path<'_>, causes: &mut Causes) {
    for list in ["matchExpressions", "matchFields"] {
        let all = path.child(list);
        for (at, expression) in tree::list(term, list).iter().enumerate() {
            let item = all.index(at);
            let values = tree::list(expression, "values");
            let operator = tree::text(expression, "operator");
            match operator {
                "In" | "NotIn" if values.is_empty() => {
                    let why = "must be specified when `operator` is 'In' or 'NotIn'";
                    causes.required(item.child("values"), why);
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    causes.forbidden(item.child("values"), why);
                }
                "Gt" | "Lt" if values.len() != 1 => {
                    let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    causes.required(item.child("values"), why);
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                _ => {
                    let why = "not a valid selector operator";
                    causes.invalid_text(item.child("operator"), operator, why);
                }
            }
            let key = tree::text(expression, "key");
            if list == "matchExpressions" {
                causes.complaints(item.child("key"), key, names::qualified(key));
            } else if key != "metadata.name" {
                causes.invalid_text(item.child("key"), key, "not a valid field selector key");
            }
        }
    }
}

fn spread(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for (at, constraint) in tree::list(spec, "topologySpreadConstraints").iter().enumerate() {
        let item = path.index(at);
        let skew = tree::number(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            causes.invalid(item.child("maxSkew"), &Value::from(skew), "must be greater than zero");
        }
        if tree::text(constraint, "topologyKey").is_empty() {
            causes.required(item.child("topologyKey"), "can not be empty");
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&tree::text(constraint, "whenUnsatisfiable")) {
            let field = item.child("whenUnsatisfiable");
            causes.not_supported(field, &constraint["whenUnsatisfiable"], &known);
        }
    }
}
