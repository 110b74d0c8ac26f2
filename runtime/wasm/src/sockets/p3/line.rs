//! A TCP connection as two streams of WASI 0.3. Bytes move between the guest's memory and the
//! connection when the guest reads or writes, without a task and, all but for readiness checks,
//! without a buffer between them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult},
};
use windlass_runtime_net::Conn;

use super::bindings::types::ErrorCode;
use crate::{
    guest::Guest,
    sockets::ops::{self, Permit, Trouble},
};

/// What a check for readiness may read ahead: connections inside the process tell it no other way.
const AHEAD_BYTES: usize = 4 << 10;
/// What is moved at once where both ends of a stream are the host's: a guest that passes one
/// connection's bytes on to another.
const PASSED_BYTES: usize = 16 << 10;

type Told = oneshot::Sender<Result<(), ErrorCode>>;
/// How a direction ended, for the guest.
pub type End = oneshot::Receiver<Result<(), ErrorCode>>;

/// A connection, which its socket and both of its directions hold.
pub struct Line {
    inner: Mutex<Inner>,
    _permit: Arc<Permit>,
}

struct Inner {
    /// None once both directions have ended.
    conn: Option<Conn>,
    sends: bool,
    receives: bool,
}

impl Line {
    pub fn new(conn: Conn, permit: Arc<Permit>) -> Arc<Self> {
        let inner = Inner { conn: Some(conn), sends: true, receives: true };
        Arc::new(Self { inner: Mutex::new(inner), _permit: permit })
    }

    pub fn receiving(self: &Arc<Self>) -> (Receiving, End) {
        let (told, end) = oneshot::channel();
        (Receiving { line: self.clone(), ahead: None, told: Some(told) }, end)
    }

    pub fn sending(self: &Arc<Self>) -> (Sending, End) {
        let (told, end) = oneshot::channel();
        (Sending { line: self.clone(), told: Some(told) }, end)
    }

    fn poll_read(&self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.lock();
        let Some(conn) = &mut inner.conn else { return Poll::Ready(Ok(0)) };
        let mut read = ReadBuf::new(to);
        ready!(Pin::new(conn).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.lock();
        let Some(conn) = &mut inner.conn else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(Pin::new(conn).poll_write(cx, from)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            written => Poll::Ready(written),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.inner.lock().conn {
            Some(Conn::Tcp { stream, .. }) => stream.poll_write_ready(cx).map(drop),
            // A pair of buffers doesn't tell. A guest that is told too early waits as it writes.
            Some(Conn::Duplex { .. }) | None => Poll::Ready(()),
        }
    }
}

impl Inner {
    fn close_where_done(&mut self) {
        if !self.sends && !self.receives {
            self.conn = None;
        }
    }
}

/// What comes from the other side.
pub struct Receiving {
    line: Arc<Line>,
    /// Read by a check for readiness. No bytes: the end.
    ahead: Option<io::Result<Bytes>>,
    told: Option<Told>,
}

impl Receiving {
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_none() {
            let mut buffer = [0; AHEAD_BYTES];
            let read = ready!(self.line.poll_read(cx, &mut buffer));
            self.ahead = Some(read.map(|length| Bytes::copy_from_slice(&buffer[..length])));
        }
        Poll::Ready(())
    }

    fn read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut ahead = match self.ahead.take() {
            None => return self.line.poll_read(cx, to),
            Some(ahead) => ahead?,
        };
        let taken = ahead.split_to(to.len().min(ahead.len()));
        to[..taken.len()].copy_from_slice(&taken);
        self.ahead = (!ahead.is_empty()).then_some(Ok(ahead));
        Poll::Ready(Ok(taken.len()))
    }
}

impl StreamProducer<Guest> for Receiving {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Guest>,
        to: Destination<'a, u8, Option<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if to.remaining(&mut store) == Some(0) {
            return or_cancelled(finish, self.fill(cx).map(|()| StreamResult::Completed));
        }
        let mut to = to.as_direct(store, PASSED_BYTES);
        let read = self.read(cx, to.remaining());
        let done = read.map(|read| {
            let ended = match read {
                Ok(0) => Ok(()),
                Ok(length) => {
                    to.mark_written(length);
                    return StreamResult::Completed;
                }
                Err(error) => Err(ops::io_trouble(&error)),
            };
            tell(&mut self.told, ended);
            StreamResult::Dropped
        });
        or_cancelled(finish, done)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // What the guest doesn't want to read is as good as the end.
        tell(&mut self.told, Ok(()));
        let mut inner = self.line.inner.lock();
        inner.receives = false;
        inner.close_where_done();
    }
}

/// What goes to the other side; the end of it when it is dropped.
pub struct Sending {
    line: Arc<Line>,
    told: Option<Told>,
}

impl StreamConsumer<Guest> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, Guest>,
        from: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut from = from.as_direct(store);
        if from.remaining().is_empty() {
            let writable = self.line.poll_writable(cx);
            return or_cancelled(finish, writable.map(|()| StreamResult::Completed));
        }
        let written = self.line.poll_write(cx, from.remaining());
        let done = written.map(|written| match written {
            Ok(length) => {
                from.mark_read(length);
                StreamResult::Completed
            }
            Err(error) => {
                tell(&mut self.told, Err(ops::io_trouble(&error)));
                StreamResult::Dropped
            }
        });
        or_cancelled(finish, done)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut inner = self.line.inner.lock();
        if let Some(conn) = &mut inner.conn {
            // Neither kind of connection has to wait for this.
            let _ = Pin::new(conn).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        inner.sends = false;
        inner.close_where_done();
        drop(inner);
        tell(&mut self.told, Ok(()));
    }
}

/// The guest may have dropped its end.
fn tell(told: &mut Option<Told>, ended: Result<(), Trouble>) {
    if let Some(told) = told.take() {
        let _ = told.send(ended.map_err(Into::into));
    }
}

/// The guest takes back what it waits for.
fn or_cancelled(finish: bool, done: Poll<StreamResult>) -> Poll<wasmtime::Result<StreamResult>> {
    match done {
        Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
        done => done.map(Ok),
    }
}
