//! Calls to a pod's ports on behalf of its node, as probes and hooks make them. A port that a
//! handler serves is called in process, without a connection; any other is dialled.

use std::{net::SocketAddr, sync::Arc};

use ::http::{HeaderMap, Method, Request, Response, Version, header};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;
use windlass_runtime_api::{HttpAnswer, HttpProbe, RuntimeError, TcpProbe};
use windlass_runtime_net::{Caller, Conn, ConnectError, PodNet};

use crate::http::Handler;

/// Of an answer's body, as much is read as the kubelet reads.
const BODY_BYTES: usize = 10 << 10;

/// Where a port is.
pub enum Place {
    Handler(Arc<Handler>),
    /// A socket of the pod's own.
    Pod(PodNet, SocketAddr),
    /// Somewhere else, reached as the pod reaches it.
    Elsewhere(PodNet, Arc<Caller>, String, u16),
}

/// Must run on the guests' threads.
pub async fn http(place: Place, probe: HttpProbe) -> Result<HttpAnswer, RuntimeError> {
    let timeout = probe.timeout;
    let late = || {
        let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        RuntimeError::new("ProbeTimeout", why)
    };
    tokio::time::timeout(timeout, call(place, probe)).await.map_err(|_| late())?
}

/// Must run on the guests' threads.
pub async fn tcp(place: Place, probe: TcpProbe) -> Result<(), RuntimeError> {
    let to = place.authority();
    match tokio::time::timeout(probe.timeout, place.connect("tcp")).await {
        Ok(connected) => connected.map(|_| ()),
        Err(_) => Err(RuntimeError::new("ProbeTimeout", format!("dial tcp {to}: i/o timeout"))),
    }
}

async fn call(place: Place, probe: HttpProbe) -> Result<HttpAnswer, RuntimeError> {
    let is_grpc = probe.grpc.is_some();
    let request = request(&place, probe)?;
    if let Place::Handler(handler) = &place {
        return Ok(read(handler.handle(request).await).await);
    }
    let Some(conn) = place.connect("http").await? else { return Ok(HttpAnswer::default()) };
    let failed = |error: hyper::Error| RuntimeError::new("ProbeError", error.to_string());
    let io = TokioIo::new(conn);
    if is_grpc {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.map_err(failed)?;
        let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
        return Ok(read(sender.send_request(request).await.map_err(failed)?).await);
    }
    let (mut sender, connection) = http1::handshake(io).await.map_err(failed)?;
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(read(sender.send_request(request).await.map_err(failed)?).await)
}

impl Place {
    fn authority(&self) -> String {
        match self {
            Self::Handler(handler) => handler.container.spec.pod.address.to_string(),
            Self::Pod(_, address) => address.to_string(),
            Self::Elsewhere(_, _, host, port) => format!("{host}:{port}"),
        }
    }

    /// None: there is no need for a connection.
    async fn connect(&self, scheme: &str) -> Result<Option<Conn>, RuntimeError> {
        let connected = match self {
            Self::Handler(_) => return Ok(None),
            Self::Pod(net, address) => net.connect_from_node(*address).await,
            Self::Elsewhere(net, from, host, port) => net.connect(from, scheme, host, *port).await,
        };
        connected.map(Some).map_err(|error| {
            let why = match &error {
                ConnectError::Io { to, source }
                    if source.kind() == std::io::ErrorKind::ConnectionRefused =>
                {
                    format!("dial tcp {to}: connect: connection refused")
                }
                ConnectError::Io { to, source } => format!("dial tcp {to}: connect: {source}"),
                ConnectError::NotFound(host) => format!("dial tcp: lookup {host}: no such host"),
                _ => format!("dial tcp {}: {error}", self.authority()),
            };
            RuntimeError::new("ProbeRefused", why)
        })
    }
}

fn request(place: &Place, probe: HttpProbe) -> Result<Request<Full<Bytes>>, RuntimeError> {
    let authority = match place {
        Place::Handler(handler) => {
            SocketAddr::new(handler.container.spec.pod.address, probe.port).to_string()
        }
        other => other.authority(),
    };
    let slash = if probe.path.starts_with('/') { "" } else { "/" };
    let path = format!("{slash}{}", probe.path);
    let mut request = match &probe.grpc {
        Some(_) => Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{authority}{path}")),
        None => {
            let host = probe.host.unwrap_or(authority);
            Request::builder().uri(path).header(header::HOST, host)
        }
    };
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(probe.grpc.unwrap_or_default()));
    request.body(body).map_err(|error| {
        RuntimeError::new("ProbeError", format!("the request is malformed: {error}"))
    })
}

async fn read<B>(response: Response<B>) -> HttpAnswer
where
    B: Body<Data = Bytes>,
{
    let (head, body) = response.into_parts();
    let location = head.headers.get(header::LOCATION).and_then(|at| at.to_str().ok());
    let mut answer = HttpAnswer {
        status: head.status.as_u16(),
        location: location.map(str::to_owned),
        body: Vec::new(),
        grpc: grpc_status(&head.headers),
    };
    let mut body = std::pin::pin!(body);
    // A guest whose answer nobody reads may take that for an error, so it is read up to a bound.
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                let room = BODY_BYTES - answer.body.len();
                answer.body.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() >= room {
                    break;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                answer.grpc = answer.grpc.or_else(|| grpc_status(&trailers));
            }
        }
    }
    answer
}

fn grpc_status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    Some((code, text("grpc-message").unwrap_or_default().to_owned()))
}
