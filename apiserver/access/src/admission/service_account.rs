//! ServiceAccount: a pod runs as `default` where it names no other, and its account must exist. It
//! gets the account's pull secrets, and, where tokens are mounted, a volume with a token of its
//! own, the cluster's certificate and its namespace's name.

use std::{sync::LazyLock, time::Duration};

use serde_json::{Map, Value, json};
use windlass_sdk_meta::{GroupResource, Rng, Status};

use super::{AdmissionRequest, Operation};
use crate::{Lookup, tokens::VOLUME_SECONDS};

const DEFAULT: &str = "default";
/// Where programs look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
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
    mount_tokens: Option<&Rng>,
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
    validate(request, lookup)?;
    let object = request.object.as_deref_mut();
    let Some(Value::Object(spec)) = object.and_then(|pod| pod.get_mut("spec")) else {
        return Ok(());
    };
    let name = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default();
    let Some(account) = lookup.get(&SERVICE_ACCOUNTS, request.namespace, name) else {
        return Ok(());
    };
    let account = account.tree();
    pull_secrets(spec, &account);
    if let Some(rng) = mount_tokens
        && wants_token(spec, &account)
    {
        mount_token(spec, rng);
    }
    Ok(())
}

/// A pod that names no `imagePullSecrets` gets its account's.
fn pull_secrets(spec: &mut Map<String, Value>, account: &Value) {
    let own = spec.get("imagePullSecrets").and_then(Value::as_array);
    if own.is_some_and(|own| !own.is_empty()) {
        return;
    }
    if let Some(secrets) = account["imagePullSecrets"].as_array().filter(|list| !list.is_empty()) {
        spec.insert("imagePullSecrets".into(), secrets.clone().into());
    }
}

/// The pod decides, then its account; else yes.
fn wants_token(spec: &Map<String, Value>, account: &Value) -> bool {
    let own = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    own.or_else(|| account["automountServiceAccountToken"].as_bool()).unwrap_or(true)
}

/// Adds the volume, and mounts it in each container that has nothing at that place.
fn mount_token(spec: &mut Map<String, Value>, rng: &Rng) {
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let mut names = volumes.filter_map(|volume| volume["name"].as_str());
    let existing = names.find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", rng.name_suffix(5)));
    let mut mounted = false;
    for containers in ["initContainers", "containers"] {
        let all = spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten();
        for container in all.filter_map(Value::as_object_mut) {
            let mounts = container.entry("volumeMounts").or_insert(Value::Null);
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if !mounted || existing.is_some() {
        return;
    }
    let volumes = spec.entry("volumes").or_insert(Value::Null);
    if volumes.is_null() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": VOLUME_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
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
