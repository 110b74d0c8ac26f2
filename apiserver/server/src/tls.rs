//! The door to the network: TLS with optional client certificates, HTTP/2 and HTTP/1.1 by ALPN.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ApiServer, chain, local::Caller};

/// Connections at once over all of a listener; the next waits in the kernel's queue.
const CONNECTIONS: usize = 20_000;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// Streams of one HTTP/2 connection: a client holds a watch for each kind it follows.
const STREAMS: u32 = 1_000;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
/// How long requests under way may take at the end.
const DRAIN: Duration = Duration::from_secs(3);

impl ApiServer {
    /// Serves a listener until `shutdown`, then lets requests under way finish. Watches are ended
    /// at once: their clients resume elsewhere.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let (acceptor, tasks) = (TlsAcceptor::from(tls), TaskTracker::new());
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &room) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: others will be closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let _held = permit;
                server.serve_connection(stream, acceptor, shutdown).await;
            });
        }
        self.stop();
        tasks.close();
        let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
        Ok(())
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        shutdown: CancellationToken,
    ) {
        // Answers are small and awaited: they must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let user = certificate
            .map(|certificate| self.authenticator().certificate(certificate).map(Arc::new));
        let caller = Caller::Peer(user);
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, mut request) = (self.clone(), request.map(Body::new));
            request.extensions_mut().insert(caller.clone());
            async move { Ok::<_, Infallible>(chain::handle(&server, request).await) }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .keep_alive_interval(KEEP_ALIVE_EVERY);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection ended");
                    }
                    return;
                }
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}
