//! Rules of a pod's specification, in a pod or in a template.

use serde_json::{Value, json};

use super::{
    MIRROR, containers, ephemeral, resources,
    scheduling::{self, validate_tolerations},
    security, volumes,
};
use crate::{
    addresses,
    cause::{Causes, Path},
    metadata::{validate_annotations, validate_labels},
    names, tree,
};

const MAX_DEADLINE_SECONDS: i64 = i32::MAX as i64;
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Rules of a PodTemplateSpec.
pub fn validate_template(template: &Value, path: Path<'_>, causes: &mut Causes) {
    // The paths lack `metadata`, as upstream's do.
    let metadata = &template["metadata"];
    validate_labels(&metadata["labels"], path.child("labels"), causes);
    validate_annotations(&metadata["annotations"], path.child("annotations"), causes);
    let (spec, here) = (&template["spec"], path.child("spec"));
    validate_spec(spec, "", here, causes);
    host_network(spec, false, here, causes);
    if !tree::list(spec, "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        causes.forbidden(here.child("ephemeralContainers"), why);
    }
}

/// Rules of a pod: more than a template's, because it will run as it is.
pub fn validate_pod(pod: &Value, causes: &mut Causes) {
    let (spec, path) = (&pod["spec"], Path::Root.child("spec"));
    validate_spec(spec, tree::text(&pod["metadata"], "name"), path, causes);
    host_network(spec, true, path, causes);
    annotations(pod, causes);
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
    if tree::text(spec, "serviceAccountName").is_empty() {
        no_tokens(spec, path.child("volumes"), causes);
    }
    let key = "terminationGracePeriodSeconds";
    if tree::number(spec, key).is_some_and(|seconds| seconds < 0) {
        causes.invalid(path.child(key), &spec[key], "must be greater than or equal to 0");
    }
}

/// Without an account there is nobody whose token could be mounted.
fn no_tokens(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for (at, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let volume_path = path.index(at);
        let here = volume_path.child("projected");
        let all = here.child("sources");
        for (at, source) in tree::list(&volume["projected"], "sources").iter().enumerate() {
            if tree::has(source, "serviceAccountToken") {
                let why = "must not be specified when serviceAccountName is not set";
                causes.forbidden(all.index(at).child("serviceAccountToken"), why);
            }
        }
    }
}

/// Annotations that mean something for every pod.
fn annotations(pod: &Value, causes: &mut Causes) {
    let path = Path::Root.child("metadata");
    let (all, here) = (&pod["metadata"]["annotations"], path.child("annotations"));
    if tree::has(all, MIRROR) && tree::text(&pod["spec"], "nodeName").is_empty() {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        causes.invalid(here.key(MIRROR), &all[MIRROR], why);
    }
    let cost = tree::text(all, DELETION_COST);
    let sane = !cost.starts_with(['0', '+']) || cost == "0";
    if tree::has(all, DELETION_COST) && !(sane && cost.parse::<i32>().is_ok()) {
        causes.invalid_text(here.key(DELETION_COST), cost, "must be a 32bit integer");
    }
}

/// `pod` is the pod's name; empty in a template.
fn validate_spec(spec: &Value, pod: &str, path: Path<'_>, causes: &mut Causes) {
    if !tree::has(spec, "terminationGracePeriodSeconds") {
        causes.required(path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = tree::list(spec, "volumes");
    let volumes = volumes::validate(volumes, pod, path.child("volumes"), causes);
    resources::validate_claims(spec, path.child("resourceClaims"), causes);
    containers::validate(spec, &volumes, path.child("containers"), causes);
    containers::validate_init(spec, &volumes, path.child("initContainers"), causes);
    ephemeral::validate(spec, &volumes, path.child("ephemeralContainers"), causes);
    resources::validate_pod(spec, path, causes);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, causes);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", &policies, path, causes);
    validate_labels(&spec["nodeSelector"], path.child("nodeSelector"), causes);
    security::validate_pod(spec, path, causes);
    scheduling::validate_affinity(&spec["affinity"], path.child("affinity"), causes);
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
    let overhead = json!({"limits": spec["overhead"]});
    resources::validate(&overhead, &[], path.child("overhead"), causes);
    scheduling::validate_spread(spec, path.child("topologySpreadConstraints"), causes);
    security::host_process(spec, path, causes);
    security::host_users(spec, path, causes);
    security::of_system(spec, path, causes);
}

fn one_of(of: &Value, key: &str, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        value if !known.contains(&value) => causes.not_supported(path.child(key), &of[key], known),
        _ => {}
    }
}

/// On the host's network a port is the host's. In a template it may be left open.
fn host_network(spec: &Value, in_pod: bool, path: Path<'_>, causes: &mut Causes) {
    if !tree::flag(spec, "hostNetwork") {
        return;
    }
    let list = path.child("containers");
    for (at, container) in tree::list(spec, "containers").iter().enumerate() {
        let item = list.index(at);
        let ports = item.child("ports");
        for (at, port) in tree::list(container, "ports").iter().enumerate() {
            let host_port = tree::number(port, "hostPort").unwrap_or(0);
            let same = host_port == tree::number(port, "containerPort").unwrap_or(0);
            if !same && (in_pod || host_port != 0) {
                let why = "must match `containerPort` when `hostNetwork` is true";
                causes.invalid(ports.index(at).child("hostPort"), &json!(host_port), why);
            }
        }
    }
}

/// Names of other objects and of the pod in DNS.
fn named(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = tree::text(spec, key);
        // Of these only the last is a pointer: empty is not absent.
        let is_empty = key == "runtimeClassName" && tree::has(spec, key);
        if !name.is_empty() || is_empty {
            causes.complaints(path.child(key), name, names::subdomain(name));
        }
    }
    let (account, name) =
        (tree::text(spec, "serviceAccount"), tree::text(spec, "serviceAccountName"));
    if account != name {
        let why = format!("must be the same as serviceAccountName: {name:?}");
        causes.invalid_text(path.child("deprecatedServiceAccount"), account, why);
    }
    let (name, here) = (tree::text(spec, "hostnameOverride"), path.child("hostnameOverride"));
    if tree::has(spec, "hostnameOverride") {
        for key in ["setHostnameAsFQDN", "hostNetwork"] {
            if tree::flag(spec, key) {
                causes.forbidden(here, format!("may not be specified when {key} is true"));
            }
        }
        if name.len() > 64 {
            causes.too_long(here, 64);
        }
        causes.complaints(here, name, names::subdomain(name));
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
        addresses::validate(&alias["ip"], item.child("ip"), causes);
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
        addresses::validate(server, list.index(at), causes);
    }
    let (searches, list) = (tree::list(config, "searches"), here.child("searches"));
    if searches.len() > MOST_SEARCHES {
        let why = format!("must not have more than {MOST_SEARCHES} search paths");
        causes.invalid(list, &config["searches"], why);
    }
    let characters = searches.iter().map(|one| one.as_str().map_or(0, str::len) + 1).sum::<usize>();
    if characters.saturating_sub(1) > MOST_SEARCH_CHARACTERS {
        let why = format!(
            "must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        causes.invalid(list, &config["searches"], why);
    }
    for (at, search) in searches.iter().enumerate() {
        let domain = search.as_str().unwrap_or_default();
        if domain != "." {
            let bare = domain.strip_suffix('.').unwrap_or(domain);
            causes.complaints(list.index(at), bare, names::subdomain_with_underscore(bare));
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
