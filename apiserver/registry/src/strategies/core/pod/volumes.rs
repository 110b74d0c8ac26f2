//! Rules of volumes and of what mounts them.

use serde_json::Value;

use crate::{
    cause::{Causes, Path},
    names, tree,
};

/// Rules of `spec.volumes`.
pub fn validate(volumes: &[Value], path: Path<'_>, causes: &mut Causes) {
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key)
            .collect();
        if sources.is_empty() {
            causes.required(item, "must specify a volume type");
        }
        for extra in sources.iter().skip(1) {
            causes.forbidden(item.child(extra), "may not specify more than 1 volume type");
        }
        match tree::text(volume, "name") {
            "" => causes.required(item.child("name"), ""),
            name => {
                causes.complaints(item.child("name"), name, names::label(name));
                if volumes[..at].iter().any(|other| tree::text(other, "name") == name) {
                    causes.duplicate(item.child("name"), &volume["name"]);
                }
            }
        }
        source(volume, item, causes);
    }
}

/// What the sources must name.
fn source(volume: &Value, path: Path<'_>, causes: &mut Causes) {
    for (kind, key) in [
        ("secret", "secretName"),
        ("configMap", "name"),
        ("hostPath", "path"),
        ("persistentVolumeClaim", "claimName"),
    ] {
        let source = &volume[kind];
        if source.is_object() && tree::text(source, key).is_empty() {
            causes.required(path.child(kind).child(key), "");
        }
    }
    for kind in ["secret", "configMap", "projected", "downwardAPI"] {
        let mode = tree::number(&volume[kind], "defaultMode");
        if mode.is_some_and(|mode| !(0..=0o777).contains(&mode)) {
            let why = "must be a number between 0 and 0777 (octal), both inclusive";
            causes.invalid(
                path.child(kind).child("defaultMode"),
                &volume[kind]["defaultMode"],
                why,
            );
        }
        for_items(&volume[kind], path.child(kind), causes);
    }
    let host_path = tree::text(&volume["hostPath"], "path");
    if host_path.split('/').any(|part| part == "..") {
        let field = path.child("hostPath");
        causes.invalid_text(field.child("path"), host_path, "must not contain '..'");
    }
}

/// `items` of a secret or a config map: keys and relative paths.
fn for_items(source: &Value, path: Path<'_>, causes: &mut Causes) {
    let items = path.child("items");
    for (at, item) in tree::list(source, "items").iter().enumerate() {
        let here = items.index(at);
        let has_key = source.get("sources").is_none()
            && !tree::has(item, "fieldRef")
            && !tree::has(item, "resourceFieldRef");
        if has_key && tree::text(item, "key").is_empty() {
            causes.required(here.child("key"), "");
        }
        match tree::text(item, "path") {
            "" => causes.required(here.child("path"), ""),
            file => local_path(file, here.child("path"), causes),
        }
    }
}

/// Rules of a container's `volumeMounts`.
pub fn validate_mounts(container: &Value, volumes: &[Value], path: Path<'_>, causes: &mut Causes) {
    let mounts = tree::list(container, "volumeMounts");
    for (at, mount) in mounts.iter().enumerate() {
        let item = path.index(at);
        let name = tree::text(mount, "name");
        if name.is_empty() {
            causes.required(item.child("name"), "");
        }
        if !volumes.iter().any(|volume| tree::text(volume, "name") == name) {
            causes.not_found(item.child("name"), &Value::from(name));
        }
        let point = tree::text(mount, "mountPath");
        if point.is_empty() {
            causes.required(item.child("mountPath"), "");
        }
        if mounts[..at].iter().any(|other| tree::text(other, "mountPath") == point) {
            causes.invalid_text(item.child("mountPath"), point, "must be unique");
        }
        for key in ["subPath", "subPathExpr"] {
            let sub = tree::text(mount, key);
            if !sub.is_empty() {
                local_path(sub, path.child(key), causes);
            }
        }
        if tree::has(mount, "subPath") && tree::has(mount, "subPathExpr") {
            let expression = tree::text(mount, "subPathExpr");
            let why = "subPathExpr and subPath are mutually exclusive";
            causes.invalid_text(item.child("subPathExpr"), expression, why);
        }
    }
}

/// A path that stays below where it starts.
fn local_path(file: &str, path: Path<'_>, causes: &mut Causes) {
    if file.starts_with('/') {
        causes.invalid_text(path, file, "must be a relative path");
    }
    if file.split('/').any(|part| part == "..") {
        causes.invalid_text(path, file, "must not contain '..'");
    }
}
