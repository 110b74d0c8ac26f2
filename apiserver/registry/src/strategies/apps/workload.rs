//! What Deployment and ReplicaSet share: a selector, a template of pods, counts.

use serde_json::Value;
use windlass_sdk_meta::{Labels, Selector};

use crate::{
    cause::{Causes, Path},
    metadata::validate_labels,
    names,
    strategies::core::pod,
    table::selector_text,
    tree,
};

/// Defaults of a template's pods.
pub fn default_template(object: &mut Value) {
    let template = tree::child(tree::child(object, "spec"), "template");
    pod::default_spec(tree::child(template, "spec"));
}

/// Rules of `spec.selector` and `spec.template`, which have to fit each other.
pub fn validate_selector_and_template(object: &Value, causes: &mut Causes) {
    let (spec, path) = (&object["spec"], Path::Root.child("spec"));
    let selector = &spec["selector"];
    if !tree::has(spec, "selector") {
        causes.required(path.child("selector"), "");
    } else {
        validate_selector(selector, path.child("selector"), causes);
        if tree::is_empty(selector) {
            causes.invalid(
                path.child("selector"),
                selector,
                "empty selector is invalid for deployment",
            );
        }
    }
    let (template, path) = (&spec["template"], path.child("template"));
    let labels = &template["metadata"]["labels"];
    let why = "`selector` does not match template `labels`";
    let parsed = Selector::from_json(selector);
    let fits = |parsed: &Selector| {
        tree::has(spec, "selector") && parsed.matches_labels(&Labels::from_json(labels))
    };
    match parsed {
        Err(_) => {
            let spec = Path::Root.child("spec");
            causes.invalid(spec.child("selector"), selector, "invalid label selector");
        }
        Ok(parsed) if !fits(&parsed) && labels.is_null() => {
            causes.invalid_null(path.child("metadata").child("labels"), why);
        }
        Ok(parsed) if !fits(&parsed) => {
            causes.invalid(path.child("metadata").child("labels"), labels, why);
        }
        Ok(_) => {}
    }
    pod::validate_template(template, path, causes);
    let pods = &template["spec"];
    let spec_path = path.child("spec");
    if tree::text(pods, "restartPolicy") != "Always" {
        causes.not_supported(spec_path.child("restartPolicy"), &pods["restartPolicy"], &["Always"]);
    }
    if tree::has(pods, "activeDeadlineSeconds") {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        causes.forbidden(spec_path.child("activeDeadlineSeconds"), why);
    }
}

/// Rules of a `metav1.LabelSelector`.
pub fn validate_selector(selector: &Value, path: Path<'_>, causes: &mut Causes) {
    validate_labels(&selector["matchLabels"], path.child("matchLabels"), causes);
    let all = path.child("matchExpressions");
    for (at, expression) in tree::list(selector, "matchExpressions").iter().enumerate() {
        let item = all.index(at);
        let values = tree::list(expression, "values");
        match tree::text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.required(item.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.forbidden(item.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            operator => {
                causes.invalid_text(
                    item.child("operator"),
                    operator,
                    "not a valid selector operator",
                );
            }
        }
        let key = tree::text(expression, "key");
        causes.complaints(item.child("key"), key, names::qualified(key));
        let field = item.child("values");
        for (at, value) in values.iter().filter_map(Value::as_str).enumerate() {
            causes.complaints(field.index(at), value, names::label_value(value));
        }
    }
}

/// Numbers that may not be below zero.
pub fn not_negative(of: &Value, path: Path<'_>, keys: &[&str], causes: &mut Causes) {
    for key in keys {
        if tree::number(of, key).is_some_and(|number| number < 0) {
            causes.invalid(path.child(key), &of[*key], "must be greater than or equal to 0");
        }
    }
}

/// Rules of a status that counts pods.
pub fn validate_counts(object: &Value, keys: &[&str], causes: &mut Causes) {
    let (status, path) = (&object["status"], Path::Root.child("status"));
    not_negative(status, path, &["observedGeneration", "replicas", "terminatingReplicas"], causes);
    not_negative(status, path, keys, causes);
    let count = |key: &str| tree::number(status, key).unwrap_or(0);
    for key in keys.iter().filter(|key| **key != "unavailableReplicas" && **key != "collisionCount")
    {
        if count(key) > count("replicas") {
            causes.invalid(
                path.child(key),
                &status[*key],
                "cannot be greater than status.replicas",
            );
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        causes.invalid(path.child("availableReplicas"), &status["availableReplicas"], why);
    }
}

/// The selector says which pods are its own: it never changes.
pub fn selector_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let (after, before) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    if !tree::same(after, before) {
        let spec = Path::Root.child("spec");
        causes.immutable(spec.child("selector"), after);
    }
}

/// The wide cells: names and images of the containers, and the selector.
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let containers = tree::list(&object["spec"]["template"]["spec"], "containers");
    let of = |key: &str| {
        let all: Vec<&str> = containers.iter().map(|one| tree::text(one, key)).collect();
        Value::from(all.join(","))
    };
    [of("name"), of("image"), Value::from(selector_text(&object["spec"]["selector"]))]
}
