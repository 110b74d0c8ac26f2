//! The two directions of a TCP connection as streams of WASI 0.2: bytes move when the guest reads
//! or writes, without a task. Only what a connection doesn't take at once is written on by one, so
//! that it arrives even if the guest does something else meanwhile.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf},
    task::JoinHandle,
};
use wasmtime_wasi::{
    async_trait,
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};
use windlass_runtime_net::Conn;

use crate::{container::Container, sockets::ops::Permit};

/// The most that one read brings, and that is waiting to be read.
const READ_BYTES: usize = 16 << 10;
/// The most that a guest may write in one call, and that is waiting to be sent.
const WRITE_BYTES: usize = 64 << 10;

/// Both directions of a connection.
pub fn streams(container: &Arc<Container>, conn: Conn, permit: Arc<Permit>) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(conn);
    let reading = Reading::Open { half: read, waiting: Bytes::new() };
    let writer = Writer {
        state: Arc::new(Mutex::new(Writing::Ready(write))),
        container: container.clone(),
        permit,
    };
    (Reader(Arc::new(Mutex::new(reading))), writer)
}

#[derive(Clone)]
pub struct Reader(Arc<Mutex<Reading>>);

enum Reading {
    Open { half: ReadHalf<Conn>, waiting: Bytes },
    Failed(io::Error),
    Closed,
}

impl Reader {
    /// Nothing is read any more.
    pub fn shutdown(&self) {
        *self.0.lock() = Reading::Closed;
    }
}

impl Reading {
    /// Ready once there are bytes, or the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self::Open { half, waiting } = self else { return Poll::Ready(()) };
        if !waiting.is_empty() {
            return Poll::Ready(());
        }
        let mut buffer = BytesMut::zeroed(READ_BYTES);
        let mut read = ReadBuf::new(&mut buffer);
        let ended = match ready!(Pin::new(half).poll_read(cx, &mut read)) {
            Ok(()) => {
                let length = read.filled().len();
                buffer.truncate(length);
                *waiting = buffer.freeze();
                (length == 0).then_some(Self::Closed)
            }
            Err(error) => Some(Self::Failed(error)),
        };
        if let Some(ended) = ended {
            *self = ended;
        }
        Poll::Ready(())
    }

    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            let _ = self.fill(&mut Context::from_waker(Waker::noop()));
        }
        match self {
            Self::Open { waiting, .. } => {
                let taken = waiting.split_to(size.min(waiting.len()));
                if waiting.is_empty() {
                    // An empty view would hold the buffer.
                    *waiting = Bytes::new();
                }
                Ok(taken)
            }
            Self::Closed => Err(StreamError::Closed),
            Self::Failed(_) => match std::mem::replace(self, Self::Closed) {
                Self::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.0.lock().read(size)
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().fill(cx)).await;
    }
}

#[derive(Clone)]
pub struct Writer {
    state: Arc<Mutex<Writing>>,
    container: Arc<Container>,
    /// A task that writes on holds it too: the connection is there for as long.
    permit: Arc<Permit>,
}

type Unsent = JoinHandle<io::Result<WriteHalf<Conn>>>;

enum Writing {
    Ready(WriteHalf<Conn>),
    /// A task writes what was left.
    Busy(Unsent),
    Failed(io::Error),
    Closed,
}

impl Writer {
    /// Sends what is waiting, then the end.
    pub fn shutdown(&self) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *state, Writing::Closed);
        let closing = async move {
            let mut half = match before {
                Writing::Ready(half) => half,
                Writing::Busy(unsent) => unsent.await??,
                Writing::Failed(_) | Writing::Closed => return Ok(()),
            };
            half.shutdown().await
        };
        let (container, permit) = (self.container.clone(), self.permit.clone());
        tokio::spawn(async move {
            // The other side may be gone, which is as good.
            let _: Option<io::Result<()>> =
                container.ending.abort.run_until_cancelled(closing).await;
            drop(permit);
        });
    }

    fn write_on(&self, mut half: WriteHalf<Conn>, rest: Bytes) -> Unsent {
        let (container, permit) = (self.container.clone(), self.permit.clone());
        tokio::spawn(async move {
            let writing = container.ending.abort.run_until_cancelled(half.write_all(&rest)).await;
            drop(permit);
            writing.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()))?;
            Ok(half)
        })
    }
}

impl Writing {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Busy(unsent) = self {
            let written = ready!(Pin::new(unsent).poll(cx));
            *self = match written.map_err(io::Error::other).flatten() {
                Ok(half) => Self::Ready(half),
                Err(error) => Self::Failed(error),
            };
        }
        Poll::Ready(())
    }

    fn failure(&mut self) -> Option<StreamError> {
        match self {
            Self::Ready(_) | Self::Busy(_) => None,
            Self::Closed => Some(StreamError::Closed),
            Self::Failed(_) => match std::mem::replace(self, Self::Closed) {
                Self::Failed(error) if !is_closed(&error) => {
                    Some(StreamError::LastOperationFailed(error.into()))
                }
                _ => Some(StreamError::Closed),
            },
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

impl OutputStream for Writer {
    fn check_write(&mut self) -> StreamResult<usize> {
        let mut state = self.state.lock();
        let ready = state.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
        match state.failure() {
            Some(error) => Err(error),
            None => Ok(if ready { WRITE_BYTES } else { 0 }),
        }
    }

    fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let mut state = self.state.lock();
        if let Some(error) = state.failure() {
            return Err(error);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written than check-write permitted"));
        }
        let mut half = match std::mem::replace(&mut *state, Writing::Closed) {
            Writing::Ready(half) => half,
            other => {
                *state = other;
                return Err(StreamError::trap("more was written than check-write permitted"));
            }
        };
        let cx = &mut Context::from_waker(Waker::noop());
        *state = loop {
            match Pin::new(&mut half).poll_write(cx, &bytes) {
                Poll::Pending => break Writing::Busy(self.write_on(half, bytes)),
                Poll::Ready(Ok(0)) => break Writing::Failed(io::ErrorKind::BrokenPipe.into()),
                Poll::Ready(Ok(length)) => {
                    let _ = bytes.split_to(length);
                    if bytes.is_empty() {
                        break Writing::Ready(half);
                    }
                }
                Poll::Ready(Err(error)) => break Writing::Failed(error),
            }
        };
        state.failure().map_or(Ok(()), Err)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // What was written is on its way; `ready` tells when.
        self.state.lock().failure().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| self.state.lock().poll_ready(cx)).await;
    }
}
