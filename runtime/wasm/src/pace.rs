//! How long a client may take: to send a request's head, between two parts of its body, and between
//! two requests. Without these, connections that nearly do nothing hold a container's places.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep},
};
use wasmtime_wasi_http::Error;

use crate::cpu::CpuAccount;

/// From a connection's start, or a head's first byte, to the end of the head.
pub const HEAD: Duration = Duration::from_secs(30);
/// Without a request, once there was one.
pub const IDLE: Duration = Duration::from_secs(75);
/// Between two parts of a request's body that its guest waits for.
const BETWEEN_PARTS: Duration = Duration::from_secs(60);

/// What is known of one connection. Shared by its stream and its requests.
pub struct Pace {
    state: Mutex<State>,
    first: Notify,
}

struct State {
    /// Requests whose answers are not complete.
    active: usize,
    /// What a lack of requests is counted from.
    since: Instant,
    stage: Stage,
    multiplexed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No request has come yet.
    New,
    /// Between requests.
    Between,
    /// Bytes came since the last request.
    Head,
}

impl State {
    /// When the connection's time is over, if nothing happens until then.
    fn due(&self) -> Option<Instant> {
        if self.active > 0 {
            return None;
        }
        // What is read between requests of HTTP/2 may be anything.
        let head = self.stage == Stage::New || self.stage == Stage::Head && !self.multiplexed;
        Some(self.since + if head { HEAD } else { IDLE })
    }

    fn read(&mut self, now: Instant) {
        if self.active == 0 && self.stage == Stage::Between && !self.multiplexed {
            (self.stage, self.since) = (Stage::Head, now);
        }
    }

    fn begin(&mut self, multiplexed: bool) {
        self.active += 1;
        self.multiplexed |= multiplexed;
        self.stage = Stage::Between;
    }

    fn end(&mut self, now: Instant) {
        self.active -= 1;
        self.since = now;
    }
}

impl Pace {
    pub fn new() -> Arc<Self> {
        let since = Instant::now();
        let state = State { active: 0, since, stage: Stage::New, multiplexed: false };
        Arc::new(Self { state: Mutex::new(state), first: Notify::new() })
    }

    /// Returns when the connection's time is over.
    pub async fn over(&self) {
        loop {
            let due = self.state.lock().due();
            let now = Instant::now();
            match due {
                Some(due) if due <= now => return,
                Some(due) => tokio::time::sleep_until(due).await,
                None => tokio::time::sleep(HEAD).await,
            }
        }
    }

    /// A request has come; its answer is complete when the guard is dropped.
    pub fn begin(self: &Arc<Self>, multiplexed: bool) -> Active {
        self.state.lock().begin(multiplexed);
        self.first.notify_one();
        Active(self.clone())
    }

    /// A request has come.
    pub fn has_begun(&self) -> bool {
        self.state.lock().stage != Stage::New
    }

    /// Returns with the first request; for one who looked whether there was one.
    pub async fn begun(&self) {
        self.first.notified().await;
    }
}

pub struct Active(Arc<Pace>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.state.lock().end(Instant::now());
    }
}

/// A connection whose reads are seen.
pub struct Watched<C> {
    pub stream: C,
    pub pace: Arc<Pace>,
}

impl<C: AsyncRead + Unpin> AsyncRead for Watched<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.pace.state.lock().read(Instant::now());
        Poll::Ready(read)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Watched<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A request's body whose parts must come in time; the guest gets an error otherwise.
pub struct Timely<B> {
    body: B,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<B> Timely<B> {
    pub fn new(body: B) -> Self {
        Self { body, patience: None }
    }
}

impl<B> Body for Timely<B>
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
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.patience = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(BETWEEN_PARTS)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Parts of an answer, and their bytes, that a connection writes before others have their turn: a
/// client that reads as fast as its guest writes would keep the thread.
const PARTS_IN_A_ROW: usize = 8;
const BYTES_IN_A_ROW: usize = 64 << 10;

/// An answer's body that tells its connection of its end.
pub struct Told<B> {
    body: B,
    cpu: Arc<CpuAccount>,
    parts: usize,
    bytes: usize,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _active: Active,
}

impl<B> Told<B> {
    /// Its pauses are as `cpu` says.
    pub fn new(body: B, cpu: Arc<CpuAccount>, active: Active) -> Self {
        Self { body, cpu, parts: 0, bytes: 0, pause: None, _active: active }
    }

    /// Counts what is written in a row.
    fn wrote(&mut self, bytes: usize) {
        self.parts += 1;
        self.bytes += bytes;
        if self.parts >= PARTS_IN_A_ROW || self.bytes >= BYTES_IN_A_ROW {
            (self.parts, self.bytes) = (0, 0);
            self.pause = Some(Box::pin(self.cpu.clone().pause()));
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Told<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => self.wrote(frame.data_ref().map_or(0, Bytes::len)),
            _ => (self.parts, self.bytes) = (0, 0),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `b` and `m` begin a request (of HTTP/1.1, of HTTP/2), `e` ends one, `r` reads, each a second
    /// after the other. Seconds from the last of them until the connection is over.
    fn check(script: &str, expected: Expect) {
        let start = Instant::now();
        let mut state = State { active: 0, since: start, stage: Stage::New, multiplexed: false };
        let mut now = start;
        for step in script.chars() {
            now += Duration::from_secs(1);
            match step {
                'b' | 'm' => state.begin(step == 'm'),
                'e' => state.end(now),
                _ => state.read(now),
            }
        }
        expected.assert_eq(&match state.due() {
            Some(due) => format!("{}", (due - now).as_secs()),
            None => "never".into(),
        });
    }

    #[tokio::test]
    async fn a_connection_has_its_time() {
        check("", expect!["30"]);
        // Byte after byte makes no more time.
        check("rrrr", expect!["26"]);
        check("rb", expect!["never"]);
        check("rbr", expect!["never"]);
        check("rbe", expect!["75"]);
        check("rber", expect!["30"]);
        check("rberrr", expect!["28"]);
        check("rberb", expect!["never"]);
        check("rmer", expect!["74"]);
        check("rmme", expect!["never"]);
        check("rmmee", expect!["75"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_come_is_an_error() {
        use http_body_util::{BodyExt, StreamBody};
        let parts = futures::stream::pending::<Result<Frame<Bytes>, Error>>();
        let mut body = Timely::new(StreamBody::new(parts));
        let began = Instant::now();
        let frame = body.frame().await;
        assert!(matches!(frame, Some(Err(Error::ConnectionReadTimeout))), "{frame:?}");
        assert!(began.elapsed() >= BETWEEN_PARTS);
    }
}
