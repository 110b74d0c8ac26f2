//! Calls between handlers of one node, without a connection: a request goes from one guest to the
//! other as it is. The callee works in a task of its own container, as it does for a connection, so
//! its limits, its metrics, its drain and its end are the same; only the parts of the answer are
//! handed over instead of bytes. At most one part waits for the caller.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::rt::Executor;
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::{
    container::Container,
    http::{Answer, Handler, text},
    pace::Timely,
    serve::{MAX_HEAD_BYTES, Open, Streams},
    sockets::ops::Permit,
    spin::Client,
};

/// As the server before a handler has it.
const MAX_HEADERS: usize = 100;

/// Returns with the head of the answer.
pub async fn call(
    from: &Container,
    to: Arc<Handler>,
    mut request: Request<WasiBody>,
    permit: Permit,
) -> Result<Response<Handed>, Error> {
    let open = Open::of(&to).ok_or(Error::ConnectionTerminated)?;
    // What a server is told: the place is in the header `host`.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    request.extensions_mut().insert(Client(SocketAddr::new(from.spec.pod.address, 0)));
    let (head, answered) = oneshot::channel();
    let streams = Streams(to.container.clone());
    streams.execute(async move {
        answer(&to, request, head, permit).await;
        drop(open);
    });
    // Nothing is sent where the callee is ended.
    answered.await.map_err(|_| Error::ConnectionTerminated)
}

async fn answer(
    to: &Arc<Handler>,
    request: Request<WasiBody>,
    mut head: oneshot::Sender<Response<Handed>>,
    permit: Permit,
) {
    let is_head = request.method() == Method::HEAD;
    let response = tokio::select! {
        biased;
        response = respond(to, request) => response,
        () = head.closed() => return,
    };
    let (parts, mut body) = response.into_parts();
    let (frames, coming) = mpsc::channel(1);
    let ended = is_head || is_bodiless(parts.status) || body.is_end_stream();
    let size = if ended { SizeHint::with_exact(0) } else { body.size_hint() };
    let handed = Handed { frames: coming, ended, size, _permit: permit };
    if head.send(Response::from_parts(parts, handed)).is_err() || ended {
        return;
    }
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = frames.closed() => return,
        };
        let is_last = !matches!(frame, Some(Ok(_)));
        if frames.send(frame).await.is_err() || is_last {
            return;
        }
    }
}

async fn respond(to: &Arc<Handler>, request: Request<WasiBody>) -> Response<Answer> {
    let (uri, headers) = (request.uri(), request.headers());
    if head_bytes(uri, headers) > MAX_HEAD_BYTES || headers.len() > MAX_HEADERS {
        let why = format!(
            "the request's head has more than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers\n"
        );
        return text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why);
    }
    to.handle(request.map(Timely::new)).await
}

/// What a head takes as HTTP/1.1.
fn head_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    const AROUND: usize = ": \r\n".len();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND);
    path + fields.sum::<usize>()
}

/// RFC 9110, section 6.4.1: such an answer has no body, whatever the guest writes.
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The body of an answer that another container's task produces.
pub struct Handed {
    /// None is the end; without it, the callee was ended in the middle.
    frames: mpsc::Receiver<Option<Result<Frame<Bytes>, Error>>>,
    ended: bool,
    size: SizeHint,
    _permit: Permit,
}

impl Body for Handed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.frames.poll_recv(cx));
        let frame = frame.unwrap_or(Some(Err(Error::HttpResponseIncomplete)));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_measured_as_it_would_be_sent() {
        let request = Request::get("http://web/a?b").header("host", "web").body(());
        let request = request.expect("a request");
        assert_eq!(head_bytes(request.uri(), request.headers()), "/a?bhost: web\r\n".len());
    }
}
