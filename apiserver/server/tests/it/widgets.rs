//! A custom kind that tests define, with most of what schemas can say, and how to wait for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Cluster;

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of widgets with most of what schemas can say.
pub fn widgets() -> Value {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"],
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.size", "messageExpression": "self.size < 3 ? 'tiny: below ' + 'min' : 'below min'"},
                {"rule": "!has(oldSelf.frozen) || self.frozen == oldSelf.frozen", "message": "frozen can't change", "reason": "FieldValueForbidden", "fieldPath": ".frozen"}],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "min": {"type": "integer", "default": 1},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "frozen": {"type": "string", "maxLength": 10},
                "port": {"x-kubernetes-int-or-string": true},
                "note": {"type": "string", "nullable": true},
                "when": {"type": "string", "format": "date-time"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "maxItems": 3},
                "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                    "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "count": {"type": "integer", "default": 7}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                "replicas": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}]}})
}

/// The same under other names.
pub fn widgets_named(plural: &str) -> Value {
    let mut definition = widgets();
    definition["metadata"]["name"] = json!(format!("{plural}.example.com"));
    definition["spec"]["names"] = json!({"plural": plural, "kind": "Gadget"});
    definition
}

/// Creates a definition and waits until it is served.
pub async fn define(cluster: &Cluster, definition: &Value) {
    let answer = cluster.run(&format!("POST {CRDS} {definition}")).await;
    assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(&answer.bytes));
    let name = definition["metadata"]["name"].as_str().expect("a name");
    until(cluster, name, |crd| state(crd, "Established") == "True").await;
    registered(cluster, definition, true).await;
}

pub fn state(crd: &Value, kind: &str) -> String {
    let all = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let own = all.iter().find(|one| one["type"] == kind);
    own.and_then(|one| one["status"].as_str()).unwrap_or_default().to_owned()
}

pub async fn until(cluster: &Cluster, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let crd = cluster.get(&format!("{CRDS}/{name}")).await;
        if holds(&crd) {
            return crd;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} never got there");
}

/// Waits until each version that is served has an APIService, or has none.
pub async fn registered(cluster: &Cluster, definition: &Value, wanted: bool) {
    let spec = &definition["spec"];
    let group = spec["group"].as_str().expect("a group");
    for version in spec["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().expect("a name");
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}.{group}");
        let mut service = Value::Null;
        for _ in 0..1000 {
            service = cluster.get(&path).await;
            if (service["kind"] == "APIService") == (wanted && version["served"] == true) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let available = &service["status"]["conditions"][0]["status"];
        assert_eq!(available == "True", wanted && version["served"] == true, "{path}: {service}");
    }
}

pub fn widget(name: &str, spec: Value) -> String {
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name}, "spec": spec});
    format!("POST {WIDGETS} {object}")
}
