//! DefaultIngressClass: an Ingress that names no class gets the cluster's default one.

use std::sync::LazyLock;

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static CLASSES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("networking.k8s.io", "ingressclasses"));
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The annotation that named a class before there was a field for it.
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub(super) fn mutate(
    request: &mut AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let is_new = request.operation == Operation::Create && request.subresource.is_empty();
    if !is_new || !request.is("networking.k8s.io", "ingresses") {
        return Ok(());
    }
    let named = request.object.as_deref().is_some_and(|ingress| {
        ingress["spec"]["ingressClassName"].is_string()
            || ingress["metadata"]["annotations"][OLD_CLASS].is_string()
    });
    if named {
        return Ok(());
    }
    let mut defaults: Vec<Value> = lookup.list(&CLASSES, "").iter().map(|c| c.tree()).collect();
    defaults.retain(|class| class["metadata"]["annotations"][DEFAULT] == "true");
    // The newest counts; of two that are equally new, the first by name.
    defaults.sort_by(|a, b| {
        let text = |of: &Value, key: &str| of["metadata"][key].as_str().unwrap_or("").to_owned();
        text(b, "creationTimestamp")
            .cmp(&text(a, "creationTimestamp"))
            .then_with(|| text(a, "name").cmp(&text(b, "name")))
    });
    let spec = request.object.as_deref_mut().and_then(|ingress| ingress.get_mut("spec"));
    if let (Some(class), Some(spec)) = (defaults.first(), spec.filter(|spec| spec.is_object())) {
        spec["ingressClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}
