//! RuntimeClass: a pod that names a class gets what the class says of nodes and of overhead; one that
//! names a class that isn't there is refused.

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

pub(super) fn mutate(
    request: &mut AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let Some((name, class)) = class_of(request, lookup)? else { return Ok(()) };
    let Some(Value::Object(pod)) = request.object.as_deref_mut() else { return Ok(()) };
    let Some(spec) = pod.get_mut("spec") else { return Ok(()) };
    let mut clash = None;
    if let Some(selector) = class["scheduling"]["nodeSelector"].as_object() {
        if !spec["nodeSelector"].is_object() {
            spec["nodeSelector"] = json!({});
        }
        for (key, value) in selector {
            match &spec["nodeSelector"][key] {
                Value::Null => spec["nodeSelector"][key] = value.clone(),
                own if own == value => {}
                _ => clash = Some(key.clone()),
            }
        }
    }
    if let Some(tolerations) = class["scheduling"]["tolerations"].as_array() {
        let own = spec["tolerations"].as_array().cloned().unwrap_or_default();
        let more = tolerations.iter().filter(|one| !own.contains(one)).cloned();
        spec["tolerations"] = own.iter().cloned().chain(more).collect();
    }
    let fixed = &class["overhead"]["podFixed"];
    if fixed.is_object() && spec["overhead"].is_null() {
        spec["overhead"] = fixed.clone();
    }
    match clash {
        None => Ok(()),
        Some(key) => Err(request.forbidden(format!(
            "conflict: cannot merge the nodeSelector {key} of RuntimeClass {name:?} with the pod's"
        ))),
    }
}

/// The overhead is the class's word, not the pod's.
pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    if !is_new_pod(request) {
        return Ok(());
    }
    let class = class_of(request, lookup)?;
    let own = request.object.as_deref().map_or(&Value::Null, |pod| &pod["spec"]["overhead"]);
    let overhead = class.as_ref().map_or(&Value::Null, |(_, class)| &class["overhead"]);
    let none = |value: &Value| value.as_object().is_none_or(|members| members.is_empty());
    let fixed = &overhead["podFixed"];
    let why = match overhead.is_null() {
        true if none(own) => return Ok(()),
        true => "Pod Overhead set without corresponding RuntimeClass defined Overhead",
        false if own == fixed || (none(own) && none(fixed)) => return Ok(()),
        false => "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
    };
    Err(request.forbidden(format!("pod rejected: {why}")))
}

fn is_new_pod(request: &AdmissionRequest<'_>) -> bool {
    let is_new = request.operation == Operation::Create && request.subresource.is_empty();
    request.is("", "pods") && is_new
}

/// Of a pod that is being created.
fn class_of(
    request: &AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<Option<(String, Value)>, Status> {
    if !is_new_pod(request) {
        return Ok(None);
    }
    let name = request.object.as_deref().and_then(|pod| pod["spec"]["runtimeClassName"].as_str());
    let Some(name) = name.filter(|name| !name.is_empty()).map(str::to_owned) else {
        return Ok(None);
    };
    let classes = GroupResource::new("node.k8s.io", "runtimeclasses");
    match lookup.get(&classes, "", &name) {
        Some(class) => Ok(Some((name, class.tree()))),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(request.forbidden(why))
        }
    }
}
