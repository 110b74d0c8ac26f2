//! What a container's own program reads and writes, for those who attach to it. Whatever it writes
//! goes to its log, and to each session that is attached; a session that doesn't keep up slows the
//! program down, for a moment, and is cut off then. Only a container that asks for it has a stdin:
//! a pipe that one session at a time writes to.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::{Mutex as AsyncMutex, MutexGuard, mpsc},
};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::{
    WasiCtxBuilder,
    cli::{AsyncStdinStream, IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamResult},
};
use windlass_runtime_api::{BoxAsyncRead, BoxAsyncWrite, ConsoleSpec, ExecIo};

use crate::logs::{InstanceLog, LogStream, Stream};

const STDIN_BYTES: usize = 64 << 10;
/// Chunks of output that wait for a slow session.
const QUEUED_CHUNKS: usize = 64;
/// How long a session may take to make room before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a program with a stdin wrote before the first session came is shown to it: a program that
/// starts in a millisecond has printed its prompt by then.
const BACKLOG_BYTES: usize = 16 << 10;

/// The console of one attempt of a container.
pub struct Console {
    spec: ConsoleSpec,
    /// The container's side of stdin, until its program takes it.
    guest: Mutex<Option<DuplexStream>>,
    /// The sessions' side; None once it is closed, or where there is none.
    stdin: AsyncMutex<Option<DuplexStream>>,
    /// No more input comes, also not from a session that has more.
    input_over: CancellationToken,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    all: Vec<Session>,
    /// None where it isn't kept, or was shown.
    backlog: Option<VecDeque<(Stream, Bytes)>>,
    backlog_bytes: usize,
    /// The program has ended.
    over: bool,
}

/// One who is attached.
#[derive(Clone)]
struct Session {
    chunks: mpsc::Sender<(Stream, Bytes)>,
    /// It was too slow.
    cut: CancellationToken,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// The program has ended.
    Over,
    TooSlow,
}

impl Console {
    pub fn new(spec: ConsoleSpec) -> Self {
        let (ours, guest) = match spec.stdin {
            true => {
                let (ours, guest) = duplex(STDIN_BYTES);
                (Some(ours), Some(guest))
            }
            false => (None, None),
        };
        let backlog = spec.stdin.then(VecDeque::new);
        Self {
            spec,
            guest: Mutex::new(guest),
            stdin: AsyncMutex::new(ours),
            input_over: CancellationToken::new(),
            sessions: Mutex::new(Sessions { backlog, ..Sessions::default() }),
        }
    }

    /// Connects the container's own program.
    pub fn give(self: &Arc<Self>, builder: &mut WasiCtxBuilder, log: &Arc<InstanceLog>) {
        let terminal = self.spec.tty;
        if let Some(stdin) = self.guest.lock().take() {
            builder.stdin(Input { stream: AsyncStdinStream::new(stdin), terminal });
        }
        let output = |stream| Output { log: log.stream(stream), stream, console: self.clone() };
        builder.stdout(output(Stream::Stdout));
        // A terminal has one output.
        builder.stderr(output(if terminal { Stream::Stdout } else { Stream::Stderr }));
    }

    /// Connects a caller until it is cut off or the program ends. Dropping the future detaches.
    pub async fn attach(&self, io: ExecIo) -> Detached {
        let ExecIo { stdin, stdout, stderr, .. } = io;
        let (chunks, received) = mpsc::channel(QUEUED_CHUNKS);
        let cut = CancellationToken::new();
        let backlog = {
            let mut sessions = self.sessions.lock();
            if !sessions.over {
                sessions.all.push(Session { chunks, cut: cut.clone() });
            }
            sessions.backlog.take().unwrap_or_default()
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => Detached::TooSlow,
            () = pass_on(backlog, received, stdout, stderr) => Detached::Over,
            () = self.feed(stdin) => Detached::Over,
        }
    }

    /// The program reads the end of its input, once it has read what came before.
    pub async fn end_input(&self) {
        self.input_over.cancel();
        *self.stdin.lock().await = None;
    }

    /// The program has ended: sessions end with what it wrote.
    pub fn close(&self) {
        let mut sessions = self.sessions.lock();
        sessions.over = true;
        sessions.all.clear();
    }

    /// Passes on to the program what a session sends, for as long as the session lasts.
    async fn feed(&self, from: Option<BoxAsyncRead>) {
        if let Some(mut from) = from {
            let held = self.stdin.lock().await;
            let mut stdin = Held { stdin: held, once: self.spec.stdin_once };
            // An error is an end: the program, or the session, is gone.
            if let Some(open) = stdin.stdin.as_mut() {
                let copy = tokio::io::copy(&mut from, open);
                let _ = self.input_over.run_until_cancelled(copy).await;
            }
            if stdin.stdin.is_none() || self.input_over.is_cancelled() {
                drop(stdin);
                // Read and dropped, so that the sender isn't held up.
                let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            }
        }
        std::future::pending().await
    }

    fn share(&self, stream: Stream, bytes: &Bytes) {
        let mut sessions = self.sessions.lock();
        let sessions = &mut *sessions;
        if let Some(backlog) = &mut sessions.backlog {
            sessions.backlog_bytes += bytes.len();
            backlog.push_back((stream, bytes.clone()));
            while sessions.backlog_bytes > BACKLOG_BYTES
                && let Some((_, oldest)) = backlog.pop_front()
            {
                sessions.backlog_bytes -= oldest.len();
            }
        }
        sessions.all.retain(|session| match session.chunks.try_send((stream, bytes.clone())) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                session.cut.cancel();
                false
            }
        });
    }

    fn full(&self) -> Vec<Session> {
        let sessions = self.sessions.lock();
        sessions.all.iter().filter(|session| session.is_full()).cloned().collect()
    }

    /// Returns when every session takes a chunk; those that don't in time are cut off.
    async fn room(&self) {
        for session in self.full() {
            if tokio::time::timeout(PATIENCE, session.chunks.reserve()).await.is_err() {
                session.cut.cancel();
                let mut sessions = self.sessions.lock();
                sessions.all.retain(|other| !other.cut.is_cancelled());
            }
        }
    }
}

impl Session {
    fn is_full(&self) -> bool {
        self.chunks.capacity() == 0 && !self.chunks.is_closed()
    }
}

/// The sessions' side of stdin while one of them has it. Where there is to be one session only,
/// its end, however it comes, is the end of the program's input.
struct Held<'a> {
    stdin: MutexGuard<'a, Option<DuplexStream>>,
    once: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.once {
            *self.stdin = None;
        }
    }
}

async fn pass_on(
    backlog: VecDeque<(Stream, Bytes)>,
    mut received: mpsc::Receiver<(Stream, Bytes)>,
    mut stdout: BoxAsyncWrite,
    mut stderr: Option<BoxAsyncWrite>,
) {
    let mut earlier = backlog.into_iter();
    loop {
        let next = match earlier.next() {
            Some(chunk) => Some(chunk),
            None => received.recv().await,
        };
        let Some((stream, bytes)) = next else { return };
        let to = match (stream, &mut stderr) {
            (Stream::Stderr, Some(stderr)) => stderr,
            _ => &mut stdout,
        };
        // A caller that went away is seen by whoever holds its connection.
        if to.write_all(&bytes).await.is_ok() && received.is_empty() {
            let _ = to.flush().await;
        }
    }
}

/// One of the program's outputs.
#[derive(Clone)]
struct Output {
    log: LogStream,
    stream: Stream,
    console: Arc<Console>,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.console.spec.tty
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        OutputStream::write(&mut self.log, bytes.clone())?;
        self.console.share(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        OutputStream::flush(&mut self.log)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.console.full().is_empty() {
            true => self.log.check_write(),
            false => Ok(0),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.console.room().await;
        self.log.ready().await;
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.log).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.console.share(self.stream, &Bytes::copy_from_slice(&bytes[..*count]));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.log).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.log).poll_shutdown(cx)
    }
}

/// A program's stdin, which may be a terminal.
pub struct Input {
    pub stream: AsyncStdinStream,
    pub terminal: bool,
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.stream.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.stream.p2_stream()
    }
}
