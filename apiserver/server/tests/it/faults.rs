//! When the store fails, the server says so and goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use windlass_apiserver_store::{
    MemoryStore, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnOutcome,
    WatchStream,
};

use crate::Cluster;

/// A store whose writes can be refused, and whose watch ends after every batch or claims to have
/// forgotten where it was.
struct Faulty {
    inner: MemoryStore,
    full: AtomicBool,
    short_watches: bool,
    forgetful: AtomicBool,
    panics: AtomicBool,
}

impl Faulty {
    fn new(short_watches: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            full: AtomicBool::new(false),
            short_watches,
            forgetful: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Store for Faulty {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(StoreError::ReadOnly { why: "a test says so".into() }),
            false => self.inner.txn(txn).await,
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.inner.range(request).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        if self.forgetful.swap(false, Ordering::Relaxed) {
            return Err(StoreError::Compacted { requested: after, oldest: after + 1 });
        }
        let stream = self.inner.watch(prefix, after).await?;
        match self.short_watches {
            true => {
                let end = futures::stream::once(async { Err(StoreError::Lagged { bound: 1 }) });
                Ok(stream.take(1).chain(end).boxed())
            }
            false => Ok(stream),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        assert!(!self.panics.load(Ordering::Relaxed), "a test says so");
        self.inner.current_revision().await
    }

    fn degraded(&self) -> Option<StoreError> {
        self.full.load(Ordering::Relaxed).then(|| StoreError::ReadOnly { why: "a test".into() })
    }
}

const CREATE: &str =
    r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"generateName":"a"}}"#;

#[tokio::test(start_paused = true)]
async fn a_read_only_store_is_503_and_not_ready() {
    let store = Faulty::new(false);
    let cluster = Cluster::on(store.clone()).await;
    store.full.store(true, Ordering::Relaxed);
    let answer = cluster.run(CREATE).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (503, &"ServiceUnavailable".into()));
    assert!(answer.summary().contains("a test says so"));
    let ready = cluster.run("GET /readyz").await;
    assert_eq!(ready.code, 500);
    assert!(String::from_utf8_lossy(&ready.bytes).contains("a test"), "{}", ready.summary());
    assert_eq!(cluster.run("GET /livez").await.code, 200);
    assert_eq!(cluster.run("GET /api/v1/namespaces/default").await.code, 200);
    store.full.store(false, Ordering::Relaxed);
    assert_eq!(cluster.run(CREATE).await.code, 201);
}

#[tokio::test(start_paused = true)]
async fn the_cache_survives_watches_that_end() {
    let store = Faulty::new(true);
    let cluster = Cluster::on(store.clone()).await;
    for _ in 0..10 {
        assert_eq!(cluster.run(CREATE).await.code, 201);
    }
    // Committed behind a watch that can't be resumed: the cache loads everything again.
    store.forgetful.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(cluster.run(CREATE).await.code, 201);
    }
    let list = cluster.get("/api/v1/namespaces/default/configmaps").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(20));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_answer_and_not_the_end() {
    let store = Faulty::new(false);
    let cluster = Cluster::on(store.clone()).await;
    store.panics.store(true, Ordering::Relaxed);
    let answer = cluster.run(CREATE).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (500, &"InternalError".into()));
    store.panics.store(false, Ordering::Relaxed);
    assert_eq!(cluster.run(CREATE).await.code, 201);
}

/// Watchers that live through a reload see each change once.
#[tokio::test(start_paused = true)]
async fn watchers_survive_a_reload() {
    let store = Faulty::new(true);
    let cluster = Cluster::on(store.clone()).await;
    let mut watch = crate::watches::Watch::open(&cluster, "&resourceVersion=0").await;
    for round in 0..6 {
        store.forgetful.store(round % 2 == 0, Ordering::Relaxed);
        let create = CREATE.replace(r#""generateName":"a""#, &format!(r#""name":"m{round}""#));
        assert_eq!(cluster.run(&create).await.code, 201);
        if round > 0 {
            let gone = format!("DELETE /api/v1/namespaces/default/configmaps/m{}", round - 1);
            assert_eq!(cluster.run(&gone).await.code, 200);
        }
    }
    let text = watch.drain().await;
    for round in 0..6 {
        assert_eq!(text.matches(&format!("ADDED m{round} ")).count(), 1, "{text}");
        assert_eq!(
            text.matches(&format!("DELETED m{round} ")).count(),
            usize::from(round < 5),
            "{text}"
        );
    }
}

/// A second server on the same store finds everything and makes nothing twice.
#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_was_there() {
    let store = Faulty::new(false);
    let cluster = Cluster::on(store.clone()).await;
    assert_eq!(cluster.run(CREATE).await.code, 201);
    let before = cluster.get("/api/v1/namespaces/default/configmaps").await;
    drop(cluster);
    let again = Cluster::on(store).await;
    assert_eq!(again.get("/api/v1/namespaces/default/configmaps").await, before);
}
