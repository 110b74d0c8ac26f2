//! Requests by kind: typed objects in and out, `Status` errors, preconditions as arguments.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde_json::{Value, json};
use windlass_sdk_types::{Kind, decode_list, path};

use crate::error::Error;

/// No single request takes longer; watches have their own bound.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of a list holds at most 500 objects of at most 3 MiB; this is far above real ones.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Objects a page of a list.
pub(crate) const PAGE: usize = 500;

/// Requests in the name of one component.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    component: Arc<str>,
}

/// Which objects of a kind; the default is all.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// A label selector such as `app=hello`; empty for all.
    pub labels: String,
    /// A field selector such as `spec.nodeName=a`; empty for all.
    pub fields: String,
}

/// A change to an object, in one of the forms that servers take.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902: `test` operations are its preconditions.
    Json(Value),
    /// RFC 7386. `metadata.uid` and `metadata.resourceVersion` in it are preconditions.
    Merge(Value),
    /// Upstream's form, which merges lists by their keys. Preconditions as for `Merge`.
    Strategic(Value),
}

/// How to delete; the default is as the kind does by itself.
#[derive(Clone, Debug, Default)]
pub struct Delete {
    /// Only the object with this uid, not a successor of the same name.
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<&'static str>,
}

impl Patch {
    /// Holds the patch to the object with this uid. No change to a JSON patch.
    pub fn only_uid(self, uid: &str) -> Self {
        self.with("uid", uid)
    }

    /// Holds the patch to this version of the object. No change to a JSON patch.
    pub fn only_version(self, resource_version: &str) -> Self {
        self.with("resourceVersion", resource_version)
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        if let Self::Merge(patch) | Self::Strategic(patch) = &mut self {
            patch["metadata"][key] = value.into();
        }
        self
    }
}

impl Delete {
    /// Only the object with this uid.
    pub fn only(uid: &str) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    /// At once: how a node finishes what has stopped.
    pub fn now(mut self) -> Self {
        self.grace_period_seconds = Some(0);
        self
    }

    pub fn propagate(mut self, policy: &'static str) -> Self {
        self.propagation = Some(policy);
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = policy.into();
        }
        body
    }
}

impl Api {
    pub fn new(client: kube::Client, component: &str) -> Self {
        Self { client, component: component.into() }
    }

    /// For requests this type doesn't offer.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<K, Error> {
        self.typed(Method::GET, &path::<K>(namespace, name, ""), "", Vec::new()).await
    }

    /// All objects of a namespace, or of all where `namespace` is empty, as they are now.
    pub async fn list<K: Kind>(&self, namespace: &str, select: &Select) -> Result<Vec<K>, Error> {
        Ok(self.list_pages(namespace, select).await?.0)
    }

    /// A list in pages, and the resource version it stands for.
    pub(crate) async fn list_pages<K: Kind>(
        &self,
        namespace: &str,
        select: &Select,
    ) -> Result<(Vec<K>, String), Error> {
        let (mut all, mut version, mut token) = (Vec::new(), String::new(), String::new());
        loop {
            let mut path = path::<K>(namespace, "", "");
            path.push_str(&query(&[
                ("limit", &PAGE.to_string()),
                ("labelSelector", &select.labels),
                ("fieldSelector", &select.fields),
                ("continue", &token),
            ]));
            let answer = self.request(Method::GET, &path, "", Vec::new()).await?;
            let (items, at, next) = decode_list::<K>(&answer)?;
            all.extend(items);
            version = if version.is_empty() { at } else { version };
            if next.is_empty() {
                return Ok((all, version));
            }
            token = next;
        }
    }

    /// Creates it in `metadata.namespace`, and returns it as stored.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = path::<K>(object.namespace(), "", "");
        self.typed(Method::POST, &path, JSON, object.encode()?).await
    }

    /// Replaces it; `metadata.resourceVersion`, where set, must be the stored one.
    pub async fn update<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = path::<K>(object.namespace(), object.name(), "");
        self.typed(Method::PUT, &path, JSON, object.encode()?).await
    }

    /// Replaces its status; precondition as for `update`.
    pub async fn update_status<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = path::<K>(object.namespace(), object.name(), "status");
        self.typed(Method::PUT, &path, JSON, object.encode()?).await
    }

    pub async fn patch<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<K, Error> {
        self.patch_subresource(namespace, name, "", patch).await
    }

    pub async fn patch_status<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<K, Error> {
        self.patch_subresource(namespace, name, "status", patch).await
    }

    /// Patches a subresource whose answer is the object itself; "" is the object.
    pub async fn patch_subresource<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<K, Error> {
        let (content_type, body) = match patch {
            Patch::Json(body) => ("application/json-patch+json", body),
            Patch::Merge(body) => ("application/merge-patch+json", body),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body),
        };
        let path = path::<K>(namespace, name, subresource);
        self.typed(Method::PATCH, &path, content_type, body.to_string().into_bytes()).await
    }

    /// Asks for its deletion. Ok also where it goes on existing until its finalizers or its node
    /// are done.
    pub async fn delete<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        how: &Delete,
    ) -> Result<(), Error> {
        let body = how.body().to_string().into_bytes();
        let path = path::<K>(namespace, name, "");
        self.request(Method::DELETE, &path, JSON, body).await.map(drop)
    }

    /// Assigns a pod to a node; a conflict where it has one, or where it isn't the pod with `uid`.
    pub async fn bind(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        node: &str,
    ) -> Result<(), Error> {
        let body = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "namespace": namespace, "name": name, "uid": uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let path = path::<windlass_sdk_types::Pod>(namespace, name, "binding");
        self.request(Method::POST, &path, JSON, body.to_string().into_bytes()).await.map(drop)
    }

    /// A request to any path (with its query), and the body of a successful answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, Error> {
        let exchange = async {
            let answer = self.start(method, path, content_type, body).await?;
            collect(answer).await
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unreachable(format!("no answer to {path} in time"))),
        }
    }

    /// The body of a GET whose answer is in another form than the objects', such as a Table.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Bytes, Error> {
        let exchange = async {
            collect(self.start_as(accept, Method::GET, path, "", Vec::new()).await?).await
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unreachable(format!("no answer to {path} in time"))),
        }
    }

    /// Sends a request and returns its successful answer before its body has come.
    pub(crate) async fn start(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, Error> {
        self.start_as(JSON, method, path, content_type, body).await
    }

    async fn start_as(
        &self,
        accept: &str,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, &*self.component)
            .header(header::ACCEPT, accept);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(Body::from(body))
            .map_err(|error| Error::Unreachable(format!("{path}: {error}")))?;
        let answer = self.client.send(request).await.map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        Err(Error::from_answer(code, &collect(answer).await?))
    }

    async fn typed<K: Kind>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<K, Error> {
        let answer = self.request(method, path, content_type, body).await?;
        Ok(K::decode(&answer)?)
    }
}

const JSON: &str = "application/json";

async fn collect(answer: Response<Body>) -> Result<Bytes, Error> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(unreachable)
}

pub(crate) fn unreachable(error: impl std::fmt::Display) -> Error {
    Error::Unreachable(error.to_string())
}

/// `?a=b&c=d`; pairs with an empty value are left out.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        value.bytes().for_each(|byte| escape(byte, &mut out));
    }
    out
}

/// RFC 3986: everything but unreserved characters is written as `%XX`.
fn escape(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}
