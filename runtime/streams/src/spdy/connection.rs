//! The side of a connection that answers: takes the streams that the client opens and turns each
//! into a pair of byte streams.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
        ReadHalf, WriteHalf,
    },
    sync::mpsc,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{Decoder, Encoder, Frame, Headers, SpdyError};
use crate::{BUFFER_BYTES, FLUSH, LINGER, Wire};

/// Streams open at once.
const STREAMS: usize = 1024;
/// Frames that wait to be written, and parts of data that wait for a stream's reader.
const FRAMES: usize = 64;
const READ_BYTES: usize = 16 * 1024;
/// Bytes of frames that are written with one call.
const BATCH_BYTES: usize = 64 * 1024;
const REFUSED_STREAM: u32 = 3;
const PROTOCOL_ERROR: u32 = 1;

/// A connection whose client opens streams.
pub struct Connection {
    opened: mpsc::Receiver<Stream>,
    gone: CancellationToken,
    tasks: TaskTracker,
    /// Ends reader and writer.
    finished: CancellationToken,
    _end: DropGuard,
}

/// A stream: what the client sends is read, what is written goes to the client. Shutting down ends
/// the direction to the client; dropping it ends both.
pub struct Stream {
    pub headers: Headers,
    io: DuplexStream,
    _dropped: DropGuard,
}

impl Connection {
    /// Takes over an upgraded connection. Must be called inside a tokio runtime.
    pub fn start(wire: impl Wire) -> Self {
        let (read, write) = tokio::io::split(wire);
        let (frames, queued) = mpsc::channel(FRAMES);
        let (open, opened) = mpsc::channel(FRAMES);
        let (gone, finished) = (CancellationToken::new(), CancellationToken::new());
        let end = gone.clone().drop_guard();
        let tasks = TaskTracker::new();
        let reader = Reader {
            frames: frames.clone(),
            open: Some(open),
            streams: HashMap::new(),
            newest: 0,
            gone: gone.clone(),
            tasks: tasks.clone(),
        };
        let (over, done) = (gone.clone(), finished.clone());
        tokio::spawn(async move {
            reader.run(read, done).await;
            over.cancel();
        });
        let (over, done) = (gone.clone(), finished.clone());
        tokio::spawn(async move {
            if let Err(error) = write_frames(write, queued, &over, &done).await {
                tracing::debug!(%error, "SPDY connection can't be written");
                over.cancel();
            }
        });
        Self { opened, gone, tasks, finished, _end: end }
    }

    /// The next stream that the client opens; None once the connection is over.
    pub async fn accept(&mut self) -> Option<Stream> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => None,
            stream = self.opened.recv() => stream,
        }
    }

    /// Told when the client has hung up, or sent what it must not send.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Ends the connection after everything that was written to streams, which must be dropped.
    pub async fn finish(self) {
        self.tasks.close();
        let _ = tokio::time::timeout(FLUSH, self.tasks.wait()).await;
        self.finished.cancel();
        let _ = tokio::time::timeout(LINGER, self.gone.cancelled()).await;
    }
}

struct Reader {
    frames: mpsc::Sender<Frame>,
    open: Option<mpsc::Sender<Stream>>,
    streams: HashMap<u32, Entry>,
    newest: u32,
    gone: CancellationToken,
    tasks: TaskTracker,
}

/// A stream as the reader knows it. Dropping `data` is the end of what the client sends.
struct Entry {
    data: mpsc::Sender<Bytes>,
    reset: CancellationToken,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut read: R, finished: CancellationToken) {
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; READ_BYTES]);
        let gone = self.gone.clone();
        loop {
            let arrived = tokio::select! {
                biased;
                () = gone.cancelled() => return,
                arrived = read.read(&mut buffer) => arrived,
            };
            let bytes = match arrived {
                Ok(bytes) if bytes > 0 => bytes,
                _ => return,
            };
            if finished.is_cancelled() {
                // Only read so that the other side isn't cut off.
                continue;
            }
            decoder.push(&buffer[..bytes]);
            let handled = tokio::select! {
                biased;
                () = gone.cancelled() => return,
                handled = self.handle_all(&mut decoder) => handled,
            };
            if let Err(error) = handled {
                tracing::warn!(%error, "SPDY connection ended");
                let bye = Frame::GoAway { last: self.newest, status: PROTOCOL_ERROR };
                let _ = self.frames.send(bye).await;
                finished.cancel();
                let rest = async { while let Ok(1..) = read.read(&mut buffer).await {} };
                let _ = tokio::time::timeout(LINGER, rest).await;
                return;
            }
        }
    }

    async fn handle_all(&mut self, decoder: &mut Decoder) -> Result<(), SpdyError> {
        while let Some(frame) = decoder.next_frame()? {
            self.handle(frame).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { id, headers, fin } => self.open(id, headers, fin).await?,
            Frame::Data { id, payload, fin } => {
                if let Some(entry) = self.streams.get(&id) {
                    // An error: nobody reads the stream any more. What comes for it is dropped.
                    let unread = !payload.is_empty() && entry.data.send(payload).await.is_err();
                    if fin || unread {
                        self.streams.remove(&id);
                    }
                }
            }
            Frame::Reset { id, .. } => {
                if let Some(entry) = self.streams.remove(&id) {
                    entry.reset.cancel();
                }
            }
            // The client's numbers are odd; an even one would answer a ping that we never send.
            Frame::Ping(id) if !id.is_multiple_of(2) => {
                let _ = self.frames.send(Frame::Ping(id)).await;
            }
            // It opens no more; streams that are open go on.
            Frame::GoAway { .. } => self.open = None,
            Frame::Headers { id, fin: true, .. } => {
                self.streams.remove(&id);
            }
            Frame::Ping(_)
            | Frame::SynReply { .. }
            | Frame::Headers { .. }
            | Frame::Settings
            | Frame::WindowUpdate { .. } => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool) -> Result<(), SpdyError> {
        if id.is_multiple_of(2) || id <= self.newest {
            return Err(SpdyError::StreamId(id));
        }
        self.newest = id;
        if self.streams.len() >= STREAMS {
            self.streams.retain(|_, entry| !entry.data.is_closed());
        }
        let Some(open) = self.open.clone().filter(|_| self.streams.len() < STREAMS) else {
            let _ = self.frames.send(Frame::Reset { id, status: REFUSED_STREAM }).await;
            return Ok(());
        };
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        let (data, received) = mpsc::channel(FRAMES);
        let reset = self.gone.child_token();
        let dropped = CancellationToken::new();
        let carrying =
            carry(id, far, received, self.frames.clone(), reset.clone(), dropped.clone());
        self.tasks.spawn(carrying);
        if !fin {
            self.streams.insert(id, Entry { data, reset });
        }
        // Before the stream can be written to: data before the reply is an error.
        let _ = self.frames.send(Frame::SynReply { id, headers: Vec::new(), fin: false }).await;
        let stream = Stream { headers, io: near, _dropped: dropped.drop_guard() };
        let _ = open.send(stream).await;
        Ok(())
    }
}

/// Carries one stream until both directions are done, or it is reset.
async fn carry(
    id: u32,
    far: DuplexStream,
    received: mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<Frame>,
    reset: CancellationToken,
    dropped: CancellationToken,
) {
    let (read, write) = tokio::io::split(far);
    let inbound = async {
        tokio::select! {
            biased;
            () = dropped.cancelled() => {}
            () = to_program(received, write) => {}
        }
    };
    tokio::select! {
        biased;
        () = reset.cancelled() => {}
        _ = async { tokio::join!(inbound, to_client(id, read, frames)) } => {}
    }
}

async fn to_program(mut received: mpsc::Receiver<Bytes>, mut write: WriteHalf<DuplexStream>) {
    while let Some(bytes) = received.recv().await {
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The other end may be gone, which is as good.
    let _ = write.shutdown().await;
}

async fn to_client(id: u32, mut read: ReadHalf<DuplexStream>, frames: mpsc::Sender<Frame>) {
    loop {
        let mut bytes = BytesMut::with_capacity(READ_BYTES);
        let fin = !matches!(read.read_buf(&mut bytes).await, Ok(read) if read > 0);
        let frame = Frame::Data { id, payload: bytes.freeze(), fin };
        if frames.send(frame).await.is_err() || fin {
            return;
        }
    }
}

/// Writes until the connection is over, or finished and everything written.
async fn write_frames<W: AsyncWrite + Unpin>(
    mut write: W,
    mut queued: mpsc::Receiver<Frame>,
    gone: &CancellationToken,
    finished: &CancellationToken,
) -> io::Result<()> {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    loop {
        let frame = tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(()),
            frame = queued.recv() => frame,
            () = finished.cancelled() => None,
        };
        let Some(frame) = frame else {
            return write.shutdown().await;
        };
        encoder.write(&frame, &mut out);
        while out.len() < BATCH_BYTES
            && let Ok(frame) = queued.try_recv()
        {
            encoder.write(&frame, &mut out);
        }
        tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(()),
            written = write.write_all(&out) => written?,
        }
        out.clear();
        write.flush().await?;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
