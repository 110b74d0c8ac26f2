//! Priority: the class that a pod names becomes a number, and how it treats others. Where it names
//! none, the default class of the cluster counts, or 0.

use std::sync::LazyLock;

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static CLASSES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("scheduling.k8s.io", "priorityclasses"));
const LOWER: &str = "PreemptLowerPriority";

pub(super) fn mutate(
    request: &mut AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    if !request.is("", "pods") || !request.subresource.is_empty() {
        return Ok(());
    }
    let Some(spec) = request.object.as_deref().map(|pod| &pod["spec"]) else { return Ok(()) };
    let values = match request.operation {
        Operation::Create => new_pod(request, spec, lookup)?,
        Operation::Update => kept(spec, request.old.map_or(&Value::Null, |old| &old["spec"])),
        Operation::Delete | Operation::Connect => return Ok(()),
    };
    if let Some(spec) = request.object.as_deref_mut().and_then(|pod| pod.get_mut("spec"))
        && spec.is_object()
    {
        values.into_iter().for_each(|(key, value)| spec[key] = value);
    }
    Ok(())
}

/// What to set in a new pod.
fn new_pod(
    request: &AdmissionRequest<'_>,
    spec: &Value,
    lookup: &dyn Lookup,
) -> Result<Vec<(&'static str, Value)>, Status> {
    let named = spec["priorityClassName"].as_str().unwrap_or_default();
    let class = match named {
        "" => default_class(lookup),
        named => {
            let found = lookup.get(&CLASSES, "", named).map(|class| class.tree());
            let why = || format!("no PriorityClass with name {named} was found");
            Some(found.ok_or_else(|| request.forbidden(why()))?)
        }
    };
    let class = class.unwrap_or_else(|| json!({"value": 0, "preemptionPolicy": LOWER}));
    let value = class["value"].as_i64().unwrap_or(0);
    if let Some(own) = spec["priority"].as_i64().filter(|own| *own != value) {
        return Err(request.forbidden(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let mut values = vec![("priority", json!(value))];
    if let Some(policy) = class["preemptionPolicy"].as_str() {
        if let Some(own) = spec["preemptionPolicy"].as_str().filter(|own| *own != policy) {
            return Err(request.forbidden(format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        values.push(("preemptionPolicy", json!(policy)));
    }
    if named.is_empty()
        && let Some(name) = class["metadata"]["name"].as_str()
    {
        values.push(("priorityClassName", json!(name)));
    }
    Ok(values)
}

/// An update that leaves them out keeps them.
fn kept(new: &Value, old: &Value) -> Vec<(&'static str, Value)> {
    let keys = ["priority", "preemptionPolicy"];
    let lost = keys.into_iter().filter(|key| new[*key].is_null() && !old[*key].is_null());
    lost.map(|key| (key, old[key].clone())).collect()
}

/// Of several the one of the lowest value.
fn default_class(lookup: &dyn Lookup) -> Option<Value> {
    let classes = lookup.list(&CLASSES, "");
    let defaults = classes.iter().map(|class| class.tree());
    let defaults = defaults.filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}

/// There is one default class at most.
pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let is_write = matches!(request.operation, Operation::Create | Operation::Update);
    let is_default = request.object.as_deref().is_some_and(|class| class["globalDefault"] == true);
    if !request.is("scheduling.k8s.io", "priorityclasses") || !is_write || !is_default {
        return Ok(());
    }
    let known = default_class(lookup);
    let known = known.as_ref().and_then(|class| class["metadata"]["name"].as_str());
    let clash = |name: &&str| request.operation == Operation::Create || *name != request.name;
    match known.filter(clash) {
        None => Ok(()),
        Some(name) => Err(request.forbidden(format!(
            "PriorityClass {name} is already marked as default. Only one default can exist"
        ))),
    }
}
