//! Container logs, in the format of CRI: `TIME stdout|stderr F|P TEXT`. Guests append formatted
//! lines to memory; one thread a node writes them, many lines in one system call. A log has no file
//! and no buffer until its first line, and a guest that writes faster than the disk waits.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
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
use windlass_sdk_meta::Clock;

/// A longer line is written in parts, all but the last tagged `P`.
const MAX_LINE_BYTES: usize = 16 << 10;
/// What a container may have written that is not yet in its file; then its guests wait.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// The most that a guest may write in one call.
const WRITE_BYTES: usize = 64 << 10;
/// Lines that arrive within this time are written together.
const BATCH: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Writes the logs of all containers of a node.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
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
    pub fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let shared = Arc::new(Shared { clock, queue: Mutex::default(), filled: Condvar::new() });
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
}

#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    queued: bool,
    /// The thread is writing what it took.
    writing: bool,
    failed: bool,
}

impl ContainerLog {
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
    pub async fn flush(&self) {
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
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let queue = {
            let mut pending = self.pending.lock();
            // Writing to a Vec can't fail.
            let _ = write!(pending.text, "{now:.9} {stream} ");
            pending.text.extend_from_slice(tag);
            pending.text.push(b' ');
            pending.text.extend_from_slice(text);
            pending.text.push(b'\n');
            !std::mem::replace(&mut pending.queued, true)
        };
        if queue {
            self.writer.0.queue.lock().waiting.push(self.clone());
            self.writer.0.filled.notify_one();
        }
    }

    fn is_drained(&self) -> bool {
        let pending = self.pending.lock();
        pending.text.is_empty() && !pending.writing
    }

    fn is_full(&self) -> bool {
        self.pending.lock().text.len() >= MAX_PENDING_BYTES
    }

    async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if !self.is_full() {
                return;
            }
            drained.await;
        }
    }

    fn write_pending(&self) {
        let text = {
            let mut pending = self.pending.lock();
            pending.queued = false;
            pending.writing = true;
            std::mem::take(&mut pending.text)
        };
        let written = self.open_file().and_then(|mut file| file.write_all(&text));
        let failed_before = {
            let mut pending = self.pending.lock();
            pending.writing = false;
            std::mem::replace(&mut pending.failed, written.is_err())
        };
        if let (Err(error), false) = (written, failed_before) {
            tracing::warn!(path = %self.path.display(), %error, "log lines are lost");
        }
        self.drained.notify_waiters();
    }

    /// The file is opened for each batch: ten thousand pods then hold no descriptors, and whoever
    /// rotates logs may rename it at any time.
    fn open_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                options.open(&self.path)
            }
            opened => opened,
        }
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
        LogStream { instance: self.clone(), stream, permitted: 0 }
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

/// One of the two streams, as WASI sees it.
#[derive(Clone)]
pub struct LogStream {
    instance: Arc<InstanceLog>,
    stream: Stream,
    /// Bytes that the guest may still write before it asks again.
    permitted: usize,
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
        self.permitted = if self.instance.log.is_full() { 0 } else { WRITE_BYTES };
        Ok(self.permitted)
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        self.instance.log.room().await;
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
mod tests {
    use expect_test::{Expect, expect};
    use windlass_sdk_meta::Timestamp;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_795_454_400).expect("in range")
        }
    }

    /// `writes` go to the log of one instance, which then ends.
    async fn check(writes: &[(Stream, &str)], expected: Expect) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("pod/0.log");
        let writer = LogWriter::start(Arc::new(Fixed)).expect("thread");
        let log = writer.open(path.clone());
        let instance = InstanceLog::new(log.clone());
        assert!(!path.exists());
        for (stream, text) in writes {
            instance.write(*stream, text.as_bytes());
        }
        drop(instance);
        log.flush().await;
        writer.end();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let shortened = text.lines().map(|line| match line.len() {
            0..200 => format!("{line}\n"),
            length => format!("{}... {length} bytes\n", &line[..48]),
        });
        expected.assert_eq(&shortened.collect::<String>());
    }

    #[tokio::test]
    async fn lines_are_whole_whatever_the_writes() {
        use Stream::{Stderr, Stdout};
        check(&[], expect![""]).await;
        check(
            &[(Stdout, "a\nb"), (Stderr, "e1\n"), (Stdout, "c\n\nlast")],
            expect![[r#"
                2026-11-23T17:20:00.000000000Z stdout F a
                2026-11-23T17:20:00.000000000Z stderr F e1
                2026-11-23T17:20:00.000000000Z stdout F bc
                2026-11-23T17:20:00.000000000Z stdout F 
                2026-11-23T17:20:00.000000000Z stdout F last
            "#]],
        )
        .await;
        check(
            &[(Stdout, &format!("{}\n", "x".repeat(MAX_LINE_BYTES + 10)))],
            expect![[r#"
                2026-11-23T17:20:00.000000000Z stdout P xxxxxxxx... 16424 bytes
                2026-11-23T17:20:00.000000000Z stdout F xxxxxxxxxx
            "#]],
        )
        .await;
    }
}
