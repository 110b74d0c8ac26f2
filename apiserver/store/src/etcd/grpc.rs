//! gRPC as far as etcd needs it: calls with one answer, and one stream of answers, over a single
//! HTTP/2 connection to whichever member answers. Nothing is sent twice: what a lost call has done is
//! for the caller to find out, who has compared revisions in it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::StoreError;

/// A member that doesn't take a connection in this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer takes no longer, or the call has failed: clients of the API wait for it.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is tested, and dropped where nothing comes back.
const SILENCE: Duration = Duration::from_secs(5);
/// The largest answer: a page of 5,000 objects.
const ANSWER_BYTES: usize = 512 * 1024 * 1024;

type Sender = http2::SendRequest<Full<Bytes>>;

/// A way to a cluster.
pub(super) struct Channel {
    /// `host:port` of each member.
    members: Vec<String>,
    /// The member that is asked.
    at: AtomicUsize,
    sender: Mutex<Option<Sender>>,
    connecting: tokio::sync::Mutex<()>,
    /// None: the members are asked without TLS.
    tls: Option<TlsConnector>,
    /// Why the last call had no answer, if it had none.
    failing: Mutex<Option<String>>,
}

/// gRPC's codes that are told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument,
    OutOfRange,
    Other(u16),
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub code: Code,
    pub message: String,
}

impl Channel {
    pub fn new(members: Vec<String>, tls: Option<ClientConfig>) -> Self {
        let tls = tls.map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        Self {
            members,
            at: AtomicUsize::new(0),
            sender: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
            tls,
            failing: Mutex::new(None),
        }
    }

    /// Why the last call had no answer, if it had none.
    pub fn failing(&self) -> Option<String> {
        self.failing.lock().clone()
    }

    /// A call with one answer, which comes within `patience`.
    pub async fn call(
        &self,
        method: &str,
        message: Vec<u8>,
        patience: Duration,
    ) -> Result<Bytes, Failure> {
        let answer = match tokio::time::timeout(patience, self.one_answer(method, message)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.next_member();
                Err(lost(&format!("no answer within {patience:?}")))
            }
        };
        let unanswered = answer.as_ref().err().filter(|failure| failure.code == UNAVAILABLE);
        *self.failing.lock() = unanswered.map(|failure| failure.message.clone());
        answer
    }

    async fn one_answer(&self, method: &str, message: Vec<u8>) -> Result<Bytes, Failure> {
        let (response, _sender) = self.send(method, message).await?;
        let (parts, mut body) = response.into_parts();
        let mut frames = Frames::default();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| lost(&error))?.into_data() {
                Ok(data) => frames.push(&data)?,
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        ended(&trailers, &parts.headers)?;
        frames.next().ok_or_else(|| lost(&"the answer is empty"))
    }

    /// A call with many answers.
    pub async fn stream(&self, method: &str, message: Vec<u8>) -> Result<Stream, Failure> {
        let opened = tokio::time::timeout(CALL_TIMEOUT, self.send(method, message)).await;
        let (response, sender) =
            opened.unwrap_or_else(|_| Err(lost(&format!("no answer within {CALL_TIMEOUT:?}"))))?;
        let (parts, body) = response.into_parts();
        ended(&HeaderMap::new(), &parts.headers)?;
        Ok(Stream { body, frames: Frames::default(), _sender: sender })
    }

    async fn send(
        &self,
        method: &str,
        message: Vec<u8>,
    ) -> Result<(Response<Incoming>, Sender), Failure> {
        let mut sender = self.connected().await?;
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.extend_from_slice(&[0]);
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(&message);
        let uri = Uri::builder()
            .scheme(if self.tls.is_some() { "https" } else { "http" })
            .authority(self.member())
            .path_and_query(format!("/etcdserverpb.{method}"))
            .build()
            .map_err(|error| lost(&error))?;
        let request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(framed.freeze()))
            .map_err(|error| lost(&error))?;
        let response = sender.send_request(request).await.map_err(|error| {
            self.next_member();
            lost(&error)
        })?;
        Ok((response, sender))
    }

    fn member(&self) -> &str {
        // There is at least one member: `EtcdStore::connect` refuses an empty list.
        &self.members[self.at.load(Ordering::Relaxed) % self.members.len()]
    }

    fn next_member(&self) {
        *self.sender.lock() = None;
        self.at.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> Option<Sender> {
        self.sender.lock().clone().filter(|sender| !sender.is_closed())
    }

    /// A connection to a member, the one there is or a new one.
    async fn connected(&self) -> Result<Sender, Failure> {
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        // One at a time; who waited finds the connection that was made meanwhile.
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        let mut why = Vec::new();
        for _ in &self.members {
            match self.connect(self.member()).await {
                Ok(sender) => {
                    *self.sender.lock() = Some(sender.clone());
                    return Ok(sender);
                }
                Err(error) => why.push(format!("{}: {error}", self.member())),
            }
            self.at.fetch_add(1, Ordering::Relaxed);
        }
        Err(lost(&format!("no member of the etcd cluster answers ({})", why.join("; "))))
    }
}

impl Channel {
    async fn connect(&self, member: &str) -> Result<Sender, String> {
        let dial = async {
            let socket = TcpStream::connect(member).await.map_err(|error| error.to_string())?;
            let _ = socket.set_nodelay(true);
            let Some(tls) = &self.tls else { return open(socket).await };
            let host = member.rsplit_once(':').map_or(member, |(host, _)| host);
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|error| error.to_string())?;
            open(tls.connect(name, socket).await.map_err(|error| error.to_string())?).await
        };
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial).await;
        dialled.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_TIMEOUT:?}")))
    }
}

/// Begins HTTP/2.
async fn open(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, String> {
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(TokioIo::new(socket));
    let (sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to etcd ended");
        }
    });
    Ok(sender)
}

/// The answers of a stream.
pub(super) struct Stream {
    body: Incoming,
    frames: Frames,
    /// The connection lives while somebody may still send on it.
    _sender: Sender,
}

impl Stream {
    /// The next answer; an error where the stream ended.
    pub async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(message) = self.frames.next() {
                return Ok(message);
            }
            let frame = self.body.frame().await.ok_or_else(|| lost(&"the stream ended"))?;
            match frame.map_err(|error| lost(&error))?.into_data() {
                Ok(data) => self.frames.push(&data)?,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    ended(&trailers, &HeaderMap::new())?;
                }
            }
        }
    }
}

/// Bytes that came, cut into messages.
#[derive(Default)]
struct Frames(BytesMut);

impl Frames {
    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.0.len() + data.len() > ANSWER_BYTES {
            return Err(lost(&format!("the answer has more than {ANSWER_BYTES} bytes")));
        }
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let length = u32::from_be_bytes(self.0.get(1..5)?.try_into().ok()?) as usize;
        if self.0.len() < 5 + length {
            return None;
        }
        self.0.advance(5);
        Some(self.0.split_to(length).freeze())
    }
}

/// How a call ended, in its trailers, or in its headers where nothing else came.
fn ended(trailers: &HeaderMap, headers: &HeaderMap) -> Result<(), Failure> {
    let find = |name: &str| trailers.get(name).or(headers.get(name));
    let text = |name: &str| find(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status").and_then(|code| code.parse::<u16>().ok()) else {
        return Ok(());
    };
    let code = match code {
        0 => return Ok(()),
        3 => Code::InvalidArgument,
        11 => Code::OutOfRange,
        other => Code::Other(other),
    };
    let message = text("grpc-message").unwrap_or("etcd gives no reason").to_owned();
    Err(Failure { code, message })
}

/// No answer, as gRPC numbers it.
const UNAVAILABLE: Code = Code::Other(14);

fn lost(why: &impl std::fmt::Display) -> Failure {
    Failure { code: UNAVAILABLE, message: why.to_string() }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.code {
            Code::InvalidArgument => StoreError::Invalid(failure.message),
            _ => StoreError::Unavailable(format!("etcd: {}", failure.message)),
        }
    }
}

/// A channel is shared by the store and its watches.
pub(super) type Shared = Arc<Channel>;
