//! HTTP requests that guests make. Each connection comes from `PodNet`, where names are resolved
//! and rules applied; https is spoken over it with HTTP/2 where the other side can. Connections are
//! kept alive for the container's next request to the same place.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use ::http::{
    Request, Response, Uri, header,
    uri::{PathAndQuery, Scheme},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep, timeout},
};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpHooks, p2::bindings::http::types::ErrorCode,
    p3::bindings::http::types::ErrorCode as ErrorCode3,
};
use windlass_runtime_net::{ConnectError, Reached};

use crate::{
    container::Container,
    direct,
    http::Handler,
    sockets::ops::{Permit, Trouble},
    spin,
    tasks::Tasks,
    tls, trace,
};

/// Defaults of what a guest may set for a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(600);

/// Idle connections that a container keeps, and for how long.
const KEPT_CONNECTIONS: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(15);
/// Bytes of one answer that an HTTP/2 connection takes before the guest reads them, and of all its
/// answers together.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of a request that wait to be sent.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// What an instance may write of a body in one call. The host keeps at most two such parts.
const WRITE_BYTES: usize = 64 << 10;

/// The outgoing side of one instance.
pub struct Outgoing {
    container: Arc<Container>,
    trace: Option<trace::Context>,
    pub tasks: Tasks,
}

/// What requests are sent on.
enum Sender {
    Http1(http1::SendRequest<WasiBody>),
    /// One connection has many requests at once.
    Http2(http2::SendRequest<WasiBody>),
}

/// What a place turned out to be.
enum Found {
    Handler(Arc<Handler>, Permit),
    Sender(Sender),
}

type Progress = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outgoing {
    /// `trace` is what the instance answers a request of.
    pub fn new(container: Arc<Container>, trace: Option<trace::Context>) -> Self {
        Self { container, trace, tasks: Tasks::default() }
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
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _request_body: Progress,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Progress), Error>> + Send> {
        let container = self.container.clone();
        let within = spin::call(&container, request.uri());
        let of_task = self.tasks.take_calling();
        let trace = of_task.as_ref().or(self.trace.as_ref());
        let span = trace::leave(container.traces.as_ref(), trace, &mut request);
        Box::new(async move {
            let response = match within {
                Some(Ok(call)) => call.answer(request).await,
                Some(Err(error)) => Err(error),
                None => send(&container, request, options.unwrap_or_default()).await,
            };
            if let Some(span) = span {
                span.end(response.as_ref().ok().map(Response::status));
            }
            let response = response?;
            let progress: Progress = Box::new(std::future::ready(Ok(())));
            Ok((response, progress))
        })
    }
}

/// Where a connection goes.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
}

async fn send(
    container: &Arc<Container>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, Error> {
    let place = place_of(request.uri())?;
    let mut request = request;
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
    let sender = match connect(container, &place, options).await? {
        Found::Sender(sender) => sender,
        Found::Handler(handler, permit) => {
            let called = timeout(wait, direct::call(container, handler, request, permit)).await;
            let response = called.map_err(|_| Error::ConnectionReadTimeout)??;
            return Ok(response.map(|body| Received::new(body, options, None).boxed_unsync()));
        }
    };
    match timeout(wait, try_send(sender, request)).await {
        Ok(Ok((sender, response))) => Ok(receive(container, place, sender, response, options)),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(Error::ConnectionReadTimeout),
    }
}

fn place_of(uri: &Uri) -> Result<Place, Error> {
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(Error::HttpRequestUriInvalid)?;
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Place { tls, host: host.to_ascii_lowercase(), port })
}

async fn connect(
    container: &Arc<Container>,
    place: &Place,
    options: RequestOptions,
) -> Result<Found, Error> {
    let wait = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let permit = Permit::take(container).map_err(|trouble| match trouble {
        Trouble::TooManySockets => Error::ConnectionLimitReached,
        _ => Error::ConfigurationError,
    })?;
    let connecting = async {
        let (net, from, host) = (&container.net, &container.caller, &place.host);
        let failed = |error| refused(container, error);
        if !place.tls {
            return match net.reach(from, "http", host, place.port).await.map_err(failed)? {
                Reached::Conn(conn) => http1_on(container, conn, permit).await,
                Reached::Callee(callee) => match callee.downcast() {
                    Ok(handler) => Ok(Found::Handler(handler, permit)),
                    // Nobody else offers anything.
                    Err(_) => Err(Error::DestinationUnavailable),
                },
            };
        }
        let conn = net.connect(from, "https", host, place.port).await.map_err(failed)?;
        match tls::connect(container, host, conn).await? {
            (stream, false) => http1_on(container, stream, permit).await,
            (stream, true) => http2_on(container, stream, permit).await,
        }
    };
    timeout(wait, connecting).await.map_err(|_| Error::ConnectionTimeout)?
}

async fn http1_on<C>(container: &Arc<Container>, conn: C, permit: Permit) -> Result<Found, Error>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(conn)).await?;
    drive(container, connection, permit);
    Ok(Found::Sender(Sender::Http1(sender)))
}

async fn http2_on<C>(container: &Arc<Container>, conn: C, permit: Permit) -> Result<Found, Error>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .handshake(TokioIo::new(conn))
        .await?;
    drive(container, connection, permit);
    Ok(Found::Sender(Sender::Http2(sender)))
}

/// Moves a connection's bytes until it is closed, or the container ends.
fn drive(
    container: &Container,
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    permit: Permit,
) {
    let abort = container.ending.abort.clone();
    tokio::spawn(async move {
        if let Some(Err(error)) = abort.run_until_cancelled(connection).await {
            tracing::debug!(%error, "outgoing connection ended");
        }
        drop(permit);
    });
}

fn refused(container: &Container, error: ConnectError) -> Error {
    match &error {
        ConnectError::Denied { .. } => {
            container.denied(&error.to_string());
            Error::DestinationIpProhibited
        }
        ConnectError::NotFound(host) => {
            Error::DnsError { rcode: Some(format!("NXDOMAIN: {host}")), info_code: None }
        }
        ConnectError::Unresolved { host, .. } => {
            Error::DnsError { rcode: Some(format!("SERVFAIL: {host}")), info_code: None }
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
    sender: Sender,
    mut request: Request<WasiBody>,
) -> Result<(Sender, Response<Incoming>), (Error, Option<Request<WasiBody>>)> {
    let whole = request.uri().clone();
    let host = request.headers().get(header::HOST).cloned();
    let sent = match sender {
        Sender::Http1(mut sender) => {
            if let Err(error) = sender.ready().await {
                return Err((error.into(), Some(request)));
            }
            // The rest of the address is for proxies.
            let path = whole.path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
            let sent = sender.try_send_request(request).await;
            sent.map(|response| (Sender::Http1(sender), response))
        }
        Sender::Http2(mut sender) => {
            if let Err(error) = sender.ready().await {
                return Err((error.into(), Some(request)));
            }
            // Its place is in `:authority`.
            request.headers_mut().remove(header::HOST);
            let sent = sender.try_send_request(request).await;
            sent.map(|response| (Sender::Http2(sender), response))
        }
    };
    sent.map_err(|mut error| {
        let unsent = error.take_message().map(|mut unsent| {
            *unsent.uri_mut() = whole;
            if let Some(host) = host {
                unsent.headers_mut().insert(header::HOST, host);
            }
            unsent
        });
        (error.into_error().into(), unsent)
    })
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
    response.map(|body| Received::new(body, options, back).boxed_unsync())
}

/// The body of an answer; at its end the connection goes back to where it can be used again.
struct Received<B> {
    body: B,
    between: Duration,
    patience: Pin<Box<Sleep>>,
    back: Option<Back>,
}

struct Back {
    container: Arc<Container>,
    place: Place,
    sender: Sender,
}

impl<B> Received<B> {
    fn new(body: B, options: RequestOptions, back: Option<Back>) -> Self {
        let between = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT);
        Self { body, between, patience: Box::pin(sleep(between)), back }
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
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
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
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
        if let Sender::Http2(sender) = &idle[at].sender {
            return Some(Sender::Http2(sender.clone()));
        }
        idle.remove(at).map(|idle| idle.sender)
    }

    fn keep(&self, place: Place, sender: Sender) {
        let mut idle = self.0.lock();
        forget_old(&mut idle);
        if matches!(sender, Sender::Http2(_)) {
            // It is there for several requests; the newest time counts.
            idle.retain(|idle| idle.place != place || !matches!(idle.sender, Sender::Http2(_)));
        }
        if idle.len() >= KEPT_CONNECTIONS {
            idle.pop_front();
        }
        idle.push_back(Idle { place, sender, since: Instant::now() });
    }
}

fn forget_old(idle: &mut VecDeque<Idle>) {
    idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < KEPT_FOR);
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}
