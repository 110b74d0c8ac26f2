//! Pods and nodes for tests, from short YAML.

use serde_json::{Value, json};
use windlass_sdk_types::{Kind, Node, Pod};

use crate::{
    node::{NodeInfo, Usage},
    pod::PodInfo,
};

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

fn decode<K: Kind>(value: &Value) -> K {
    K::decode(value.to_string().as_bytes()).unwrap()
}

/// A pod with one container with these requests; its uid is its name.
pub fn pod(name: &str, requests: &str) -> Pod {
    let requests: Value = quantities(yaml(requests));
    decode(&json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] },
    }))
}

/// A node with these resources and room for 110 pods.
pub fn node(name: &str, resources: &str) -> Node {
    let mut allocatable = quantities(yaml(resources));
    allocatable["pods"] = "110".into();
    decode(&json!({ "metadata": { "name": name }, "status": { "allocatable": allocatable } }))
}

/// A pod with this spec.
pub fn pod_info(spec: &str) -> PodInfo {
    let mut spec = yaml(spec);
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let lists = ["containers", "initContainers"].map(|list| spec[list].take());
    for (name, mut list) in ["containers", "initContainers"].into_iter().zip(lists) {
        for container in list.as_array_mut().into_iter().flatten() {
            let requests = container["resources"]["requests"].take();
            container["resources"]["requests"] = quantities(requests);
        }
        spec[name] = list;
    }
    let metadata = json!({ "name": "p", "namespace": "default", "uid": "p" });
    PodInfo::new(&decode(&json!({ "metadata": metadata, "spec": spec })))
}

/// A node from its labels, taints, allocatable and unschedulable.
pub fn node_of(name: &str, text: &str) -> Node {
    let all = yaml(text);
    decode(&json!({
        "metadata": { "name": name, "labels": all["labels"] },
        "spec": { "taints": all["taints"], "unschedulable": all["unschedulable"] },
        "status": { "allocatable": all["allocatable"] },
    }))
}

/// The node `x`.
pub fn node_info(text: &str) -> NodeInfo {
    NodeInfo::new(&node_of("x", text), Usage::default())
}

/// YAML writes `cpu: 1` as a number; the API has text.
fn quantities(mut all: Value) -> Value {
    for value in all.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        if value.is_number() {
            *value = value.to_string().into();
        }
    }
    all
}
