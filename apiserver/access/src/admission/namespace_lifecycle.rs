//! NamespaceLifecycle: nothing is made in a namespace that isn't there or is on its way out, and
//! the namespaces that the cluster stands on can't be deleted.

use std::sync::LazyLock;

use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

const UNDELETABLE: [&str; 3] = ["default", "kube-system", "kube-public"];

static NAMESPACES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "namespaces"));

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let namespace = request.namespace;
    if request.is("", "namespaces") {
        let is_base = UNDELETABLE.contains(&request.name) && request.subresource.is_empty();
        if request.operation == Operation::Delete && is_base {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    let is_write = matches!(request.operation, Operation::Create | Operation::Update);
    // Asking what one may do is allowed anywhere.
    if namespace.is_empty()
        || !is_write
        || request.is("authorization.k8s.io", "localsubjectaccessreviews")
    {
        return Ok(());
    }
    match lookup.get(&NAMESPACES, "", namespace) {
        None => Err(Status::not_found(&NAMESPACES, namespace)),
        Some(found) if found.deleting && request.operation == Operation::Create => {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = format!("namespace {namespace} is being terminated");
            Err(request.forbidden(why).with_cause(
                "NamespaceTerminating",
                cause,
                "metadata.namespace",
            ))
        }
        Some(_) => Ok(()),
    }
}
