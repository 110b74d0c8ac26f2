//! Answers with WASI 0.2: one instance a request, which is dropped with it. The guest is polled by
//! the task that has the connection, first for the head of its answer and then along with the body,
//! so a request costs no task and no hop between threads. Only a guest that still works when its
//! answer is complete, or its client is gone, gets a task of its own.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView,
    p2::bindings::{
        ProxyPre,
        http::types::{ErrorCode, Scheme},
    },
};

use crate::{
    failure::Failure,
    guest::{Guest, Setup},
    http::{AFTERWARDS, Answer, Deadline, Handler, Unanswered},
    trace,
};

pub type Component = ProxyPre<Guest>;

/// The guest's call, to its end. Its failure has been reported when it ends.
type Call = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Where the guest puts the head of its answer.
type Slot = Arc<Mutex<Option<Result<Response<WasiBody>, ErrorCode>>>>;

/// Returns with the head of the answer.
pub async fn answer<B>(
    handler: &Arc<Handler>,
    component: &Component,
    request: Request<B>,
    mut deadline: Option<Deadline>,
) -> Result<Response<Answer>, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    let slot = Slot::default();
    let mut call: Call = Box::pin(call(handler.clone(), component.clone(), request, slot.clone()));
    let (head, polled) = poll_fn(|cx| {
        let polled = handler.container.poll(call.as_mut(), cx);
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
    match (head, polled) {
        (_, Poll::Ready(Err(failure))) => Err(failure.into()),
        (Some(Ok(response)), polled) => {
            let call = polled.is_pending().then_some(call);
            let handler = handler.clone();
            Ok(response
                .map(|body| Answer::Once(Written { body, handler, call, deadline, failed: false })))
        }
        (Some(Err(code)), _) => Err(Unanswered::Code(format!("{code:?}"))),
        (None, _) => Err(Unanswered::Silent),
    }
}

async fn call<B>(
    handler: Arc<Handler>,
    component: Component,
    request: Request<B>,
    slot: Slot,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    let _turn = handler.turn().await?;
    handler.container.cpu.admit().await;
    let room = handler.room().await?;
    let called = call_instance(&handler, &component, request, slot, room).await;
    if let Err(failure) = &called {
        handler.report(failure);
    }
    called
}

async fn call_instance<B>(
    handler: &Handler,
    component: &Component,
    request: Request<B>,
    slot: Slot,
    room: OwnedSemaphorePermit,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    let trace = request.extensions().get::<trace::Context>().cloned();
    let setup = Setup { trace, ..Setup::default() };
    let mut store = Guest::instance(&handler.container, setup, room)?;
    let instance = component.instantiate_async(&mut *store).await?;
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let answer = http.new_response_outparam_from_callback(move |head| {
        *slot.lock() = Some(head);
    })?;
    let handling = instance.wasi_http_incoming_handler();
    Ok(handling.call_handle(&mut *store, request, answer).await?)
}

/// The body of an answer, as the guest writes it.
pub struct Written {
    body: WasiBody,
    handler: Arc<Handler>,
    /// None: the guest has returned.
    call: Option<Call>,
    deadline: Option<Deadline>,
    failed: bool,
}

impl Written {
    /// Lets the guest work until it waits.
    fn advance(&mut self, cx: &mut Context<'_>) {
        let Some(call) = &mut self.call else { return };
        if let Poll::Ready(ended) = self.handler.container.poll(call.as_mut(), cx) {
            self.failed = ended.is_err();
            self.call = None;
        }
    }
}

impl Body for Written {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.has_passed(cx)) {
            let why = self.deadline.take().map(|deadline| deadline.failure().message());
            self.handler.container.log.note(&why.unwrap_or_default());
            (self.call, self.failed) = (None, true);
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        self.advance(cx);
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            // A trap in the middle must not look like the end of the answer.
            Poll::Ready(None) if self.failed => {
                Poll::Ready(Some(Err(Error::HttpResponseIncomplete)))
            }
            Poll::Ready(Some(_)) => {
                // There is room for the guest's next write, or it was the last: a guest that is
                // done now needs no task to finish.
                self.advance(cx);
                frame
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none() && !self.failed && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer is complete, or nobody wants it any more: the guest may finish what it does.
impl Drop for Written {
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
