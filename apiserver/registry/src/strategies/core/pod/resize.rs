//! `pods/resize` (KEP-1287): other amounts of CPU and memory for the containers of a pod, or for the
//! pod as a whole, while it runs.

use serde_json::{Value, json};

use super::{MIRROR, level, qos, spec};
use crate::{
    cause::{Causes, Path},
    semantic, tree,
};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const RESIZED: [&str; 2] = ["cpu", "memory"];
const ONLY: &str = "only cpu and memory resources are mutable";

/// Of an update through the subresource only resources and resize policies count. Containers that
/// were added, renamed or put in another order are left for the rules to refuse.
pub fn keep_the_rest(new: &mut Value, old: &Value) {
    let count = |pod: &Value, list: &str| tree::list(&pod["spec"], list).len();
    if LISTS.iter().all(|list| count(new, list) == count(old, list)) {
        let (mut kept, wanted) = (old.clone(), &new["spec"]);
        let spec = tree::child(&mut kept, "spec");
        tree::keep(spec, wanted, "resources");
        for list in LISTS {
            resized(spec, wanted, list);
        }
        *new = kept;
    }
    let spec = tree::child(new, "spec");
    if !tree::has(spec, "resources") {
        // Who doesn't know of them doesn't take them away.
        tree::keep(spec, &old["spec"], "resources");
    }
    level::default(spec);
}

fn resized(spec: &mut Value, wanted: &Value, list: &str) {
    let wanted = tree::list(wanted, list);
    let name = |container: &Value| tree::text(container, "name").to_owned();
    if tree::list(spec, list).iter().map(name).ne(wanted.iter().map(name)) {
        return tree::set(spec, list, json!(wanted));
    }
    for (container, wanted) in tree::list_mut(spec, list).iter_mut().zip(wanted) {
        tree::keep(container, wanted, "resources");
        tree::keep(container, wanted, "resizePolicy");
    }
}

/// Rules of an update through the subresource.
pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    if tree::has(&old["metadata"]["annotations"], MIRROR) {
        return causes.forbidden(Path::Root, "static pods cannot be resized");
    }
    if old["spec"]["os"]["name"] == "windows" {
        return causes.forbidden(Path::Root, "windows pods cannot be resized");
    }
    let before = causes.len();
    spec::validate_pod(new, causes);
    let class = &old["status"]["qosClass"];
    if class.as_str().is_some_and(|class| class != qos::class(&new["spec"])) {
        let why = "Pod QOS Class may not change as a result of resizing";
        causes.invalid(path, class, why);
    }
    if !is_supported(&old["status"]) {
        causes.forbidden(path, "Pod running on node without support for resize");
    }
    let (after, old) = (&new["spec"], &old["spec"]);
    let mut munged = after.clone();
    of_pod(&mut munged, old, path, causes);
    let ordered = causes.len();
    for list in LISTS {
        same_containers(after, old, list, path.child(list), causes);
    }
    if causes.len() > ordered {
        return;
    }
    for list in ["initContainers", "containers"] {
        let here = path.child(list);
        for (at, was) in tree::list(old, list).iter().enumerate() {
            let resources = &after[list][at]["resources"];
            let item = here.index(at);
            let (path, what) = (item.child("resources"), "resource");
            removed(resources, &was["resources"], what, path, causes);
        }
    }
    containers(&mut munged, old, path, causes);
    init_containers(&mut munged, old, path.child("initContainers"), causes);
    if causes.len() == before && !semantic::same_named(&munged, old, "core.v1.PodSpec") {
        causes.forbidden(path, ONLY);
    }
}

/// A node that can resize says what its containers have. Where none runs, nobody can tell.
fn is_supported(status: &Value) -> bool {
    let mut all = tree::list(status, "containerStatuses").iter();
    let running = all.find(|one| tree::has(&one["state"], "running"));
    running.is_none_or(|one| tree::has(one, "resources"))
}

/// What the pod says of itself may become more or less; `munged` gets it as it was.
fn of_pod(munged: &mut Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let says = |spec: &Value| {
        ["requests", "limits"].iter().any(|of| tree::entries(&spec["resources"], of).count() > 0)
    };
    if !says(munged) && !says(old) {
        return;
    }
    let (was, here) = (&old["resources"], path.child("resources"));
    removed(&munged["resources"], was, "pod-level resource", here, causes);
    let resources = tree::child(munged, "resources");
    set_back(resources, was);
    if was.is_null() && tree::is_empty(resources) {
        tree::remove(munged, "resources");
    }
    if !tree::same(&munged["resources"], was) {
        causes.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}

fn same_containers(new: &Value, old: &Value, list: &str, path: Path<'_>, causes: &mut Causes) {
    let (after, before) = (tree::list(new, list), tree::list(old, list));
    if after.len() != before.len() {
        return causes.forbidden(path, format!("{list} may not be added or removed on resize"));
    }
    for (at, (after, before)) in after.iter().zip(before).enumerate() {
        if after["name"] != before["name"] {
            let why = format!("{list} may not be renamed or reordered on resize");
            causes.forbidden(path.index(at).child("name"), why);
        }
    }
}

/// Amounts change; they neither come nor go.
fn removed(new: &Value, old: &Value, what: &str, path: Path<'_>, causes: &mut Causes) {
    for of in ["requests", "limits"] {
        if tree::entries(old, of).any(|(name, _)| !tree::has(&new[of], name)) {
            causes.forbidden(path.child(of), format!("{what} {of} cannot be removed"));
        }
    }
}

fn containers(munged: &mut Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let was = tree::list(old, "containers");
    for (container, was) in tree::list_mut(munged, "containers").iter_mut().zip(was) {
        set_back(tree::child(container, "resources"), &was["resources"]);
        if !semantic::same_named(container, was, "core.v1.Container") {
            causes.forbidden(path, ONLY);
        }
    }
}

fn init_containers(munged: &mut Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let was = tree::list(old, "initContainers");
    let all = tree::list_mut(munged, "initContainers").iter_mut().zip(was);
    for (at, (container, was)) in all.enumerate() {
        let item = path.index(at);
        let changed = !semantic::same_named(container, was, "core.v1.Container");
        set_back(tree::child(container, "resources"), &was["resources"]);
        if !semantic::same_named(container, was, "core.v1.Container") {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            causes.forbidden(item, why);
        }
        if changed && tree::text(container, "restartPolicy") != "Always" {
            for policy in tree::list(container, "resizePolicy") {
                if policy["restartPolicy"] == "RestartContainer" {
                    let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    causes.forbidden(item, why);
                }
            }
        }
    }
}

/// CPU and memory as they were.
fn set_back(resources: &mut Value, was: &Value) {
    for of in ["requests", "limits"] {
        let before = &was[of];
        if !tree::has(resources, of) && before.is_null() {
            continue;
        }
        let list = tree::child(resources, of);
        for name in RESIZED {
            tree::keep(list, before, name);
        }
    }
}
