//! What a node agent may do, after upstream's Node authoriser: its own Node and Lease, the pods
//! bound to it, and the secrets, config maps and service accounts that these pods refer to; beyond
//! upstream's, the namespaces these pods are in, which say what hosts their pods may call, and the
//! key-value entries there. What
//! it may change of these is narrowed further by the NodeRestriction admission plugin, which sees
//! the objects.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Object};

use super::{
    Attributes, Decision,
    rbac::{self, Rule},
};
use crate::{Lookup, bootstrap};

/// Where the Leases of nodes live.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Remembered relations; all are forgotten when there are more.
const MAX_REMEMBERED: usize = 16 << 10;

pub(crate) static PODS: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "pods"));

static SLICES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("resource.k8s.io", "resourceslices"));
static CERTIFICATES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("certificates.k8s.io", "podcertificaterequests"));

/// Rules for everything that is not looked at object by object: the role `system:node`.
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(bootstrap::node_rules);

/// The Node authoriser.
#[derive(Default)]
pub(crate) struct NodeAuthorizer {
    /// Which pod showed the relation of a node to an object, last time.
    remembered: Mutex<HashMap<Relation, Arc<str>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Relation {
    node: String,
    refers: Refers,
    namespace: String,
    name: String,
}

/// What a pod refers to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Refers {
    Secret,
    ConfigMap,
    ServiceAccount,
    /// The namespace it is in.
    Namespace,
}

impl NodeAuthorizer {
    pub fn authorize(&self, node: &str, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
        let read = matches!(asked.verb, "get" | "list" | "watch") && asked.subresource.is_empty();
        let related = |refers| self.related(node, refers, asked.namespace, asked, lookup);
        match (asked.group, asked.resource) {
            _ if !asked.is_resource => allow_if(rbac::rules_allow(&NODE_RULES, asked), ""),
            ("", "secrets") if read => related(Refers::Secret),
            ("", "configmaps") if read => related(Refers::ConfigMap),
            ("", "secrets" | "configmaps") => no("can only read resources of this type"),
            ("", "serviceaccounts") => match (asked.verb, asked.subresource) {
                ("create", "token") | ("get", "") => related(Refers::ServiceAccount),
                _ => no("can only get service accounts of its pods and create their tokens"),
            },
            ("", "namespaces") if asked.verb == "get" && asked.subresource.is_empty() => {
                self.related(node, Refers::Namespace, asked.name, asked, lookup)
            }
            ("coordination.k8s.io", "leases") => authorize_lease(node, asked),
            ("windlass.dev", "keyvalues") => match asked.verb {
                "get" | "list" | "create" | "update" | "delete" => {
                    let of = Attributes { name: asked.namespace, ..*asked };
                    self.related(node, Refers::Namespace, asked.namespace, &of, lookup)
                }
                _ => no("can only get, list, create, update and delete key-value entries"),
            },
            ("", "nodes") => authorize_node(node, asked),
            ("", "pods") => authorize_pod(node, asked, lookup),
            // Volumes come with their issue: until then no pod refers to any.
            ("", "persistentvolumeclaims" | "persistentvolumes") => no_relation(node),
            ("storage.k8s.io", "volumeattachments") => no_relation(node),
            ("storage.k8s.io", "csinodes") => authorize_storage_node(node, asked),
            ("resource.k8s.io", "resourceslices") => authorize_slice(node, asked, lookup),
            ("certificates.k8s.io", "podcertificaterequests") => {
                authorize_certificate(node, asked, lookup)
            }
            _ => allow_if(rbac::rules_allow(&NODE_RULES, asked), ""),
        }
    }

    fn related(
        &self,
        node: &str,
        refers: Refers,
        namespace: &str,
        asked: &Attributes<'_>,
        lookup: &dyn Lookup,
    ) -> Decision {
        if asked.name.is_empty() || namespace.is_empty() {
            return no("can only read objects that it names, of one namespace");
        }
        let relation = Relation {
            node: node.into(),
            refers,
            namespace: namespace.into(),
            name: asked.name.into(),
        };
        let remembered = self.remembered.lock().get(&relation).cloned();
        let still = remembered
            .and_then(|pod| lookup.get(&PODS, namespace, &pod))
            .is_some_and(|pod| is_on(&pod, node) && pod_refers(&pod, refers, asked.name));
        if still {
            return Decision::Allow(String::new());
        }
        let pods = lookup.pods_on_node(node);
        let found = pods
            .iter()
            .find(|pod| *pod.namespace == *namespace && pod_refers(pod, refers, asked.name));
        match found {
            Some(pod) => {
                let mut remembered = self.remembered.lock();
                if remembered.len() >= MAX_REMEMBERED {
                    remembered.clear();
                }
                remembered.insert(relation, pod.name.clone());
                Decision::Allow(String::new())
            }
            None => no_relation(node),
        }
    }
}

fn authorize_lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASE_NAMESPACE {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // The name is not known on create: NodeRestriction looks at it.
    let own = asked.verb == "create" || asked.name == node;
    allow_if(own, "can only access node lease with the same name as the requesting node")
}

fn authorize_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow_if(true, ""),
        ("", "get" | "list" | "watch") if asked.name == node => allow_if(true, ""),
        ("", "get" | "list" | "watch") if asked.name.is_empty() => {
            no(&format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            let other = asked.name;
            no(&format!("node '{node}' cannot read '{other}', only its own Node object"))
        }
        _ => no(""),
    }
}

fn authorize_pod(node: &str, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
    let is_own = || is_own(&PODS, node, asked, lookup);
    match (asked.subresource, asked.verb) {
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            allow_if(true, "")
        }
        ("", "get") => allow_if(
            is_own(),
            &format!("no relationship found between node '{node}' and this object"),
        ),
        ("", "list" | "watch") => {
            if narrowed_to(node, asked) || (!asked.name.is_empty() && is_own()) {
                return allow_if(true, "");
            }
            match asked.name {
                "" => no("can only list/watch pods with spec.nodeName field selector"),
                _ => no_relation(node),
            }
        }
        _ => no(""),
    }
}

/// Of a CSINode only the name is looked at, and on create by NodeRestriction.
fn authorize_storage_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "get" | "create" | "update" | "patch" | "delete") => {
            let own = asked.verb == "create" || asked.name == node;
            allow_if(own, "can only access CSINode with the same name as the requesting node")
        }
        ("", _) => no("can only get, create, update, patch, or delete a CSINode"),
        ("status", _) => no("CSINode status access requires CSIVolumeHealth feature"),
        _ => no("cannot authorize CSINode subresources"),
    }
}

fn authorize_slice(node: &str, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
    if !asked.subresource.is_empty() {
        return no("cannot authorize ResourceSlice subresources");
    }
    match asked.verb {
        // NodeRestriction looks at whose it will be.
        "create" => allow_if(true, ""),
        "get" | "update" | "patch" | "delete" => related_to(&SLICES, node, asked, lookup),
        "watch" | "list" | "deletecollection" => allow_if(
            narrowed_to(node, asked),
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, \
                 create, update, patch, delete, deletecollection"),
    }
}

fn authorize_certificate(node: &str, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
    if !asked.subresource.is_empty() {
        return no("nodes may not access the status subresource of PodCertificateRequests");
    }
    match asked.verb {
        "create" => allow_if(true, ""),
        "get" => related_to(&CERTIFICATES, node, asked, lookup),
        "list" | "watch" => allow_if(
            narrowed_to(node, asked),
            "can only list/watch podcertificaterequests with nodeName field selector",
        ),
        verb => no(&format!("nodes may not {verb} podcertificaterequests")),
    }
}

/// The request's selector asks for objects of this node only.
fn narrowed_to(node: &str, asked: &Attributes<'_>) -> bool {
    let mut terms = asked.fields.0.iter();
    terms.any(|(path, equal, value)| path == "spec.nodeName" && *equal && value == node)
}

fn related_to(
    resource: &GroupResource,
    node: &str,
    asked: &Attributes<'_>,
    lookup: &dyn Lookup,
) -> Decision {
    match asked.name {
        "" => no("No Object name found"),
        _ if is_own(resource, node, asked, lookup) => allow_if(true, ""),
        _ => no_relation(node),
    }
}

/// The object asked for says in `spec.nodeName` that it is this node's.
fn is_own(
    resource: &GroupResource,
    node: &str,
    asked: &Attributes<'_>,
    lookup: &dyn Lookup,
) -> bool {
    let found = lookup.get(resource, asked.namespace, asked.name);
    found.is_some_and(|object| is_on(&object, node))
}

fn is_on(object: &Object, node: &str) -> bool {
    object.field("spec.nodeName") == Some(node)
}

/// Whether a pod refers to an object of that name. Most don't even contain the name, and a tree is
/// dear to make, so the bytes are searched first.
fn pod_refers(pod: &Object, refers: Refers, name: &str) -> bool {
    if refers == Refers::Namespace {
        return *pod.namespace == *name;
    }
    let quoted = format!("\"{name}\"");
    let bytes = pod.encoded().bytes();
    if !std::str::from_utf8(bytes).is_ok_and(|text| text.contains(&quoted)) {
        return false;
    }
    let tree = pod.tree();
    names(&tree["spec"], refers).contains(&name)
}

/// All names of that sort in a pod's spec.
fn names(spec: &Value, refers: Refers) -> Vec<&str> {
    let (from, key, volume, volume_name, projected) = match refers {
        Refers::ServiceAccount => {
            return spec["serviceAccountName"].as_str().into_iter().collect();
        }
        // Not in the spec: a pod is in one.
        Refers::Namespace => return Vec::new(),
        Refers::Secret => ("secretRef", "secretKeyRef", "secret", "secretName", "secret"),
        Refers::ConfigMap => ("configMapRef", "configMapKeyRef", "configMap", "name", "configMap"),
    };
    let mut names = Vec::new();
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[containers]) {
            names.extend(items(&container["envFrom"]).filter_map(|env| env[from]["name"].as_str()));
            let values = items(&container["env"]);
            names.extend(values.filter_map(|env| env["valueFrom"][key]["name"].as_str()));
        }
    }
    for one in items(&spec["volumes"]) {
        names.extend(one[volume][volume_name].as_str());
        let sources = items(&one["projected"]["sources"]);
        names.extend(sources.filter_map(|source| source[projected]["name"].as_str()));
    }
    if refers == Refers::Secret {
        names.extend(items(&spec["imagePullSecrets"]).filter_map(|secret| secret["name"].as_str()));
    }
    names
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn allow_if(allowed: bool, otherwise: &str) -> Decision {
    if allowed { Decision::Allow(String::new()) } else { no(otherwise) }
}

fn no(why: &str) -> Decision {
    Decision::NoOpinion(why.into())
}

fn no_relation(node: &str) -> Decision {
    no(&format!("no relationship found between node '{node}' and this object"))
}
