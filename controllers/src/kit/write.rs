//! Writes as controllers make them: bytes out, and of the answer only its revision. A thousand pods
//! of one ReplicaSet are one encoded body and a thousand answers that nobody decodes in full.
//!
//! Verbs are those that upstream's roles allow the controller of the same name, so that these
//! controllers also work where only upstream's roles exist: statuses are updated, not patched.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_sdk_client::Api;
use windlass_sdk_types::{Kind, ObjectMeta, path};

use super::Error;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// What a controller keeps of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Written {
    pub metadata: WrittenMeta,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenMeta {
    pub name: String,
    pub resource_version: String,
}

impl Written {
    /// The revision of the write: an informer of the kind that has reached it has seen it.
    pub fn revision(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or_default()
    }
}

/// Creates an object from its JSON.
pub async fn create<K: Kind>(api: &Api, namespace: &str, body: Vec<u8>) -> Result<Written, Error> {
    send(api, Method::POST, &path::<K>(namespace, "", ""), JSON, body).await
}

/// Replaces an object, or with `subresource` a part of it; its resourceVersion is a precondition.
pub async fn update<K: Kind>(api: &Api, object: &K, subresource: &str) -> Result<Written, Error> {
    let path = path::<K>(object.namespace(), object.name(), subresource);
    send(api, Method::PUT, &path, JSON, object.encode()?).await
}

/// A JSON merge patch (RFC 7386) of an object.
pub async fn patch<K: Kind>(api: &Api, object: &K, patch: &Value) -> Result<Written, Error> {
    let path = path::<K>(object.namespace(), object.name(), "");
    patch_at(api, &path, patch).await
}

pub async fn patch_at(api: &Api, path: &str, patch: &Value) -> Result<Written, Error> {
    send(api, Method::PATCH, path, MERGE_PATCH, patch.to_string().into_bytes()).await
}

/// The start of a patch that holds only for this version of the object.
pub fn guarded(metadata: &ObjectMeta) -> Value {
    json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}})
}

/// A patch that adds a managing owner. Guarded: a reference that somebody else adds meanwhile must
/// not be lost.
pub fn adoption<K: Kind>(of: &impl Kind, by: &K) -> Value {
    let mut owners = of.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != by.uid());
    owners.push(by.as_controller());
    let mut patch = guarded(of.metadata());
    patch["metadata"]["ownerReferences"] = json!(owners);
    patch
}

/// A patch that takes the owner with this uid away.
pub fn release(of: &impl Kind, uid: &str) -> Value {
    let mut owners = of.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid);
    let mut patch = guarded(of.metadata());
    patch["metadata"]["ownerReferences"] = json!(owners);
    patch
}

async fn send(
    api: &Api,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Written, Error> {
    let answer = api.request(method, path, content_type, body).await?;
    Ok(serde_json::from_slice(&answer)?)
}
