//! A control plane in this process, and short ways to ask it things.

use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::{BodyDataStream, BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;
use windlass_apiserver_access::{
    Admission, AdmissionOptions, Authenticator, Authorizer, User, pki::Authority,
};
use windlass_apiserver_server::{ApiServer, Config};
use windlass_apiserver_store::MemoryStore;
use windlass_controllers::{ROOT_CA_PUBLISHER, publish_root_ca};
use windlass_sdk_client::{Api, Body, Cluster, Informers, client};
use windlass_sdk_meta::{Clock, Rng, SystemClock, Timestamp};

use crate::node::Node;

/// Longer than anything here takes; time is paused, so waiting costs nothing.
const DEADLINE: Duration = Duration::from_secs(120);

/// What stands for the authority's certificate.
pub const ROOT_CA: &str = "the certificate";

/// Tells tokio's time as the time of day.
#[derive(Debug)]
struct PausedClock {
    begun: Instant,
    at: Timestamp,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.at + self.begun.elapsed()
    }
}

pub struct TestCluster {
    pub api: Api,
    pub node: Arc<Node>,
    _stop: DropGuard,
}

impl TestCluster {
    pub async fn new(seed: u64) -> Self {
        Self::with_late_watches(seed, Duration::ZERO).await
    }

    /// Controllers see every change later than it was made.
    pub async fn with_late_watches(seed: u64, lag: Duration) -> Self {
        let at = "2026-11-23T17:20:00Z".parse().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(PausedClock { begun: Instant::now(), at });
        let rng = Rng::seeded(seed);
        let server = server(clock.clone(), rng.clone()).await;
        let stop = CancellationToken::new();
        let reader = server.local(User::authenticated("system:kube-controller-manager", &[]));
        let late = tower::service_fn(move |request: Request<Body>| {
            let reader = reader.clone();
            async move { Ok::<_, std::convert::Infallible>(delayed(reader, request, lag).await) }
        });
        let informers = Informers::new(client(late), rng.clone());
        for row in windlass_controllers::all() {
            let user = User::service_account("kube-system", row.name);
            let cluster = Cluster {
                client: client(server.local(user)),
                informers: informers.clone(),
                clock: clock.clone(),
                rng: rng.clone(),
            };
            tokio::spawn((row.run)(cluster, stop.clone()));
        }
        let cluster = Cluster {
            client: client(server.local(User::service_account("kube-system", ROOT_CA_PUBLISHER))),
            informers: informers.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
        };
        tokio::spawn(publish_root_ca(cluster, ROOT_CA.into(), stop.clone()));
        let admin = client(server.local(User::authenticated("admin", &["system:masters"])));
        let api = Api::new(admin.clone(), "test");
        let node = Node::start(admin, rng, clock, stop.clone());
        Self { api, node, _stop: stop.drop_guard() }
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        match self.api.request(Method::GET, path, "", Vec::new()).await {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    pub async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub async fn create(&self, path: &str, object: Value) -> Value {
        self.send(Method::POST, path, "application/json", object).await
    }

    pub async fn patch(&self, path: &str, patch: Value) -> Value {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch).await
    }

    pub async fn delete(&self, path: &str, policy: &str) -> Value {
        let options = json!({"propagationPolicy": policy});
        self.send(Method::DELETE, path, "application/json", options).await
    }

    async fn send(&self, method: Method, path: &str, media: &str, body: Value) -> Value {
        let sent = self.api.request(method.clone(), path, media, body.to_string().into()).await;
        match sent {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Waits until what `look` returns is `wanted`.
    pub async fn until<T, F>(&self, wanted: T, mut look: impl FnMut() -> F)
    where
        T: PartialEq + fmt::Debug,
        F: Future<Output = T>,
    {
        let begun = Instant::now();
        loop {
            let found = look().await;
            if found == wanted {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "wanted {wanted:?}, found {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Names of what a list holds.
    pub async fn names(&self, path: &str) -> Vec<String> {
        let items = self.list(path).await;
        items.iter().map(|item| text(&item["metadata"]["name"])).collect()
    }

    /// Makes a namespace in which pods can be made.
    pub async fn namespace(&self, name: &str) {
        self.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.until(true, || async { self.get(&path).await.is_some() }).await;
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn server(clock: Arc<dyn Clock>, rng: Rng) -> Arc<ApiServer> {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::open_or_create(folder.path(), Arc::new(SystemClock)).unwrap();
    let authorizer = Arc::new(Authorizer::new());
    let options = AdmissionOptions { authorizer: authorizer.clone(), ..Default::default() };
    let config = Config {
        store: Arc::new(MemoryStore::new()),
        authenticator: Authenticator::new(ca.certificate_der().clone(), clock.clone()),
        clock,
        rng,
        authorizer,
        admission: Admission::new(options),
        service_range: (Ipv4Addr::new(127, 96, 0, 0), 24),
        service_endpoint: None,
        kubelet_client: None,
        descriptions: Arc::new(windlass_apiserver_schema::NoDescriptions),
        mounts: Vec::new(),
    };
    ApiServer::start(config).await.unwrap()
}

/// The answer of `service`, each piece of a watch later than it was sent.
async fn delayed(
    service: windlass_apiserver_server::LocalService,
    request: Request<Body>,
    lag: Duration,
) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
    let Ok(answer) = service.oneshot(request).await;
    let lag = if is_watch { lag } else { Duration::ZERO };
    answer.map(|body| {
        let pieces = BodyDataStream::new(body).map(move |piece| (piece, Instant::now()));
        // Stamped as they come by a buffer of its own, so that the delay is a lag and not a pace.
        let pieces = pieces.map(move |(piece, at)| async move {
            tokio::time::sleep_until(at + lag).await;
            piece.map(http_body::Frame::<Bytes>::data).map_err(std::io::Error::other)
        });
        StreamBody::new(pieces.buffered(1000)).boxed_unsync()
    })
}
