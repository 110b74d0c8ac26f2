//! Requests as controllers make them: bytes out, and of the answer only what a controller needs. A
//! thousand pods of one ReplicaSet are one encoded body and a thousand small answers.

use http::{Method, Request};
use kube::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use windlass_sdk_types::{Kind, ObjectMeta, path};

use super::Error;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Asks for objects as their metadata alone.
pub const AS_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// Asks for lists as metadata alone.
pub const AS_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

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
    pub uid: String,
    pub resource_version: String,
    pub deletion_timestamp: Option<String>,
}

impl Written {
    /// The revision of the write; an informer of the kind that has reached it has seen it.
    pub fn revision(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or_default()
    }
}

/// What a deletion insists on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Precondition<'a> {
    pub uid: &'a str,
    /// Empty: any.
    pub resource_version: &'a str,
    /// Empty: the kind's default.
    pub propagation: &'a str,
}

impl<'a> Precondition<'a> {
    pub fn uid(uid: &'a str) -> Self {
        Self { uid, ..Self::default() }
    }
}

/// Creates an object from its JSON.
pub async fn create<K: Kind>(
    client: &Client,
    namespace: &str,
    body: Vec<u8>,
) -> Result<Written, Error> {
    send(client, Method::POST, &path::<K>(namespace, "", ""), JSON, body).await
}

/// Replaces an object, or a subresource of it, by its JSON.
pub async fn replace<K: Kind>(
    client: &Client,
    object: &K,
    subresource: &str,
) -> Result<Written, Error> {
    let path = path::<K>(object.namespace(), object.name(), subresource);
    send(client, Method::PUT, &path, JSON, object.encode()?).await
}

/// A JSON merge patch (RFC 7386) of an object or of a subresource of it.
pub async fn patch<K: Kind>(
    client: &Client,
    object: &K,
    subresource: &str,
    patch: &Value,
) -> Result<Written, Error> {
    let path = path::<K>(object.namespace(), object.name(), subresource);
    patch_at(client, &path, patch).await
}

pub async fn patch_at(client: &Client, path: &str, patch: &Value) -> Result<Written, Error> {
    send(client, Method::PATCH, path, MERGE_PATCH, patch.to_string().into_bytes()).await
}

/// Deletes an object of exactly this uid; that it is gone already is as good.
pub async fn delete<K: Kind>(client: &Client, object: &K) -> Result<(), Error> {
    let path = path::<K>(object.namespace(), object.name(), "");
    delete_at(client, &path, Precondition::uid(object.uid())).await
}

pub async fn delete_at(
    client: &Client,
    path: &str,
    precondition: Precondition<'_>,
) -> Result<(), Error> {
    let mut conditions = Map::new();
    for (key, value) in
        [("uid", precondition.uid), ("resourceVersion", precondition.resource_version)]
    {
        if !value.is_empty() {
            conditions.insert(key.into(), value.into());
        }
    }
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if !conditions.is_empty() {
        options["preconditions"] = Value::Object(conditions);
    }
    if !precondition.propagation.is_empty() {
        options["propagationPolicy"] = precondition.propagation.into();
    }
    let body = options.to_string().into_bytes();
    let sent = request(client, Method::DELETE, path, JSON, JSON, body).await;
    match sent.map_err(Error::from) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Reads anything as JSON text; `accept` chooses its form.
pub async fn read(client: &Client, path: &str, accept: &str) -> Result<String, Error> {
    Ok(request(client, Method::GET, path, JSON, accept, Vec::new()).await?)
}

/// The merge patch that makes `old` into `new`; None where they are equal.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return Some(new.clone());
    };
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    let mut patch: Map<String, Value> = removed.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new {
        let changed = match old.get(key) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        patch.extend(changed.map(|value| (key.clone(), value)));
    }
    Some(Value::Object(patch))
}

/// A patch that makes an object's owner references what `change` leaves of them. It names the
/// revision it was computed from: a reference that somebody else added must not be lost.
pub fn owners_patch(
    metadata: &ObjectMeta,
    change: impl FnOnce(&mut Vec<Value>),
) -> Result<Value, Error> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let mut owners = owners.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    change(&mut owners);
    let owners = if owners.is_empty() { Value::Null } else { Value::Array(owners) };
    Ok(json!({"metadata": {
        "uid": metadata.uid, "resourceVersion": metadata.resource_version, "ownerReferences": owners,
    }}))
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Written, Error> {
    let text = request(client, method, path, content_type, JSON, body).await?;
    Ok(serde_json::from_str(&text)?)
}

async fn request(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    accept: &str,
    body: Vec<u8>,
) -> Result<String, kube::Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("accept", accept)
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(old: Value, new: Value, expected: Expect) {
        let patch = difference(&old, &new).map_or("nothing".to_owned(), |patch| patch.to_string());
        expected.assert_eq(&patch);
    }

    #[test]
    fn differences() {
        check(json!({"a": 1}), json!({"a": 1}), expect!["nothing"]);
        check(json!({"a": 1, "b": 2}), json!({"a": 2, "c": 3}), expect![[r#"{"b":null,"a":2,"c":3}"#]]);
        check(
            json!({"s": {"x": 1, "y": [1]}}),
            json!({"s": {"x": 1, "y": [2]}}),
            expect![[r#"{"s":{"y":[2]}}"#]],
        );
    }
}
