//! What goes wrong between a component and the API server: watches that are late or cut, writes
//! that fail before or after they took effect. A layer around the in-process service, drawing from
//! the simulation's generator; `heal` ends all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use tower::Service;
use windlass_sdk_meta::{Reason, Rng, Status};

/// In percent.
const LATE_FRAME: usize = 30;
const CUT_AT_FRAME: usize = 3;
const WRITE_REFUSED: usize = 8;
const WRITE_ANSWER_LOST: usize = 4;
/// The longest delay of a frame or a request.
const LATE_MS: usize = 1500;

/// The switch and the dice, shared by all clients of one run.
#[derive(Clone)]
pub struct Faults {
    on: Arc<AtomicBool>,
    rng: Rng,
}

impl Faults {
    pub fn new(rng: Rng) -> Self {
        Self { on: Arc::new(AtomicBool::new(true)), rng }
    }

    /// From now on everything arrives, at once.
    pub fn heal(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// True in `percent` of the cases, while faults are on.
    fn strike(&self, percent: usize) -> bool {
        self.on.load(Ordering::Relaxed) && self.rng.below(100) < percent
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.rng.below(LATE_MS) as u64)
    }
}

/// A service that is struck by faults.
#[derive(Clone)]
pub struct Faulty<S> {
    pub inner: S,
    pub faults: Faults,
}

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let faults = self.faults.clone();
        let write = request.method() != Method::GET;
        if write && faults.strike(WRITE_REFUSED) {
            return Box::pin(async move {
                tokio::time::sleep(faults.delay()).await;
                Ok(failure(&Status::new(Reason::TooManyRequests, "the simulation refuses this write")))
            });
        }
        let watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if write && faults.strike(WRITE_ANSWER_LOST) {
                return Ok(failure(&Status::new(Reason::Timeout, "the simulation lost the answer")));
            }
            let (parts, body) = response.into_parts();
            let body = if watch { struck(body, faults) } else { Body::wrap_body(body) };
            Ok(Response::from_parts(parts, body))
        })
    }
}

/// A watch whose frames come late and which ends early.
fn struck<B>(body: B, faults: Faults) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let frames = stream::unfold((body, faults), |(mut body, faults)| async move {
        let frame = body.frame().await?;
        if faults.strike(CUT_AT_FRAME) {
            return None;
        }
        if faults.strike(LATE_FRAME) {
            tokio::time::sleep(faults.delay()).await;
        }
        Some((frame, (body, faults)))
    });
    Body::wrap_body(StreamBody::new(frames.boxed()))
}

fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Body::from(status.to_json().to_string().into_bytes()));
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
