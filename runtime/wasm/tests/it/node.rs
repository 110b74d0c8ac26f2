//! A node for a test: the runtime, a pod network, and what a test asks of them.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::Instant;
use windlass_runtime_api::{
    ContainerSpec, ContainerState, ContainerStats, Image, Limits, OnTrap, PodNames, Port, Protocol,
    Reach, Runtime, RuntimeError, Sandbox, Started,
};
use windlass_runtime_net::{Block, Caller, Conn, Machine, PodNet, PodRef};
use windlass_runtime_wasm::{Data, WasmConfig, WasmRuntime};
use windlass_sdk_meta::{Rng, SystemClock};

/// Longer than anything here takes, also on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Node {
    pub runtime: Arc<WasmRuntime>,
    pub net: PodNet,
    pub folder: Arc<TempDir>,
}

impl Node {
    pub fn new() -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().expect("temporary folder")), None)
    }

    /// As a restarted node finds it: what an earlier one left in the folder is there.
    pub fn in_folder(folder: Arc<TempDir>, threads: Option<usize>) -> Self {
        Self::with(folder, |config| config.threads = threads)
    }

    /// With what keeps entries and databases.
    pub fn with_data(data: Data) -> Self {
        Self::in_folder_with(Arc::new(tempfile::tempdir().expect("folder")), None, data)
    }

    pub fn in_folder_with(folder: Arc<TempDir>, threads: Option<usize>, data: Data) -> Self {
        Self::with(folder, |config| (config.threads, config.data) = (threads, data))
    }

    pub fn with(folder: Arc<TempDir>, change: impl FnOnce(&mut WasmConfig)) -> Self {
        let ranges = vec![Block::PODS, Block::SERVICES];
        let net = PodNet::loopback(ranges, Default::default(), Rng::seeded(1));
        Self::with_net(net, folder, change)
    }

    /// On a machine that has other names and addresses.
    pub fn on(machine: Arc<dyn Machine>) -> Self {
        let ranges = vec![Block::PODS, Block::SERVICES];
        let net = PodNet::on(machine, ranges, Default::default(), Rng::seeded(1));
        Self::with_net(net, Arc::new(tempfile::tempdir().expect("temporary folder")), |_| {})
    }

    fn with_net(net: PodNet, folder: Arc<TempDir>, change: impl FnOnce(&mut WasmConfig)) -> Self {
        let mut config = WasmConfig {
            cache_dir: folder.path().join("cache"),
            net: net.clone(),
            clock: Arc::new(SystemClock),
            memory_bytes: Some(1 << 30),
            guest_memory_bytes: None,
            threads: None,
            tracing: None,
            data: Data::default(),
        };
        change(&mut config);
        Self { runtime: WasmRuntime::new(config).expect("a wasm runtime"), net, folder }
    }

    /// The pod's container `main` with a guest, on port 8080 unless changed.
    pub fn pod(&self, name: &str, wasm: &Path) -> ContainerSpec {
        self.pod_of(name, image(wasm))
    }

    pub fn pod_of(&self, name: &str, image: Image) -> ContainerSpec {
        let address = next_address();
        let names = PodNames { hosts: vec![(name.into(), address)], ..PodNames::default() };
        let pod = Arc::new(Sandbox {
            uid: format!("uid-{name}"),
            name: name.into(),
            namespace: "default".into(),
            address,
            hostname: name.into(),
            names: Arc::new(names),
            annotations: BTreeMap::new(),
            linux: Default::default(),
        });
        ContainerSpec {
            log_path: self.folder.path().join("logs").join(name).join("main/0.log"),
            pod,
            name: "main".into(),
            attempt: 0,
            image,
            command: vec![],
            args: vec![],
            env: vec![("GREETING".into(), "good day".into())],
            working_dir: None,
            mounts: vec![],
            late_mounts: None,
            ports: vec![Port { name: "http".into(), port: 8080, protocol: Protocol::Tcp }],
            limits: Limits::default(),
            on_trap: OnTrap::Continue,
            reach: Reach::default(),
            console: Default::default(),
            linux: Default::default(),
        }
    }

    pub async fn start(&self, spec: &ContainerSpec) -> Result<Started, RuntimeError> {
        self.runtime.run_sandbox(spec.pod.clone()).await?;
        self.runtime.start_container(spec.clone()).await
    }

    pub async fn started(&self, spec: ContainerSpec) -> ContainerSpec {
        self.start(&spec).await.expect("the container starts");
        spec
    }

    pub fn state(&self, spec: &ContainerSpec) -> Option<ContainerState> {
        let listed = futures::executor::block_on(self.runtime.list()).expect("list");
        let pod = listed.into_iter().find(|pod| pod.pod_uid == spec.pod.uid)?;
        pod.containers.into_iter().find(|c| c.name == spec.name).map(|c| c.state)
    }

    /// Of a container that runs.
    pub fn stats(&self, spec: &ContainerSpec) -> ContainerStats {
        let all = futures::executor::block_on(self.runtime.stats());
        let pod = all.into_iter().find(|pod| pod.pod_uid == spec.pod.uid).expect("the pod's stats");
        pod.containers.into_iter().find(|c| c.name == spec.name).expect("the container's stats")
    }

    /// Exit code, reason and message, once the container has ended.
    pub async fn exit(&self, spec: &ContainerSpec) -> (i32, String, String) {
        until("the container ends", || match self.state(spec) {
            Some(ContainerState::Exited { exit_code, reason, message, .. }) => {
                Some((exit_code, reason, message))
            }
            _ => None,
        })
        .await
    }

    /// GET through the pod network, on a connection of its own.
    pub async fn get(&self, spec: &ContainerSpec, path: &str) -> Result<Answer, String> {
        self.get_with(spec, path, &[]).await
    }

    pub async fn get_with(
        &self,
        spec: &ContainerSpec,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        get_with_on(self.connect(spec).await?, &spec.pod.address.to_string(), path, headers).await
    }

    /// A connection through the pod network.
    pub async fn connect(&self, spec: &ContainerSpec) -> Result<Conn, String> {
        let caller =
            Caller::new(PodRef { uid: "uid-caller".into(), ..PodRef::default() }, Reach::default());
        let host = spec.pod.address.to_string();
        let conn = self.net.connect(&caller, "http", &host, spec.ports[0].port).await;
        conn.map_err(|error| error.to_string())
    }

    /// The log's lines without their times.
    pub async fn log(&self, spec: &ContainerSpec, wanted: usize) -> Vec<String> {
        until("the log has its lines", || {
            let text = fs::read_to_string(&spec.log_path).ok()?;
            let lines: Vec<_> = text
                .lines()
                .map(|line| line.split_once(' ').map_or("", |(_, rest)| rest).to_string())
                .collect();
            (lines.len() >= wanted).then_some(lines)
        })
        .await
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub body: String,
    pub closes: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.body)
    }
}

pub async fn get_on<C>(conn: C, host: &str, path: &str) -> Result<Answer, String>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    get_with_on(conn, host, path, &[]).await
}

async fn get_with_on<C>(
    conn: C,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, String>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let asked = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(conn)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::default());
        let response = sender.send_request(request.expect("a request")).await?;
        let status = response.status();
        let closes = response.headers().get("connection").is_some_and(|v| v == "close");
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), closes })
    };
    let answered = tokio::time::timeout(DEADLINE, asked).await.expect("an answer in time");
    answered.map_err(|error: hyper::Error| error.to_string())
}

/// A guest that `cargo xtask guests` built.
pub fn guest(name: &str) -> PathBuf {
    let built = std::env::var_os("WINDLASS_GUESTS")
        .map_or_else(|| workspace().join("target/guests"), PathBuf::from);
    let path = built.join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run cargo xtask guests", path.display());
    path
}

/// A demo component as it is committed.
pub fn committed(version: &str) -> PathBuf {
    workspace().join(format!("examples/hello/hello-{version}.wasm"))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn image(wasm: &Path) -> Image {
    let bytes = fs::read(wasm).expect("a wasm file");
    let digest = Sha256::digest(&bytes).into_iter().map(|byte| format!("{byte:02x}"));
    let digest = format!("sha256:{}", digest.collect::<String>());
    let name = wasm.file_stem().and_then(|name| name.to_str()).expect("a name");
    Image {
        nature: Default::default(),
        reference: format!("test/{name}:v1"),
        digest: digest.clone(),
        wasm_digest: digest,
        wasm_path: wasm.to_path_buf(),
        config: Default::default(),
    }
}

/// Waits for something to be there.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", DEADLINE.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn socket(spec: &ContainerSpec) -> SocketAddr {
    SocketAddr::new(spec.pod.address, spec.ports[0].port)
}

/// Addresses out of the pods' range; test processes that run at once are unlikely to share one,
/// and only the test over TCP would notice.
pub fn next_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id() % (1 << 12);
    let offset = (process << 8) + NEXT.fetch_add(1, Relaxed) % 250 + 1;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 80, 0, 0).to_bits() + offset).into()
}
