//! PodResizeValidator: a pod on a node asks for no more than the node has.

use std::sync::LazyLock;

use serde_json::Value;
use windlass_sdk_meta::{Cause, GroupResource, Quantity, Status, quota};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static NODES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "nodes"));
const SYSTEM: &str = "kubernetes.io/os";

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let is_resize = request.operation == Operation::Update && request.subresource == "resize";
    let (Some(pod), Some(old)) = (request.object.as_deref(), request.old) else { return Ok(()) };
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let generation = |pod: &Value| pod["metadata"]["generation"].clone();
    let is_same = generation(pod) == generation(old);
    if !is_resize || !request.is("", "pods") || name.is_empty() || is_same {
        return Ok(());
    }
    let Some(node) = lookup.get(&NODES, "", name).map(|node| node.tree()) else {
        return Err(request.forbidden(format!("node {name:?} not found")));
    };
    if let Some(system) = node["metadata"]["labels"][SYSTEM].as_str().filter(|&os| os != "linux") {
        let why =
            format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
        return Err(refused(request, why, "UnsupportedPlatform"));
    }
    let too_much = too_much(pod, &node["status"]["allocatable"]);
    if too_much.is_empty() {
        return Ok(());
    }
    let what = too_much.join("; ");
    let why = format!("node didn't have enough allocatable resources: {what}");
    Err(refused(request, why, "NodeCapacity"))
}

fn too_much(pod: &Value, allocatable: &Value) -> Vec<String> {
    let mut asked = quota::pod_total(&pod["spec"], "requests");
    quota::add(&mut asked, &quota::amounts(&pod["spec"]["overhead"]));
    let has = quota::amounts(allocatable);
    let shown = ["cpu", "memory"].into_iter().filter_map(|name| {
        let units = |of: &Quantity| if name == "cpu" { of.millis() } else { of.units() };
        let asked = asked.get(name)?;
        let most = has.get(name).copied().unwrap_or(Quantity::ZERO);
        (*asked > most)
            .then(|| format!("{name}, requested: {}, allocatable: {}", units(asked), units(&most)))
    });
    shown.collect()
}

fn refused(request: &AdmissionRequest<'_>, why: String, reason: &str) -> Status {
    let mut status = request.forbidden(why);
    let cause = Cause { reason: reason.into(), message: String::new(), field: String::new() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}
