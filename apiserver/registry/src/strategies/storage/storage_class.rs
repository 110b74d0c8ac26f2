//! StorageClass: how volumes of a sort come to be.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names,
    strategies::common::one_of,
    strategy::Strategy,
    table::{Cells, age},
    tree,
};

pub const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const BETA_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";
const MOST_PARAMETERS: usize = 512;
const MOST_PARAMETER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub struct StorageClass;

impl Strategy for StorageClass {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let root = Path::Root;
        provisioner(object, "provisioner", root, causes);
        parameters(object, true, root, causes);
        if !tree::text(object, "reclaimPolicy").is_empty() {
            one_of(object, "reclaimPolicy", &["Delete", "Retain"], root, causes);
        }
        one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], root, causes);
        topologies(object, root, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            if !tree::same(&new[key], &old[key]) {
                causes.invalid_null(Path::Root.child(key), "field is immutable");
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let mark = if is_default(object) { " (default)" } else { "" };
        let text = |key: &str, absent: &str| object[key].as_str().unwrap_or(absent).to_owned();
        vec![
            format!("{}{mark}", tree::text(&object["metadata"], "name")).into(),
            text("provisioner", "").into(),
            text("reclaimPolicy", "Delete").into(),
            text("volumeBindingMode", "Immediate").into(),
            tree::flag(object, "allowVolumeExpansion").into(),
            age(object, now),
        ]
    }
}

/// By either of the annotations that say so.
fn is_default(class: &Value) -> bool {
    let annotations = &class["metadata"]["annotations"];
    [DEFAULT, BETA_DEFAULT].iter().any(|key| tree::text(annotations, key) == "true")
}

/// Who makes the volumes.
pub fn provisioner(of: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        name => {
            let name = name.to_ascii_lowercase();
            causes.complaints(path.child(key), &name, names::qualified(&name));
        }
    }
}

/// What is handed to the provisioner as it is.
pub fn parameters(of: &Value, may_be_empty: bool, path: Path<'_>, causes: &mut Causes) {
    let field = path.child("parameters");
    let all: Vec<(&str, &str)> = tree::entries(of, "parameters")
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    if all.len() > MOST_PARAMETERS {
        return causes.too_long(field, MOST_PARAMETERS);
    }
    for (key, _) in all.iter().filter(|(key, _)| key.is_empty()) {
        causes.invalid_text(field, key, "field can not be empty.");
    }
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MOST_PARAMETER_BYTES {
        causes.too_long(field, MOST_PARAMETER_BYTES);
    }
    if !may_be_empty && all.is_empty() {
        causes.required(field, "must contain at least one key/value pair");
    }
}

fn topologies(object: &Value, path: Path<'_>, causes: &mut Causes) {
    let (terms, path) = (tree::list(object, "allowedTopologies"), path.child("allowedTopologies"));
    for (at, term) in terms.iter().enumerate() {
        let item = path.index(at);
        let all = item.child("matchLabelExpressions");
        let expressions = tree::list(term, "matchLabelExpressions");
        for (at, expression) in expressions.iter().enumerate() {
            let here = all.index(at);
            let values = tree::list(expression, "values");
            if values.is_empty() {
                causes.required(here.child("values"), "");
            }
            for (at, value) in values.iter().enumerate() {
                if values[..at].contains(value) {
                    causes.duplicate(here.child("values").index(at), value);
                }
            }
            let key = tree::text(expression, "key");
            causes.complaints(here.child("key"), key, names::qualified(key));
            if expressions[..at].iter().any(|other| other["key"] == expression["key"]) {
                causes.duplicate(here.child("key"), &expression["key"]);
            }
        }
        // One that asks for nothing is the same as those that upstream hasn't looked at yet.
        if expressions.is_empty() || terms[..at].iter().any(|other| tree::same(other, term)) {
            causes.duplicate(all, &Value::from(""));
        }
    }
}
