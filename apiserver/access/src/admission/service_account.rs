//! ServiceAccount: a pod runs as `default` where it names no other, and its account must exist.
//! Tokens are mounted by a later issue.

use std::{sync::LazyLock, time::Duration};

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Status};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

const DEFAULT: &str = "default";
const MIRROR_POD: &str = "kubernetes.io/config.mirror";
/// The account of a new namespace is made by a controller: a pod that comes with its namespace
/// waits this often, this long.
const ATTEMPTS: usize = 20;
const ATTEMPT_EVERY: Duration = Duration::from_millis(50);

static SERVICE_ACCOUNTS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", "serviceaccounts"));

pub(super) async fn mutate(
    request: &mut AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    let object = request.object.as_deref_mut();
    if let Some(Value::Object(spec)) = object.and_then(|pod| pod.get_mut("spec"))
        && spec.get("serviceAccountName").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        // The old name of the field is kept in step, as upstream shows it.
        let old = spec.get("serviceAccount").and_then(Value::as_str).filter(|old| !old.is_empty());
        let name = Value::from(old.unwrap_or(DEFAULT));
        spec.insert("serviceAccountName".into(), name.clone());
        spec.insert("serviceAccount".into(), name);
    }
    for _ in 0..ATTEMPTS {
        if validate(request, lookup).is_ok() {
            break;
        }
        tokio::time::sleep(ATTEMPT_EVERY).await;
    }
    validate(request, lookup)
}

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    let spec = request.object.as_deref().map(|pod| &pod["spec"]);
    let name = spec.and_then(|spec| spec["serviceAccountName"].as_str()).unwrap_or_default();
    if lookup.get(&SERVICE_ACCOUNTS, request.namespace, name).is_some() {
        return Ok(());
    }
    let namespace = request.namespace;
    Err(request.forbidden(format!(
        "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
    )))
}

/// New pods; those that mirror a node's static pods have no account.
fn applies(request: &AdmissionRequest<'_>) -> bool {
    let mirrors = |pod: &Value| pod["metadata"]["annotations"][MIRROR_POD].is_string();
    request.operation == Operation::Create
        && request.is("", "pods")
        && request.subresource.is_empty()
        && request.object.as_deref().is_some_and(|pod| !mirrors(pod))
}
