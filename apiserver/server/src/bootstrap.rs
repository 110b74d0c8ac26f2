//! What every cluster has from the start: its namespaces, the roles of its components, its runtimes,
//! upstream's priority classes, priority levels and flow schemas, an APIService for each version that
//! is served, the `kubernetes` Service and its range. All of it is created through the same door and
//! the same write path as anything else, and only where it is missing.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::Service as _;
use windlass_apiserver_access::{Lookup as _, User, bootstrap_objects};
use windlass_apiserver_registry::{flow_control_objects, local_services, system_classes};
use windlass_sdk_meta::GroupVersionKind;

use crate::{ApiServer, StartError};

/// Upstream's name for the server's requests to itself.
pub(crate) const OWN_NAME: &str = "system:apiserver";
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Objects that are created at once, so that they share flushes.
const AT_ONCE: usize = 64;

/// Makes what is missing.
pub(crate) async fn run(server: &Arc<ApiServer>) -> Result<(), StartError> {
    let namespaces = NAMESPACES
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    ensure_all(server, namespaces.to_vec()).await?;
    let mut rest = bootstrap_objects();
    rest.push(service(server));
    rest.extend(runtime_classes());
    rest.extend(system_classes());
    rest.extend(flow_control_objects());
    rest.extend(local_services(
        server.registry().builtin_kinds().iter().flat_map(|kind| &kind.served),
    ));
    rest.push(service_range(server));
    ensure_all(server, rest).await?;
    match endpoint_slice(server) {
        Some(slice) => ensure(server, slice, true).await,
        None => Ok(()),
    }
}

async fn ensure_all(server: &Arc<ApiServer>, objects: Vec<Value>) -> Result<(), StartError> {
    let each = objects.into_iter().map(|object| ensure(server, object, false));
    futures::stream::iter(each).buffered(AT_ONCE).try_collect().await
}

/// Creates an object; with `renew`, puts one that exists right.
async fn ensure(server: &Arc<ApiServer>, object: Value, renew: bool) -> Result<(), StartError> {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let gvk =
        GroupVersionKind::from_api_version(&text(&object["apiVersion"]), &text(&object["kind"]));
    let failed = |why: String| StartError::Bootstrap { what: format!("{gvk} {name}"), why };
    let kind = server.registry().by_kind(&gvk).ok_or_else(|| failed("no such kind".into()))?;
    let known = server.cache().get(&kind.group_resource(), &namespace, &name);
    if known.is_some() && !renew {
        return Ok(());
    }
    let root = if gvk.group.is_empty() { "api" } else { "apis" };
    let scope = if kind.namespaced { format!("namespaces/{namespace}/") } else { String::new() };
    let mut path = format!("/{root}/{}/{scope}{}", gvk.api_version(), kind.plural);
    let method = match known {
        None => Method::POST,
        Some(_) => {
            path += &format!("/{name}");
            Method::PUT
        }
    };
    send(server, method, &path, &object).await.map_err(failed)
}

async fn send(
    server: &Arc<ApiServer>,
    method: Method,
    path: &str,
    object: &Value,
) -> Result<(), String> {
    let body = Body::from(serde_json::to_vec(object).map_err(|error| error.to_string())?);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "windlass")
        .body(body)
        .map_err(|error| error.to_string())?;
    let user = User::authenticated(OWN_NAME, &["system:masters"]);
    let Ok(response) = server.local(user).call(request).await;
    match response.status() {
        code if code.is_success() || code == StatusCode::CONFLICT => Ok(()),
        code => {
            let body = response.into_body().collect().await;
            let bytes = body.map(|body| body.to_bytes()).unwrap_or_else(|_| Bytes::new());
            Err(format!("{code}: {}", String::from_utf8_lossy(&bytes)))
        }
    }
}

/// What a pod may name as its runtime where its image is not to decide. Nodes say by their labels
/// which of them they have.
fn runtime_classes() -> [Value; 2] {
    ["wasm", "docker"].map(|handler| {
        let label = format!("windlass.dev/runtime.{handler}");
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": handler}, "handler": handler,
            "scheduling": {"nodeSelector": {label: "true"}}})
    })
}

/// Where addresses of services come from.
fn service_range(server: &ApiServer) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [server.services().cidr()]}})
}

/// Clients in the cluster reach the API server by this Service.
fn service(server: &ApiServer) -> Value {
    let address = server.services().first().to_string();
    let port = server.services().endpoint().map_or(443, |endpoint| endpoint.port());
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}})
}

fn endpoint_slice(server: &ApiServer) -> Option<Value> {
    let endpoint = server.services().endpoint()?;
    Some(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": endpoint.port(), "protocol": "TCP"}]}))
}
