//! Over TLS: who is let in as whom, and requests that end at a node.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::Request, routing::any};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::pki::Authority;
use windlass_apiserver_store::MemoryStore;
use windlass_sdk_meta::{Clock as _, SystemClock};

use crate::Cluster;

pub struct Network {
    pub cluster: Cluster,
    pub ca: Authority,
    pub address: SocketAddr,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Network {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Authority::open_or_create(folder.path(), Arc::new(SystemClock)).expect("a CA");
        let own = ca.issue_client("apiserver", &["system:masters"]).expect("a certificate");
        let client = Arc::new(ca.client_config(&own).expect("TLS"));
        // The client's end of TLS looks at the machine's clock.
        let (store, now) = (Arc::new(MemoryStore::new()), SystemClock.now());
        let cluster = Cluster::with(store, &ca, Some(client), now).await;
        let (listener, address) = listen().await;
        let key = ca.issue_server(&["127.0.0.1".into()]).expect("a certificate");
        let tls = Arc::new(ca.server_config(&key).expect("TLS"));
        let (server, shutdown) = (cluster.server.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        tokio::spawn(async move { server.serve(listener, tls, stop).await });
        Self { cluster, ca, address, shutdown, _folder: folder }
    }

    /// A request with a client certificate of `user`, or without.
    pub async fn ask(
        &self,
        user: Option<(&str, &[&str])>,
        request: http::Request<Body>,
    ) -> (u16, String) {
        let response = self.send(user, request).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn send(
        &self,
        user: Option<(&str, &[&str])>,
        request: http::Request<Body>,
    ) -> Response<Body> {
        let mut config = match user {
            Some((name, groups)) => {
                let key = self.ca.issue_client(name, groups).expect("a certificate");
                self.ca.client_config(&key).expect("TLS")
            }
            None => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(self.ca.certificate_der().clone()).expect("a root");
                rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let name = rustls_pki_types::ServerName::from(self.address.ip());
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("https://{}{}", self.address, parts.uri).parse().expect("a URI");
        let request = http::Request::from_parts(parts, body);
        sender.send_request(request).await.expect("an answer").map(Body::new)
    }
}

fn get(path: &str) -> http::Request<Body> {
    http::Request::builder().uri(path).body(Body::empty()).expect("a request")
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn certificates_tokens_and_nobody() {
    let network = Network::new().await;
    assert_eq!(network.ask(None, get("/version")).await.0, 200);
    assert_eq!(network.ask(None, get(PODS)).await.0, 403);
    assert_eq!(network.ask(Some(("admin", &["system:masters"])), get(PODS)).await.0, 200);
    let (code, text) = network.ask(Some(("eve", &[])), get(PODS)).await;
    assert!(code == 403 && text.contains(r#"User \"eve\" cannot list"#), "{code} {text}");
    for credentials in ["Bearer nonsense", "Basic YTpi"] {
        let mut request = get("/version");
        request.headers_mut().insert(header::AUTHORIZATION, credentials.parse().expect("a value"));
        assert_eq!(network.ask(None, request).await.0, 401, "{credentials}");
    }
    network.shutdown.cancel();
}

#[tokio::test]
async fn acting_as_somebody_else() {
    let network = Network::new().await;
    let as_eve = |path: &str| {
        let mut request = get(path);
        request.headers_mut().insert("Impersonate-User", "eve".parse().expect("a value"));
        request
    };
    let (code, text) = network.ask(Some(("admin", &["system:masters"])), as_eve(PODS)).await;
    assert!(code == 403 && text.contains(r#"User \"eve\" cannot list"#), "{code} {text}");
    let (code, text) = network.ask(Some(("mallory", &[])), as_eve(PODS)).await;
    assert!(code == 403 && text.contains("cannot impersonate resource"), "{code} {text}");
}

/// A kubelet that says what it was asked.
async fn kubelet(ca: &Authority) -> SocketAddr {
    let echo = |request: Request| async move {
        let line = format!("{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let code = if line.contains("broken") { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        (code, format!("{line} {}", String::from_utf8_lossy(&body)))
    };
    kubelet_of(ca, Router::new().fallback(any(echo))).await
}

/// A kubelet that answers as it is told.
pub async fn kubelet_of(ca: &Authority, router: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    let key = ca.issue_server(&["127.0.0.1".into()]).expect("a certificate");
    let acceptor =
        TlsAcceptor::from(Arc::new(ca.private_server_config(&key, "apiserver").expect("TLS")));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                let service = hyper_util::service::TowerToHyperService::new(router);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

#[tokio::test]
async fn logs_and_node_proxy_reach_the_kubelet() {
    let network = Network::new().await;
    let (cluster, address) = (&network.cluster, kubelet(&network.ca).await);
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}});
    for line in [
        r#"POST /api/v1/nodes {"metadata":{"name":"n"}}"#.to_owned(),
        format!(r#"PATCH /api/v1/nodes/n/status merge {{"status":{status}}}"#),
        r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#.into(),
        format!(
            r#"POST {PODS} {{"metadata":{{"name":"p"}},"spec":{{"nodeName":"n","containers":[{{"name":"a","image":"i"}},{{"name":"b","image":"i"}}]}}}}"#
        ),
        format!(
            r#"POST {PODS} {{"metadata":{{"name":"late"}},"spec":{{"containers":[{{"name":"broken","image":"i"}}]}}}}"#
        ),
    ] {
        let answer = cluster.run(&line).await;
        assert!(answer.code < 300, "{line}: {}", answer.summary());
    }
    let admin: Option<(&str, &[&str])> = Some(("admin", &["system:masters"]));
    let log = |query: &str| get(&format!("{PODS}/p/log{query}"));
    let (code, text) = network.ask(admin, log("?container=b&tailLines=5")).await;
    assert_eq!(
        (code, text.as_str()),
        (200, "GET /containerLogs/default/p/b?container=b&tailLines=5 ")
    );
    let (code, text) = network.ask(admin, log("")).await;
    assert!(code == 400 && text.contains("choose one of: [a b]"), "{text}");
    let (code, text) = network.ask(admin, log("?container=c")).await;
    assert!(code == 400 && text.contains("container c is not valid for pod p"), "{text}");
    assert_eq!(network.ask(admin, get(&format!("{PODS}/late/log"))).await, (200, String::new()));

    let image = vec![b'x'; 4 * 1024 * 1024];
    let request =
        http::Request::post("/api/v1/nodes/n/proxy/images/a%2Fb?tag=v1").body(Body::from(image));
    let (code, text) = network.ask(admin, request.expect("a request")).await;
    assert_eq!(code, 200);
    assert!(text.starts_with("POST /images/a%2Fb?tag=v1 xxx") && text.len() > 4 * 1024 * 1024);
    let (code, _) = network.ask(admin, get("/api/v1/nodes/n/proxy/broken")).await;
    assert_eq!(code, 400);
    let (code, _) = network.ask(admin, get("/api/v1/nodes/other/proxy/x")).await;
    assert_eq!(code, 404);
}
