//! The `Runtime` of WASM containers: keeps what runs on this node, and carries calls over to the
//! guests' threads.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::http::Request;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream::BoxStream};
use http_body_util::{BodyExt, Empty, Limited};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{
    ContainerSpec, ExecIo, ExecSpec, HttpProbe, MemoryBudget, ObservedSandbox, Protocol, Runtime,
    RuntimeError, RuntimeEvent, Sandbox, SandboxStats, Started,
};
use windlass_runtime_net::{ListenError, PodListener, PodNet};
use windlass_sdk_meta::Clock;

use crate::{
    artifact::{CREATE_ERROR, Program, Run},
    command,
    compile::{Compiler, hex},
    container::{Container, Surroundings},
    engine::Host,
    exec,
    failure::Failure,
    guest::Linkers,
    http::Handler,
    log_file::LogBounds,
    logs::LogWriter,
    memory::NodeMemory,
    serve,
    threads::Guests,
    trace::{TraceConfig, Tracer},
};

/// Events that a reader may lag behind before it must look at everything.
const EVENTS: usize = 1024;
/// Of a probe's answer, as much is read as the kubelet reads.
const PROBE_BODY_BYTES: usize = 10 << 10;
/// The port of a handler whose container declares none.
const DEFAULT_PORT: u16 = 8080;
const HTTP_PORT: &str = "windlass.dev/http-port";

/// What a [`WasmRuntime`] needs.
pub struct WasmConfig {
    /// Native code of compiled components is kept here; only this node may write to it.
    pub cache_dir: PathBuf,
    pub net: PodNet,
    pub clock: Arc<dyn Clock>,
    /// The machine's memory, by which the pool is sized. None: read from the system.
    pub memory_bytes: Option<u64>,
    /// What all guests may hold together. None: seven eighths of the machine's.
    pub guest_memory_bytes: Option<u64>,
    /// None: no spans are made.
    pub tracing: Option<TraceConfig>,
    /// Threads that guests run on. None: one a core.
    pub threads: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum WasmError {
    #[error("the wasm engine can't be made: {0}")]
    Engine(String),
    #[error("the cache of compiled components can't be used: {0}")]
    Io(#[from] io::Error),
}

/// Runs WASM containers.
pub struct WasmRuntime {
    inner: Arc<Inner>,
    guests: Guests,
}

struct Inner {
    around: Surroundings,
    compiler: Arc<Compiler>,
    pods: Mutex<BTreeMap<String, Pod>>,
    serial: AtomicU64,
}

struct Pod {
    sandbox: Arc<Sandbox>,
    containers: BTreeMap<String, Running>,
}

/// The newest attempt of a container.
#[derive(Clone)]
enum Running {
    Handler(Arc<Handler>),
    /// With what it runs and the slots that takes.
    Command(Arc<Container>, Run, u32),
}

impl WasmRuntime {
    /// Starts the guests' threads, the log writer and the epoch thread.
    pub fn new(config: WasmConfig) -> Result<Arc<Self>, WasmError> {
        let engine_error = |error: wasmtime::Error| WasmError::Engine(format!("{error:#}"));
        let WasmConfig { cache_dir, net, clock, memory_bytes, threads, .. } = config;
        let logs = LogWriter::start(clock.clone(), LogBounds::default())?;
        let memory_bytes = memory_bytes.unwrap_or_else(machine_memory);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores).max(1);
        let memory = match config.guest_memory_bytes {
            Some(bytes) => NodeMemory::with_limit(bytes),
            None => NodeMemory::of(memory_bytes),
        };
        let host = Host::new(memory_bytes, memory, threads, logs).map_err(engine_error)?;
        let host = Arc::new(host);
        let guests = Guests::start(threads)?;
        let tracer = config.tracing.map(|tracing| {
            Tracer::start(tracing, clock.clone(), |exporter| guests.spawn(exporter))
        });
        let linkers = Linkers::new(&host).map_err(engine_error)?;
        // Opening the cache removes what else is in its folder: also what a killed node staged.
        let compiler = Compiler::new(host.engine.clone(), linkers, &cache_dir, clock.clone())?;
        let staging = cache_dir.join("staging");
        let (events, _) = broadcast::channel(EVENTS);
        let inner = Inner {
            around: Surroundings { host, net, clock, events, staging, tracer },
            compiler: Arc::new(compiler),
            pods: Mutex::default(),
            serial: AtomicU64::new(0),
        };
        Ok(Arc::new(Self { inner: Arc::new(inner), guests }))
    }

    /// Ends every container, as `stop_container` would, all at once.
    pub async fn shutdown(&self, grace: Duration) {
        let all: Vec<Running> = {
            let pods = self.inner.pods.lock();
            pods.values().flat_map(|pod| pod.containers.values().cloned()).collect()
        };
        // An error means that the guests' threads are gone already.
        let _ = self.guests.run(stop_all(all, grace)).await;
    }

    /// Components this process compiled, as opposed to found in its cache.
    pub fn compiled(&self) -> u64 {
        self.inner.compiler.compiled()
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError> {
        let mut pods = self.inner.pods.lock();
        pods.entry(sandbox.uid.clone())
            .and_modify(|pod| pod.sandbox = sandbox.clone())
            .or_insert_with(|| Pod { sandbox, containers: BTreeMap::new() });
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let pod = self.inner.pods.lock().remove(pod_uid);
        let containers = pod.into_iter().flat_map(|pod| pod.containers.into_values()).collect();
        self.guests.run(stop_all(containers, Duration::ZERO)).await
    }

    async fn start_container(&self, container: ContainerSpec) -> Result<Started, RuntimeError> {
        let inner = self.inner.clone();
        self.guests.run(async move { inner.start(container).await }).await?
    }

    async fn stop_container(
        &self,
        pod_uid: &str,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        match self.inner.running(pod_uid, container) {
            Some(running) => self.guests.run(running.stop(grace)).await,
            None => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        Ok(self.inner.pods.lock().values().map(Pod::observed).collect())
    }

    async fn observe(&self, pod_uid: &str) -> Result<Option<ObservedSandbox>, RuntimeError> {
        Ok(self.inner.pods.lock().get(pod_uid).map(Pod::observed))
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let events = self.inner.around.events.subscribe();
        let stream = futures::stream::unfold(events, |mut events| async move {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((RuntimeEvent::Lagged, events)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        stream.boxed()
    }

    async fn http_probe(&self, pod_uid: &str, probe: HttpProbe) -> Result<u16, RuntimeError> {
        let refused = |why: String| RuntimeError::new("ProbeError", why);
        let handler = match self.inner.running(pod_uid, &probe.container) {
            Some(Running::Handler(handler)) if handler.container.is_running() => handler,
            _ => return Err(refused(format!("container {} serves no HTTP", probe.container))),
        };
        if !handler.ports.contains(&probe.port) {
            return Err(refused(format!("nothing listens on port {}", probe.port)));
        }
        let timeout = probe.timeout;
        let request = probe_request(&handler, probe)?;
        let answered = self.guests.run(tokio::time::timeout(timeout, async move {
            let response = handler.handle(request).await;
            let (head, body) = response.into_parts();
            // A guest whose answer nobody reads may take that for an error.
            let _ = Limited::new(body, PROBE_BODY_BYTES).collect().await;
            head.status.as_u16()
        }));
        answered
            .await?
            .map_err(|_| refused(format!("no answer within {} s", timeout.as_secs_f32())))
    }

    async fn exec(
        &self,
        pod_uid: &str,
        container: &str,
        exec: ExecSpec,
        io: ExecIo,
    ) -> Result<i32, RuntimeError> {
        let refused = |why: String| RuntimeError::new("ExecError", why);
        let running = self.inner.running(pod_uid, container);
        let running = running.filter(|running| running.container().is_running());
        let running =
            running.ok_or_else(|| refused(format!("container {container} is not running")))?;
        let (run, weight) = running.run().ok_or_else(|| {
            refused(format!("container {container}: the component exports no wasi:cli/run"))
        })?;
        let container = running.container().clone();
        let given_up = CancellationToken::new();
        let _end_with_the_caller = given_up.clone().drop_guard();
        let ended = self.guests.run(async move {
            let program = exec::exec(container, &run, weight, exec, io);
            given_up.run_until_cancelled_owned(program).await
        });
        ended.await?.unwrap_or_else(|| Err(refused("the caller is gone".into())))
    }

    async fn stats(&self) -> Vec<SandboxStats> {
        self.inner.pods.lock().values().map(Pod::stats).collect()
    }

    fn memory_budget(&self) -> Option<MemoryBudget> {
        Some(self.inner.around.host.memory.budget())
    }

    async fn low_memory(&self) {
        self.inner.around.host.memory.is_low().await;
    }
}

impl Inner {
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let (uid, name) = (spec.pod.uid.clone(), spec.name.clone());
        if let Some(present) = self.running(&uid, &name) {
            let container = present.container();
            if container.spec.attempt == spec.attempt && container.is_running() {
                return Ok(Started { id: container.id.clone() });
            }
            present.stop(Duration::ZERO).await;
        }
        let made = self.make(spec).await?;
        let container = made.container().clone();
        let unknown = match self.pods.lock().get_mut(&uid) {
            Some(pod) => {
                pod.containers.insert(name, made);
                None
            }
            None => Some(made),
        };
        if let Some(made) = unknown {
            made.stop(Duration::ZERO).await;
            return Err(RuntimeError::new(CREATE_ERROR, "the pod's sandbox is gone"));
        }
        container.changed();
        Ok(Started { id: container.id.clone() })
    }

    /// Makes a container that runs and that nobody knows yet.
    async fn make(&self, spec: ContainerSpec) -> Result<Running, RuntimeError> {
        let ports = http_ports(&spec)?;
        let artifact = self.compiler.artifact(&spec.image).await?;
        let container = Container::new(self.new_id(&spec), spec, self.around.clone())?;
        let refused = |failure: Failure| {
            let why = format!("no instance can be made: {}", failure.message());
            RuntimeError::new(CREATE_ERROR, why)
        };
        match artifact.program {
            Program::Handler(component, run) => {
                let component = (component, run);
                let handler = Handler::new(container, component, artifact.weight, ports);
                handler.try_out().await.map_err(refused)?;
                for listener in self.listen(&handler).await? {
                    serve::serve(&handler, listener);
                }
                Ok(Running::Handler(handler))
            }
            Program::Command(run) => {
                let started = command::start(&container, &run, artifact.weight).await;
                started.map_err(refused)?;
                Ok(Running::Command(container, run, artifact.weight))
            }
        }
    }

    async fn listen(&self, handler: &Handler) -> Result<Vec<PodListener>, RuntimeError> {
        let container = &handler.container;
        let mut listeners = Vec::with_capacity(handler.ports.len());
        for &port in &handler.ports {
            let address = SocketAddr::new(container.spec.pod.address, port);
            let listener = self.around.net.listen(&container.pod, address).await;
            let listener = listener.map_err(|error| match error {
                ListenError::PortConflict { .. } => {
                    let holder = self.holder(container, port);
                    let why = holder.unwrap_or_else(|| error.to_string());
                    RuntimeError::new("PortConflict", why)
                }
                ListenError::Unsupported(..) => RuntimeError::new(CREATE_ERROR, error.to_string()),
            })?;
            if let Some(error) = listener.host_error() {
                container.notice("PortUnavailableOnHost", error.to_string());
            }
            listeners.push(listener);
        }
        Ok(listeners)
    }

    /// Who has a port, if it is a sibling.
    fn holder(&self, of: &Container, port: u16) -> Option<String> {
        let pods = self.pods.lock();
        let holds = |running: &Running| match running {
            Running::Handler(handler) => handler.ports.contains(&port),
            Running::Command(..) => false,
        };
        let siblings = &pods.get(&of.pod.uid)?.containers;
        let (name, _) = siblings.iter().find(|(name, c)| **name != of.spec.name && holds(c))?;
        Some(format!("port {port} is taken by container {name} of the same pod"))
    }

    fn running(&self, pod_uid: &str, container: &str) -> Option<Running> {
        self.pods.lock().get(pod_uid)?.containers.get(container).cloned()
    }

    fn new_id(&self, spec: &ContainerSpec) -> String {
        let serial = self.serial.fetch_add(1, Relaxed);
        let now = self.around.clock.now().as_nanosecond();
        let seed = format!("{}/{}/{}/{now}/{serial}", spec.pod.uid, spec.name, spec.attempt);
        hex(&Sha256::digest(seed))
    }
}

impl Pod {
    fn observed(&self) -> ObservedSandbox {
        ObservedSandbox {
            pod_uid: self.sandbox.uid.clone(),
            name: self.sandbox.name.clone(),
            namespace: self.sandbox.namespace.clone(),
            address: self.sandbox.address,
            containers: self.containers.values().map(|c| c.container().observed()).collect(),
        }
    }
}

impl Pod {
    fn stats(&self) -> SandboxStats {
        let running = self.containers.values().filter(|c| c.container().is_running());
        SandboxStats {
            pod_uid: self.sandbox.uid.clone(),
            name: self.sandbox.name.clone(),
            namespace: self.sandbox.namespace.clone(),
            containers: running.map(|c| c.container().stats()).collect(),
        }
    }
}

impl Running {
    fn container(&self) -> &Arc<Container> {
        match self {
            Self::Handler(handler) => &handler.container,
            Self::Command(container, ..) => container,
        }
    }

    /// What `exec` runs, and the slots that takes.
    fn run(&self) -> Option<(Run, u32)> {
        match self {
            Self::Handler(handler) => Some((handler.run.clone()?, handler.weight)),
            Self::Command(_, run, weight) => Some((run.clone(), *weight)),
        }
    }

    /// Returns once the container has ended. Must run on the guests' threads.
    async fn stop(self, grace: Duration) {
        match self {
            Self::Handler(handler) => serve::drain(&handler.container, grace).await,
            Self::Command(container, ..) => command::stop(&container, grace).await,
        }
    }
}

async fn stop_all(containers: Vec<Running>, grace: Duration) {
    join_all(containers.into_iter().map(|running| running.stop(grace))).await;
}

/// Where a handler serves: on every TCP port it declares, or the one that the pod's annotation
/// names by number or name, or 8080.
fn http_ports(spec: &ContainerSpec) -> Result<Vec<u16>, RuntimeError> {
    let tcp = || spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    if let Some(chosen) = spec.pod.annotations.get(HTTP_PORT) {
        let number = chosen.parse::<u16>().ok().filter(|number| *number > 0);
        let declared = tcp().find(|port| port.name == *chosen || Some(port.port) == number);
        let port = declared.map(|port| port.port).or(number.filter(|_| tcp().next().is_none()));
        if let Some(port) = port {
            return Ok(vec![port]);
        }
        // Other containers of the pod may be the ones that declare it.
        if tcp().next().is_none() {
            let why = format!("annotation {HTTP_PORT}: {chosen:?} is no TCP port of the container");
            return Err(RuntimeError::new("CreateContainerConfigError", why));
        }
    }
    let mut ports: Vec<u16> = tcp().map(|port| port.port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(if ports.is_empty() { vec![DEFAULT_PORT] } else { ports })
}

fn probe_request(
    handler: &Handler,
    probe: HttpProbe,
) -> Result<Request<Empty<Bytes>>, RuntimeError> {
    let address = SocketAddr::new(handler.container.spec.pod.address, probe.port);
    let own_host = probe.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut request = Request::get(&probe.path).header("user-agent", "kube-probe/windlass");
    if !own_host {
        request = request.header("host", probe.host.unwrap_or_else(|| address.to_string()));
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let wrong = |error| RuntimeError::new("ProbeError", format!("the probe is malformed: {error}"));
    request.body(Empty::new()).map_err(wrong)
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.around.host.logs.end();
    }
}

/// Total memory of the machine as Linux tells it; a gibibyte where it doesn't.
fn machine_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(1 << 30, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use windlass_runtime_api::{Image, Limits, OnTrap, Port};

    use super::*;

    fn check(ports: &[(&str, u16, Protocol)], annotation: Option<&str>, expected: &[u16]) {
        let port = |&(name, port, protocol): &(&str, u16, Protocol)| Port {
            name: name.into(),
            port,
            protocol,
        };
        let annotations = annotation.map(|value| (HTTP_PORT.to_string(), value.to_string()));
        let spec = ContainerSpec {
            pod: Arc::new(Sandbox {
                uid: "uid".into(),
                name: "web".into(),
                namespace: "default".into(),
                address: [127, 64, 0, 1].into(),
                hostname: "web".into(),
                annotations: annotations.into_iter().collect(),
            }),
            name: "web".into(),
            attempt: 0,
            image: Image {
                reference: "web:v1".into(),
                digest: String::new(),
                wasm_digest: String::new(),
                wasm_path: Path::new("web.wasm").into(),
                config: Default::default(),
            },
            command: vec![],
            args: vec![],
            env: vec![],
            working_dir: None,
            mounts: vec![],
            ports: ports.iter().map(port).collect(),
            limits: Limits::default(),
            log_path: Path::new("0.log").into(),
            on_trap: OnTrap::Continue,
        };
        let chosen = http_ports(&spec).unwrap_or_default();
        assert_eq!(chosen, expected, "{ports:?} {annotation:?}");
    }

    #[test]
    fn a_handler_serves_where_the_pod_says() {
        use Protocol::{Tcp, Udp};
        let two = [("http", 80, Tcp), ("admin", 9000, Tcp), ("dns", 53, Udp)];
        check(&[], None, &[8080]);
        check(&[("dns", 53, Udp)], None, &[8080]);
        check(&two, None, &[80, 9000]);
        check(&two, Some("admin"), &[9000]);
        check(&two, Some("80"), &[80]);
        check(&two, Some("7000"), &[80, 9000]);
        check(&[], Some("7000"), &[7000]);
        check(&[], Some("http"), &[]);
    }
}
