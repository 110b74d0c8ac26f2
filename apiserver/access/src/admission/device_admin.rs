//! Admin access to devices (KEP-5018): a claim gets at devices that others use only in a namespace
//! whose label says so.

use std::sync::LazyLock;

use serde_json::Value;
use windlass_sdk_meta::{Cause, GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static NAMESPACES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "namespaces"));
const GROUP: &str = "resource.k8s.io";
const LABEL: &str = "resource.kubernetes.io/admin-access";

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let Some(field) = request.object.as_deref().and_then(|object| asked(request, object)) else {
        return Ok(());
    };
    let namespace = lookup.get(&NAMESPACES, "", request.namespace).map(|found| found.tree());
    if namespace.is_some_and(|namespace| namespace["metadata"]["labels"][LABEL] == "true") {
        return Ok(());
    }
    let why = format!(
        "Forbidden: admin access to devices requires the `{LABEL}: true` label on the containing namespace"
    );
    let cause = Cause { reason: "FieldValueForbidden".into(), message: why, field };
    Err(Status::invalid(request.kind, request.target_name(), vec![cause]))
}

/// Where admin access is asked for now.
fn asked(request: &AdmissionRequest<'_>, object: &Value) -> Option<String> {
    let is_new = request.operation == Operation::Create;
    let (path, list) = if request.is(GROUP, "resourceclaims") && is_new {
        ("spec.devices.requests", &object["spec"]["devices"]["requests"])
    } else if request.is(GROUP, "resourceclaimtemplates") && is_new {
        ("spec.devices.requests", &object["spec"]["spec"]["devices"]["requests"])
    } else if request.is(GROUP, "resourceclaims") && request.subresource == "status" {
        ("status.allocation.devices.results", results(object))
    } else {
        return None;
    };
    // What was granted stays granted.
    if request.old.is_some_and(|old| first(results(old)).is_some()) {
        return None;
    }
    Some(format!("{path}[{}].adminAccess", first(list)?))
}

fn results(claim: &Value) -> &Value {
    &claim["status"]["allocation"]["devices"]["results"]
}

fn first(list: &Value) -> Option<usize> {
    let of = |one: &Value| one["adminAccess"] == true || one["exactly"]["adminAccess"] == true;
    list.as_array()?.iter().position(of)
}
