//! DefaultTolerationSeconds: how long a pod stays on a node that is not ready or can't be reached,
//! where the pod doesn't say. Windlass' default is 0 (upstream's 300): its pods start in
//! milliseconds elsewhere.

use serde_json::{Value, json};

use super::{AdmissionOptions, AdmissionRequest, Operation};

pub(super) fn mutate(request: &mut AdmissionRequest<'_>, options: &AdmissionOptions) {
    let is_write = matches!(request.operation, Operation::Create | Operation::Update);
    if !request.is("", "pods") || !request.subresource.is_empty() || !is_write {
        return;
    }
    let Some(Value::Object(pod)) = request.object.as_deref_mut() else { return };
    let Some(Value::Object(spec)) = pod.get_mut("spec") else { return };
    let tolerations = spec.get("tolerations").and_then(Value::as_array);
    let mut tolerations = tolerations.cloned().unwrap_or_default();
    let named = tolerations.len();
    for (key, seconds) in [
        ("node.kubernetes.io/not-ready", options.not_ready_toleration_seconds),
        ("node.kubernetes.io/unreachable", options.unreachable_toleration_seconds),
    ] {
        // An empty key or effect stands for all of them.
        let covers = |toleration: &Value| {
            let is = |field: &str, value: &str| {
                toleration[field].as_str().is_none_or(|own| own.is_empty() || own == value)
            };
            is("key", key) && is("effect", "NoExecute")
        };
        if !tolerations[..named].iter().any(covers) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
            }));
        }
    }
    if tolerations.len() > named {
        spec.insert("tolerations".into(), tolerations.into());
    }
}
