//! `pods/binding`: how the scheduler gives a pod its node. It bypasses the pod's own rules, so all
//! of what it may touch stands here.

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupResource, GroupVersionKind, Status, format_time};

use crate::{
    cause::{Causes, Path},
    strategy::Context,
    tree,
};

/// Binds `pod` (with `resourceVersion`) as a v1 Binding says. Errors: 400 and 422 for the Binding,
/// 409 where the pod is bound, gated, being deleted, or another one.
pub fn bind(pod: &mut Value, binding: &Value, cx: &Context<'_>) -> Result<(), Status> {
    let name = tree::text(&pod["metadata"], "name").to_owned();
    let said = &binding["metadata"];
    if ![String::new(), name.clone()].iter().any(|one| one == tree::text(said, "name")) {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let node = target_node(binding, &name)?;
    for (key, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, own) = (tree::text(said, key), tree::text(&pod["metadata"], key));
        if !wanted.is_empty() && wanted != own {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {own}"
            );
            return Err(Status::conflict(&GroupResource::new("", "pods"), &name, why));
        }
    }
    if let Some(why) = refusal(pod, &name) {
        return Err(Status::conflict(&GroupResource::new("", "pods/binding"), &name, why));
    }
    tree::set(tree::child(pod, "spec"), "nodeName", node);
    for key in ["annotations", "labels"] {
        for (name, value) in tree::entries(said, key) {
            let metadata = tree::child(pod, "metadata");
            tree::set(tree::child(metadata, key), name, value.clone());
        }
    }
    let status = tree::child(pod, "status");
    tree::remove(status, "nominatedNodeName");
    set_scheduled(status, &format_time(cx.now));
    Ok(())
}

fn target_node(binding: &Value, name: &str) -> Result<String, Status> {
    let target = &binding["target"];
    let path = Path::Root.child("target");
    let mut causes = Causes::default();
    if !["", "Node"].contains(&tree::text(target, "kind")) {
        causes.not_supported(path.child("kind"), &target["kind"], &["Node", "<empty>"]);
    }
    let node = tree::text(target, "name");
    if node.is_empty() {
        causes.required(path.child("name"), "");
    }
    if causes.is_empty() {
        return Ok(node.to_owned());
    }
    Err(Status::invalid(&GroupVersionKind::new("", "v1", "Binding"), name, causes.into_vec()))
}

fn refusal(pod: &Value, name: &str) -> Option<String> {
    let node = tree::text(&pod["spec"], "nodeName");
    if tree::has(&pod["metadata"], "deletionTimestamp") {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !node.is_empty() {
        Some(format!("pod {name} is already assigned to node {node:?}"))
    } else if !tree::list(&pod["spec"], "schedulingGates").is_empty() {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

fn set_scheduled(status: &mut Value, now: &str) {
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": now});
    let conditions = tree::object(status)
        .entry("conditions")
        .and_modify(|found| {
            if !found.is_array() {
                *found = json!([]);
            }
        })
        .or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == "PodScheduled") {
        Some(old) => {
            if old["status"] == "True" {
                tree::keep(&mut condition, old, "lastTransitionTime");
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}
