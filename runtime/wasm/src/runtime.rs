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

use async_trait::async_trait;
use futures::{StreamExt, future::join_all, stream::BoxStream};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{
    Attached, ContainerSpec, ExecIo, ExecSpec, HttpAnswer, HttpProbe, Image, Limits, MemoryBudget,
    ObservedSandbox, Runtime, RuntimeError, RuntimeEvent, Sandbox, SandboxStats, SpinApp, Started,
    TcpProbe,
};
use windlass_runtime_logs::LogBounds;
use windlass_runtime_net::{Caller, ListenError, PodListener, PodNet, PodRef};
use windlass_sdk_meta::Clock;

use crate::{
    artifact::{CREATE_ERROR, Program, Run},
    command,
    compile::{Compiler, hex},
    console::Detached,
    container::{Container, Surroundings},
    copy,
    engine::Host,
    exec,
    failure::Failure,
    guest::Linkers,
    http::Handler,
    keyvalue::Data,
    logs::LogWriter,
    memory::NodeMemory,
    ports::http_ports,
    probe::{self, Place},
    serve, spin,
    threads::Guests,
    trace::{TraceConfig, Tracer},
};

/// Events that a reader may lag behind before it must look at everything.
const EVENTS: usize = 1024;

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
    /// What keeps entries and databases of guests.
    pub data: Data,
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
    copies: Arc<Semaphore>,
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
        let WasmConfig { cache_dir, net, clock, memory_bytes, threads, data, .. } = config;
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
            around: Surroundings { host, net, clock, events, staging, data, tracer },
            compiler: Arc::new(compiler),
            pods: Mutex::default(),
            serial: AtomicU64::new(0),
            copies: Arc::new(Semaphore::new(copy::COPIES)),
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

    /// Compiles an image, or finds it compiled, before any pod asks for it.
    ///
    /// # Errors
    /// As when a container of it is started.
    pub async fn prepare(&self, image: &Image) -> Result<(), RuntimeError> {
        let Some(app) = &image.config.spin else {
            return self.inner.compiler.artifact(image).await.map(drop);
        };
        for component in &app.components {
            self.inner.compiler.artifact(&spin::image_of(image, component)).await?;
        }
        Ok(())
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

    async fn resize_container(
        &self,
        pod_uid: &str,
        container: &str,
        limits: Limits,
    ) -> Result<(), RuntimeError> {
        if let Some(running) = self.inner.running(pod_uid, container) {
            running.container().resize(limits);
        }
        Ok(())
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

    async fn http_probe(
        &self,
        pod_uid: &str,
        probe: HttpProbe,
    ) -> Result<HttpAnswer, RuntimeError> {
        let place = self.inner.place(pod_uid, &probe.container, probe.to.as_deref(), probe.port)?;
        self.guests.run(probe::http(place, probe)).await?
    }

    async fn tcp_probe(&self, pod_uid: &str, probe: TcpProbe) -> Result<(), RuntimeError> {
        let place = self.inner.place(pod_uid, &probe.container, probe.to.as_deref(), probe.port)?;
        self.guests.run(probe::tcp(place, probe)).await?
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
        if let Some(request) = copy::Request::parse(&exec.command) {
            let copies = self.inner.copies.clone();
            return copy::run(running.container().clone(), copies, request, io).await;
        }
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

    async fn attach(
        &self,
        pod_uid: &str,
        container: &str,
        io: ExecIo,
    ) -> Result<Attached, RuntimeError> {
        let refused = |why: String| RuntimeError::new("AttachError", why);
        match self.inner.running(pod_uid, container) {
            // Each of a handler's instances has streams of its own: the log has them all.
            Some(Running::Handler(_)) => Ok(Attached::ByLog(io)),
            Some(Running::Command(container, ..)) if container.is_running() => {
                match container.console.attach(io).await {
                    Detached::Over => Ok(Attached::Ended),
                    Detached::TooSlow => {
                        Err(refused("the session did not keep up with what is written".into()))
                    }
                }
            }
            _ => Err(refused(format!("container {container} is not running"))),
        }
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
                return Ok(Started::new(container.id.clone()));
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
        Ok(Started::new(container.id.clone()))
    }

    /// Makes a container that runs and that nobody knows yet.
    async fn make(&self, spec: ContainerSpec) -> Result<Running, RuntimeError> {
        let ports = http_ports(&spec)?;
        if let Some(stores) = &self.around.data.key_values {
            let wrong = |why| RuntimeError::new("CreateContainerConfigError", why);
            stores.check(&spec.pod).map_err(wrong)?;
        }
        if let Some(app) = spec.image.config.spin.clone() {
            return self.make_spin(&app, spec, ports).await;
        }
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

    /// A Spin application: a handler for each component, and one that listens and sends requests on
    /// to them.
    async fn make_spin(
        &self,
        app: &SpinApp,
        spec: ContainerSpec,
        ports: Vec<u16>,
    ) -> Result<Running, RuntimeError> {
        let parts = spin::parts(app, &spec)?;
        let container = Container::new(self.new_id(&spec), spec, self.around.clone())?;
        let (app, front) = spin::start(&self.compiler, app, &container, parts).await?;
        // Set once: the container is new.
        let _ = container.app.set(app);
        let handler = Handler::new(container, (front.program, front.run), front.weight, ports);
        for listener in self.listen(&handler).await? {
            serve::serve(&handler, listener);
        }
        Ok(Running::Handler(handler))
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
                ListenError::Exhausted(_) | ListenError::Host(_) => {
                    RuntimeError::new(CREATE_ERROR, error.to_string())
                }
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

    /// Where a port of a pod is; `to` is another host than the pod itself.
    fn place(
        &self,
        pod_uid: &str,
        container: &str,
        to: Option<&str>,
        port: u16,
    ) -> Result<Place, RuntimeError> {
        let pods = self.pods.lock();
        let gone = || RuntimeError::new("ProbeError", "the pod's sandbox is gone");
        let pod = pods.get(pod_uid).ok_or_else(gone)?;
        let (net, address) = (self.around.net.clone(), pod.sandbox.address);
        if let Some(host) = to.filter(|host| host.parse() != Ok(address)) {
            let from = match pod.containers.get(container) {
                Some(running) => running.container().caller.clone(),
                // Another runtime's container of the pod: its processes call as the pod does.
                None => Arc::new(pod.caller()),
            };
            return Ok(Place::Elsewhere(net, from, host.to_string(), port));
        }
        let own = pod.containers.get(container).into_iter();
        let handler = own.chain(pod.containers.values()).find_map(|running| match running {
            Running::Handler(handler) => {
                let serves = handler.container.is_running() && handler.ports.contains(&port);
                serves.then(|| handler.clone())
            }
            Running::Command(..) => None,
        });
        Ok(match handler {
            Some(handler) => Place::Handler(handler),
            None => Place::Pod(net, SocketAddr::new(address, port)),
        })
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
    /// Who calls for the pod as a whole.
    fn caller(&self) -> Caller {
        let sandbox = &self.sandbox;
        let pod = PodRef {
            uid: sandbox.uid.clone(),
            namespace: sandbox.namespace.clone(),
            name: sandbox.name.clone(),
            address: Some(sandbox.address),
            names: sandbox.names.clone(),
        };
        Caller::new(pod, sandbox.linux.reach.clone())
    }

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
