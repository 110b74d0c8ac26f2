//! Requests that end at a node or in a pod: logs, sessions, proxies. Bodies are passed on as they
//! come, in both directions; nothing is gathered here.

mod connect;
mod proxy;
mod tunnel;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use windlass_sdk_meta::{GroupResource, Reason, Status};

use crate::{
    ApiServer, content, read,
    verbs::{Call, Target},
};

/// Bytes of a body that is passed on to a node: images, not objects.
const PROXY_BODY_BYTES: usize = 512 * 1024 * 1024;
/// Bytes of an error that a node answers with.
const ERROR_BYTES: usize = 8 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that concern one connection only (RFC 9110, 7.6.1), and credentials.
const NOT_PASSED_ON: [header::HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::HOST,
];

pub(crate) use connect::connect;

/// A connection to whoever answers a request.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The way to the kubelets of a cluster.
pub(crate) struct Kubelets {
    tls: Option<TlsConnector>,
}

/// Where a node's kubelet listens.
struct Address {
    host: String,
    port: u16,
}

impl Kubelets {
    pub fn new(config: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { tls: config.map(TlsConnector::from) }
    }

    /// Sends a request to a kubelet; the answer's body is read as it comes.
    async fn send(
        &self,
        address: &Address,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(address));
        let stream = connecting.await.map_err(|_| "connecting took too long".to_owned())??;
        exchange(stream, request).await
    }

    /// Asks a node's kubelet; the error says why there is no answer.
    pub async fn ask(
        &self,
        server: &ApiServer,
        node: &str,
        method: &http::Method,
        path: &str,
        query: &str,
    ) -> Result<Response<Body>, String> {
        let address = kubelet_address(server, node).map_err(|status| status.message)?;
        let request = request(&address, method, path, query).map_err(|status| status.message)?;
        self.send(&address, request.map(|()| Body::empty())).await
    }

    /// Whether there is a node of that name.
    pub fn knows(&self, server: &ApiServer, node: &str) -> bool {
        kubelet_address(server, node).is_ok()
    }

    async fn connect(
        &self,
        address: &Address,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let Address { host, port } = address;
        let tls = self.tls.as_ref().ok_or("this server has no way to nodes")?;
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
        // Delays are worse than small packets here; without it the stream works too.
        let _ = stream.set_nodelay(true);
        tls.connect(name, stream).await.map_err(|error| error.to_string())
    }
}

/// Sends one request over a connection of its own; what the answer is upgraded to goes on there.
async fn exchange(
    wire: impl Wire + 'static,
    request: Request<Body>,
) -> Result<Response<Body>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(wire))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // An error ends the answer's body, where its reader sees it.
        let _ = connection.with_upgrades().await;
    });
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(response.map(Body::new))
}

/// `pods/NAME/log`.
pub(crate) async fn log(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let name = call.info.name.as_str();
    let pod = read::get(&call.server, &target.kind, (&target.namespace, name), "").await?.tree();
    let container = container(&pod, name, call.info.query.get("container").unwrap_or_default())?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        // Not on a node yet: there is nothing to read.
        return Ok(content::plain(StatusCode::OK, "text/plain", Bytes::new()));
    }
    let address = kubelet_address(&call.server, node)?;
    let path = format!("/containerLogs/{}/{name}/{container}", target.namespace);
    let request = request(&address, &http::Method::GET, &path, &call.info.query.raw)?;
    let response = call.server.kubelets().send(&address, request.map(|()| Body::empty())).await;
    let response = response.map_err(|why| {
        Status::internal(format!("Get \"https://{}:{}{path}\": {why}", address.host, address.port))
    })?;
    if !response.status().is_success() {
        return Err(kubelet_error(response).await);
    }
    let mut answer = content::plain(StatusCode::OK, "text/plain", Bytes::new());
    *answer.body_mut() = response.into_body();
    Ok(answer)
}

/// `NAME/proxy/...` of nodes, pods and services.
pub(crate) async fn proxy(
    call: Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    match target.kind.namespaced {
        true => proxy::proxy(call, target, body).await,
        false => node_proxy(call, target, body).await,
    }
}

/// The rest of the path as the kubelet's.
async fn node_proxy(mut call: Call, target: &Target, body: Body) -> Result<Response<Body>, Status> {
    let name = call.info.name.clone();
    read::get(&call.server, &target.kind, (&target.namespace, &name), "").await?;
    connect::admit(&call, target).await?;
    let address = kubelet_address(&call.server, &name)?;
    let path = format!("/{}", call.info.tail);
    if tunnel::wanted(&call.parts.headers).is_some() {
        let query = call.info.query.raw.clone();
        return tunnel::to_kubelet(&mut call, &address, &path, &query).await;
    }
    let mut request = request(&address, &call.parts.method, &path, &call.info.query.raw)?
        .map(|()| Body::new(Limited::new(body, PROXY_BODY_BYTES)));
    pass_on(&call.parts.headers, request.headers_mut());
    let response = call.server.kubelets().send(&address, request).await;
    let response = response
        .map_err(|why| Status::unavailable(format!("error trying to reach service: {why}")))?;
    Ok(tunnel::join(None, response))
}

fn request(
    address: &Address,
    method: &http::Method,
    path: &str,
    query: &str,
) -> Result<Request<()>, Status> {
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, format!("{}:{}", address.host, address.port))
        .body(())
        .map_err(|error| Status::bad_request(error.to_string()))
}

fn pass_on(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if !NOT_PASSED_ON.contains(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// The container whose log is meant: the one named, or the only one.
fn container(pod: &Value, name: &str, asked: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
    };
    let (plain, init) = (names("containers"), names("initContainers"));
    if asked.is_empty() {
        return match plain.as_slice() {
            [one] => Ok(one.clone()),
            many => {
                let mut why = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    many.join(" ")
                );
                if !init.is_empty() {
                    why += &format!(" or one of the init containers: [{}]", init.join(" "));
                }
                Err(Status::bad_request(why))
            }
        };
    }
    let known = plain.iter().chain(&init).chain(&names("ephemeralContainers")).any(|c| c == asked);
    match known {
        true => Ok(asked.to_owned()),
        false => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
    }
}

/// Where a node says that its kubelet is.
fn kubelet_address(server: &ApiServer, node: &str) -> Result<Address, Status> {
    use windlass_apiserver_access::Lookup as _;
    let nodes = GroupResource::new("", "nodes");
    let object =
        server.cache().get(&nodes, "", node).ok_or_else(|| Status::not_found(&nodes, node))?;
    let status = &object.tree()["status"];
    let of_type = |wanted: &str| {
        let mut all = status["addresses"].as_array().into_iter().flatten();
        let found = all.find(|address| address["type"] == wanted)?;
        found["address"].as_str().map(str::to_owned)
    };
    let host = of_type("InternalIP").or_else(|| of_type("Hostname"));
    let port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    match (host, port) {
        (Some(host), Some(port)) => Ok(Address { host, port }),
        _ => Err(Status::unavailable(format!("no preferred addresses found for node {node:?}"))),
    }
}

/// What a kubelet refused, as a Status.
async fn kubelet_error(response: Response<Body>) -> Status {
    let code = response.status();
    let body = Limited::new(response.into_body(), ERROR_BYTES).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    let text = text.unwrap_or_default();
    match code.as_u16() {
        400 => Status::bad_request(text),
        404 => Status::new(
            Reason::NotFound,
            format!("the server could not find the requested resource: {text}"),
        ),
        429 => Status::new(Reason::TooManyRequests, text),
        503 => Status::unavailable(text),
        code => Status::internal(format!("the kubelet answered {code}: {text}")),
    }
}
