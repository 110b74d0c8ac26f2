//! Requests of guests over TLS, to a server in another pod, and TLS that guests speak over sockets
//! of their own.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use windlass_runtime_api::{ContainerSpec, Mount};
use windlass_runtime_net::{PodRef, Table};

use crate::node::{Node, guest};

/// The pod and the service that serve https.
const POD: &str = "127.95.255.1:8443";
const SERVICE: &str = "127.97.4.4:443";

/// Answers with the protocol's version and as many bytes as the path says, at `https://secure`.
struct Server {
    connections: Arc<AtomicU32>,
    authority: String,
}

impl Server {
    async fn start(node: &Node, protocols: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("an authority");
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().expect("a key");
        let names = vec!["secure".to_string(), "secure.default.svc.cluster.local".into()];
        let certificate = CertificateParams::new(names).expect("parameters");
        let certificate = certificate.signed_by(&own, &issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();

        let at: SocketAddr = POD.parse().expect("address");
        let service: SocketAddr = SERVICE.parse().expect("address");
        let std::net::IpAddr::V4(ip) = service.ip() else { unreachable!("it is IPv4") };
        let name = |name: &str| ("default".to_string(), name.to_string());
        node.net.set_table(Table {
            ports: [(service, [at].into())].into(),
            names: [("default".into(), [("secure".into(), ip)].into())].into(),
            by_address: [(ip, name("secure"))].into(),
            ..Table::default()
        });
        let pod = PodRef { uid: "uid-secure".into(), ..PodRef::default() };
        let mut listener = node.net.listen(&pod, at).await.expect("a free port");
        let (acceptor, connections) =
            (TlsAcceptor::from(Arc::new(config)), Arc::new(AtomicU32::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            loop {
                let conn = listener.accept().await;
                counted.fetch_add(1, Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A handshake that fails is the client's to tell of.
                    let Ok(stream) = acceptor.accept(conn).await else { return };
                    let served = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                    drop(served);
                });
            }
        });
        Self { connections, authority: authority.pem() }
    }

    /// A caller that trusts the authority by a mounted file.
    async fn caller(&self, node: &Node, name: &str, variable: &str) -> ContainerSpec {
        self.trusting(node, name, variable, "http-caller").await
    }

    async fn trusting(&self, node: &Node, name: &str, variable: &str, runs: &str) -> ContainerSpec {
        let folder = node.folder.path().join(format!("ca-of-{name}"));
        fs::create_dir(&folder).expect("a folder");
        // As a ConfigMap volume has it.
        fs::create_dir(folder.join("..data")).expect("a folder");
        fs::write(folder.join("..data/ca.crt"), &self.authority).expect("a file");
        std::os::unix::fs::symlink("..data/ca.crt", folder.join("ca.crt")).expect("a link");
        let mut spec = node.pod(name, &guest(runs));
        let path = if variable == "SSL_CERT_FILE" { "/etc/ca/ca.crt" } else { "/etc/ca" };
        spec.env.push((variable.into(), path.into()));
        spec.mounts.push(Mount {
            host_path: folder,
            container_path: "/etc/ca".into(),
            read_only: true,
            ..Mount::default()
        });
        node.started(spec).await
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => request.headers()["host"].to_str().expect("text").to_owned(),
    };
    let bytes = request.uri().path()[1..].parse().unwrap_or(0);
    let mut body = format!("{:?} {authority}\n", request.version()).into_bytes();
    body.resize(body.len().max(bytes), b'x');
    Ok(Response::new(Full::new(body.into())))
}

async fn get(node: &Node, caller: &ContainerSpec, url: &str) -> (u16, String) {
    let answer = node.get(caller, &format!("/?url={url}")).await.expect("answers");
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn a_guest_speaks_https_with_the_version_the_server_knows() {
    for (protocols, version) in
        [(vec!["h2", "http/1.1"], "HTTP/2.0"), (vec!["http/1.1"], "HTTP/1.1"), (vec![], "HTTP/1.1")]
    {
        let node = Node::new();
        let server = Server::start(&node, &protocols).await;
        let caller = server.caller(&node, "caller", "SSL_CERT_FILE").await;
        for url in ["https://secure/", "https://secure/0", "https://secure:443/"] {
            let (status, body) = get(&node, &caller, url).await;
            assert_eq!(status, 200, "{url} {protocols:?}: {body}");
            assert!(body.starts_with(&format!("{version} secure")), "{protocols:?}: {body}");
        }
        assert_eq!(server.connections.load(Relaxed), 1, "kept for the next request");
        let (_, body) = get(&node, &caller, "https://secure/4000000").await;
        assert_eq!(body.len(), 4_000_000, "{protocols:?}");
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_that_name() {
    let node = Node::new();
    let server = Server::start(&node, &["h2"]).await;
    let trusting = server.caller(&node, "trusting", "SSL_CERT_DIR").await;
    let full = "https://secure.default.svc.cluster.local/";
    assert_eq!(get(&node, &trusting, full).await.0, 200);
    for url in ["https://secure.default/", "https://127.97.4.4/"] {
        let (status, body) = get(&node, &trusting, url).await;
        assert!(status == 502 && body.contains("TlsCertificateError"), "{url}: {body}");
    }
    let stranger = node.started(node.pod("stranger", &guest("http-caller"))).await;
    let (status, body) = get(&node, &stranger, full).await;
    // A machine may have no root certificates at all.
    let refused = body.contains("TlsCertificateError") || body.contains("no root certificates");
    assert!(status == 502 && refused, "{body}");
    let log = node.log(&stranger, 1).await.join("\n");
    assert!(log.contains("https"), "{log}");

    let mut lost = node.pod("lost", &guest("http-caller"));
    lost.env.push(("SSL_CERT_FILE".into(), "/nowhere/ca.crt".into()));
    let lost = node.started(lost).await;
    assert_eq!(get(&node, &lost, full).await.0, 502);
    let log = node.log(&lost, 1).await.join("\n");
    assert!(log.contains("SSL_CERT_FILE /nowhere/ca.crt: no mount has it"), "{log}");
}

#[tokio::test]
async fn guests_speak_tls_over_their_sockets() {
    for guest_of in ["http-tls", "http3-tls"] {
        let node = Node::new();
        let server = Server::start(&node, &["http/1.1"]).await;
        let trusting = server.trusting(&node, "trusting", "SSL_CERT_FILE", guest_of).await;
        let path = format!("/?to={SERVICE}&name=secure");
        let answer = node.get(&trusting, &path).await.expect("answers");
        assert_eq!(answer.status, 200, "{guest_of}: {}", answer.body);
        assert!(answer.body.starts_with("HTTP/1.1 200 OK\r\n"), "{guest_of}: {}", answer.body);
        assert!(answer.body.ends_with("HTTP/1.1 secure\n"), "{guest_of}: {}", answer.body);

        // For another name, and for a guest that doesn't know the authority.
        let stranger = node.started(node.pod("stranger", &guest(guest_of))).await;
        for (caller, name) in [(&trusting, "other"), (&trusting, "-"), (&stranger, "secure")] {
            let path = format!("/?to={SERVICE}&name={name}");
            let answer = node.get(caller, &path).await.expect("answers");
            assert_eq!(answer.status, 502, "{guest_of} {name}: {}", answer.body);
            let known = ["certificate", "is no name of a server"];
            assert!(known.iter().any(|known| answer.body.contains(known)), "{}", answer.body);
        }
    }
}
