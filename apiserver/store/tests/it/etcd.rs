//! The store in a real etcd (3.4, as Debian has it): the shared suite, and what happens when it goes.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::time::Instant;
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
        Self::start_with(None)
    }

    /// `tls`: a folder with ca.pem, etcd.pem and etcd.key; clients then need certificates.
    fn start_with(tls: Option<&Path>) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ports = [free(), free()].map(|l| l.local_addr().expect("an address").port());
        let folder = tempfile::tempdir().expect("a folder");
        let child = Self::spawn(&folder, ports, tls);
        Self { folder, ports, child }
    }

    fn spawn(folder: &tempfile::TempDir, [clients, peers]: [u16; 2], tls: Option<&Path>) -> Child {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let clients = format!("{scheme}://127.0.0.1:{clients}");
        let peers = format!("http://127.0.0.1:{peers}");
        let mut command = Command::new("etcd");
        if let Some(files) = tls {
            command.arg("--client-cert-auth");
            for (flag, file) in [
                ("--trusted-ca-file", "ca.pem"),
                ("--cert-file", "etcd.pem"),
                ("--key-file", "etcd.key"),
            ] {
                command.arg(flag).arg(files.join(file));
            }
        }
        command
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

    async fn connect(&self, prefix: &str) -> EtcdStore {
        self.connect_with(None, prefix).await
    }

    /// Connects once etcd answers.
    async fn connect_with(&self, tls: Option<ClientConfig>, prefix: &str) -> EtcdStore {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match EtcdStore::connect_under(self.members(), tls.clone(), prefix).await {
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
    assert!(store.degraded().is_some(), "/readyz says so");
    let error = store.current_revision().await.expect_err("etcd is gone");
    assert!(error.to_string().contains("no member of the etcd cluster answers"), "{error}");
    let ended = futures::StreamExt::next(&mut watch).await.expect("the watch ends with an error");
    assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());

    etcd.child = Etcd::spawn(&etcd.folder, etcd.ports, None);
    let deadline = Instant::now() + Duration::from_secs(60);
    let revision = loop {
        match store.txn(put("/b")).await {
            Ok(TxnOutcome::Committed(revision)) => break revision,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(store.degraded().is_none());
    let mut watch = store.watch("/", first).await.expect("a watch from where it was");
    let events = conformance::take(&mut watch, 1).await;
    assert_eq!((&**events[0].key(), events[0].revision()), ("/b", revision));
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let nobody = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let Err(error) = EtcdStore::connect(nobody, None).await else { panic!("connected to nobody") };
    let error = error.to_string();
    assert!(error.contains("127.0.0.1:1: ") && error.contains("127.0.0.1:2: "), "{error}");
    assert!(matches!(EtcdStore::connect(Vec::new(), None).await, Err(StoreError::Invalid(_))));
}

/// An etcd that wants to know who asks, as those of production do.
#[tokio::test]
async fn etcd_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);
    let issue = || {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        (params.signed_by(&key, &issuer).expect("a certificate"), key)
    };
    let (server, server_key) = issue();
    for (name, text) in [
        ("ca.pem", root.pem()),
        ("etcd.pem", server.pem()),
        ("etcd.key", server_key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let (client, client_key) = issue();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let config = || {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone())
    };
    let key = PrivateKeyDer::Pkcs8(client_key.serialize_der().into());
    let chain = vec![CertificateDer::from(client.der().to_vec())];
    let known = config().with_client_auth_cert(chain, key).expect("a certificate and its key");

    let etcd = Etcd::start_with(Some(folder.path()));
    let store = etcd.connect_with(Some(known), "/tls").await;
    let Ok(TxnOutcome::Committed(revision)) = store.txn(put("/a")).await else {
        panic!("no write")
    };
    assert_eq!(store.current_revision().await.expect("a revision"), revision);
    let stranger = config().with_no_client_auth();
    let refused = EtcdStore::connect(etcd.members(), Some(stranger)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    let plain = EtcdStore::connect(etcd.members(), None).await;
    assert!(matches!(plain, Err(StoreError::Unavailable(_))));
}
