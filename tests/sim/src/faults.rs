//! What goes wrong between a component and the API server: requests and watches that are late,
//! watches that are cut, requests that fail before or after they took effect, and processes that
//! die with requests under way. A layer around the in-process service, drawing from the
//! simulation's generator; `heal` ends all of it.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};
use windlass_sdk_meta::{Reason, Rng, Status};

/// In percent.
const LATE_REQUEST: usize = 20;
const LATE_FRAME: usize = 30;
const CUT_AT_FRAME: usize = 3;
const READ_REFUSED: usize = 3;
const WRITE_REFUSED: usize = 8;
const WRITE_ANSWER_LOST: usize = 4;
/// The longest delay of a frame or a request.
const LATE_MS: usize = 1500;
/// Frames of a watch that are on their way; a connection holds no more.
const FRAMES: usize = 256;

/// The switch, shared by all clients of one run, and what it remembers of its deeds.
#[derive(Clone)]
pub struct Faults {
    on: Arc<AtomicBool>,
    /// Owner's uid -> when an answer to the creation of a pod for it was lost.
    lost_pods: Arc<Mutex<BTreeMap<String, Vec<Instant>>>>,
}

/// The line between one process and the API server.
#[derive(Clone)]
pub struct Link {
    pub faults: Faults,
    pub rng: Rng,
    /// Cancelled when the process dies: nothing gets through any more, in either direction.
    pub dead: CancellationToken,
}

/// A service that is struck by faults.
#[derive(Clone)]
pub struct Faulty<S> {
    pub inner: S,
    pub link: Link,
}

/// The body of an answer whose frames may be late, and which may be cut.
pub struct LateBody<B> {
    inner: Pin<Box<B>>,
    link: Link,
    waiting: VecDeque<(Instant, Frame<Bytes>)>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl Default for Faults {
    fn default() -> Self {
        Self { on: Arc::new(AtomicBool::new(true)), lost_pods: Arc::default() }
    }
}

impl Faults {
    /// From now on everything arrives, at once.
    pub fn heal(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    fn are_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// How many answers to creations of pods for this owner were lost since `since`.
    pub fn lost_pods(&self, owner_uid: &str, since: Instant) -> usize {
        let lost = self.lost_pods.lock();
        lost.get(owner_uid).map_or(0, |times| times.iter().filter(|at| **at >= since).count())
    }

    fn note_lost(&self, created: &[u8]) {
        let json: Value = serde_json::from_slice(created).unwrap_or_default();
        if let Some(owner) = json["metadata"]["ownerReferences"][0]["uid"].as_str()
            && json["kind"] == "Pod"
        {
            self.lost_pods.lock().entry(owner.to_owned()).or_default().push(Instant::now());
        }
    }
}

impl Link {
    /// True in `percent` of the cases, while faults are on.
    fn strike(&self, percent: usize) -> bool {
        self.faults.are_on() && self.rng.below(100) < percent
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.rng.below(LATE_MS) as u64)
    }

    async fn be_late(&self) {
        if self.strike(LATE_REQUEST) {
            tokio::time::sleep(self.delay()).await;
        }
    }

    /// Never returns where the process is dead: whoever waits there is no more.
    async fn alive(&self) {
        if self.dead.is_cancelled() {
            pending().await
        }
    }

    fn refusal(&self) -> Status {
        let reasons = [Reason::TooManyRequests, Reason::InternalError, Reason::ServiceUnavailable];
        Status::new(reasons[self.rng.below(reasons.len())], "the simulation refuses this request")
    }
}

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, link) = (self.inner.clone(), self.link.clone());
        Box::pin(async move {
            let is_write = request.method() != Method::GET;
            let is_create = request.method() == Method::POST;
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
            link.be_late().await;
            link.alive().await;
            if link.strike(if is_write { WRITE_REFUSED } else { READ_REFUSED }) {
                return Ok(failure(&link.refusal()));
            }
            let Ok(answer) = inner.call(request).await;
            if is_write && link.strike(WRITE_ANSWER_LOST) {
                if is_create && answer.status().is_success() {
                    let body = answer.into_body().collect().await;
                    link.faults.note_lost(&body.map(|body| body.to_bytes()).unwrap_or_default());
                }
                return Ok(failure(&Status::new(
                    Reason::Timeout,
                    "the simulation lost the answer",
                )));
            }
            link.alive().await;
            Ok(answer.map(|body| match is_watch {
                true => LateBody::new(body, link).boxed_unsync(),
                false => body.map_err(Into::into).boxed_unsync(),
            }))
        })
    }
}

impl<B> LateBody<B> {
    fn new(inner: B, link: Link) -> Self {
        Self { inner: Box::pin(inner), link, waiting: VecDeque::new(), timer: None, ended: false }
    }

    /// Takes what the server has sent, and decides when it arrives.
    fn send(&mut self, frame: Frame<Bytes>) {
        if self.link.strike(CUT_AT_FRAME) {
            // What was on its way is lost from somewhere on.
            self.waiting.truncate(self.link.rng.below(self.waiting.len() + 1));
            self.ended = true;
            return;
        }
        let late = self.link.strike(LATE_FRAME);
        let delay = if late { self.link.delay() } else { Duration::ZERO };
        let earliest = self.waiting.back().map_or(Instant::now(), |(due, _)| *due);
        self.waiting.push_back((earliest.max(Instant::now() + delay), frame));
    }
}

impl<B> http_body::Body for LateBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.link.dead.is_cancelled() {
            return Poll::Pending;
        }
        while !this.ended && this.waiting.len() < FRAMES {
            match this.inner.as_mut().poll_frame(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => this.send(frame),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => this.ended = true,
            }
        }
        let Some((due, _)) = this.waiting.front() else {
            return if this.ended { Poll::Ready(None) } else { Poll::Pending };
        };
        if *due > Instant::now() {
            let timer = this.timer.insert(Box::pin(tokio::time::sleep_until(*due)));
            ready!(timer.as_mut().poll(context));
        }
        this.timer = None;
        Poll::Ready(this.waiting.pop_front().map(|(_, frame)| Ok(frame)))
    }
}

fn failure(status: &Status) -> Answer {
    let body = Full::new(Bytes::from(status.to_json().to_string()));
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
