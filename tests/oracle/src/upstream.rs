//! Upstream's kube-apiserver over an etcd of its own, both ended with this process.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;
use windlass_apiserver_access::pki::Authority;

pub const USER: &str = "admin";
pub const USER_UID: &str = "admin-uid";
pub const USER_GROUP: &str = "system:masters";
/// Of both servers, so that allocated addresses look alike.
pub const SERVICE_RANGE: [u8; 4] = [10, 96, 0, 0];
pub const SERVICE_RANGE_BITS: u8 = 16;
const TOKEN: &str = "oracle";
const HOST: &str = "localhost";
/// A cold start on a busy machine takes half of it.
const READY_WITHIN: Duration = Duration::from_secs(180);

const LOG_LINES: usize = 12;
/// How often a request is sent again because its connection ended, and how long the next one waits.
const SENT_AT_MOST: u32 = 6;
const RECONNECT_WAIT: Duration = Duration::from_millis(250);

/// Whether what the pair acknowledges is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As etcd is run.
    Synced,
    /// Faster, for who only looks at answers.
    Unsynced,
}

/// A running pair of processes, and a connection.
pub struct Upstream {
    connection: Mutex<Connection>,
    port: u16,
    /// Says whom to trust on the next connection.
    tls: Arc<ClientConfig>,
    processes: [Process; 2],
}

/// The connection that requests take, and how many there were before it.
struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    number: u64,
}

/// Killed by its own id when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Upstream {
    /// Starts both in `folder` and waits until the API server is ready.
    pub async fn start(
        apiserver: &Path,
        etcd: &Path,
        folder: &Path,
        authority: &Authority,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let store = free_port()?;
        let etcd = start_etcd(etcd, &folder.join("etcd"), store, durability)?;
        let port = free_port()?;
        let server = start_apiserver(apiserver, &folder.join("apiserver"), port, store, authority)?;
        let mut processes = [server, etcd];
        let tls = trusting(authority)?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let why = match connect(port, &tls).await {
                Ok(mut sender) => match ready(&mut sender).await {
                    Ok(()) => {
                        let connection = Mutex::new(Connection { sender, number: 0 });
                        return Ok(Self { connection, port, tls, processes });
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if let Some(status) = processes[0].0.try_wait()? {
                bail!("kube-apiserver ended ({status}): {}", log(folder, "apiserver"));
            }
            if Instant::now() > deadline {
                bail!("kube-apiserver isn't ready: {why:#}: {}", log(folder, "apiserver"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Where the API server answers.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The API server's process and its etcd's.
    pub fn pids(&self) -> [u32; 2] {
        self.processes.each_ref().map(|process| process.0.id())
    }

    /// Sends a request and reads the whole answer. The server closes connections after some of its
    /// own failures, with what others have under way on them: these are sent again on a new one.
    /// Errors: the stream was reset (see `is_reset`), or the last of several connections ended.
    pub async fn exchange(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let mut sent = 0;
        loop {
            sent += 1;
            let (used, answer) = self.exchange_once(request.clone()).await;
            match answer {
                Err(error) if !is_reset(&error) && sent < SENT_AT_MOST => {
                    self.reconnect(used).await;
                }
                answer => return answer.with_context(|| format!("sent {sent} times")),
            }
        }
    }

    async fn exchange_once(
        &self,
        request: Request<Bytes>,
    ) -> (u64, anyhow::Result<Response<Bytes>>) {
        let (sender, number) = self.current().await;
        let answer = async {
            let (parts, body) = send_on(sender, request).await?.into_parts();
            Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
        };
        (number, answer.await)
    }

    async fn current(&self) -> (http2::SendRequest<Full<Bytes>>, u64) {
        let connection = self.connection.lock().await;
        (connection.sender.clone(), connection.number)
    }

    /// Replaces the connection of that number, unless somebody did already. One that can't be made
    /// now is tried for by the next request.
    async fn reconnect(&self, used: u64) {
        let mut connection = self.connection.lock().await;
        if connection.number != used {
            return;
        }
        match connect(self.port, &self.tls).await {
            Ok(sender) => *connection = Connection { sender, number: used + 1 },
            Err(_) => tokio::time::sleep(RECONNECT_WAIT).await,
        }
    }
}

/// The stream was reset and the connection lives: a handler that panics takes its stream with it.
pub fn is_reset(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("stream error received"))
}

async fn send_on(
    mut sender: http2::SendRequest<Full<Bytes>>,
    mut request: Request<Bytes>,
) -> anyhow::Result<Response<Incoming>> {
    authenticate(&mut request)?;
    sender.ready().await?;
    Ok(sender.send_request(request.map(Full::new)).await?)
}

/// The last lines that a program said: its folder goes with ours.
fn log(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(name).join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

fn start_etcd(
    program: &Path,
    folder: &Path,
    port: u16,
    durability: Durability,
) -> anyhow::Result<Process> {
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let client = format!("http://127.0.0.1:{port}");
    let mut command = logged(program, folder)?;
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    if durability == Durability::Unsynced {
        command.arg("--unsafe-no-fsync");
    }
    spawn(&mut command)
}

fn start_apiserver(
    program: &Path,
    folder: &Path,
    port: u16,
    store: u16,
    authority: &Authority,
) -> anyhow::Result<Process> {
    let mut command = logged(program, folder)?;
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    let own = authority.issue_server(&[HOST.into(), "127.0.0.1".into()])?;
    let (certificate, key) = (file("cert.pem", &own.cert_pem)?, file("key.pem", &own.key_pem)?);
    let flags = [
        ("--tls-cert-file", certificate.clone()),
        ("--tls-private-key-file", key.clone()),
        // It reads a public key from a certificate, but not from a key in PKCS#8.
        ("--service-account-key-file", certificate),
        ("--service-account-signing-key-file", key),
        ("--client-ca-file", file("ca.pem", authority.certificate_pem())?),
        (
            "--token-auth-file",
            file("tokens.csv", &format!("{TOKEN},{USER},{USER_UID},\"{USER_GROUP}\"\n"))?,
        ),
        ("--cert-dir", folder.join("certs")),
    ];
    for (flag, path) in flags {
        command.arg(flag).arg(path);
    }
    let range = format!("{}/{SERVICE_RANGE_BITS}", Ipv4Addr::from(SERVICE_RANGE));
    command.args(["--etcd-servers", &format!("http://127.0.0.1:{store}")]);
    command.args(["--bind-address", "127.0.0.1", "--secure-port", &port.to_string()]);
    command.args(["--service-cluster-ip-range", &range, "--authorization-mode", "Node,RBAC"]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    command.args(["--endpoint-reconciler-type", "none", "--allow-privileged"]);
    spawn(&mut command)
}

/// A command in a folder of its own that says what it has to say into the file `log` there.
fn logged(program: &Path, folder: &Path) -> anyhow::Result<Command> {
    std::fs::create_dir_all(folder)?;
    let file = std::fs::File::create(folder.join("log"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(command)
}

fn spawn(command: &mut Command) -> anyhow::Result<Process> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().with_context(|| format!("start {program}"))?;
    Ok(Process(child))
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn trusting(authority: &Authority) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone())?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn connect(
    port: u16,
    tls: &Arc<ClientConfig>,
) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
    let tcp = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(tls.clone()).connect(HOST.try_into()?, tcp).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ready(sender: &mut http2::SendRequest<Full<Bytes>>) -> anyhow::Result<()> {
    let mut request = Request::get("/readyz").body(Bytes::new())?;
    authenticate(&mut request)?;
    let response = sender.send_request(request.map(Full::new)).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("/readyz: {status}: {}", String::from_utf8_lossy(&text));
    }
    Ok(())
}

/// The token, and the authority that HTTP/2 wants.
fn authenticate<B>(request: &mut Request<B>) -> anyhow::Result<()> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("https://{HOST}{path}").parse()?;
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, format!("Bearer {TOKEN}").parse()?);
    Ok(())
}
