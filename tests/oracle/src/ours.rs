//! Our API server, in this process.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use anyhow::Context;
use windlass_apiserver_access::{
    Admission, AdmissionOptions, Authenticator, Authorizer, Tokens, User, pki::Authority,
};
use windlass_apiserver_registry::Registry;
use windlass_apiserver_server::{ApiServer, Config, LocalService};
use windlass_apiserver_store::MemoryStore;
use windlass_sdk_meta::{Rng, SystemClock};
use windlass_tests_oracle::upstream::{
    SERVICE_RANGE, SERVICE_RANGE_BITS, USER, USER_GROUP, USER_UID,
};

/// Upstream's defaults of `DefaultTolerationSeconds`.
const TOLERATION_SECONDS: i64 = 300;

/// The server, and the door to it for the same user that upstream knows by a token.
pub struct Ours {
    pub service: LocalService,
    pub registry: Arc<Registry>,
    _server: Arc<ApiServer>,
}

impl Ours {
    pub async fn start(folder: &Path, authority: &Authority) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let rng = Rng::seeded(1);
        let registry = Arc::new(Registry::builtin());
        let authorizer = Arc::new(Authorizer::new());
        let tokens = Tokens::open_or_create(&folder.join("tokens"), clock.clone(), rng.clone())
            .context("a key for tokens")?;
        let authenticator = Authenticator::new(authority.certificate_der().clone(), clock.clone())
            .with_tokens(Arc::new(tokens));
        let admission = Admission::new(AdmissionOptions {
            not_ready_toleration_seconds: TOLERATION_SECONDS,
            unreachable_toleration_seconds: TOLERATION_SECONDS,
            mount_tokens: Some(rng.clone()),
            authorizer: authorizer.clone(),
        });
        let server = ApiServer::start(Config {
            store: Arc::new(MemoryStore::new()),
            clock,
            rng,
            authenticator,
            authorizer,
            admission,
            service_range: (Ipv4Addr::from(SERVICE_RANGE), SERVICE_RANGE_BITS),
            service_endpoint: None,
            kubelet_client: None,
            descriptions: Arc::new(windlass_apiserver_schema::NoDescriptions),
            mounts: Vec::new(),
        })
        .await?;
        let user = User { uid: USER_UID.into(), ..User::authenticated(USER, &[USER_GROUP]) };
        Ok(Self { service: server.local(user), registry, _server: server })
    }
}
