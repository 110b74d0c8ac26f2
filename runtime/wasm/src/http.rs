//! Answers HTTP requests with a component: one instance a request, which is dropped with it. The
//! guest is polled by the task that has the connection, first for the head of its answer and then
//! along with the body, so a request costs no task and no hop between threads. Only a guest that
//! still works when its answer is complete, or its client is gone, gets a task of its own.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, Sleep, sleep},
};
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView,
    p2::bindings::{
        ProxyPre,
        http::types::{ErrorCode, Scheme},
    },
};
use windlass_runtime_api::OnTrap;

use crate::{
    artifact::Run,
    container::Container,
    failure::Failure,
    guest::{Guest, Setup},
    trace,
};

/// How long a request waits for a free instance slot.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a guest may work on when its answer is complete or its client is gone.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// A container whose component handles HTTP requests.
pub struct Handler {
    pub container: Arc<Container>,
    pub ports: Vec<u16>,
    /// What `exec` runs.
    pub run: Option<Run>,
    /// Slots of the pool that one instance takes.
    pub weight: u32,
    component: ProxyPre<Guest>,
    /// Requests of this container that may have an instance at once.
    turns: Semaphore,
}

/// The guest's call, to its end. Its failure has been reported when it ends.
type Call = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Where the guest puts the head of its answer.
type Slot = Arc<Mutex<Option<Result<Response<WasiBody>, ErrorCode>>>>;

impl Handler {
    pub fn new(
        container: Arc<Container>,
        (component, run): (ProxyPre<Guest>, Option<Run>),
        weight: u32,
        ports: Vec<u16>,
    ) -> Arc<Self> {
        let turns = (container.host.slots_a_container() / weight).max(1);
        let turns = Semaphore::new(turns as usize);
        Arc::new(Self { container, ports, run, weight, component, turns })
    }

    /// Makes an instance and drops it: what fails now would fail at every request.
    pub async fn try_out(&self) -> Result<(), Failure> {
        let mut trial = Box::pin(async {
            let _room = self.container.host.room(self.weight, PATIENCE).await.ok_or_else(busy)?;
            let setup = Setup { trial: true, ..Setup::default() };
            let mut store = Guest::store(&self.container, setup)?;
            self.component.instantiate_async(&mut store).await?;
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
        if let Some(app) = self.container.app.get() {
            return app.clone().handle(request).await;
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            // HTTP/1.0 clients may leave it out; WASI wants an authority.
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        }
        let span = trace::enter(self.container.traces.as_ref(), &mut request);
        let began = Instant::now();
        let mut deadline = self.container.spec.limits.request_timeout.map(Deadline::new);
        let slot = Slot::default();
        let mut call: Call = Box::pin(self.clone().call(request, slot.clone()));
        let (head, polled) = poll_fn(|cx| {
            let polled = self.container.poll(call.as_mut(), cx);
            match (slot.lock().take(), polled) {
                (None, Poll::Pending) => {
                    let Some(deadline) = &mut deadline else { return Poll::Pending };
                    match deadline.has_passed(cx) {
                        true => Poll::Ready((None, Poll::Ready(Err(deadline.failure())))),
                        false => Poll::Pending,
                    }
                }
                (head, polled) => Poll::Ready((head, polled)),
            }
        })
        .await;
        self.container.usage.answered(began.elapsed());
        let response = match (head, polled) {
            (_, Poll::Ready(Err(failure @ Failure::Late(_)))) => {
                self.container.log.note(&failure.message());
                failed(&failure)
            }
            (_, Poll::Ready(Err(failure))) => failed(&failure),
            (Some(Ok(response)), polled) => {
                let call = polled.is_pending().then_some(call);
                let working = Working { handler: self.clone(), call, deadline };
                response.map(|body| Answer::Guest { body, working, failed: false })
            }
            (Some(Err(code)), _) => {
                let why = format!("the handler answered with an error: {code:?}\n");
                text(StatusCode::BAD_GATEWAY, why)
            }
            (None, _) => {
                let why = "the handler ended without an answer\n";
                text(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
        };
        if let Some(span) = span {
            span.end(Some(response.status()));
        }
        response
    }

    async fn call<B>(self: Arc<Self>, request: Request<B>, slot: Slot) -> Result<(), Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let _turn = self.turn().await?;
        self.container.cpu.admit().await;
        let _room = self.container.host.room(self.weight, PATIENCE).await.ok_or_else(busy)?;
        let called = self.call_instance(request, slot).await;
        if let Err(failure) = &called {
            self.report(failure);
        }
        called
    }

    async fn call_instance<B>(&self, request: Request<B>, slot: Slot) -> Result<(), Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let trace = request.extensions().get::<trace::Context>().cloned();
        let setup = Setup { trace, ..Setup::default() };
        let mut store = Guest::store(&self.container, setup)?;
        let instance = self.component.instantiate_async(&mut store).await?;
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let answer = http.new_response_outparam_from_callback(move |head| {
            *slot.lock() = Some(head);
        })?;
        let handling = instance.wasi_http_incoming_handler();
        Ok(handling.call_handle(&mut store, request, answer).await?)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    fn report(&self, failure: &Failure) {
        self.container.request_failed(failure);
        let restart = self.container.spec.on_trap == OnTrap::Restart;
        if restart && matches!(failure, Failure::Trap { .. }) {
            let (container, failure) = (self.container.clone(), failure.clone());
            tokio::spawn(async move { container.end_by_trap(&failure).await });
        }
    }
}

/// The body of an answer.
pub enum Answer {
    Text(Option<Bytes>),
    /// What the guest writes.
    Guest {
        body: WasiBody,
        working: Working,
        failed: bool,
    },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let (body, working, failed) = match &mut *self {
            Self::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Guest { body, working, failed } => (body, working, failed),
        };
        if working.deadline.as_mut().is_some_and(|deadline| deadline.has_passed(cx)) {
            let why = working.deadline.take().map(|deadline| deadline.failure().message());
            working.handler.container.log.note(&why.unwrap_or_default());
            (working.call, *failed) = (None, true);
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        advance(working, failed, cx);
        let frame = Pin::new(body).poll_frame(cx);
        match frame {
            // A trap in the middle must not look like the end of the answer.
            Poll::Ready(None) if *failed => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            Poll::Ready(Some(_)) => {
                // There is room for the guest's next write, or it was the last: a guest that is
                // done now needs no task to finish.
                advance(working, failed, cx);
                frame
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Guest { body, working, failed } => {
                working.call.is_none() && !failed && body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Guest { body, .. } => body.size_hint(),
        }
    }
}

/// Lets the guest work until it waits.
fn advance(working: &mut Working, failed: &mut bool, cx: &mut Context<'_>) {
    let Some(call) = &mut working.call else { return };
    if let Poll::Ready(ended) = working.handler.container.poll(call.as_mut(), cx) {
        *failed = ended.is_err();
        working.call = None;
    }
}

/// A guest that may not have returned yet.
pub struct Working {
    handler: Arc<Handler>,
    /// None: it has.
    call: Option<Call>,
    deadline: Option<Deadline>,
}

/// When a request's time is over, by its container's limit.
struct Deadline {
    limit: Duration,
    end: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self { limit, end: Box::pin(sleep(limit)) }
    }

    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }

    fn failure(&self) -> Failure {
        Failure::Late(self.limit)
    }
}

/// The answer is complete, or nobody wants it any more: the guest may finish what it does.
impl Drop for Working {
    fn drop(&mut self) {
        let Some(mut call) = self.call.take() else { return };
        let container = self.handler.container.clone();
        let (abort, tasks) = (container.ending.abort.clone(), container.ending.tasks.clone());
        tasks.spawn(async move {
            let rest = poll_fn(|cx| container.poll(call.as_mut(), cx));
            // Cut short: the container is being ended, or nobody will see what it does any more.
            let _ = tokio::time::timeout(AFTERWARDS, abort.run_until_cancelled(rest)).await;
        });
    }
}

fn busy() -> Failure {
    Failure::NoRoom(format!("all instance slots were taken for {} s", PATIENCE.as_secs()))
}

fn failed(failure: &Failure) -> Response<Answer> {
    match failure {
        Failure::Late(_) => text(StatusCode::GATEWAY_TIMEOUT, format!("{}\n", failure.message())),
        Failure::NoRoom(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
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
