//! Answers HTTP requests with a component: of WASI 0.2 with one instance a request, of WASI 0.3
//! with instances that answer several. What both share is here: which requests are refused, how
//! long one waits for its turn and how long it may take, and what a failure looks like to a client.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use wasmtime_wasi_http::Error;
use windlass_runtime_api::OnTrap;

use crate::{
    artifact::{Run, Serve},
    container::Container,
    failure::Failure,
    guest::{Guest, Setup},
    once,
    reuse::{self, Pool},
    trace,
};

/// How long a request waits for a free instance slot.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a guest may work on when its answer is complete or its client is gone.
pub const AFTERWARDS: Duration = Duration::from_secs(60);

/// Requests of a container that may wait for their turn; more are refused at once.
const MAX_WAITING: usize = 2_048;

/// A container whose component handles HTTP requests.
pub struct Handler {
    pub container: Arc<Container>,
    pub ports: Vec<u16>,
    /// What `exec` runs.
    pub run: Option<Run>,
    /// Slots of the pool that one instance takes.
    pub weight: u32,
    /// Open ones.
    pub connections: AtomicUsize,
    how: How,
    /// Requests of this container that may be in an instance at once.
    turns: Arc<Semaphore>,
    /// Requests that wait for one of these.
    waiting: AtomicUsize,
}

enum How {
    Once(once::Component),
    Reused(Arc<Pool>),
}

/// Why a request has no answer by the guest.
#[derive(Clone, Debug)]
pub enum Unanswered {
    Failed(Failure),
    /// The guest says so itself, by WASI's error code.
    Code(String),
    /// The guest ended without a word.
    Silent,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Handler {
    pub fn new(
        container: Arc<Container>,
        (component, run): (Serve, Option<Run>),
        weight: u32,
        ports: Vec<u16>,
    ) -> Arc<Self> {
        let instances = (container.host.slots_a_container() / weight).max(1) as usize;
        let (how, turns) = match component {
            Serve::Once(component) => (How::Once(component), instances),
            Serve::Reused(component) => {
                (How::Reused(Pool::new(component, instances)), instances * reuse::AT_ONCE)
            }
        };
        let (turns, waiting) = (Arc::new(Semaphore::new(turns)), AtomicUsize::new(0));
        let connections = AtomicUsize::new(0);
        Arc::new(Self { container, ports, run, weight, connections, how, turns, waiting })
    }

    /// Makes an instance and drops it: what fails now would fail at every request.
    pub async fn try_out(&self) -> Result<(), Failure> {
        let mut trial = Box::pin(async {
            let room = self.room().await?;
            let setup = Setup { trial: true, ..Setup::default() };
            let mut store = Guest::instance(&self.container, setup, room)?;
            match &self.how {
                How::Once(component) => {
                    component.instantiate_async(&mut *store).await?;
                }
                How::Reused(pool) => {
                    pool.component.instantiate_async(&mut *store).await?;
                }
            }
            Ok(())
        });
        poll_fn(|cx| self.container.poll(trial.as_mut(), cx)).await
    }

    /// Answers a request. Never fails: what goes wrong is an answer too.
    pub async fn handle<B>(self: &Arc<Self>, mut request: Request<B>) -> Response<Answer>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        if let Some(why) = refusal(&request) {
            return text(StatusCode::NOT_IMPLEMENTED, why);
        }
        if let Some(app) = self.container.app.get() {
            return app.clone().handle(request).await;
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            // HTTP/1.0 clients may leave it out; WASI wants an authority.
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        }
        let span = trace::enter(self.container.traces.as_ref(), &mut request);
        let began = Instant::now();
        let deadline = self.container.spec.limits.request_timeout.map(Deadline::new);
        let answered = match &self.how {
            How::Once(component) => once::answer(self, component, request, deadline).await,
            How::Reused(pool) => reuse::answer(self, pool, request, deadline).await,
        };
        self.container.usage.answered(began.elapsed());
        let response = match answered {
            Ok(response) => response,
            Err(Unanswered::Failed(failure)) => {
                if matches!(failure, Failure::Late(_)) {
                    self.container.log.note(&failure.message());
                }
                failed(&failure)
            }
            Err(Unanswered::Code(code)) => {
                let why = format!("the handler answered with an error: {code}\n");
                text(StatusCode::BAD_GATEWAY, why)
            }
            Err(Unanswered::Silent) => {
                let why = "the handler ended without an answer\n";
                text(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
        };
        if let Some(span) = span {
            span.end(Some(response.status()));
        }
        response
    }

    /// The right to be in an instance.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Relaxed) >= MAX_WAITING {
            return Err(Failure::NoRoom(format!("{MAX_WAITING} requests wait already")));
        }
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        drop(waiting);
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// Room for one instance.
    pub async fn room(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.container.host.room(self.weight, PATIENCE).await.ok_or_else(busy)
    }

    /// A guest failed: said, counted, and the end of the container where the pod wants that.
    pub fn report(&self, failure: &Failure) {
        self.container.request_failed(failure);
        let restart = self.container.spec.on_trap == OnTrap::Restart;
        if restart && matches!(failure, Failure::Trap { .. }) {
            let (container, failure) = (self.container.clone(), failure.clone());
            tokio::spawn(async move { container.end_by_trap(&failure).await });
        }
    }
}

/// One request in the queue for a turn.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer.
pub enum Answer {
    Text(Option<Bytes>),
    Once(once::Written),
    Reused(reuse::Written),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Once(written) => Pin::new(written).poll_frame(cx),
            Self::Reused(written) => Pin::new(written).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Once(written) => written.is_end_stream(),
            Self::Reused(written) => written.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Once(written) => written.size_hint(),
            Self::Reused(written) => written.size_hint(),
        }
    }
}

/// When a request's time is over, by its container's limit.
pub struct Deadline {
    limit: Duration,
    end: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self { limit, end: Box::pin(sleep(limit)) }
    }

    pub fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }

    pub fn failure(&self) -> Failure {
        Failure::Late(self.limit)
    }
}

/// Why a request is not for a guest: `wasi:http` has neither tunnels nor other protocols. An offer
/// of HTTP/2 is passed over, as RFC 9110 allows: the client goes on in HTTP/1.1.
fn refusal<B>(request: &Request<B>) -> Option<String> {
    if request.method() == Method::CONNECT {
        return Some("CONNECT is not available: a handler of wasi:http opens no tunnels\n".into());
    }
    let upgrade = request.headers().get(header::UPGRADE)?;
    let wanted = upgrade.to_str().unwrap_or("?");
    let other = wanted.split(',').map(str::trim).find(|protocol| {
        let name = protocol.split('/').next().unwrap_or_default();
        !["h2c", "h2", "http", "tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
    })?;
    Some(format!("upgrade to {other} is not available: a handler of wasi:http speaks HTTP alone\n"))
}

pub fn busy() -> Failure {
    Failure::NoRoom(format!("all instance slots were taken for {} s", PATIENCE.as_secs()))
}

fn failed(failure: &Failure) -> Response<Answer> {
    match failure {
        Failure::Late(_) => text(StatusCode::GATEWAY_TIMEOUT, format!("{}\n", failure.message())),
        Failure::NoRoom(why) => {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Failure::Trap { .. } | Failure::Exit(_) | Failure::Memory(_) => {
            let why = "the handler failed at this request; its container's log says why\n";
            text(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Some(text.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(method: Method, upgrade: Option<&'static str>, expected: Expect) {
        let mut request = Request::new(());
        *request.method_mut() = method;
        if let Some(upgrade) = upgrade {
            request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        }
        expected.assert_eq(&refusal(&request).unwrap_or_else(|| "served".into()));
    }

    #[test]
    fn other_protocols_are_refused_by_name() {
        check(Method::GET, None, expect!["served"]);
        check(Method::GET, Some("h2c"), expect!["served"]);
        check(Method::GET, Some("TLS/1.2, HTTP/2.0"), expect!["served"]);
        check(
            Method::GET,
            Some("websocket"),
            expect![[r#"
            upgrade to websocket is not available: a handler of wasi:http speaks HTTP alone
        "#]],
        );
        check(
            Method::GET,
            Some("h2c, SPDY/3.1"),
            expect![[r#"
            upgrade to SPDY/3.1 is not available: a handler of wasi:http speaks HTTP alone
        "#]],
        );
        check(
            Method::CONNECT,
            None,
            expect![[r#"
            CONNECT is not available: a handler of wasi:http opens no tunnels
        "#]],
        );
    }
}
