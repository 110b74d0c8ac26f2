//! Certificates over real TLS on the loopback: who gets in where, and as whom.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use windlass_apiserver_access::{
    Authenticator, User,
    pki::{Authority, CertifiedKey, KUBELET_CLIENT, PkiError, kubeconfig},
};
use windlass_sdk_meta::{Clock, SystemClock, Timestamp};

fn new_authority() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open_or_create(&folder.path().join("pki"), Arc::new(SystemClock));
    (folder, authority.expect("an authority"))
}

/// A handshake and one byte each way; the certificate that the server saw.
async fn connect(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    host: &'static str,
) -> Result<Option<Vec<u8>>, std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await?;
        let seen = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        stream.write_all(b"x").await?;
        stream.flush().await?;
        stream.shutdown().await?;
        Ok::<_, std::io::Error>(seen)
    };
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        let name = host.try_into().expect("a name");
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
        stream.read_u8().await
    };
    let (seen, read) = tokio::join!(serve, dial);
    read?;
    seen
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_authority_is_made_once_and_kept() {
    let (folder, first) = new_authority();
    let dir = folder.path().join("pki");
    let again = Authority::open_or_create(&dir, Arc::new(SystemClock)).expect("open");
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    for file in ["ca.crt", "ca.key"] {
        let mode = fs::metadata(dir.join(file)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    let (_other, stranger) = new_authority();
    fs::write(dir.join("ca.crt"), stranger.certificate_pem()).expect("write");
    let Err(error) = Authority::open_or_create(&dir, Arc::new(SystemClock)) else {
        panic!("the key belongs to another certificate")
    };
    assert!(error.to_string().contains("ca.key"), "{error}");
    fs::remove_file(dir.join("ca.key")).expect("remove");
    assert!(matches!(
        Authority::open_or_create(&dir, Arc::new(SystemClock)),
        Err(PkiError::Io { path, .. }) if path.ends_with("ca.key")
    ));
}

#[test]
fn certificates_name_users() {
    let (_folder, authority) = new_authority();
    let authenticator =
        Authenticator::new(authority.certificate_der().clone(), Arc::new(SystemClock));
    let admin = authority.issue_client("kubernetes-admin", &["system:masters"]).expect("issue");
    assert_eq!(
        authenticator.certificate(&admin.cert_der),
        Ok(User::authenticated("kubernetes-admin", &["system:masters"]))
    );
    let node = authority.issue_client("system:node:a", &["system:nodes"]).expect("issue");
    let user = authenticator.certificate(&node.cert_der).expect("valid");
    assert_eq!(user.node_name(), Some("a"));

    let (_other, stranger) = new_authority();
    let forged = stranger.issue_client("kubernetes-admin", &["system:masters"]).expect("issue");
    assert!(authenticator.certificate(&forged.cert_der).is_err());
    assert!(authenticator.certificate(b"no certificate").is_err());
    let server = authority.issue_server(&names(&["localhost"])).expect("issue");
    assert!(authenticator.certificate(&server.cert_der).is_err(), "a server is no client");
    assert!(authority.issue_client("x", &["a", "b"]).is_err());
}

#[test]
fn certificates_end() {
    #[derive(Debug)]
    struct LongAgo;
    impl Clock for LongAgo {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_600_000_000).expect("a time")
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    drop(Authority::open_or_create(folder.path(), Arc::new(SystemClock)).expect("made now"));
    let authority = Authority::open_or_create(folder.path(), Arc::new(LongAgo)).expect("open");
    let authenticator =
        Authenticator::new(authority.certificate_der().clone(), Arc::new(SystemClock));
    let old = authority.issue_client("jane", &[]).expect("issue");
    assert!(authenticator.certificate(&old.cert_der).is_err());
}

#[test]
fn wrong_names_are_named() {
    let (_folder, authority) = new_authority();
    for wrong in ["a b", "", "-x", "höst", "a..b"] {
        let error = authority.issue_server(&names(&["localhost", wrong])).expect_err(wrong);
        assert!(matches!(&error, PkiError::Name(name) if name == wrong), "{wrong}: {error}");
    }
    authority
        .issue_server(&names(&["127.0.0.1", "::1", "*.svc", "kubernetes.default"]))
        .expect("issue");
}

#[tokio::test]
async fn the_api_server_lets_everybody_in_and_sees_who_it_is() {
    let (_folder, authority) = new_authority();
    let own = authority.issue_server(&names(&["127.0.0.1", "localhost"])).expect("issue");
    let config = || authority.server_config(&own).expect("config");
    let dial = |key: &CertifiedKey| authority.client_config(key).expect("config");
    let jane = authority.issue_client("jane", &[]).expect("issue");
    for host in ["127.0.0.1", "localhost"] {
        let seen = connect(config(), dial(&jane), host).await.expect("connected");
        assert_eq!(seen.as_deref(), Some(&*jane.cert_der));
    }
    connect(config(), dial(&jane), "elsewhere").await.expect_err("not its name");

    let (_other, stranger) = new_authority();
    let forged = stranger.issue_client("jane", &[]).expect("issue");
    let seen = connect(config(), dial(&forged), "localhost").await.expect("judged later, with 401");
    // The client may keep a certificate back that the server didn't ask for.
    assert!(seen.is_none_or(|seen| seen == *forged.cert_der));
}

#[tokio::test]
async fn a_kubelet_listens_to_the_api_server_only() {
    let (_folder, authority) = new_authority();
    let own = authority.issue_server(&names(&["localhost"])).expect("issue");
    let config = || authority.private_server_config(&own, KUBELET_CLIENT).expect("config");
    let dial = |user: &str| {
        let key = authority.issue_client(user, &["system:masters"]).expect("issue");
        authority.client_config(&key).expect("config")
    };
    connect(config(), dial(KUBELET_CLIENT), "localhost").await.expect("connected");
    connect(config(), dial("kubernetes-admin"), "localhost").await.expect_err("not the API server");
}

#[test]
fn a_kubeconfig_holds_everything() {
    let (_folder, authority) = new_authority();
    let admin = authority.issue_client("kubernetes-admin", &["system:masters"]).expect("issue");
    let text = kubeconfig("https://127.0.0.1:6443", authority.certificate_pem(), &admin);
    let shape: Vec<&str> =
        text.lines().map(|line| line.split("-data: ").next().unwrap_or(line)).collect();
    expect_test::expect![[r#"
        apiVersion: v1
        kind: Config
        clusters:
        - name: windlass
          cluster:
            server: "https://127.0.0.1:6443"
            certificate-authority
        users:
        - name: admin
          user:
            client-certificate
            client-key
        contexts:
        - name: windlass
          context:
            cluster: windlass
            user: admin
        current-context: windlass
        preferences: {}"#]]
    .assert_eq(&shape.join("\n"));
}
