//! TaintNodesByCondition: a node begins tainted as not ready, so that no pod is sent there before it
//! has said what it is. The node controller takes the taint away once the node is ready.

use serde_json::{Value, json};

use super::{AdmissionRequest, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) fn mutate(request: &mut AdmissionRequest<'_>) {
    let is_new = request.operation == Operation::Create && request.subresource.is_empty();
    if !request.is("", "nodes") || !is_new {
        return;
    }
    let Some(Value::Object(node)) = request.object.as_deref_mut() else { return };
    let spec = node.entry("spec").or_insert_with(|| json!({}));
    let is_ours = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == EFFECT;
    let taint = json!({"key": NOT_READY, "effect": EFFECT});
    match &mut spec["taints"] {
        Value::Array(taints) if taints.iter().any(is_ours) => {}
        Value::Array(taints) => taints.push(taint),
        none => *none = json!([taint]),
    }
}
