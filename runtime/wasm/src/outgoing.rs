//! HTTP requests that guests make. Each connection comes from `PodNet`, where names are resolved
//! and rules applied; connections are kept alive for the container's next request to the same
//! place. TLS to the outside is not there yet, and says so.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use ::http::{Request, Response, Uri, header, uri::Scheme};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep, timeout};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpHooks, p2::bindings::http::types::ErrorCode,
    p3::bindings::http::types::ErrorCode as ErrorCode3,
};
use windlass_runtime_net::ConnectError;

use crate::container::Container;

/// Defaults of what a guest may set for a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(600);

/// Idle connections that a container keeps, and for how long.
const KEPT_CONNECTIONS: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(15);

/// What an instance may write of a body in one call. The host keeps at most two such parts.
const WRITE_BYTES: usize = 64 << 10;

/// The outgoing side of one instance.
pub struct Outgoing {
    container: Arc<Container>,
}

type Sender = http1::SendRequest<WasiBody>;
type Progress = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outgoing {
    pub fn new(container: Arc<Container>) -> Self {
        Self { container }
    }

    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }
}

impl WasiHttpHooks for Outgoing {
    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        match error {
            error if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
            error if error.is_closed() || error.is_canceled() => ErrorCode::ConnectionTerminated,
            _ => ErrorCode::HttpProtocolError,
        }
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode3 {
        match error {
            error if error.is_incomplete_message() => ErrorCode3::HttpResponseIncomplete,
            error if error.is_closed() || error.is_canceled() => ErrorCode3::ConnectionTerminated,
            _ => ErrorCode3::HttpProtocolError,
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _request_body: Progress,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Progress), Error>> + Send> {
        let container = self.container.clone();
        Box::new(async move {
            let response = send(&container, request, options.unwrap_or_default()).await?;
            let progress: Progress = Box::new(std::future::ready(Ok(())));
            Ok((response, progress))
        })
    }
}

/// Where a connection goes: host and port.
type Place = (String, u16);

async fn send(
    container: &Arc<Container>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, Error> {
    let (place, mut request) = aim(container, request)?;
    let wait = options.first_byte_timeout.unwrap_or(FIRST_BYTE_TIMEOUT);
    if let Some(kept) = container.connections.take(&place) {
        match timeout(wait, try_send(kept, request)).await {
            Ok(Ok((sender, response))) => {
                return Ok(receive(container, place, sender, response, options));
            }
            // The other side had closed it: nothing was sent.
            Ok(Err((_, Some(unsent)))) => request = unsent,
            Ok(Err((error, None))) => return Err(error),
            Err(_) => return Err(Error::ConnectionReadTimeout),
        }
    }
    let sender = connect(container, &place, options).await?;
    match timeout(wait, try_send(sender, request)).await {
        Ok(Ok((sender, response))) => Ok(receive(container, place, sender, response, options)),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(Error::ConnectionReadTimeout),
    }
}

/// Splits a request into where it goes and what is sent there.
fn aim(
    container: &Container,
    mut request: Request<WasiBody>,
) -> Result<(Place, Request<WasiBody>), Error> {
    let uri = request.uri();
    if uri.scheme() == Some(&Scheme::HTTPS) {
        let why = format!("outgoing https is not supported yet; {uri} was refused");
        container.log.note(&why);
        return Err(Error::InternalError(Some(why)));
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(Error::HttpRequestUriInvalid)?;
    let place = (host.to_ascii_lowercase(), uri.port_u16().unwrap_or(80));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = path;
    Ok((place, request))
}

async fn connect(
    container: &Arc<Container>,
    (host, port): &Place,
    options: RequestOptions,
) -> Result<Sender, Error> {
    let wait = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let conn = timeout(wait, container.net.connect(&container.pod, host, *port))
        .await
        .map_err(|_| Error::ConnectionTimeout)?
        .map_err(|error| refused(container, error))?;
    let (sender, connection) = http1::handshake(TokioIo::new(conn)).await?;
    let abort = container.ending.abort.clone();
    tokio::spawn(async move {
        if let Some(Err(error)) = abort.run_until_cancelled(connection).await {
            tracing::debug!(%error, "outgoing connection ended");
        }
    });
    Ok(sender)
}

fn refused(container: &Container, error: ConnectError) -> Error {
    match &error {
        ConnectError::Denied { .. } => {
            container.log.note(&error.to_string());
            Error::DestinationIpProhibited
        }
        ConnectError::NotFound(host) => {
            Error::DnsError { rcode: Some(format!("NXDOMAIN: {host}")), info_code: None }
        }
        ConnectError::NoEndpoint(_) => Error::DestinationUnavailable,
        ConnectError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            std::io::ErrorKind::TimedOut => Error::ConnectionTimeout,
            _ => Error::DestinationUnavailable,
        },
    }
}

/// With an error that the request didn't reach the other side, it is given back.
async fn try_send(
    mut sender: Sender,
    request: Request<WasiBody>,
) -> Result<(Sender, Response<Incoming>), (Error, Option<Request<WasiBody>>)> {
    if let Err(error) = sender.ready().await {
        return Err((error.into(), Some(request)));
    }
    match sender.try_send_request(request).await {
        Ok(response) => Ok((sender, response)),
        Err(mut error) => {
            let unsent = error.take_message();
            Err((error.into_error().into(), unsent))
        }
    }
}

fn receive(
    container: &Arc<Container>,
    place: Place,
    sender: Sender,
    response: Response<Incoming>,
    options: RequestOptions,
) -> Response<WasiBody> {
    let close = response.headers().get(header::CONNECTION).is_some_and(|v| v == "close");
    let back = (!close).then(|| Back { container: container.clone(), place, sender });
    let between = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT);
    response.map(|body| {
        Received { body, between, patience: Box::pin(sleep(between)), back }.boxed_unsync()
    })
}

/// The body of an answer; at its end the connection goes back to where it can be used again.
struct Received {
    body: Incoming,
    between: Duration,
    patience: Pin<Box<Sleep>>,
    back: Option<Back>,
}

struct Back {
    container: Arc<Container>,
    place: Place,
    sender: Sender,
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.patience.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        match &frame {
            None => {
                if let Some(Back { container, place, sender }) = self.back.take() {
                    container.connections.keep(place, sender);
                }
            }
            Some(_) => {
                let next = Instant::now() + self.between;
                self.patience.as_mut().reset(next);
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        // The end must be polled, so that the connection is kept.
        self.back.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Idle connections of one container, the oldest first.
#[derive(Default)]
pub struct Connections(Mutex<VecDeque<Idle>>);

struct Idle {
    place: Place,
    sender: Sender,
    since: Instant,
}

impl Connections {
    fn take(&self, place: &Place) -> Option<Sender> {
        let mut idle = self.0.lock();
        forget_old(&mut idle);
        let at = idle.iter().rposition(|idle| idle.place == *place)?;
        idle.remove(at).map(|idle| idle.sender)
    }

    fn keep(&self, place: Place, sender: Sender) {
        let mut idle = self.0.lock();
        forget_old(&mut idle);
        if idle.len() >= KEPT_CONNECTIONS {
            idle.pop_front();
        }
        idle.push_back(Idle { place, sender, since: Instant::now() });
    }
}

fn forget_old(idle: &mut VecDeque<Idle>) {
    idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < KEPT_FOR);
}
