//! Requests that are upgraded on their way to a node, and the proxy to pods and services.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::network::{Network, listen};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Answers with what it was asked. An upgrade is granted: the first line on it is the request, the
/// rest what comes back from the client. Paths with `refuse` are refused.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let protocol = request.headers().get("x-stream-protocol-version").cloned();
    let line = format!("{} {}", request.method(), request.uri());
    if line.contains("refuse") {
        let mut response = Response::new(Body::from("not today"));
        *response.status_mut() = StatusCode::FORBIDDEN;
        return Ok(response);
    }
    if !request.headers().contains_key(header::UPGRADE) {
        let credentials = request.headers().contains_key(header::AUTHORIZATION);
        let body = request.into_body().collect().await?.to_bytes();
        let text = format!("{line} {credentials} {}", String::from_utf8_lossy(&body));
        return Ok(Response::new(Body::from(text)));
    }
    let upgrade = request.headers()[header::UPGRADE].clone();
    tokio::spawn(async move {
        let wire = hyper::upgrade::on(request).await.expect("upgraded");
        let (mut read, mut write) = tokio::io::split(TokioIo::new(wire));
        write.write_all(format!("{line}\n").as_bytes()).await.expect("written");
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let mut response = Response::builder()
        .status(101)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, upgrade);
    if let Some(protocol) = protocol {
        response = response.header("x-stream-protocol-version", protocol);
    }
    Ok(response.body(Body::empty()).expect("a response"))
}

fn serve(listener: TcpListener, tls: Option<TlsAcceptor>) {
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let service = service_fn(answer);
                let _ = match tls {
                    None => {
                        http.serve_connection(TokioIo::new(stream), service).with_upgrades().await
                    }
                    Some(tls) => {
                        let stream = tls.accept(stream).await.expect("a handshake");
                        http.serve_connection(TokioIo::new(stream), service).with_upgrades().await
                    }
                };
            });
        }
    });
}

/// A network with a node whose kubelet is `answer`, and a pod `p` on it.
async fn network() -> Network {
    let network = Network::new().await;
    let (listener, address) = listen().await;
    let key = network.ca.issue_server(&["127.0.0.1".into()]).expect("a certificate");
    let tls = network.ca.private_server_config(&key, "apiserver").expect("TLS");
    serve(listener, Some(TlsAcceptor::from(Arc::new(tls))));
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}});
    let pod = |name: &str, spec: &str| {
        format!(
            r#"POST {PODS} {{"metadata":{{"name":"{name}"}},"spec":{{{spec}"containers":[{{"name":"c","image":"i"}}]}}}}"#
        )
    };
    script(
        &network,
        &[
            r#"POST /api/v1/nodes {"metadata":{"name":"n"}}"#.to_owned(),
            format!(r#"PATCH /api/v1/nodes/n/status merge {{"status":{status}}}"#),
            r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#
                .into(),
            pod("p", r#""nodeName":"n","#),
            pod("refuse", r#""nodeName":"n","#),
            pod("late", ""),
        ],
    )
    .await;
    network
}

async fn script(network: &Network, lines: &[String]) {
    for line in lines {
        let answer = network.cluster.run(line).await;
        assert!(answer.code < 300, "{line}: {}", answer.summary());
    }
}

/// Over HTTP/1.1, as clients do that want an upgrade.
async fn send(
    network: &Network,
    user: &str,
    groups: &[&str],
    request: Request<Body>,
) -> Response<Incoming> {
    let key = network.ca.issue_client(user, groups).expect("a certificate");
    let config = network.ca.client_config(&key).expect("TLS");
    let stream = TcpStream::connect(network.address).await.expect("connects");
    let name = rustls_pki_types::ServerName::from(network.address.ip());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.expect("an answer")
}

fn request(method: &str, path: &str, upgrade: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "server");
    let request = match upgrade {
        "" => request,
        upgrade => request
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, upgrade)
            .header("x-stream-protocol-version", "v4.channel.k8s.io"),
    };
    request.body(Body::empty()).expect("a request")
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

/// What is said on an upgraded connection, to its end.
async fn talk(response: Response<Incoming>, say: &str) -> String {
    assert_eq!(response.status().as_u16(), 101);
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    let wire = hyper::upgrade::on(response).await.expect("upgraded");
    let (mut read, mut write) = tokio::io::split(TokioIo::new(wire));
    write.write_all(say.as_bytes()).await.expect("written");
    write.shutdown().await.expect("shut down");
    let mut heard = String::new();
    read.read_to_string(&mut heard).await.expect("read");
    heard
}

const ADMIN: (&str, [&str; 1]) = ("admin", ["system:masters"]);

#[tokio::test]
async fn sessions_are_handed_to_the_kubelet() {
    let network = network().await;
    for (path, expected) in [
        (
            "p/exec?container=c&command=sh&command=-c&command=a+b&stdin=true&stdout=true&stderr=true",
            "/exec/default/p/c?input=1&output=1&error=1&command=sh&command=-c&command=a%20b",
        ),
        ("p/attach?stdout=1&tty=1", "/attach/default/p/c?output=1&tty=1"),
        ("p/portforward?ports=80", "/portForward/default/p?ports=80"),
    ] {
        for (method, upgrade) in [("POST", "SPDY/3.1"), ("GET", "websocket")] {
            let request = request(method, &format!("{PODS}/{path}"), upgrade);
            let response = send(&network, ADMIN.0, &ADMIN.1, request).await;
            let heard = talk(response, "and back").await;
            assert_eq!(heard, format!("{method} {expected}\nand back"));
        }
    }
    for (path, upgrade, code, why) in [
        ("p/exec?command=a", "", 400, "Upgrade request required"),
        ("p/exec?command=a&container=d", "websocket", 400, "container d is not valid for pod p"),
        ("late/exec?command=a", "websocket", 400, "pod late does not have a host assigned"),
        ("none/exec?command=a", "websocket", 404, "not found"),
        ("refuse/exec?command=a", "websocket", 403, "not today"),
    ] {
        let request = request("GET", &format!("{PODS}/{path}"), upgrade);
        let (told, body) = text(send(&network, ADMIN.0, &ADMIN.1, request).await).await;
        assert!(told == code && body.contains(why), "{path}: {told} {body}");
    }
}

#[tokio::test]
async fn a_websocket_is_no_way_around_the_right_to_create() {
    let network = network().await;
    script(
        &network,
        &[
            r#"POST /apis/rbac.authorization.k8s.io/v1/clusterroles {"metadata":{"name":"reader"},"rules":[{"apiGroups":[""],"resources":["pods/exec"],"verbs":["get"]}]}"#.into(),
            r#"POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings {"metadata":{"name":"reader"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"reader"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"eve"}]}"#.into(),
        ],
    )
    .await;
    for (method, upgrade, verb) in [("GET", "websocket", "create"), ("POST", "SPDY/3.1", "create")]
    {
        let request = request(method, &format!("{PODS}/p/exec?command=a&stdout=1"), upgrade);
        let (code, body) = text(send(&network, "eve", &[], request).await).await;
        let why = format!(r#"User \"eve\" cannot {verb} resource \"pods/exec\""#);
        assert!(code == 403 && body.contains(&why), "{code} {body}");
    }
}

#[tokio::test]
async fn pods_and_services_are_reached_through_the_proxy() {
    let network = network().await;
    // An address of a pod, which Linux answers on `lo` without any set-up.
    let listener = TcpListener::bind("127.64.250.77:0").await.expect("a port");
    let backend: SocketAddr = listener.local_addr().expect("an address");
    serve(listener, None);
    let port = backend.port();
    let status = json!({"podIP": "127.64.250.77", "podIPs": [{"ip": "127.64.250.77"}]});
    let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"name": "web", "port": port}],
        "endpoints": [{"addresses": ["127.64.250.77"], "conditions": {"ready": true}}]});
    script(
        &network,
        &[
            format!(r#"PATCH {PODS}/p/status merge {{"status":{status}}}"#),
            format!(r#"PATCH {PODS}/late/status merge {{"status":{{"podIP":"127.0.0.1","podIPs":[{{"ip":"127.0.0.1"}}]}}}}"#),
            format!(r#"POST {SERVICES} {{"metadata":{{"name":"s"}},"spec":{{"ports":[{{"name":"web","port":80}}]}}}}"#),
            format!(r#"POST {SERVICES} {{"metadata":{{"name":"empty"}},"spec":{{"ports":[{{"port":80}}]}}}}"#),
            format!("POST /apis/discovery.k8s.io/v1/namespaces/default/endpointslices {slice}"),
        ],
    )
    .await;
    for (path, code, expected) in [
        (format!("{PODS}/p:{port}/proxy/a%20b/?x=1"), 200, "GET /a%20b/?x=1 false ".to_owned()),
        (format!("{PODS}/http:p:{port}/proxy/"), 200, "GET / false ".to_owned()),
        (format!("{SERVICES}/s:web/proxy/a"), 200, "GET /a false ".to_owned()),
        (format!("{SERVICES}/s:80/proxy/a/b"), 200, "GET /a/b false ".to_owned()),
        (format!("{SERVICES}/s/proxy/refuse"), 403, "not today".to_owned()),
        (format!("{SERVICES}/s:81/proxy/"), 503, "no service port".to_owned()),
        (format!("{SERVICES}/empty/proxy/"), 503, "no endpoints available for service".to_owned()),
        (format!("{SERVICES}/none/proxy/"), 404, "not found".to_owned()),
        (format!("{PODS}/ftp:p:1/proxy/"), 400, "invalid pod request".to_owned()),
        (format!("{PODS}/late:{port}/proxy/"), 400, "address not allowed".to_owned()),
        (format!("{PODS}/p:1/proxy/"), 503, "dial tcp 127.64.250.77:1".to_owned()),
    ] {
        let (told, body) =
            text(send(&network, ADMIN.0, &ADMIN.1, request("GET", &path, "")).await).await;
        assert!(told == code && body.contains(&expected), "{path}: {told} {body}");
    }
    let large = "x".repeat(4 * 1024 * 1024);
    let path = format!("{PODS}/p:{port}/proxy/up");
    let post = Request::post(&path).header(header::HOST, "server").body(Body::from(large.clone()));
    let (code, body) =
        text(send(&network, ADMIN.0, &ADMIN.1, post.expect("a request")).await).await;
    assert!(code == 200 && body == format!("POST /up false {large}"));
    let response = send(&network, ADMIN.0, &ADMIN.1, request("GET", &path, "websocket")).await;
    assert_eq!(talk(response, "through").await, "GET /up\nthrough");
    let bare = request("GET", &format!("{SERVICES}/s:web/proxy?q=1"), "");
    let response = send(&network, ADMIN.0, &ADMIN.1, bare).await;
    assert_eq!(response.status().as_u16(), 301);
    assert_eq!(response.headers()[header::LOCATION], format!("{SERVICES}/s:web/proxy/?q=1"));
}
