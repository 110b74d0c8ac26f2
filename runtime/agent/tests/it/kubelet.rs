//! The kubelet API over TLS, with real certificates and a real image store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use windlass_runtime_agent::{AgentConfig, Kubelet, kubelet_tls};
use windlass_runtime_image::ImageStore;
use windlass_runtime_net::{Block, PodNet};
use windlass_sdk_meta::Rng;

use crate::{
    fake_api::FakeApi,
    fake_runtime::FakeRuntime,
    lifecycle::{POD, bound_pod, config, is_ready},
};

/// A running node and a CA.
pub struct Node {
    pub api: FakeApi,
    pub runtime: FakeRuntime,
    pub net: PodNet,
    ca: Issuer<'static, KeyPair>,
    ca_certificate: CertificateDer<'static>,
    address: std::net::SocketAddr,
    dir: tempfile::TempDir,
    _stop: DropGuard,
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn issue(ca: &Issuer<'static, KeyPair>, name: &str) -> Identity {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, ca).expect("certificate");
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

impl Node {
    pub async fn start() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = params.self_signed(&key).expect("ca").der().clone();
        let ca = Issuer::new(params, key);
        let (certificate, key) = issue(&ca, "node");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let tls = kubelet_tls(vec![certificate], key, ca_certificate.clone()).expect("tls");
        let dir = tempfile::tempdir().expect("dir");
        let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
        let ranges = vec![Block::PODS, Block::SERVICES];
        let net = PodNet::loopback(ranges, Default::default(), Rng::seeded(1));
        let config = AgentConfig {
            images: Arc::new(ImageStore::open(&dir.path().join("images"), &[]).expect("store")),
            log_dir: dir.path().join("pods"),
            kubelet: Some(Kubelet {
                listener,
                tls,
                client_name: "api-server".into(),
                net: net.clone(),
            }),
            ..config(&api, &runtime)
        };
        let stop = CancellationToken::new();
        tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
        Self { api, runtime, net, ca, ca_certificate, address, dir, _stop: stop.drop_guard() }
    }

    async fn ask(
        &self,
        identity: Option<Identity>,
        method: &str,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, String), String> {
        let answer = self.send(identity, method, path, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }

    /// A request, and its answer as soon as its head is there.
    async fn send(
        &self,
        identity: Option<Identity>,
        method: &str,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, String> {
        let request = Request::builder().method(method).uri(path).header("host", "node");
        self.send_request(identity, request.body(body).expect("request")).await
    }

    /// A request of the API server that may be upgraded.
    pub async fn upgrade(&self, request: Request<Body>) -> Response<Incoming> {
        let identity = issue(&self.ca, "api-server");
        self.send_request(Some(identity), request).await.expect("an answer")
    }

    async fn send_request(
        &self,
        identity: Option<Identity>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_certificate.clone()).expect("root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], key).expect("identity")
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.expect("connect");
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let identity = issue(&self.ca, "api-server");
        self.ask(Some(identity), "GET", path, Body::empty()).await.expect("answer")
    }

    async fn import(&self, path: &str, body: Body) -> (StatusCode, Value) {
        let identity = issue(&self.ca, "api-server");
        let (status, text) = self.ask(Some(identity), "POST", path, body).await.expect("answer");
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        for _ in 0..500 {
            if holds(&self.api.get(POD).unwrap_or_default()["status"]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:#}", self.api.get(POD).unwrap_or_default());
    }

    /// Imports an image that pods can name.
    pub async fn load(&self, name: &str) {
        let wasm = Body::from(&b"\0asm\x01\0\0\0"[..]);
        let (status, told) = self.import(&format!("/images?name={name}"), wasm).await;
        assert_eq!(status, StatusCode::CREATED, "{told}");
    }

    /// A request whose answer goes on.
    pub async fn open(&self, path: &str) -> Incoming {
        let identity = issue(&self.ca, "api-server");
        let answer = self.send(Some(identity), "GET", path, Body::empty()).await;
        answer.expect("an answer").into_body()
    }

    pub fn log(&self, attempt: u32) -> PathBuf {
        self.dir.path().join(format!("pods/default_p_u/c/{attempt}.log"))
    }
}

#[tokio::test]
async fn only_the_api_server_is_let_in() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (StatusCode::OK, "ok".to_owned()));
    assert_eq!(node.get("/nothing").await.0, StatusCode::NOT_FOUND);
    let other = issue(&node.ca, "somebody");
    let (status, body) =
        node.ask(Some(other), "GET", "/healthz", Body::empty()).await.expect("answer");
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    node.ask(None, "GET", "/healthz", Body::empty()).await.expect_err("no certificate");
    let mut stranger = CertificateParams::new(Vec::new()).expect("params");
    stranger.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let stranger = Issuer::new(stranger, KeyPair::generate().expect("key"));
    let forged = issue(&stranger, "api-server");
    node.ask(Some(forged), "GET", "/healthz", Body::empty()).await.expect_err("another CA");
}

#[tokio::test]
async fn an_import_lets_waiting_pods_start_and_logs_are_read() {
    let node = Node::start().await;
    node.api.put(POD, bound_pod());
    let reason = |status: &Value, reason: &str| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    };
    node.until("not pulled", |status| reason(status, "ErrImagePull")).await;
    let logs = "/containerLogs/default/p/c";
    let (status, body) = node.get(logs).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("is waiting to start: ErrImagePull"), "{body}");

    let (status, told) = node.import("/images?name=hello", Body::from("no wasm")).await;
    assert_eq!((status, &told["reason"]), (StatusCode::BAD_REQUEST, &"BadRequest".into()));
    let (status, _) = node.import("/images", Body::from("no wasm")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let wasm = Body::from(&b"\0asm\x01\0\0\0"[..]);
    let (status, told) = node.import("/images?name=hello", wasm).await;
    assert_eq!((status, &told["name"]), (StatusCode::CREATED, &"hello:latest".into()));
    assert!(node.get("/images").await.1.contains(told["digest"].as_str().expect("digest")));

    // The import is what it waited for: no back-off is waited out.
    node.until("ready", is_ready).await;
    assert_eq!(node.get(logs).await, (StatusCode::OK, String::new()));
    std::fs::create_dir_all(node.log(0).parent().expect("parent")).expect("dir");
    let line = |text: &str| format!("2026-11-23T10:00:00Z stdout F {text}\n");
    std::fs::write(node.log(0), line("one") + &line("two")).expect("write");
    assert_eq!(node.get(logs).await.1, "one\ntwo\n");
    let tail = node.get(&format!("{logs}?tailLines=1&timestamps=true")).await.1;
    assert_eq!(tail, "2026-11-23T10:00:00Z two\n");
    assert_eq!(node.get(&format!("{logs}?tailLines=x")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(node.get(&format!("{logs}?previous=true")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(node.get("/containerLogs/default/no/c").await.0, StatusCode::NOT_FOUND);
    assert_eq!(node.get("/containerLogs/default/p/no").await.0, StatusCode::BAD_REQUEST);

    // A follower gets what comes, until the container ends.
    let identity = issue(&node.ca, "api-server");
    let follow = format!("{logs}?follow=true");
    let following = node.send(Some(identity), "GET", &follow, Body::empty()).await.expect("head");
    std::fs::write(node.log(0), line("one") + &line("two") + &line("end")).expect("write");
    node.runtime.exit("u", "c", 1);
    let text = following.into_body().collect().await.expect("body").to_bytes();
    assert_eq!(text, "one\ntwo\nend\n");
    let restarted = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    node.until("restarted", restarted).await;
    assert_eq!(node.get(&format!("{logs}?previous=true")).await.1, "one\ntwo\nend\n");
    assert!(node.get("/pods").await.1.contains("\"uid\":\"u\""));

    // Its logs go with the pod.
    node.api.remove(POD);
    for _ in 0..500 {
        if !node.log(0).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("logs stay");
}
