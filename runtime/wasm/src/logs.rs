//! Container logs, in the format of CRI: `TIME stdout|stderr F|P TEXT`. Guests append formatted
//! lines to memory; one thread a node writes them, many lines in one system call. A log has no file
//! and no buffer until its first line.
//!
//! Nobody waits for the disk but commands, whose output is what they are run for: what a handler
//! writes beyond its rate (`log_rate`), or while the disk is full or slow, is dropped, counted, and
//! told in the log in its place.

use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::{io::AsyncWrite, sync::Notify};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};
pub use windlass_runtime_logs::Stream;
use windlass_runtime_logs::{LogBounds, MAX_LINE_BYTES, put_line};
use windlass_sdk_meta::{Clock, Timestamp};

use crate::log_rate::{Allowance, Lost};

/// What stands around a line's text in the file: time, stream, tag, blanks and the line's end.
const AROUND_BYTES: usize = 41;
/// What a container may have written that is not yet in its file.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// The most that a guest may write in one call.
const WRITE_BYTES: usize = 64 << 10;
/// Lines that arrive within this time are written together.
const BATCH: Duration = Duration::from_millis(2);
const TOO_FAST: &str = "a container may write 8 MiB to its log at once and 1 MiB a second";
const NO_DISK: &str = "the node's disk did not take them";

/// Writes the logs of all containers of a node.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    bounds: LogBounds,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Each log at most once.
    waiting: Vec<Arc<ContainerLog>>,
    ended: bool,
}

impl LogWriter {
    pub fn start(clock: Arc<dyn Clock>, bounds: LogBounds) -> io::Result<Self> {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { clock, bounds, queue, filled });
        let writer = shared.clone();
        thread::Builder::new().name("logs".into()).spawn(move || writer.run())?;
        Ok(Self(shared))
    }

    /// A log that will be written to `path`.
    pub fn open(&self, path: PathBuf) -> Arc<ContainerLog> {
        Arc::new(ContainerLog {
            writer: self.clone(),
            path,
            pending: Mutex::default(),
            drained: Notify::new(),
            patient: AtomicBool::new(false),
            dropped_lines: AtomicU64::new(0),
        })
    }

    /// Writes what is waiting, then ends the thread.
    pub fn end(&self) {
        self.0.queue.lock().ended = true;
        self.0.filled.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let waiting = {
                let mut queue = self.queue.lock();
                while queue.waiting.is_empty() && !queue.ended {
                    self.filled.wait(&mut queue);
                }
                if queue.waiting.is_empty() {
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            for log in waiting {
                log.write_pending();
            }
            // Nobody unparks this thread: it is a pause.
            thread::park_timeout(BATCH);
        }
    }
}

/// The log of one attempt of a container.
pub struct ContainerLog {
    writer: LogWriter,
    path: PathBuf,
    pending: Mutex<Pending>,
    drained: Notify,
    /// Guests wait where they would lose lines.
    patient: AtomicBool,
    dropped_lines: AtomicU64,
}

#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    /// In `text`.
    lines: u64,
    queued: bool,
    /// The thread is writing what it took.
    writing: bool,
    failed: bool,
    allowance: Allowance,
    /// Since the last line that was taken.
    too_fast: Lost,
    no_disk: Lost,
}

impl Pending {
    fn put(&mut self, now: Timestamp, stream: Stream, tag: &[u8], text: &[u8]) {
        put_line(&mut self.text, format_args!("{now:.9}"), stream, tag == b"F", text);
        self.lines += 1;
    }

    /// Tells of lines that are missing here.
    fn tell_lost(&mut self, now: Timestamp) {
        let notes = [self.too_fast.note(TOO_FAST), self.no_disk.note(NO_DISK)];
        for note in notes.into_iter().flatten() {
            self.put(now, Stream::Stderr, b"F", note.as_bytes());
        }
    }

    /// Whether a line may be taken; counts it where not.
    fn admit(&mut self, now: Timestamp, bytes: usize, patient: bool) -> bool {
        if patient {
            self.allowance.take(bytes, now);
            return true;
        }
        if self.text.len() >= MAX_PENDING_BYTES {
            self.no_disk.add(1, bytes);
            return false;
        }
        let admitted = self.allowance.try_take(bytes, now);
        if !admitted {
            self.too_fast.add(1, bytes);
        }
        admitted
    }
}

impl ContainerLog {
    /// Guests wait from now on where they would lose lines: this is a command's log.
    pub fn be_patient(&self) {
        self.patient.store(true, Relaxed);
    }

    /// Lines that are not in the log.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines.load(Relaxed)
    }

    /// One line of the runtime's own, such as a trap's backtrace: each line of `text` apart.
    /// Dropped where the disk can't keep up: nobody would wait here.
    pub fn note(self: &Arc<Self>, text: &str) {
        if self.is_full() {
            return;
        }
        for line in text.lines() {
            self.line(Stream::Stderr, line.as_bytes());
        }
    }

    /// Returns once everything appended before is in the file.
    pub async fn flush(self: &Arc<Self>) {
        {
            let mut pending = self.pending.lock();
            pending.tell_lost(self.writer.0.clock.now());
            self.queue(pending);
        }
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if self.is_drained() {
                return;
            }
            drained.await;
        }
    }

    /// A whole line, without its end; in parts if it is long.
    fn line(self: &Arc<Self>, stream: Stream, line: &[u8]) {
        let mut rest = line;
        while rest.len() > MAX_LINE_BYTES {
            let (part, after) = rest.split_at(MAX_LINE_BYTES);
            self.append(stream, b"P", part);
            rest = after;
        }
        self.append(stream, b"F", rest);
    }

    fn append(self: &Arc<Self>, stream: Stream, tag: &[u8], text: &[u8]) {
        let now = self.writer.0.clock.now();
        let mut pending = self.pending.lock();
        if !pending.admit(now, text.len() + AROUND_BYTES, self.patient.load(Relaxed)) {
            self.dropped_lines.fetch_add(1, Relaxed);
            return;
        }
        pending.tell_lost(now);
        pending.put(now, stream, tag, text);
        self.queue(pending);
    }

    /// Lets the thread know that there is something to write.
    fn queue(self: &Arc<Self>, mut pending: parking_lot::MutexGuard<'_, Pending>) {
        if pending.text.is_empty() || std::mem::replace(&mut pending.queued, true) {
            return;
        }
        drop(pending);
        self.writer.0.queue.lock().waiting.push(self.clone());
        self.writer.0.filled.notify_one();
    }

    fn is_drained(&self) -> bool {
        let pending = self.pending.lock();
        pending.text.is_empty() && !pending.writing
    }

    fn is_full(&self) -> bool {
        self.pending.lock().text.len() >= MAX_PENDING_BYTES
    }

    /// A guest has to wait before it writes more.
    fn must_wait(&self) -> bool {
        self.patient.load(Relaxed) && (self.is_full() || !self.delay().is_zero())
    }

    fn delay(&self) -> Duration {
        let now = self.writer.0.clock.now();
        self.pending.lock().allowance.wait(now)
    }

    async fn room(self: Arc<Self>) {
        while self.must_wait() {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if self.is_full() {
                drained.await;
            }
            tokio::time::sleep(self.delay()).await;
        }
    }

    fn write_pending(&self) {
        let (text, lines) = {
            let mut pending = self.pending.lock();
            pending.queued = false;
            pending.writing = true;
            (std::mem::take(&mut pending.text), std::mem::take(&mut pending.lines))
        };
        let shared = &self.writer.0;
        let written = shared.bounds.append(&self.path, &text, shared.clock.now());
        let failed_before = {
            let mut pending = self.pending.lock();
            pending.writing = false;
            if written.is_err() {
                pending.no_disk.add(lines, text.len());
            }
            std::mem::replace(&mut pending.failed, written.is_err())
        };
        if let Err(error) = written {
            self.dropped_lines.fetch_add(lines, Relaxed);
            if !failed_before {
                tracing::warn!(path = %self.path.display(), %error, "log lines are lost");
            }
        }
        self.drained.notify_waiters();
    }
}

/// stdout and stderr of one instance. Lines of instances don't mix: each keeps its unfinished one.
pub struct InstanceLog {
    log: Arc<ContainerLog>,
    unfinished: [Mutex<Vec<u8>>; 2],
}

impl InstanceLog {
    pub fn new(log: Arc<ContainerLog>) -> Arc<Self> {
        Arc::new(Self { log, unfinished: Default::default() })
    }

    pub fn stream(self: &Arc<Self>, stream: Stream) -> LogStream {
        LogStream { instance: self.clone(), stream, permitted: 0, waiting: Mutex::default() }
    }

    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut unfinished = self.unfinished[stream as usize].lock();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if unfinished.is_empty() {
                self.log.line(stream, line);
            } else {
                unfinished.extend_from_slice(line);
                self.log.line(stream, &unfinished);
                unfinished.clear();
            }
            bytes = rest;
        }
        unfinished.extend_from_slice(bytes);
        while unfinished.len() > MAX_LINE_BYTES {
            self.log.append(stream, b"P", &unfinished[..MAX_LINE_BYTES]);
            unfinished.drain(..MAX_LINE_BYTES);
        }
    }
}

/// What an instance leaves without a line end is a line as well.
impl Drop for InstanceLog {
    fn drop(&mut self) {
        for (stream, unfinished) in [Stream::Stdout, Stream::Stderr].iter().zip(&self.unfinished) {
            let line = unfinished.lock();
            if !line.is_empty() {
                self.log.line(*stream, &line);
            }
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One of the two streams, as WASI sees it.
pub struct LogStream {
    instance: Arc<InstanceLog>,
    stream: Stream,
    /// Bytes that the guest may still write before it asks again.
    permitted: usize,
    /// Until there is room for what `poll_write` was given.
    waiting: Mutex<Option<Waiting>>,
}

/// A stream of its own, with nothing permitted yet.
impl Clone for LogStream {
    fn clone(&self) -> Self {
        self.instance.stream(self.stream)
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Who writes without asking for room would fill the host's memory.
        let Some(left) = self.permitted.checked_sub(bytes.len()) else {
            return Err(StreamError::trap("more was written than check-write permitted"));
        };
        self.permitted = left;
        self.instance.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permitted = if self.instance.log.must_wait() { 0 } else { WRITE_BYTES };
        Ok(self.permitted)
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        self.instance.log.clone().room().await;
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let log = &self.instance.log;
        let waiting = self.waiting.lock().take();
        let waiting =
            waiting.or_else(|| log.must_wait().then(|| Box::pin(log.clone().room()) as _));
        if let Some(mut waiting) = waiting
            && waiting.as_mut().poll(cx).is_pending()
        {
            *self.waiting.get_mut() = Some(waiting);
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES)];
        self.instance.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
