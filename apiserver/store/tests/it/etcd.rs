//! The store in a real etcd (3.4, as Debian has it): the shared suite, and what happens when it goes.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use windlass_apiserver_store::{
    EtcdStore, Op, RangeRequest, Store, StoreError, Txn, TxnOutcome, conformance,
};

/// An etcd of one test.
struct Etcd {
    folder: tempfile::TempDir,
    ports: [u16; 2],
    child: Child,
}

impl Etcd {
    fn start() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ports = [free(), free()].map(|l| l.local_addr().expect("an address").port());
        let folder = tempfile::tempdir().expect("a folder");
        let child = Self::spawn(&folder, ports);
        Self { folder, ports, child }
    }

    fn spawn(folder: &tempfile::TempDir, [clients, peers]: [u16; 2]) -> Child {
        let clients = format!("http://127.0.0.1:{clients}");
        let peers = format!("http://127.0.0.1:{peers}");
        Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            // The suite has values of 3 MiB, which the API's own bound keeps out.
            .args(["--max-request-bytes", "8388608"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts (cargo xtask tools installs it)")
    }

    fn members(&self) -> Vec<String> {
        vec![format!("127.0.0.1:{}", self.ports[0])]
    }

    /// Connects once etcd answers.
    async fn connect(&self, prefix: &str) -> EtcdStore {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match EtcdStore::connect_under(self.members(), prefix).await {
                Ok(store) => return store,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn put(key: &str) -> Txn {
    let (key, value) = (key.into(), b"x".as_slice().into());
    Txn { compare: Vec::new(), ops: vec![Op::Put { key, value }] }
}

#[tokio::test]
async fn etcd_conforms() {
    let etcd = Etcd::start();
    let count = AtomicUsize::new(0);
    conformance::run_all(async || {
        let prefix = format!("/test-{}", count.fetch_add(1, Ordering::Relaxed));
        Arc::new(etcd.connect(&prefix).await) as Arc<dyn Store>
    })
    .await;
}

/// Others may write to the same etcd: their changes are none of ours, and no reader waits for them.
#[tokio::test]
async fn other_users_of_the_cluster_are_not_seen() {
    let etcd = Etcd::start();
    let (ours, others) = (etcd.connect("/ours").await, etcd.connect("/ours-not").await);
    let before = ours.current_revision().await.expect("a revision");
    for n in 0..10 {
        others.txn(put(&format!("/{n}"))).await.expect("a write");
    }
    assert_eq!(ours.current_revision().await.expect("a revision"), before);
    assert_eq!(ours.range(RangeRequest::default()).await.expect("a range").items, []);
    let mut watch = ours.watch("/", before).await.expect("a watch");
    ours.txn(put("/mine")).await.expect("a write");
    let events = conformance::take(&mut watch, 1).await;
    assert_eq!(&**events[0].key(), "/mine");
}

/// A cluster that is gone fails calls at once, and serves again when it is back.
#[tokio::test]
async fn etcd_goes_and_comes_back() {
    let mut etcd = Etcd::start();
    let store = etcd.connect("/p").await;
    let Ok(TxnOutcome::Committed(first)) = store.txn(put("/a")).await else { panic!("no write") };
    let mut watch = store.watch("/", first).await.expect("a watch");
    etcd.stop();
    let gone = Instant::now();
    let error = store.txn(put("/b")).await.expect_err("etcd is gone");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.current_revision().await.expect_err("etcd is gone");
    assert!(error.to_string().contains("no member of the etcd cluster answers"), "{error}");
    let ended = futures::StreamExt::next(&mut watch).await.expect("the watch ends with an error");
    assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());

    etcd.child = Etcd::spawn(&etcd.folder, etcd.ports);
    let deadline = Instant::now() + Duration::from_secs(60);
    let revision = loop {
        match store.txn(put("/b")).await {
            Ok(TxnOutcome::Committed(revision)) => break revision,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut watch = store.watch("/", first).await.expect("a watch from where it was");
    let events = conformance::take(&mut watch, 1).await;
    assert_eq!((&**events[0].key(), events[0].revision()), ("/b", revision));
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let nobody = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let Err(error) = EtcdStore::connect(nobody).await else { panic!("connected to nobody") };
    let error = error.to_string();
    assert!(error.contains("127.0.0.1:1: ") && error.contains("127.0.0.1:2: "), "{error}");
    assert!(matches!(EtcdStore::connect(Vec::new()).await, Err(StoreError::Invalid(_))));
}
