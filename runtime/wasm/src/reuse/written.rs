//! The answer's body of an instance that answers several requests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use super::lease::Lease;
use crate::http::{Deadline, Handler};

/// The body of an answer, as the guest writes it.
pub struct Written {
    pub body: WasiBody,
    pub handler: Arc<Handler>,
    pub lease: Lease,
    pub sent: Option<oneshot::Sender<Result<(), Error>>>,
    pub deadline: Option<Deadline>,
    pub _turn: OwnedSemaphorePermit,
}

impl Written {
    fn is_sent(&mut self) {
        if let Some(sent) = self.sent.take() {
            // A guest that doesn't want to know is no error.
            let _ = sent.send(Ok(()));
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
            self.lease.instance.doom();
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            // A trap in the middle must not look like the end of the answer.
            Poll::Ready(None) if self.lease.instance.has_failed() => {
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
            Poll::Ready(None) => self.is_sent(),
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.is_sent(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        !self.lease.instance.has_failed() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Whoever knows the length doesn't ask for the end.
        if self.body.is_end_stream() || self.body.size_hint().exact() == Some(0) {
            self.is_sent();
        }
    }
}
