//! A program's streams at the far end of a connection: stdin, stdout, stderr, and at the end how it
//! went. What `exec` and `attach` need, whatever the client speaks.

use std::{pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Wire,
    resize::{SIZES, read_sizes},
    spdy::{Connection, Stream, header},
};

/// How long a client may take to open the streams it asked for.
const OPENING: Duration = Duration::from_secs(30);

/// Which streams the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Sizes of the terminal come on a stream of their own, and stderr is stdout.
    pub tty: bool,
}

/// The streams of one program. Streams that weren't asked for are None.
pub struct Session {
    pub stdin: Option<Pin<Box<dyn AsyncRead + Send>>>,
    pub stdout: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    pub stderr: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Sizes of the client's terminal, columns and rows, where it has one.
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
    /// Told when the client has hung up.
    pub gone: CancellationToken,
    pub end: End,
}

/// The end of a session, still to be told.
pub struct End(pub(crate) oneshot::Sender<Told>);

/// An outcome, and what is dropped once it was sent.
pub(crate) type Told = (Outcome, oneshot::Sender<()>);

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A Kubernetes `Status` as JSON, for protocols from version 4 on.
    pub status: String,
    /// What older protocols are told; nothing where all went well.
    pub error: String,
}

/// Why a session doesn't come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the client hung up before it had opened its streams")]
    HungUp,
    #[error("the client did not open its streams in time")]
    TooLate,
    #[error("the client opened a stream of type {0:?}, which it did not ask for")]
    Unexpected(String),
}

impl End {
    /// Sends the outcome after all that was written, and ends the connection. The session's
    /// streams must be dropped by then. Without this the client sees a lost connection.
    pub async fn tell(self, outcome: Outcome) {
        let (done, ended) = oneshot::channel();
        if self.0.send((outcome, done)).is_ok() {
            // It is never sent, only dropped.
            let _ = ended.await;
        }
    }
}

/// Waits for the streams of `v4.channel.k8s.io` over SPDY. Must be called inside a tokio runtime.
pub async fn session_over_spdy(wire: impl Wire, wanted: Wanted) -> Result<Session, SessionError> {
    let mut connection = Connection::start(wire);
    let opened = tokio::time::timeout(OPENING, Opened::wait(&mut connection, wanted)).await;
    let opened = opened.map_err(|_| SessionError::TooLate)??;
    let gone = connection.gone();
    let (outcome, told) = oneshot::channel::<Told>();
    let error = opened.error;
    let (send, sizes) = mpsc::channel(SIZES);
    let resizing =
        opened.resize.map(|stream| AbortOnDropHandle::new(tokio::spawn(read_sizes(stream, send))));
    let resize = resizing.is_some().then_some(sizes);
    tokio::spawn(async move {
        // The stream of sizes is open for as long as the session is.
        if let Ok((outcome, done)) = told.await {
            if let Some(mut error) = error {
                // A client that is gone doesn't need to know.
                let _ = error.write_all(outcome.status.as_bytes()).await;
            }
            drop(resizing);
            connection.finish().await;
            drop(done);
        }
    });
    let writer = |stream: Stream| -> Pin<Box<dyn AsyncWrite + Send>> { Box::pin(stream) };
    Ok(Session {
        stdin: opened.stdin.map(|stream| -> Pin<Box<dyn AsyncRead + Send>> { Box::pin(stream) }),
        stdout: opened.stdout.map(writer),
        stderr: opened.stderr.map(writer),
        resize,
        gone,
        end: End(outcome),
    })
}

#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    async fn wait(connection: &mut Connection, wanted: Wanted) -> Result<Self, SessionError> {
        let mut opened = Self::default();
        while !opened.is_complete(wanted) {
            let stream = connection.accept().await.ok_or(SessionError::HungUp)?;
            let kind = header(&stream.headers, "streamtype").unwrap_or_default().to_owned();
            let place = match kind.as_str() {
                "error" => &mut opened.error,
                "stdin" if wanted.stdin => &mut opened.stdin,
                "stdout" if wanted.stdout => &mut opened.stdout,
                "stderr" if wanted.stderr => &mut opened.stderr,
                "resize" if wanted.tty => &mut opened.resize,
                _ => return Err(SessionError::Unexpected(kind)),
            };
            *place = Some(stream);
        }
        Ok(opened)
    }

    fn is_complete(&self, wanted: Wanted) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == wanted.stdin
            && self.stdout.is_some() == wanted.stdout
            && self.stderr.is_some() == wanted.stderr
            && self.resize.is_some() == wanted.tty
    }
}
