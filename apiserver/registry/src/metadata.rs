//! The rules of `metadata` that hold for every kind.

use serde_json::Value;

use crate::{
    cause::{Causes, Path},
    kind::Kind,
    names::{self, NameRule},
    tree,
};

const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
pub const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
pub const UNKNOWN_FINALIZER: &str =
    "name is neither a standard finalizer name nor is it fully qualified";

/// Rules of a new object's metadata.
pub fn validate(kind: &Kind, object: &Value, causes: &mut Causes) {
    let path = Path::Root.child("metadata");
    let metadata = &object["metadata"];
    let rule = kind.strategy.name_rule();
    base_name(kind, metadata, path, causes);
    match tree::text(metadata, "name") {
        "" => causes.required(path.child("name"), "name or generateName is required"),
        name => causes.complaints(path.child("name"), name, rule.complaints(name, false)),
    }
    match tree::text(metadata, "namespace") {
        "" if kind.namespaced => causes.required(path.child("namespace"), ""),
        "" => {}
        namespace if kind.namespaced => {
            let complaints = NameRule::Label.complaints(namespace, false);
            causes.complaints(path.child("namespace"), namespace, complaints);
        }
        _ => causes.forbidden(path.child("namespace"), "not allowed on this type"),
    }
    parts(metadata, path, causes);
    finalizers(metadata, path, causes);
    standard_finalizers(kind, metadata, path, causes);
}

fn base_name(kind: &Kind, metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    let base = tree::text(metadata, "generateName");
    if !base.is_empty() {
        let complaints = kind.strategy.name_rule().complaints(base, true);
        causes.complaints(path.child("generateName"), base, complaints);
    }
}

/// Rules of a change of metadata.
pub fn validate_update(kind: &Kind, new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("metadata");
    let (metadata, before) = (&new["metadata"], &old["metadata"]);
    if tree::has(before, "deletionTimestamp") {
        no_new_finalizers(metadata, before, path, causes);
    }
    if kind.judges_base_on_update {
        base_name(kind, metadata, path, causes);
    }
    for key in ["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !tree::same(&metadata[key], &before[key]) {
            causes.immutable(path.child(key), &metadata[key]);
        }
    }
    parts(metadata, path, causes);
    finalizers(metadata, path, causes);
    standard_finalizers(kind, metadata, path, causes);
}

/// Rules of the metadata of an object inside of another one.
pub fn validate_part(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    if let name @ ("." | "..") = tree::text(metadata, "name") {
        causes.complaints(path.child("name"), name, names::path_segment(name));
    }
    parts(metadata, path, causes);
    finalizers(metadata, path, causes);
}

/// Labels of any object or template.
pub fn validate_labels(labels: &Value, path: Path<'_>, causes: &mut Causes) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        causes.complaints(path, key, names::qualified(key));
        causes.complaints(path, value, names::label_value(value));
    }
}

/// Metadata of a template whose objects get their names from elsewhere: labels and annotations, and
/// nothing else.
pub fn validate_of_template(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    validate_labels(&metadata["labels"], path.child("labels"), causes);
    validate_annotations(&metadata["annotations"], path.child("annotations"), causes);
    for (key, value) in metadata.as_object().into_iter().flatten() {
        let is_set = value.is_array() || !tree::is_empty(value);
        if is_set && !["labels", "annotations"].contains(&key.as_str()) {
            // Upstream makes the path of a Go field's name.
            let key = if key == "uid" { "uID" } else { key };
            causes.forbidden(path.child(key), "cannot be set");
        }
    }
}

/// Annotations of any object or template.
pub fn validate_annotations(annotations: &Value, path: Path<'_>, causes: &mut Causes) {
    for (key, _) in annotations.as_object().into_iter().flatten() {
        causes.complaints(path, key, names::qualified(&key.to_ascii_lowercase()));
    }
    annotations_size(annotations, path, causes);
}

/// All keys and values together are bounded.
pub fn annotations_size(annotations: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = annotations.as_object().into_iter().flatten();
    let bytes =
        all.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>();
    if bytes > MAX_ANNOTATIONS_BYTES {
        causes.too_long(path, MAX_ANNOTATIONS_BYTES);
    }
}

fn parts(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    validate_labels(&metadata["labels"], path.child("labels"), causes);
    validate_annotations(&metadata["annotations"], path.child("annotations"), causes);
    if tree::number(metadata, "generation").is_some_and(|number| number < 0) {
        let why = "must be greater than or equal to 0";
        causes.invalid(path.child("generation"), &metadata["generation"], why);
    }
    owners(metadata, path.child("ownerReferences"), causes);
}

fn owners(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    let mut controller: Option<String> = None;
    for (at, owner) in tree::list(metadata, "ownerReferences").iter().enumerate() {
        let item = path.index(at);
        for key in ["apiVersion", "kind", "name", "uid"] {
            if tree::text(owner, key).is_empty() {
                causes.required(item.child(key), "must not be empty");
            }
        }
        if (tree::text(owner, "apiVersion"), tree::text(owner, "kind")) == ("v1", "Event") {
            causes.invalid(item, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if tree::flag(owner, "controller") {
            let this = format!("{}/{}", tree::text(owner, "kind"), tree::text(owner, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => causes.invalid(
                    path,
                    &metadata["ownerReferences"],
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                ),
            }
        }
    }
}

fn finalizers(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    let path = path.child("finalizers");
    let all = tree::list(metadata, "finalizers");
    for finalizer in all.iter().filter_map(Value::as_str) {
        causes.complaints(path, finalizer, names::qualified(finalizer));
    }
    let has = |name: &str| all.iter().any(|one| one == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer foregroundDeletion and orphan cannot be both set";
        causes.invalid(path, &metadata["finalizers"], why);
    }
}

/// Finalizers without a domain are those that the system knows. Those of custom kinds are only warned
/// of, and their definitions have one of upstream's that it doesn't count among them.
fn standard_finalizers(kind: &Kind, metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    let free = kind.strategy.takes_any_finalizer();
    if !free && !kind.is_custom() && kind.storage().group != "apiextensions.k8s.io" {
        known_finalizers(metadata, path, causes);
    }
}

/// Finalizers are known or of a domain. `path` is the metadata's.
pub fn known_finalizers(metadata: &Value, path: Path<'_>, causes: &mut Causes) {
    let path = path.child("finalizers");
    let all = tree::list(metadata, "finalizers").iter().filter_map(Value::as_str);
    for (at, finalizer) in all.enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            causes.invalid_text(path.index(at), finalizer, UNKNOWN_FINALIZER);
        }
    }
}

fn no_new_finalizers(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let before = tree::list(old, "finalizers");
    let mut extra: Vec<&str> = tree::list(new, "finalizers")
        .iter()
        .filter(|one| !before.contains(one))
        .filter_map(Value::as_str)
        .collect();
    extra.sort_unstable();
    if !extra.is_empty() {
        let list: Vec<String> = extra.iter().map(|one| format!("{one:?}")).collect();
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            list.join(", ")
        );
        causes.forbidden(path.child("finalizers"), why);
    }
}
