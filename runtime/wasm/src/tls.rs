//! TLS of outgoing requests. Trusted are the node's root certificates, as the system's libraries
//! find them, and those that the container's own SSL_CERT_FILE and SSL_CERT_DIR name: paths of the
//! container, so that a mounted ConfigMap can carry an authority.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::Error;
use windlass_runtime_net::Conn;

use crate::container::Container;

/// The node's certificates are read again after so long.
const SYSTEM_FOR: Duration = Duration::from_secs(600);
/// A container's: a mounted ConfigMap may change.
const CONTAINER_FOR: Duration = Duration::from_secs(60);
/// Of one file, and of all files of a container.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 256;

/// The node's root certificates.
#[derive(Default)]
pub struct SystemRoots(Mutex<Option<(Instant, Arc<RootCertStore>)>>);

/// What a container's connections are made with.
#[derive(Default)]
pub struct ContainerTls(Mutex<Option<(Instant, Arc<ClientConfig>)>>);

impl SystemRoots {
    fn get(&self) -> Arc<RootCertStore> {
        let mut known = self.0.lock();
        if let Some((at, roots)) = &*known
            && at.elapsed() < SYSTEM_FOR
            && !roots.is_empty()
        {
            return roots.clone();
        }
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "root certificates");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        let roots = Arc::new(roots);
        *known = Some((Instant::now(), roots.clone()));
        roots
    }
}

/// Makes a connection speak TLS with the host; tells whether HTTP/2 was agreed on.
pub async fn connect(
    container: &Arc<Container>,
    host: &str,
    conn: Conn,
) -> Result<(TlsStream<Conn>, bool), Error> {
    let config = match container.tls.known() {
        Some(config) => config,
        None => {
            let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
            if container.spec.env.iter().any(|(name, _)| names.contains(&name.as_str())) {
                // A volume may hold them.
                let opened = container.open_mounts().await;
                opened.map_err(|failure| Error::InternalError(Some(failure.message())))?;
            }
            let of = container.clone();
            let made = tokio::task::spawn_blocking(move || make(&of)).await;
            let made = made.map_err(|error| Error::InternalError(Some(error.to_string())))?;
            let config = made.map_err(|error| {
                container.log.note(&error.to_string());
                Error::InternalError(Some(error.to_string()))
            })?;
            *container.tls.0.lock() = Some((Instant::now(), config.clone()));
            config
        }
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(config).connect(name, conn).await.map_err(|error| {
        container.log.note(&format!("https://{host}: {error}"));
        meaning(error)
    })?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((stream, http2))
}

const NO_ROOTS: &str = "https: no root certificates were found: install the system's \
     (ca-certificates) on the node, or mount some and name their file in SSL_CERT_FILE";

impl ContainerTls {
    fn known(&self) -> Option<Arc<ClientConfig>> {
        let known = self.0.lock();
        let (at, config) = known.as_ref()?;
        (at.elapsed() < CONTAINER_FOR).then(|| config.clone())
    }
}

/// Reads files; must be called where that may take a moment.
fn make(container: &Container) -> io::Result<Arc<ClientConfig>> {
    let mut roots = container.host.roots.get();
    let own = own_certificates(container);
    if !own.is_empty() {
        let mut both = (*roots).clone();
        both.add_parsable_certificates(own);
        roots = Arc::new(both);
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, NO_ROOTS));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What SSL_CERT_FILE and SSL_CERT_DIR name. A file that can't be read is said in the log.
fn own_certificates(container: &Container) -> Vec<CertificateDer<'static>> {
    let variable = |name: &str| {
        let env = container.spec.env.iter().rev();
        env.filter(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.clone())
            .next()
    };
    let mut files = Vec::new();
    if let Some(path) = variable("SSL_CERT_FILE") {
        match container.mounts.resolve(&path) {
            Some(file) => files.push(file),
            None => container.log.note(&format!("SSL_CERT_FILE {path}: no mount has it")),
        }
    }
    for path in variable("SSL_CERT_DIR").iter().flat_map(|paths| paths.split(':')) {
        match container.mounts.resolve(path).and_then(|folder| files_of(&folder)) {
            Some(found) => files.extend(found),
            None => container.log.note(&format!("SSL_CERT_DIR {path}: no mount has it")),
        }
    }
    let mut certificates = Vec::new();
    for file in files.iter().take(MAX_FILES) {
        match read(file) {
            Ok(bytes) => certificates.extend(CertificateDer::pem_slice_iter(&bytes).flatten()),
            Err(error) => {
                let name = file.file_name().unwrap_or_default().display();
                container.log.note(&format!("certificates of {name}: {error}"));
            }
        }
    }
    certificates
}

/// The files of a folder, where their links stay in it.
fn files_of(folder: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).ok()?.flatten().take(MAX_FILES);
    let files = entries.filter_map(|entry| {
        let file = fs::canonicalize(entry.path()).ok()?;
        (file.starts_with(folder) && file.is_file()).then_some(file)
    });
    Some(files.collect())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    // The guest may have put something else there that would keep whoever opens it.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What the guest is told of a failed handshake; the log has it in words.
fn meaning(error: io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::Tls(error),
    }
}
