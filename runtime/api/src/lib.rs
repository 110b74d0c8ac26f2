//! What the node agent asks of a runtime, and what a runtime tells it: plain data and streams, so
//! that a runtime can be in this process, behind a socket (Docker), or a child process. Knows
//! neither wasmtime nor Docker nor the Kubernetes API.

mod engine;
mod keyvalue;
mod linux;
mod reach;
mod spin;
mod sql;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};
use windlass_sdk_meta::Timestamp;

pub use engine::{Availability, EngineImage, PulledImage, RegistryAuth};
pub use keyvalue::{
    BATCH_LIMIT, BATCH_LIMIT_BYTES, DEFAULT_STORE, Entry, KEY_LIMIT_BYTES, KeyValueError,
    KeyValueStore, KeyValues, Keys, VALUE_LIMIT_BYTES, add, check_key, check_value,
};
pub use linux::{LinuxContainer, LinuxSandbox};
pub use reach::{AllowedHosts, BadHostRule, HostPattern, HostRule, Reach};
pub use spin::{SpinApp, SpinComponent, SpinRoute, SpinVariable};
pub use sql::{Database, Databases, SqlError, SqlRows, SqlValue};

/// A runtime of one node. All calls are idempotent: asking again for what is so changes nothing.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// `wasm` or `docker`: appears in `containerID` (`wasm://...`) and in node labels.
    fn name(&self) -> &'static str;

    /// Makes the pod's sandbox (its address and what its containers share).
    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError>;

    /// Ends what still runs in the sandbox and forgets it.
    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError>;

    /// Starts one attempt of a container and returns when it has started (for a handler: compiled,
    /// linked, trial instance made, listener bound), not when it ends.
    async fn start_container(&self, container: ContainerSpec) -> Result<Started, RuntimeError>;

    /// Asks the container to end, waits up to `grace`, then ends it. Returns once it has ended.
    async fn stop_container(
        &self,
        pod_uid: &str,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError>;

    /// Gives a container that runs other amounts of memory and CPU; what else `limits` says stays as
    /// it was. A container that doesn't run is left alone.
    async fn resize_container(
        &self,
        pod_uid: &str,
        container: &str,
        limits: Limits,
    ) -> Result<(), RuntimeError> {
        let _ = (pod_uid, container, limits);
        let why = format!("the {} runtime resizes no containers", self.name());
        Err(RuntimeError::new("ResizeError", why))
    }

    /// Everything this runtime knows: the agent decides from this, never from memory.
    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError>;

    /// What runs in it goes on when the agent ends, and is found again by `list`.
    fn outlives_agent(&self) -> bool {
        false
    }

    /// Whether the runtime can be asked now, and each change of that. None: always.
    fn availability(&self) -> Option<watch::Receiver<Availability>> {
        None
    }

    /// The image of this name in the runtime's own store, without asking a registry.
    async fn find_image(&self, reference: &str) -> Result<Option<EngineImage>, RuntimeError> {
        let _ = reference;
        Ok(None)
    }

    /// Gets an image from its registry into the runtime's own store; the credentials are tried one
    /// after the other, nobody's where there is none.
    async fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<RegistryAuth>,
    ) -> Result<PulledImage, RuntimeError> {
        let _ = credentials;
        let why = format!("the {} runtime pulls no images ({reference:?})", self.name());
        Err(RuntimeError::new("ErrImagePull", why))
    }

    /// Takes an image of a container, in the form of `docker save`, into the runtime's own store as
    /// one that was pulled. `name` is its name in the archive, `reference` what pods call it.
    async fn load_image(
        &self,
        reference: &str,
        name: &str,
        archive: BoxAsyncRead,
    ) -> Result<PulledImage, RuntimeError> {
        let _ = (name, archive);
        let why = format!("the {} runtime loads no images ({reference:?})", self.name());
        Err(RuntimeError::new("ErrImagePull", why))
    }

    /// An image of the runtime's own store as an archive that other stores read.
    async fn export_image(&self, reference: &str) -> Result<BoxAsyncRead, RuntimeError> {
        let why = format!("the {} runtime gives no images away ({reference:?})", self.name());
        Err(RuntimeError::new("ErrImagePull", why))
    }

    /// The images of the runtime's own store.
    async fn list_images(&self) -> Vec<EngineImage> {
        Vec::new()
    }

    /// What `list` says of one pod. A runtime that can look it up does so: the agent asks after each
    /// of its own actions.
    async fn observe(&self, pod_uid: &str) -> Result<Option<ObservedSandbox>, RuntimeError> {
        Ok(self.list().await?.into_iter().find(|sandbox| sandbox.pod_uid == pod_uid))
    }

    /// Hints that something about a pod changed; the agent then looks at `list`. Bounded: a reader
    /// that lags gets `Lagged` and looks at everything.
    fn events(&self) -> BoxStream<'static, RuntimeEvent>;

    /// One HTTP request to a port of the pod, as probes and hooks make it: in process where the
    /// runtime serves the port itself. Redirects are not followed. An error's message is what a
    /// client would say of it, such as `dial tcp 127.64.0.1:80: connect: connection refused`.
    async fn http_probe(&self, pod_uid: &str, probe: HttpProbe)
    -> Result<HttpAnswer, RuntimeError>;

    /// Whether a port takes connections. The error's message is as for `http_probe`.
    async fn tcp_probe(&self, pod_uid: &str, probe: TcpProbe) -> Result<(), RuntimeError> {
        let _ = (pod_uid, probe);
        Err(RuntimeError::new("ProbeError", format!("the {} runtime has no sockets", self.name())))
    }

    /// Runs a program in a container that runs, with the container's volumes and environment, and
    /// returns its exit code once it has ended and what it wrote is in `io`. Dropping the future
    /// ends the program.
    async fn exec(
        &self,
        pod_uid: &str,
        container: &str,
        exec: ExecSpec,
        io: ExecIo,
    ) -> Result<i32, RuntimeError> {
        let _ = (pod_uid, container, exec, io);
        Err(RuntimeError::new("ExecError", format!("the {} runtime has no exec", self.name())))
    }

    /// Connects a caller with a container's own program: with what it writes from now on and, where
    /// it has a stdin, what the caller sends. Returns when the program has ended; dropping the future
    /// detaches. A runtime, or a container, without such streams gives `io` back: then the log is
    /// followed.
    async fn attach(
        &self,
        pod_uid: &str,
        container: &str,
        io: ExecIo,
    ) -> Result<Attached, RuntimeError> {
        let _ = (pod_uid, container);
        Ok(Attached::ByLog(io))
    }

    /// What the containers use, those that run only. A runtime that can't tell names none.
    async fn stats(&self) -> Vec<SandboxStats> {
        Vec::new()
    }

    /// What the containers of a pod wrote beside their volumes, by container, in bytes. A runtime
    /// whose containers write nowhere else names none.
    async fn written_bytes(&self, pod_uid: &str) -> Vec<(String, u64)> {
        let _ = pod_uid;
        Vec::new()
    }

    /// The memory that all containers of this runtime share. None where the runtime holds no such
    /// bound.
    fn memory_budget(&self) -> Option<MemoryBudget> {
        None
    }

    /// Returns once less than the budget's reserve is left, or something was refused memory because
    /// the budget is used up. Returns at once while that is so.
    async fn low_memory(&self) {
        std::future::pending().await
    }
}

pub type BoxAsyncRead = Pin<Box<dyn AsyncRead + Send>>;
pub type BoxAsyncWrite = Pin<Box<dyn AsyncWrite + Send>>;

/// What is run by [`Runtime::exec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub command: Vec<String>,
    /// The caller has a terminal: stdout and stderr are one stream then.
    pub tty: bool,
}

/// How [`Runtime::attach`] went.
pub enum Attached {
    /// The program has ended.
    Ended,
    ByLog(ExecIo),
}

/// The caller's side of [`Runtime::exec`].
pub struct ExecIo {
    /// None: the program finds its stdin at the end.
    pub stdin: Option<BoxAsyncRead>,
    pub stdout: BoxAsyncWrite,
    /// None: stderr goes to `stdout`.
    pub stderr: Option<BoxAsyncWrite>,
    /// Sizes of the caller's terminal, columns and rows, as they change.
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
}

/// One pod on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub address: IpAddr,
    pub hostname: String,
    pub names: Arc<PodNames>,
    pub annotations: BTreeMap<String, String>,
    pub linux: LinuxSandbox,
}

/// How guests of a pod look up names: what other systems keep in `/etc/hosts` and
/// `/etc/resolv.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNames {
    /// Names that only this pod knows, in lower case: its own and its `hostAliases`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Domains that are tried behind a name, beside the cluster's own.
    pub searches: Vec<String>,
    /// A name with at least as many dots is tried as it is before the domains are.
    pub ndots: usize,
    /// Names of services are known.
    pub cluster: bool,
}

impl Default for PodNames {
    fn default() -> Self {
        Self { hosts: Vec::new(), searches: Vec::new(), ndots: 5, cluster: true }
    }
}

/// One attempt of one container, with everything resolved: no reference to another object is left.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub pod: Arc<Sandbox>,
    pub name: String,
    /// 0 for the first start; goes up at each restart.
    pub attempt: u32,
    pub image: Image,
    /// Replaces the entrypoint where not empty.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// In any order; a path inside another mount's path is a mount of its own.
    pub mounts: Vec<Mount>,
    /// Makes those of `mounts` that don't exist yet; called before the first instance that runs,
    /// so that a container that is never used costs no file and no token.
    pub late_mounts: Option<LateMounts>,
    pub ports: Vec<Port>,
    pub limits: Limits,
    /// stdout and stderr go here in CRI's log format; made when the first line is written.
    pub log_path: PathBuf,
    pub on_trap: OnTrap,
    /// Which hosts it may call.
    pub reach: Reach,
    pub console: ConsoleSpec,
    pub linux: LinuxContainer,
}

/// `stdin`, `stdinOnce` and `tty` of a container: what those who attach may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleSpec {
    /// Its program has a stdin, which is open until a caller closes it.
    pub stdin: bool,
    /// The first caller's end is the end of stdin.
    pub stdin_once: bool,
    /// Its program finds a terminal, and writes to stdout only.
    pub tty: bool,
}

/// A folder or a file of the node that a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Exists when the container is started, or once `late_mounts` was called.
    pub host_path: PathBuf,
    /// Absolute, as the pod names it.
    pub container_path: String,
    pub read_only: bool,
    /// What the volume may hold, for who writes to it from outside; the container itself is held
    /// by the agent, which measures.
    pub limit_bytes: Option<u64>,
    /// A place in a volume (subPath), with every symlink on the way resolved. Other containers can
    /// write there: a symlink that is found on the way later is refused, not followed.
    pub resolved: bool,
}

/// See [`ContainerSpec::late_mounts`]. May be called more than once.
#[derive(Clone)]
pub struct LateMounts(Arc<dyn Fn() -> BoxFuture<'static, Result<(), RuntimeError>> + Send + Sync>);

impl LateMounts {
    pub fn new<F>(make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), RuntimeError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(make())))
    }

    pub async fn make(&self) -> Result<(), RuntimeError> {
        (self.0)().await
    }
}

impl std::fmt::Debug for LateMounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LateMounts")
    }
}

/// What an image holds, and so which runtime it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nature {
    #[default]
    Wasm,
    /// An ordinary container; it is in the container engine's store, not in the node's.
    Container,
}

impl Nature {
    /// The name of the runtime, which is also that of the RuntimeClass and its handler.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Container => "docker",
        }
    }
}

/// An image that is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub nature: Nature,
    /// As the pod names it.
    pub reference: String,
    /// `sha256:...` of the manifest: `imageID`.
    pub digest: String,
    /// `sha256:...` of the wasm bytes: the key of the compile cache. Empty for a container.
    pub wasm_digest: String,
    /// The file with the wasm bytes.
    pub wasm_path: PathBuf,
    pub config: ImageConfig,
}

/// How an image wants to be run, where the pod doesn't say; empty for images that carry wasm alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `ENTRYPOINT`: the program's name and its first arguments.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// The function of a module that runs; empty: `_start`.
    pub function: String,
    /// None: the image is one program.
    pub spin: Option<Arc<SpinApp>>,
    /// What the image is and what told so: one sentence, for Events and people.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// None: without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Over all live instances of the container.
    pub memory_bytes: Option<u64>,
    /// `windlass.dev/instance-memory`.
    pub instance_memory_bytes: Option<u64>,
    /// `limits.cpu`: thousandths of a core, held in each 100 ms.
    pub cpu_millis: Option<u32>,
    /// `requests.cpu`: the container's weight while guests wait for a core. None counts as little.
    pub cpu_weight_millis: Option<u32>,
    /// `windlass.dev/request-timeout`: from a request's head to the end of its answer.
    pub request_timeout: Option<Duration>,
}

/// `windlass.dev/on-trap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTrap {
    /// The container goes on; only the requests in the instance fail.
    #[default]
    Continue,
    Restart,
}

/// What `start_container` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Unique for this attempt, without the runtime's prefix.
    pub id: String,
    /// Its program could not be started: the attempt has ended already, and `observe` says how.
    pub failed: Option<String>,
}

impl Started {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), failed: None }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ObservedSandbox {
    pub pod_uid: String,
    pub name: String,
    pub namespace: String,
    /// As `run_sandbox` was given it: an agent that comes back takes it over.
    pub address: IpAddr,
    pub containers: Vec<ObservedContainer>,
}

/// The newest attempt of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedContainer {
    pub name: String,
    pub id: String,
    pub attempt: u32,
    pub state: ContainerState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    Running {
        started_at: Timestamp,
    },
    Exited {
        started_at: Timestamp,
        finished_at: Timestamp,
        exit_code: i32,
        reason: String,
        message: String,
    },
}

/// What the containers of one pod use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStats {
    pub pod_uid: String,
    pub name: String,
    pub namespace: String,
    pub containers: Vec<ContainerStats>,
}

/// The memory of a node that its containers share, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBudget {
    pub limit_bytes: u64,
    pub used_bytes: u64,
    /// Less than this left is too little: pods are evicted until it is there again.
    pub reserve_bytes: u64,
}

impl MemoryBudget {
    pub fn available_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }

    pub fn is_low(&self) -> bool {
        self.available_bytes() < self.reserve_bytes
    }
}

/// Since the attempt's start, except where it says now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    pub name: String,
    pub attempt: u32,
    pub started_at: Option<Timestamp>,
    pub cpu_nanos: u64,
    /// Of all live instances, now.
    pub memory_bytes: u64,
    /// `limits.memory`.
    pub memory_limit_bytes: Option<u64>,
    /// Live, now.
    pub instances: u64,
    pub requests: u64,
    pub traps: u64,
    /// Requests by how long they took until the head of their answer: how many were at most as
    /// long as each bound, cumulative, in the order of the bounds.
    pub latency: Vec<(Duration, u64)>,
    pub latency_sum: Duration,
    /// Lines that are not in the log, because there were too many or the disk did not take them.
    pub log_dropped_lines: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeEvent {
    /// Look at this pod again.
    Changed { pod_uid: String },
    /// Look at all pods again.
    Lagged,
    /// Requests of a handler trapped: `count` since the last such event (at most one a second and container).
    Trapped { pod_uid: String, container: String, count: u64, message: String },
    /// Something the pod's owner should read as a warning Event, such as a port that the host
    /// refuses. `reason` is a CamelCase word.
    Notice { pod_uid: String, container: String, reason: &'static str, message: String },
}

/// What [`Runtime::http_probe`] asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpProbe {
    /// The one whose port it is; another of the pod may have it.
    pub container: String,
    /// A name or an address, looked up and dialled as the pod would; None: the pod itself.
    pub to: Option<String>,
    pub port: u16,
    pub path: String,
    /// The `Host` header; None: the pod's address and the port.
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
    /// The message of a gRPC call, sent by POST over HTTP/2; None: a GET over HTTP/1.1.
    pub grpc: Option<Vec<u8>>,
    pub timeout: Duration,
}

/// The answer to an [`HttpProbe`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub location: Option<String>,
    /// The beginning, at most 10 KiB.
    pub body: Vec<u8>,
    /// `grpc-status` and `grpc-message`, from the trailers or the head.
    pub grpc: Option<(u32, String)>,
}

/// What [`Runtime::tcp_probe`] asks; fields as in [`HttpProbe`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpProbe {
    pub container: String,
    pub to: Option<String>,
    pub port: u16,
    pub timeout: Duration,
}

/// `reason` is what the container's waiting state shows, such as `CreateContainerError`,
/// `PortConflict` or `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    pub reason: &'static str,
    pub message: String,
}

impl RuntimeError {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
