//! The HTTP server before a handler: HTTP/1.1 and h2c on each of its ports, connections that end
//! gracefully, and none beyond a bound.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ::http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use windlass_runtime_net::{Conn, PodListener};

use crate::{
    container::Container,
    cpu::with_place,
    http::{Answer, Handler},
    pace::{Pace, Timely, Told, Watched},
    spin::Client,
};

/// Connections a container has at once; more are closed at once.
const MAX_CONNECTIONS: usize = 10_000;

/// A request's line and headers, together.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// What an HTTP/2 client may send ahead of its guests, on one connection and on one stream; what is
/// kept of an answer that it doesn't read.
const CONNECTION_WINDOW: u32 = 512 << 10;
const STREAM_WINDOW: u32 = 128 << 10;
const SEND_BUFFER: usize = 64 << 10;

/// How long a connection whose time is over may take to say so.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a container that is asked to end still takes new connections, at most: those who proxy
/// to it learn a little later than it does.
const LAME_TIME: Duration = Duration::from_millis(250);

/// How long a connection that was made before the container closed may take to send its first
/// request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Accepts connections until the container ends. One parked task is all that an idle port costs.
pub fn serve(handler: &Arc<Handler>, mut listener: PodListener) {
    let handler = handler.clone();
    listener.offer(handler.clone());
    let ending = &handler.container.ending;
    let closing = ending.closing.clone();
    ending.listeners.clone().spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                conn = listener.accept() => take(&handler, conn),
            }
        }
        for conn in listener.close() {
            take(&handler, conn);
        }
    });
}

/// Asks the container to end and returns when it has: no new connections after a moment, requests
/// drain for up to `grace`, then they are dropped.
pub async fn drain(container: &Container, grace: Duration) {
    let ending = &container.ending;
    let lame = LAME_TIME.min(grace / 4);
    let drained = tokio::time::timeout(grace, async {
        if !ending.lame.swap(true, Relaxed) {
            tokio::time::sleep(lame).await;
        }
        ending.closing.cancel();
        ending.listeners.close();
        ending.listeners.wait().await;
        ending.tasks.close();
        ending.tasks.wait().await;
    })
    .await;
    ending.closing.cancel();
    ending.listeners.close();
    ending.listeners.wait().await;
    // Also where nothing is left to drop: idle outgoing connections end by this.
    ending.abort.cancel();
    if drained.is_ok() {
        return container.end(0, "Completed", String::new()).await;
    }
    let why =
        format!("requests were still running {} s after it was asked to end", grace.as_secs());
    container.end(137, "Error", why).await;
}

fn take(handler: &Arc<Handler>, conn: Conn) {
    let Some(open) = Open::of(handler) else { return };
    let connection = serve_connection(handler.clone(), conn);
    handler.container.ending.tasks.spawn(async move {
        connection.await;
        drop(open);
    });
}

/// Counts a connection, or a call without one, for as long as it is there.
pub struct Open(Arc<Handler>);

impl Open {
    /// None: there are too many.
    pub fn of(handler: &Arc<Handler>) -> Option<Self> {
        let others = handler.connections.fetch_add(1, Relaxed);
        let open = Self(handler.clone());
        if others >= MAX_CONNECTIONS {
            let pod = &handler.container.pod.name;
            tracing::warn!(%pod, "connection closed: {MAX_CONNECTIONS} are open");
            return None;
        }
        Some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

async fn serve_connection(handler: Arc<Handler>, conn: Conn) {
    let container = handler.container.clone();
    let (closing, abort) = (&container.ending.closing, &container.ending.abort);
    let pace = Pace::new();
    let requests = pace.clone();
    let client = Client(conn.peer());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let active = requests.begin(request.version() >= Version::HTTP_2);
        request.extensions_mut().insert(client);
        let handler = handler.clone();
        async move {
            let response = answer(&handler, request).await;
            Ok::<_, Infallible>(response.map(|body| {
                let cpu = handler.container.cpu.clone();
                Told::new(body, cpu, active)
            }))
        }
    });
    let mut builder = auto::Builder::new(Streams(container.clone()));
    builder.http1().max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let stream = Watched { stream: conn, pace: pace.clone() };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let serving = async {
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = pace.over() => {
                connection.as_mut().graceful_shutdown();
                // Half a head would be waited for.
                tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
            }
            () = closing.cancelled() => {
                if !pace.has_begun() {
                    // Whoever connected just before may still be about to ask; hyper would hang up.
                    tokio::select! {
                        biased;
                        ended = connection.as_mut() => return ended,
                        () = pace.begun() => {}
                        () = tokio::time::sleep(FIRST_REQUEST) => {}
                    }
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let mut serving = pin!(abort.run_until_cancelled(serving));
    let served = poll_fn(|cx| with_place(|| serving.as_mut().poll(cx))).await;
    if let Some(Err(error)) = served {
        tracing::debug!(pod = %container.pod.name, %error, "connection ended");
    }
}

async fn answer(handler: &Arc<Handler>, request: Request<Incoming>) -> Response<Answer> {
    let version = request.version();
    let mut response = handler.handle(request.map(Timely::new)).await;
    let lame = handler.container.ending.lame.load(Relaxed);
    if lame && version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Runs the streams of HTTP/2 connections and calls without a connection, so that they are waited
/// for and aborted with the rest.
#[derive(Clone)]
pub struct Streams(pub Arc<Container>);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let abort = self.0.ending.abort.clone();
        self.0.ending.tasks.spawn(async move {
            let mut running = pin!(abort.run_until_cancelled_owned(stream));
            poll_fn(|cx| with_place(|| running.as_mut().poll(cx))).await
        });
    }
}
