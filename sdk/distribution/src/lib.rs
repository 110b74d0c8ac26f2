//! An OCI registry as an axum router (OCI distribution-spec 1.1): blobs, uploads, manifests, tags,
//! referrers. It knows what a repository is and what a client may ask of one; where content is kept
//! and who may do what come in as traits. It knows no cluster, no runtime and no authentication.
//!
//! A repository has the content that its manifests lead to, and for a while what was uploaded or
//! mounted to it and no manifest names yet. So whoever may read one repository sees nothing of
//! another, though all of them lie in one store.

mod access;
mod blobs;
mod error;
mod manifest;
mod manifests;
mod namespaces;
mod query;
mod referrers;
mod repository;
mod route;
mod storage;
mod tags;
mod tidy;
mod uploads;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, request::Parts};
use tokio::sync::{Notify, RwLock};
use windlass_sdk_meta::Rng;

pub use access::{Access, Action, Verdict};
pub use repository::Repository;
pub use storage::{Content, Name, NewManifest, Storage, StorageError, Target};

use error::{Code, Refused};
use repository::{Links, Manifests};
use route::{Resource, Route};
use uploads::Uploads;

/// Clients of Docker's first protocol look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What one client can cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest blob.
    pub blob_bytes: u64,
    /// The largest manifest: 4 MiB is what clients may count on (distribution-spec, "Pushing
    /// Manifests").
    pub manifest_bytes: usize,
    /// Uploads that are open at a time.
    pub uploads: usize,
    /// How long an upload may lie without a request.
    pub upload_idle: Duration,
    /// How long content stays that no manifest names.
    pub unnamed: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes: 512 << 20,
            manifest_bytes: 4 << 20,
            uploads: 256,
            upload_idle: Duration::from_secs(30 * 60),
            unnamed: Duration::from_secs(60 * 60),
        }
    }
}

/// Is told the digest of a manifest that came to a repository.
pub type Tell = Box<dyn Fn(&Repository, &str) + Send + Sync>;

/// What a registry is made of.
pub struct Config {
    pub storage: Arc<dyn Storage>,
    pub access: Arc<dyn Access>,
    pub limits: Limits,
    /// For the names of uploads.
    pub rng: Rng,
    /// Called with the digest of each manifest that was pushed, once it is there; must not wait.
    pub pushed: Tell,
}

/// A registry; serve it by [`router`], and run [`Registry::keep_tidy`] beside it.
pub struct Registry {
    storage: Arc<dyn Storage>,
    access: Arc<dyn Access>,
    limits: Limits,
    pushed: Tell,
    uploads: Uploads,
    links: Links,
    manifests: Manifests,
    /// Held by who brings something, and alone by who clears a namespace.
    gate: Arc<RwLock<()>>,
    /// Something may have to go.
    untidy: Notify,
}

impl Registry {
    pub fn new(config: Config) -> Arc<Self> {
        let Config { storage, access, limits, rng, pushed } = config;
        let (uploads, links) = (Uploads::new(rng), Links::default());
        let (manifests, gate, untidy) = (Manifests::default(), Arc::default(), Notify::new());
        // What a process before this one left may have to go.
        untidy.notify_one();
        Arc::new(Self { storage, access, limits, pushed, uploads, links, manifests, gate, untidy })
    }

    /// Runs what reads and writes files off the async threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let registry = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&registry)).await;
        done.unwrap_or_else(|error| Err(Refused::failed(error)))
    }

    fn authorize(&self, parts: &Parts, action: Action, at: &Repository) -> Result<(), Refused> {
        self.refuse_unless(self.access.may(&parts.extensions, action, at))
    }

    fn refuse_unless(&self, verdict: Verdict) -> Result<(), Refused> {
        match verdict {
            Verdict::Yes => Ok(()),
            Verdict::Unknown => Err(Refused::unauthorized()),
            Verdict::No(why) => Err(Refused::new(StatusCode::FORBIDDEN, Code::Denied, why)),
        }
    }
}

/// Everything below `/v2/`. Who asks is told by the request's extensions, which [`Access`] reads.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/v2", any(answer))
        .route("/v2/", any(answer))
        .route("/v2/{*rest}", any(answer))
        .with_state(registry)
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let answered = serve(&registry, &parts, body).await;
    let mut response = answered.unwrap_or_else(|refused| {
        if refused.is_failure() {
            tracing::error!(method = %parts.method, path = parts.uri.path(), %refused);
        }
        refused.into_response()
    });
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert(API_VERSION, version);
    response
}

/// The whole table of endpoints (distribution-spec, "Endpoints"), and what each needs to be allowed.
async fn serve(registry: &Arc<Registry>, parts: &Parts, body: Body) -> Result<Response, Refused> {
    let (repository, resource) = match Route::parse(parts.uri.path())? {
        Route::Base => return base(registry, parts),
        Route::Namespace(name) if parts.method == Method::DELETE => {
            return namespaces::clear(registry, name, parts).await;
        }
        Route::Namespace(_) => return Err(Refused::method("DELETE")),
        Route::Of(repository, resource) => (repository, resource),
    };
    let may = |action| registry.authorize(parts, action, &repository);
    let (at, method) = (&repository, &parts.method);
    match resource {
        Resource::Blob(digest) => match *method {
            Method::GET | Method::HEAD => {
                may(Action::Pull)?;
                blobs::get(registry, at, digest, parts).await
            }
            Method::DELETE => {
                may(Action::Delete)?;
                blobs::delete(registry, at, digest).await
            }
            _ => Err(Refused::method("GET, HEAD, DELETE")),
        },
        Resource::Uploads => match *method {
            Method::POST => {
                may(Action::Create)?;
                uploads::begin(registry, at, parts, body).await
            }
            _ => Err(Refused::method("POST")),
        },
        Resource::Upload(id) => {
            may(Action::Create)?;
            match *method {
                Method::PATCH => uploads::append(registry, at, &id, parts, body).await,
                Method::PUT => uploads::finish(registry, at, &id, parts, body).await,
                Method::GET => uploads::status(registry, at, &id).await,
                Method::DELETE => uploads::cancel(registry, at, &id),
                _ => Err(Refused::method("PATCH, PUT, GET, DELETE")),
            }
        }
        Resource::Manifest(target) => match *method {
            Method::GET | Method::HEAD => {
                may(Action::Pull)?;
                manifests::get(registry, at, target, *method == Method::HEAD).await
            }
            Method::PUT => {
                may(manifests::put_action(registry, at, &target))?;
                manifests::put(registry, at, target, parts, body).await
            }
            Method::DELETE => {
                may(Action::Delete)?;
                manifests::delete(registry, at, target).await
            }
            _ => Err(Refused::method("GET, HEAD, PUT, DELETE")),
        },
        Resource::Tags | Resource::Referrers(_) if *method != Method::GET => {
            Err(Refused::method("GET"))
        }
        Resource::Tags => {
            may(Action::Pull)?;
            tags::list(registry, at, parts)
        }
        Resource::Referrers(digest) => {
            may(Action::Pull)?;
            referrers::list(registry, at, &digest, parts).await
        }
    }
}

/// end-1: whether the registry speaks this protocol, and with whom.
fn base(registry: &Registry, parts: &Parts) -> Result<Response, Refused> {
    match (&parts.method, registry.access.knows(&parts.extensions)) {
        (&Method::GET | &Method::HEAD, true) => {
            Ok(axum::Json(serde_json::json!({})).into_response())
        }
        (&Method::GET | &Method::HEAD, false) => Err(Refused::unauthorized()),
        _ => Err(Refused::method("GET")),
    }
}

/// A header of text that was checked before, such as a digest or a path of one.
fn header(text: &str) -> Result<HeaderValue, Refused> {
    HeaderValue::from_str(text).map_err(Refused::failed)
}
