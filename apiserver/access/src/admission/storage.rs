//! DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize: a claim gets
//! the default class, claims, volumes and classes of attributes get the finalizer that keeps them
//! while they are used, and a claim grows only where its class lets it.

use std::sync::LazyLock;

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupResource, Quantity, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static CLASSES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("storage.k8s.io", "storageclasses"));
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

pub(super) fn mutate(request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) {
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return;
    }
    if request.is("", "persistentvolumeclaims") {
        default_class(request, lookup);
    }
    let row = PROTECTED.iter().find(|(group, resource, _)| request.is(group, resource));
    let (Some((_, _, finalizer)), Some(object)) = (row, request.object.as_deref_mut()) else {
        return;
    };
    let finalizers = &mut object["metadata"]["finalizers"];
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|one| one == finalizer)
    {
        list.push((*finalizer).into());
    }
}

fn default_class(request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) {
    let Some(claim) = request.object.as_deref_mut() else { return };
    let annotated = claim["metadata"]["annotations"][BETA_CLASS].is_string();
    if annotated || claim["spec"]["storageClassName"].is_string() {
        return;
    }
    let classes: Vec<Value> = lookup.list(&CLASSES, "").iter().map(|class| class.tree()).collect();
    let is_default =
        |class: &&Value| DEFAULT.iter().any(|key| class["metadata"]["annotations"][*key] == "true");
    // The newest counts; of two that are equally new, the first by name.
    let newest = classes.iter().filter(is_default).min_by(|a, b| {
        let (a, b) = (&a["metadata"], &b["metadata"]);
        let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
        text(b, "creationTimestamp")
            .cmp(&text(a, "creationTimestamp"))
            .then_with(|| text(a, "name").cmp(&text(b, "name")))
    });
    if let (Some(class), Some(spec)) = (newest, claim.get_mut("spec").filter(|s| s.is_object())) {
        spec["storageClassName"] = class["metadata"]["name"].clone();
    }
}

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let is_change = request.operation == Operation::Update && request.subresource.is_empty();
    let (Some(new), Some(old)) = (request.object.as_deref(), request.old) else { return Ok(()) };
    if !is_change || !request.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let size = |claim: &Value| -> Quantity {
        let text = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or_default();
        text.parse().unwrap_or_default()
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = new["metadata"]["annotations"][BETA_CLASS].as_str();
    let class = class.or_else(|| new["spec"]["storageClassName"].as_str()).unwrap_or_default();
    let grows = lookup
        .get(&CLASSES, "", class)
        .is_some_and(|class| class.tree()["allowVolumeExpansion"] == true);
    match grows {
        true => Ok(()),
        false => Err(request.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )),
    }
}
