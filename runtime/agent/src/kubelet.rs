//! The kubelet API: what the API server asks a node for. TLS, and only the API server's client
//! certificate is let in.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::TryStreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::{io::StreamReader, sync::CancellationToken};
use windlass_runtime_image::{IMAGE_LIMIT_BYTES, ImageError, Inspected, Origin};
use windlass_sdk_meta::{Reason, Status};
use windlass_sdk_types::Kind;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    agent::Agent,
    config::Kubelet,
    kubelet_streams,
    logs::{self, Filter, LogOptions},
    node::without_tag,
    state::Attempt,
};

const CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why a TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A server configuration that asks for a client certificate of this CA.
pub fn kubelet_tls(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: CertificateDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until told to stop.
pub(crate) async fn serve(kubelet: Kubelet, agent: Arc<Agent>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(kubelet.tls);
    let name: Arc<str> = kubelet.client_name.into();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let streams = kubelet_streams::routes(agent.clone(), kubelet.net, stop.clone());
    let router = streams.merge(router(agent));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = kubelet.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, acceptor.clone(), name.clone(), router.clone());
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = connection => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "kubelet API: accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, name: Arc<str>, router: Router) {
    // Whoever connects without TLS, or hangs up in the middle, is not worth a log line.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let router = match certificates.first().and_then(common_name) {
        Some(known) if known == *name => router,
        other => {
            tracing::warn!(client = other.unwrap_or_default(), "kubelet API: client refused");
            Router::new().fallback(async || {
                answer(&Status::new(Reason::Forbidden, "this is not for your certificate"))
            })
        }
    };
    let serving = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(router);
    if let Err(error) = serving.serve_connection_with_upgrades(TokioIo::new(stream), service).await
    {
        tracing::debug!(%error, "kubelet API: connection ended");
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        .route("/metrics", get(metrics))
        .route("/metrics/resource", get(resource_metrics))
        .route("/stats/summary", get(stats_summary))
        .route("/images", get(images).post(import).delete(remove))
        .route("/images/inspect", get(inspect))
        .fallback(async || answer(&Status::new(Reason::NotFound, "the node has no such path")))
        .with_state(agent)
}

async fn pods(State(agent): State<Arc<Agent>>) -> Response {
    let encoded = agent.pods.list().into_iter().filter_map(|pod| pod.encode().ok());
    let items: Vec<Value> =
        encoded.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect();
    axum::Json(json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items }))
        .into_response()
}

async fn metrics(State(agent): State<Arc<Agent>>) -> Response {
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", media)], agent.kubelet_metrics().await).into_response()
}

async fn resource_metrics(State(agent): State<Arc<Agent>>) -> Response {
    let media = "text/plain; version=0.0.4; charset=utf-8";
    ([("content-type", media)], agent.resource_metrics().await).into_response()
}

/// `only_cpu_and_memory`, as metrics-server asks, changes nothing: there is nothing else in it.
async fn stats_summary(State(agent): State<Arc<Agent>>) -> Response {
    axum::Json(agent.stats_summary().await).into_response()
}

async fn container_logs(
    State(agent): State<Arc<Agent>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    options: Result<Query<LogOptions>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let options = match options {
        Ok(Query(options)) => options,
        Err(error) => return answer(&Status::bad_request(error.body_text())),
    };
    let Some(found) = agent.pods.get(&namespace, &pod) else {
        let message = format!("pod {pod:?} is not on this node");
        return answer(&Status::new(Reason::NotFound, message));
    };
    let uid = found.uid().to_owned();
    let attempt = match newest_log(&agent, &uid, &pod, &container, options.previous) {
        Ok(attempt) => attempt,
        Err(message) => return answer(&Status::bad_request(message)),
    };
    let filter = match Filter::new(&options, agent.clock.now()) {
        Ok(filter) => filter,
        Err(message) => return answer(&Status::new(Reason::Invalid, message)),
    };
    let folder = agent.log_folder(&windlass_sdk_client::Key::of(&*found), &uid);
    let folder = folder.join(&container);
    let path = folder.join(format!("{attempt}.log"));
    let watched = options.follow.then(|| agent.log_watch.watch(&folder));
    let ended = move || !is_running(&agent, &uid, &container, attempt);
    let text = [("content-type", "text/plain")];
    (text, Body::from_stream(logs::read(path, options, filter, ended, watched))).into_response()
}

/// The attempt whose log is asked for.
pub(crate) fn newest_log(
    agent: &Agent,
    uid: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<u32, String> {
    let entries = agent.entries.lock();
    let memory = entries.by_uid.get(uid).and_then(|entry| entry.state.containers.get(container));
    let Some(memory) = memory else {
        return Err(format!("container {container} is not valid for pod {pod}"));
    };
    let waits = matches!(memory.state, Attempt::Never);
    if previous {
        let before = memory.attempt.checked_sub(1).filter(|_| !waits);
        return before.ok_or_else(|| {
            format!("previous terminated container {container:?} in pod {pod:?} not found")
        });
    }
    if waits {
        let reason = memory.trouble.as_ref().map_or("ContainerCreating", |t| t.reason.as_str());
        return Err(format!(
            "container {container:?} in pod {pod:?} is waiting to start: {reason}"
        ));
    }
    Ok(memory.attempt)
}

pub(crate) fn is_running(agent: &Agent, uid: &str, container: &str, attempt: u32) -> bool {
    let entries = agent.entries.lock();
    let memory = entries.by_uid.get(uid).and_then(|entry| entry.state.containers.get(container));
    memory.is_some_and(|memory| {
        memory.attempt == attempt && matches!(memory.state, Attempt::Running { .. })
    })
}

async fn images(State(agent): State<Arc<Agent>>) -> Response {
    axum::Json(json!({ "images": agent.images.list().await })).into_response()
}

#[derive(Deserialize)]
struct ImportQuery {
    #[serde(default)]
    name: String,
}

async fn import(
    State(agent): State<Arc<Agent>>,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Response {
    if query.name.is_empty() {
        return answer(&Status::bad_request("name: the image's name is missing"));
    }
    let pieces = body.into_data_stream().map_err(io::Error::other);
    let upload = Box::pin(StreamReader::new(pieces));
    match agent.images.import(&query.name, upload, IMAGE_LIMIT_BYTES).await {
        Ok(image) => {
            agent.images_changed();
            let told = json!({
                "name": image.reference,
                "digest": image.digest,
                "wasmDigest": image.wasm_digest,
            });
            (StatusCode::CREATED, axum::Json(told)).into_response()
        }
        Err(error) => answer(&import_status(&error)),
    }
}

async fn inspect(State(agent): State<Arc<Agent>>, Query(query): Query<ImportQuery>) -> Response {
    match agent.images.inspect(&query.name).await {
        Ok(Some(found)) => axum::Json(found).into_response(),
        Ok(None) => answer(&not_here(&query.name)),
        Err(error) => answer(&import_status(&error)),
    }
}

/// Removes an image that nothing of this node uses.
async fn remove(State(agent): State<Arc<Agent>>, Query(query): Query<ImportQuery>) -> Response {
    // What is no wasm, or is damaged, can be removed all the same: no pod runs it from here.
    if let Ok(Some(known)) = agent.images.inspect(&query.name).await {
        if known.origin == Origin::Builtin {
            return answer(&import_status(&ImageError::Builtin { name: known.name }));
        }
        // By a digest, all names of the repository go that lead to it.
        let by_digest = query.name.contains('@');
        let is_meant = |of: &Inspected| match by_digest {
            true => of.digest == known.digest && without_tag(&of.name) == without_tag(&known.name),
            false => of.name == known.name,
        };
        if let Some(pod) = agent.user_of_image(is_meant).await {
            let message = format!(
                "image {:?} is in use by the pod {}/{}: delete that one first",
                query.name, pod.namespace, pod.name
            );
            return answer(&Status::new(Reason::Conflict, message));
        }
    }
    match agent.images.remove(&query.name).await {
        Ok(Some(removed)) => axum::Json(removed).into_response(),
        Ok(None) => answer(&not_here(&query.name)),
        Err(error) => answer(&import_status(&error)),
    }
}

fn not_here(name: &str) -> Status {
    Status::new(Reason::NotFound, format!("image {name:?} is not on this node"))
}

fn import_status(error: &ImageError) -> Status {
    let reason = match error {
        ImageError::Reference { .. }
        | ImageError::Package(_)
        | ImageError::Archive(_)
        | ImageError::Interrupted(_) => Reason::BadRequest,
        ImageError::Builtin { .. } => Reason::Conflict,
        ImageError::TooLarge { .. } => Reason::RequestEntityTooLarge,
        ImageError::Damaged { .. }
        | ImageError::Io { .. }
        | ImageError::Pull { .. }
        | ImageError::Push { .. } => Reason::InternalError,
    };
    Status::new(reason, error.to_string())
}

/// `metav1.Status` as JSON.
pub(crate) fn answer(status: &Status) -> Response {
    let mut body =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure" });
    if let Ok(Value::Object(members)) = serde_json::to_value(status) {
        for (key, value) in members {
            body[key] = value;
        }
    }
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, axum::Json(body)).into_response()
}
