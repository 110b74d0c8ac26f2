//! NodeRestriction: the Node authoriser says which resources an agent may write; this says what it
//! may write into them. An agent changes its own Node without its taints and without labels that
//! steer other people's workloads, its own Lease, and the status of pods bound to it.

use std::collections::BTreeSet;

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR_POD: &str = "kubernetes.io/config.mirror";
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
/// Labels of kubernetes.io and k8s.io that an agent sets itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];
const OWN_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// What an agent asks for before it is completed: which audience it named itself is known then.
pub(super) fn admit(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let Some(node) = request.user.node_name() else { return Ok(()) };
    let why = request.is("", "serviceaccounts").then(|| token(node, request, lookup)).flatten();
    why.map_or(Ok(()), |why| Err(request.forbidden(why)))
}

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let Some(node) = request.user.node_name() else { return Ok(()) };
    if request.operation == Operation::Connect {
        return Ok(());
    }
    let why = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
        ("", "pods") => pod(node, request, lookup),
        ("", "nodes") => own_node(node, request),
        ("coordination.k8s.io", "leases") => lease(node, request),
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(request.forbidden(why)))
}

/// Each of these says why not, if not.
fn pod(node: &str, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Option<String> {
    let stored = |pod: &Value| pod["spec"]["nodeName"] == node;
    let is_own = match request.old {
        Some(old) => stored(old),
        None => lookup
            .get(request.resource, request.namespace, request.name)
            .is_some_and(|pod| pod.field("spec.nodeName") == Some(node)),
    };
    match (request.subresource, request.operation) {
        ("", Operation::Create) => request.object.as_deref().and_then(|pod| mirror_pod(node, pod)),
        ("", Operation::Delete) => not(is_own, || {
            format!("node {node:?} can only delete pods with spec.nodeName set to itself")
        }),
        ("status", Operation::Update) if !is_own => Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        ("status", Operation::Update) => {
            let same = request.old.map(labels) == request.object.as_deref().map(labels);
            not(same, || format!("node {node:?} cannot update labels through pod status"))
        }
        ("eviction", Operation::Create) => not(is_own, || {
            format!("node {node} can only evict pods with spec.nodeName set to itself")
        }),
        ("", operation) => Some(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            format!("{operation:?}").to_uppercase()
        )),
        (other, _) => Some(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

/// A pod that an agent may create shows one of its static pods, and refers to nothing.
fn mirror_pod(node: &str, pod: &Value) -> Option<String> {
    if !pod["metadata"]["annotations"][MIRROR_POD].is_string() {
        return Some(format!(
            "pod does not have {MIRROR_POD:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return Some(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice);
    let is_own = |owner: &Value| {
        owner["apiVersion"] == "v1"
            && owner["kind"] == "Node"
            && owner["name"] == node
            && owner["controller"] == true
            && owner["blockOwnerDeletion"] != true
    };
    if !matches!(owners, Some([owner]) if is_own(owner)) {
        return Some(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    let refers = pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty());
    // Every reference to another object sits under one of these keys.
    let spec = pod["spec"].to_string();
    let keys = ["secretRef", "secretKeyRef", "configMapRef", "configMapKeyRef", "imagePullSecrets"];
    let volumes = ["secret", "configMap", "projected", "persistentVolumeClaim"];
    let mounts = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mounts =
        mounts.into_iter().any(|volume| volumes.iter().any(|kind| volume[*kind].is_object()));
    let refers = refers || mounts || keys.iter().any(|key| spec.contains(&format!("\"{key}\":")));
    not(!refers, || format!("node {node:?} can not create pods that reference other API objects"))
}

fn own_node(node: &str, request: &AdmissionRequest<'_>) -> Option<String> {
    let target = request.target_name();
    if target != node {
        return Some(format!("node {node:?} is not allowed to modify node {target:?}"));
    }
    let new = request.object.as_deref()?;
    let old_labels = request.old.map(labels).unwrap_or_default();
    if let Some(old) = request.old
        && taints(new) != taints(old)
    {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    let new_labels = labels(new);
    let changed = new_labels.symmetric_difference(&old_labels).map(|(key, _)| *key);
    let refused: BTreeSet<&str> = changed.filter(|key| !may_label(key)).collect();
    let refused: Vec<&str> = refused.into_iter().collect();
    if refused.is_empty() {
        return None;
    }
    let list = refused.join(", ");
    Some(match request.operation {
        Operation::Create => {
            format!("node {node:?} is not allowed to set the following labels: {list}")
        }
        _ => format!("is not allowed to modify labels: {list}"),
    })
}

/// A token is for a pod of this node, and for that pod only.
fn token(node: &str, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Option<String> {
    if request.operation != Operation::Create || request.subresource != "token" {
        return None;
    }
    let bound = &request.object.as_deref()?["spec"]["boundObjectRef"];
    let name = bound["name"].as_str().filter(|name| !name.is_empty());
    let Some(name) = name.filter(|_| bound["kind"] == "Pod" && bound["apiVersion"] == "v1") else {
        return Some("node requested token not bound to a pod".into());
    };
    let pods = GroupResource::new("", "pods");
    let pod = lookup.get(&pods, request.namespace, name);
    match pod.filter(|pod| bound["uid"] == *pod.uid) {
        None => Some("node requested token with a pod binding without a matching uid".into()),
        Some(pod) if pod.field("spec.nodeName") != Some(node) => {
            Some("node requested token bound to a pod scheduled on a different node".into())
        }
        Some(pod) => audience(&request.object.as_deref()?["spec"]["audiences"], &pod.tree()),
    }
}

/// An agent asks for what one of the pod's volumes asks it for.
fn audience(asked: &Value, pod: &Value) -> Option<String> {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let asked = items(asked);
    let asked = match asked.as_slice() {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Some("node may only request 0 or 1 audiences".into()),
    };
    let sources = items(&pod["spec"]["volumes"]);
    let mut sources = sources.iter().flat_map(|volume| items(&volume["projected"]["sources"]));
    let found = sources.any(|source| {
        let token = &source["serviceAccountToken"];
        token.is_object() && token["audience"].as_str().unwrap_or_default() == asked
    });
    not(found, || format!("audience {asked:?} not found in pod spec volume"))
}

fn lease(node: &str, request: &AdmissionRequest<'_>) -> Option<String> {
    if request.namespace != LEASE_NAMESPACE {
        return Some(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    not(request.target_name() == node, || {
        "can only access node lease with the same name as the requesting node".into()
    })
}

fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain.strip_suffix(parent).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    };
    if within(RESTRICTED_DOMAIN) {
        return false;
    }
    let is_kubernetes = within("kubernetes.io") || within("k8s.io");
    !is_kubernetes || OWN_LABELS.contains(&key) || OWN_LABEL_DOMAINS.into_iter().any(within)
}

fn labels(object: &Value) -> BTreeSet<(&str, &str)> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
}

/// No taints and an empty list are the same.
fn taints(node: &Value) -> &[Value] {
    node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn not(holds: bool, why: impl FnOnce() -> String) -> Option<String> {
    (!holds).then(why)
}
