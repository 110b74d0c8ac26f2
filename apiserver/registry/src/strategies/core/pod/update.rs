//! What an update of a pod may touch: little of the specification, because a running pod can't
//! follow; and of the status what its node says.

use serde_json::Value;

use super::{MIRROR, scheduling::validate_tolerations, spec};
use crate::{
    cause::{Causes, Path},
    semantic, tree,
};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const SPEC: &str = "core.v1.PodSpec";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Rules of an update through the main resource.
pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let (after, before) = (&new["spec"], &old["spec"]);
    let path = Path::Root.child("spec");
    spec::validate_pod(new, causes);
    annotations_kept(new, old, causes);
    for list in ["containers", "initContainers"] {
        if tree::list(after, list).len() != tree::list(before, list).len() {
            return causes
                .forbidden(path.child(list), "pod updates may not add or remove containers");
        }
    }
    if !deadline(after, before, path.child("activeDeadlineSeconds"), causes) {
        return;
    }
    tolerations(after, before, path.child("tolerations"), causes);
    gates(after, before, path.child("schedulingGates"), causes);
    if !semantic::same_named(after, before, SPEC) {
        nothing_else(after, before, path, causes);
    }
}

/// Annotations that say what a pod runs under stay as they were.
pub fn annotations_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let metadata = Path::Root.child("metadata");
    let path = metadata.child("annotations");
    let of = |pod: &Value, key: &str| pod["metadata"]["annotations"][key].clone();
    for (key, before) in tree::entries(&old["metadata"], "annotations") {
        if of(new, key) == *before {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            causes.forbidden(path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            causes.forbidden(path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in tree::entries(&new["metadata"], "annotations") {
        if !of(old, key).is_null() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            causes.forbidden(path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            causes.forbidden(path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// It may be set, or brought nearer.
fn deadline(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) -> bool {
    let of = |spec: &Value| tree::number(spec, "activeDeadlineSeconds");
    let most = i64::from(i32::MAX);
    if let Some(after) = of(new).filter(|after| !(0..=most).contains(after)) {
        let why = format!("must be between 0 and {most}, inclusive");
        causes.invalid(path, &Value::from(after), why);
        return false;
    }
    match (of(new), of(old)) {
        (Some(after), Some(before)) if after > before => {
            let why = "must be less than or equal to previous value";
            causes.invalid(path, &Value::from(after), why);
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            causes.invalid_null(path, why);
            true
        }
        _ => true,
    }
}

/// They may be added, and last longer or shorter.
fn tolerations(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        tree::remove(&mut bare, "tolerationSeconds");
        bare
    };
    let after: Vec<Value> = tree::list(new, "tolerations").iter().map(bare).collect();
    for before in tree::list(old, "tolerations").iter().map(bare) {
        if !after.iter().any(|one| tree::same(one, &before)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            return causes.forbidden(path, why);
        }
    }
    validate_tolerations(tree::list(new, "tolerations"), path, causes);
}

/// They may only be taken away.
fn gates(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let (gates, before) = (tree::list(new, "schedulingGates"), tree::list(old, "schedulingGates"));
    for (at, gate) in gates.iter().enumerate() {
        // One that is there twice is told at its last place.
        if !before.contains(gate) && !gates[at + 1..].contains(gate) {
            let name = tree::text(gate, "name");
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            causes.forbidden(path.index(at).child("name"), why);
        }
    }
}

/// With what may change set back, the specification must be as it was.
fn nothing_else(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        let before = tree::list(old, list);
        for (container, before) in tree::list_mut(&mut munged, list).iter_mut().zip(before) {
            tree::keep(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        tree::keep(&mut munged, old, key);
    }
    let grace = "terminationGracePeriodSeconds";
    let was_negative = tree::number(old, grace).is_some_and(|seconds| seconds < 0);
    if was_negative && tree::number(new, grace) == Some(1) {
        tree::keep(&mut munged, old, grace);
    }
    // A gated pod has no node yet: it may be aimed more narrowly.
    if !tree::list(old, "schedulingGates").is_empty() {
        let kept = tree::entries(old, "nodeSelector")
            .all(|(key, value)| new["nodeSelector"][key] == *value);
        if !kept {
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            causes.invalid(path.child("nodeSelector"), &new["nodeSelector"], why);
        }
        tree::keep(&mut munged, old, "nodeSelector");
    }
    if !semantic::same_named(&munged, old, SPEC) {
        let what = changed(&munged, old);
        let why = format!("pod updates may not change fields other than {UPDATABLE}\n{what}");
        causes.forbidden(path, why);
    }
}

/// The members of a `spec` that differ, for the person who reads the refusal.
pub fn changed(new: &Value, old: &Value) -> String {
    let keys = |of: &Value| -> Vec<String> {
        of.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let mut all = keys(new);
    all.extend(keys(old).into_iter().filter(|key| new.get(key).is_none()));
    let lines =
        all.iter().filter(|key| !tree::same(&new[key.as_str()], &old[key.as_str()])).map(|key| {
            format!("- spec.{key}: {}\n+ spec.{key}: {}\n", old[key.as_str()], new[key.as_str()])
        });
    lines.collect()
}
