//! The server as a whole: what it is given, what it holds, and how it starts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::{CancellationToken, DropGuard};
use windlass_apiserver_access::{Admission, Authenticator, Authorizer};
use windlass_apiserver_registry::Registry;
use windlass_apiserver_schema::Descriptions;
use windlass_apiserver_store::{Store, StoreError};
use windlass_sdk_meta::{Clock, Reason, Rng, Status};

use crate::{
    bootstrap,
    cache::Cache,
    charges::Turns,
    components::{Components, Health},
    computed::Measurements,
    definitions, expiry,
    limits::Limits,
    metrics::Metrics,
    mounts::Mount,
    openapi::Documents,
    services::ServiceRange,
    streams::Kubelets,
};

/// Threads that look at rules which take long, such as those of schemas.
const SLOW_AT_ONCE: usize = 2;

/// What a server is made of.
pub struct Config {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub rng: Rng,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub admission: Admission,
    /// Addresses of services: first address and prefix length.
    pub service_range: (Ipv4Addr, u8),
    /// Where the `kubernetes` Service leads; None: it has no endpoint.
    pub service_endpoint: Option<SocketAddr>,
    /// TLS towards kubelets, with the server's client certificate; None: no logs and no proxy.
    pub kubelet_client: Option<Arc<rustls::ClientConfig>>,
    /// Texts for OpenAPI.
    pub descriptions: Arc<dyn Descriptions + Send + Sync>,
    /// What else answers on the listeners.
    pub mounts: Vec<Mount>,
}

/// A running API server. Reach it through [`ApiServer::local`] or [`ApiServer::serve`].
pub struct ApiServer {
    cache: Arc<Cache>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    rng: Rng,
    authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    admission: Admission,
    services: ServiceRange,
    kubelets: Kubelets,
    measurements: Measurements,
    components: Components,
    documents: Documents,
    limits: Limits,
    metrics: Metrics,
    mounts: Vec<Mount>,
    /// Turns of rules that take long.
    slow: Semaphore,
    quota_turns: Turns,
    bootstrapped: AtomicBool,
    stopping: CancellationToken,
    /// Ends the task that follows the store, when the last user of the server is gone.
    _following: DropGuard,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store can't be read: {0}")]
    Store(#[from] StoreError),
    #[error("{what} could not be made: {why}")]
    Bootstrap { what: String, why: String },
}

impl ApiServer {
    /// Reads the store, starts to follow it, and makes what every cluster has. Must be called
    /// inside a tokio runtime.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let registry = Arc::new(windlass_apiserver_custom::registry());
        let cache = Cache::load(config.store, registry.clone(), config.clock.clone()).await?;
        let following = CancellationToken::new();
        let following_too = following.clone();
        tokio::spawn(cache.clone().follow_until(following.clone()));
        let server = Arc::new(Self {
            cache,
            registry,
            clock: config.clock,
            rng: config.rng,
            authenticator: config.authenticator,
            authorizer: config.authorizer,
            admission: config.admission,
            services: ServiceRange::new(config.service_range, config.service_endpoint),
            kubelets: Kubelets::new(config.kubelet_client),
            measurements: Measurements::default(),
            components: Components::default(),
            documents: Documents::new(config.descriptions),
            limits: Limits::new(),
            metrics: Metrics::new(),
            mounts: config.mounts,
            slow: Semaphore::new(SLOW_AT_ONCE),
            quota_turns: Turns::default(),
            bootstrapped: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            _following: following.drop_guard(),
        });
        tokio::spawn(expiry::run(Arc::downgrade(&server), following_too.clone()));
        tokio::spawn(definitions::run(Arc::downgrade(&server), following_too));
        bootstrap::run(&server).await?;
        server.bootstrapped.store(true, Ordering::Release);
        Ok(server)
    }

    /// Ends watches and turns `/readyz` red; other requests are still answered, so that components
    /// can finish what they do.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Tells how to ask whether a component of the control plane does its work: `scheduler`,
    /// `controller-manager`.
    pub fn set_component(&self, name: &'static str, health: Health) {
        self.components.set(name, health);
    }

    pub(crate) fn components(&self) -> &Components {
        &self.components
    }

    pub(crate) fn quota_turns(&self) -> &Turns {
        &self.quota_turns
    }

    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Waits for a turn on the threads of rules that take long.
    pub(crate) async fn slow_turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.slow.acquire().await.map_err(Status::internal)
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.rng
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn services(&self) -> &ServiceRange {
        &self.services
    }

    pub(crate) fn kubelets(&self) -> &Kubelets {
        &self.kubelets
    }

    pub(crate) fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The service that a path is of, where it isn't the API's.
    pub(crate) fn mount(&self, path: &str) -> Option<&Mount> {
        let below = |mount: &&Mount| {
            path.strip_prefix(mount.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts.iter().find(below)
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

/// A store's failure as clients see it: what may pass soon is 503, the rest is ours.
pub(crate) fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::DiskFull { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Unavailable(_)
        | StoreError::Lagged { .. } => Status::unavailable(error.to_string()),
        StoreError::Compacted { .. } => Status::new(Reason::Expired, error.to_string()),
        StoreError::Future { .. } | StoreError::Damaged { .. } | StoreError::Invalid(_) => {
            Status::internal(error)
        }
    }
}
