//! Rules of volumes and of what mounts them.

use serde_json::Value;

use crate::{
    cause::{Causes, Path},
    names, tree,
};

/// Rules of `spec.volumes`. Returns the names of those that are fine: mounts may name only these.
pub fn validate<'a>(volumes: &'a [Value], path: Path<'_>, causes: &mut Causes) -> Vec<&'a str> {
    let mut fine: Vec<&str> = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let mut own = Causes::default();
        one(volume, item, &mut own);
        let name = tree::text(volume, "name");
        match name {
            "" => own.required(item.child("name"), ""),
            name => own.complaints(item.child("name"), name, names::label(name)),
        }
        if fine.contains(&name) {
            own.duplicate(item.child("name"), &volume["name"]);
        }
        if own.is_empty() {
            fine.push(name);
        }
        causes.extend(own);
    }
    fine
}

fn one(volume: &Value, path: Path<'_>, causes: &mut Causes) {
    let sources = volume.as_object().into_iter().flatten();
    let mut sources = sources.filter(|(key, value)| *key != "name" && !value.is_null());
    match sources.next() {
        None => causes.required(path, "must specify a volume type"),
        Some((first, _)) => source(volume, first, path, causes),
    }
    for (extra, _) in sources {
        causes.forbidden(path.child(extra), "may not specify more than 1 volume type");
    }
}

/// What a source must name.
fn source(volume: &Value, kind: &str, path: Path<'_>, causes: &mut Causes) {
    let here = path.child(kind);
    let of = &volume[kind];
    for (known, key) in [
        ("secret", "secretName"),
        ("configMap", "name"),
        ("hostPath", "path"),
        ("persistentVolumeClaim", "claimName"),
    ] {
        if kind == known && tree::text(of, key).is_empty() {
            causes.required(here.child(key), "");
        }
    }
    if tree::number(of, "defaultMode").is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        causes.invalid(here.child("defaultMode"), &of["defaultMode"], why);
    }
    for_items(of, here, causes);
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
pub fn validate_mounts(container: &Value, volumes: &[&str], path: Path<'_>, causes: &mut Causes) {
    let mounts = tree::list(container, "volumeMounts");
    for (at, mount) in mounts.iter().enumerate() {
        let item = path.index(at);
        let name = tree::text(mount, "name");
        if name.is_empty() {
            causes.required(item.child("name"), "");
        }
        if !volumes.contains(&name) {
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
