//! Objects for tests, in as few words as the case needs.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::{Deployment, Kind, Namespace, Pod, ReplicaSet, Service};

/// The time at which tests begin.
pub const START: i64 = 1_800_000_000;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub fn time(seconds: i64) -> String {
    windlass_sdk_meta::format_time(at(seconds))
}

/// Decodes `json` laid over a minimal object of the kind.
fn decode<K: Kind>(mut base: Value, over: Value) -> K {
    merge(&mut base, over);
    K::decode(base.to_string().as_bytes()).unwrap()
}

/// RFC 7386, in the direction that fixtures need.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match value {
                    Value::Null => drop(base.remove(&key)),
                    value => merge(base.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// A Deployment `web` of image `v1` with its defaults filled in as the server does.
pub fn deployment(over: Value) -> Deployment {
    let base = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1,
            "resourceVersion": "1", "creationTimestamp": time(0)},
        "spec": {
            "replicas": 3, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template("v1"),
        },
    });
    decode(base, over)
}

pub fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image}]},
    })
}

/// A ReplicaSet of the Deployment `web`: image, revision and size as observed, all available.
pub fn owned_set(
    image: &str,
    age: i64,
    revision: i64,
    replicas: i32,
    over: Value,
) -> Arc<ReplicaSet> {
    let base = json!({
        "metadata": {
            "name": format!("web-{image}"), "uid": format!("rs-{image}"), "generation": 1,
            "creationTimestamp": time(-age),
            "labels": {"app": "web", "pod-template-hash": image},
            "annotations": {
                "deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": "3",
                "deployment.kubernetes.io/max-replicas": "4",
            },
            "ownerReferences": [owner("apps/v1", "Deployment", "web", "d")],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": image}},
            "template": template(image),
        },
        "status": {
            "replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            "observedGeneration": 1, "terminatingReplicas": 0,
        },
    });
    let mut base = base;
    base["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = image.into();
    merge(&mut base, over);
    Arc::new(set(base))
}

/// A ReplicaSet `web` of 3.
pub fn set(over: Value) -> ReplicaSet {
    let base = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "ns", "uid": "rs", "generation": 1,
            "resourceVersion": "1"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}}},
    });
    decode(base, over)
}

pub fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true})
}

/// A running, ready pod of the ReplicaSet `web`.
pub fn pod(name: &str, over: Value) -> Arc<Pod> {
    let base = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
            "resourceVersion": "1", "creationTimestamp": time(-100),
            "ownerReferences": [owner("apps/v1", "ReplicaSet", "web", "rs")]},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "127.64.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time(-90)}]},
    });
    Arc::new(decode(base, over))
}

/// Lay over a pod: it isn't ready.
pub fn unready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

pub fn deleting() -> Value {
    json!({"metadata": {"deletionTimestamp": time(0)}})
}

/// A Service `web` that sends port 80 to 8080 of pods with `app: web`.
pub fn service(over: Value) -> Service {
    let base = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "127.96.0.5", "ipFamilies": ["IPv4"],
            "type": "ClusterIP",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    });
    decode(base, over)
}

pub fn namespace(over: Value) -> Namespace {
    let base = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "ns", "uid": "n", "resourceVersion": "1"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    });
    decode(base, over)
}

pub fn map(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}
