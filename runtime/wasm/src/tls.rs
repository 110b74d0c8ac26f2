//! TLS of outgoing requests, and of `wasi:tls`. Trusted are the node's root certificates, as the system's libraries
//! find them, and those that the container's own SSL_CERT_FILE and SSL_CERT_DIR name: paths of the
//! container, so that a mounted ConfigMap can carry an authority.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_tls::{TlsProvider, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder};
use windlass_runtime_net::Conn;

use crate::{container::Container, sockets::ops::Permit};

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
pub struct ContainerTls(Mutex<Option<(Instant, Configs)>>);

/// The same trust for two uses.
#[derive(Clone)]
struct Configs {
    https: Arc<ClientConfig>,
    /// What is spoken over it is the guest's business.
    plain: Arc<ClientConfig>,
}

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
    let config = configs(container).await.map_err(|why| Error::InternalError(Some(why)))?.https;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(config).connect(name, conn).await.map_err(|error| {
        container.log.note(&format!("https://{host}: {error}"));
        meaning(error)
    })?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((stream, http2))
}

/// The container's configurations, or in words why there are none.
async fn configs(container: &Arc<Container>) -> Result<Configs, String> {
    if let Some(known) = container.tls.known() {
        return Ok(known);
    }
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    if container.spec.env.iter().any(|(name, _)| names.contains(&name.as_str())) {
        // A volume may hold them.
        container.open_mounts().await.map_err(|failure| failure.message())?;
    }
    let of = container.clone();
    let made = tokio::task::spawn_blocking(move || make(&of)).await;
    let configs = made.map_err(|error| error.to_string())?.map_err(|error| {
        container.log.note(&error.to_string());
        error.to_string()
    })?;
    *container.tls.0.lock() = Some((Instant::now(), configs.clone()));
    Ok(configs)
}

const NO_ROOTS: &str = "https and TLS: no root certificates were found: install the system's \
     (ca-certificates) on the node, or mount some and name their file in SSL_CERT_FILE";

impl ContainerTls {
    fn known(&self) -> Option<Configs> {
        let known = self.0.lock();
        let (at, configs) = known.as_ref()?;
        (at.elapsed() < CONTAINER_FOR).then(|| configs.clone())
    }
}

/// Reads files; must be called where that may take a moment.
fn make(container: &Container) -> io::Result<Configs> {
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
    let plain = builder.with_root_certificates(roots).with_no_client_auth();
    let mut https = plain.clone();
    https.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Configs { https: Arc::new(https), plain: Arc::new(plain) })
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

/// What `wasi:tls` of an instance works with.
pub fn context(container: &Arc<Container>) -> WasiTlsCtx {
    WasiTlsCtxBuilder::new().provider(Box::new(Provider(container.clone()))).build()
}

/// Speaks TLS over what the guest gives as a connection, which need not be one of its sockets.
struct Provider(Arc<Container>);

type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<dyn wasmtime_wasi_tls::TlsStream>, TlsError>> + Send>>;
type TlsError = wasmtime_wasi_tls::Error;

impl TlsProvider for Provider {
    fn connect(&self, host: String, transport: Box<dyn TlsTransport>) -> Connecting {
        let container = self.0.clone();
        Box::pin(async move {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| TlsError::msg(format!("{host:?} is no name of a server")))?;
            // A session is memory of the host, as a socket is.
            let permit = Permit::take(&container)
                .map_err(|_| TlsError::msg("too many sockets and TLS sessions"))?;
            let config = configs(&container).await.map_err(TlsError::msg)?.plain;
            let stream = TlsConnector::from(config).connect(name, transport).await;
            let stream = stream.map_err(|error| {
                container.log.note(&format!("tls to {host}: {error}"));
                TlsError::msg(error)
            })?;
            Ok(Box::new(Session { stream, _permit: permit }) as Box<_>)
        })
    }
}

struct Session {
    stream: TlsStream<Box<dyn TlsTransport>>,
    _permit: Permit,
}

impl wasmtime_wasi_tls::TlsStream for Session {}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
