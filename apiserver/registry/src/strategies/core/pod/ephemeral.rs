//! Ephemeral containers (KEP-277): the one list of a pod's specification that grows while the pod
//! runs, through a subresource of its own. What was added stays as it was.

use serde_json::Value;

use super::{MIRROR, containers};
use crate::{
    cause::{Causes, Path},
    tree,
};

const LIST: &str = "ephemeralContainers";
/// What may be set; ports, probes, resources and the like have no meaning for a guest that comes
/// late and isn't restarted.
const ALLOWED: [&str; 17] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];
const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// Of an update through the subresource only the list counts.
pub fn keep_the_rest(new: &mut Value, old: &Value) {
    let list = new["spec"].get_mut(LIST).map(Value::take);
    *new = old.clone();
    match list {
        Some(list) if !list.is_null() => tree::set(tree::child(new, "spec"), LIST, list),
        _ => drop(tree::remove(tree::child(new, "spec"), LIST)),
    }
}

/// Rules of an update through the subresource.
pub fn validate_update(new: &Value, old: &Value, causes: &mut Causes) {
    if tree::has(&old["metadata"]["annotations"], MIRROR) {
        return causes.forbidden(Path::Root, "static pods do not support ephemeral containers");
    }
    let spec = Path::Root.child("spec");
    let path = spec.child(LIST);
    let volumes: Vec<&Value> = tree::list(&new["spec"], "volumes").iter().collect();
    validate(&new["spec"], &volumes, path, causes);
    let after = tree::list(&new["spec"], LIST);
    for before in tree::list(&old["spec"], LIST) {
        let name = tree::text(before, "name");
        match after.iter().find(|one| tree::text(one, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                causes.forbidden(path, why);
            }
            Some(one) if !tree::same(one, before) => {
                let why = format!(
                    "existing ephemeral containers {name:?} may not be changed\n- {before}\n+ {one}\n"
                );
                causes.forbidden(path, why);
            }
            Some(_) => {}
        }
    }
}

/// Rules of the list wherever it stands; that it may not stand there is for others to say.
pub fn validate(spec: &Value, volumes: &[&Value], path: Path<'_>, causes: &mut Causes) {
    let others = [tree::list(spec, "containers"), tree::list(spec, "initContainers")].concat();
    let all = tree::list(spec, LIST);
    for (at, container) in all.iter().enumerate() {
        let item = path.index(at);
        containers::common(container, spec, volumes, item, causes);
        containers::unique_name(container, &others, item, causes);
        containers::unique_name(container, &all[..at], item, causes);
        let target = tree::text(container, "targetContainerName");
        if !target.is_empty() && !others.iter().any(|one| tree::text(one, "name") == target) {
            causes.not_found(item.child("targetContainerName"), &container["targetContainerName"]);
        }
        let image = tree::text(container, "image");
        if image.trim() != image {
            let why = "must not have leading or trailing whitespace";
            causes.invalid_text(item.child("image"), image, why);
        }
        for (key, value) in container.as_object().into_iter().flatten() {
            // Of these fields only `resources` is no pointer or list: empty, it isn't set.
            let is_unset = value.is_null() || key == "resources" && is_empty(value);
            if !is_unset && !ALLOWED.contains(&key.as_str()) {
                causes.forbidden(item.child(key), NOT_HERE);
            }
        }
        let mounts = item.child("volumeMounts");
        for (at, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !tree::text(mount, key).is_empty() {
                    causes.forbidden(mounts.index(at).child(key), NOT_HERE);
                }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}
