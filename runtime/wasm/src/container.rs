//! One attempt of one container: what its instances share, and how it ends. It ends once; whoever
//! wants it to end sets off the same steps: no new work, drain, abort.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use windlass_runtime_api::{
    ContainerSpec, ContainerState, ContainerStats, Limits, ObservedContainer, RuntimeError,
    RuntimeEvent,
};
use windlass_runtime_net::{Caller, PodNet, PodRef};
use windlass_sdk_meta::Clock;

use crate::{
    console::Console,
    cpu::CpuAccount,
    denials::Denials,
    engine::Host,
    failure::Failure,
    keyvalue::Data,
    logs::ContainerLog,
    memory::Account,
    mounts::Mounts,
    outgoing::Connections,
    sockets::ops::SOCKETS_A_CONTAINER,
    spin::{App, Part},
    tls::ContainerTls,
    trace::{Tracer, Traces},
    traps::Traps,
    usage::Usage,
};

pub struct Container {
    pub id: String,
    pub spec: ContainerSpec,
    pub pod: PodRef,
    /// The pod with what narrows this container's reach.
    pub caller: Arc<Caller>,
    pub host: Arc<Host>,
    pub net: PodNet,
    /// Room for its sockets.
    pub sockets: Arc<Semaphore>,
    /// Room for its look-ups of names.
    pub look_ups: Arc<Semaphore>,
    /// Room for datagrams that wait to be sent.
    pub datagrams: Arc<Semaphore>,
    pub tls: ContainerTls,
    pub memory: Arc<Account>,
    pub cpu: Arc<CpuAccount>,
    pub usage: Arc<Usage>,
    pub mounts: Mounts,
    pub log: Arc<ContainerLog>,
    pub console: Arc<Console>,
    pub connections: Connections,
    pub ending: Arc<Ending>,
    pub data: Data,
    /// Of a Spin application's component, which is a container with the application's accounts.
    pub part: Option<Arc<Part>>,
    /// Whose components answer instead of the container's own program.
    pub app: OnceLock<Arc<App>>,
    staging: PathBuf,
    /// None: nobody collects traces.
    pub traces: Option<Arc<Traces>>,
    traps: Arc<Traps>,
    denials: Denials,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<RuntimeEvent>,
    state: Arc<Mutex<ContainerState>>,
}

/// The steps by which a container ends, each a thing that tasks wait for.
#[derive(Default)]
pub struct Ending {
    /// Answers carry `connection: close` from now on; new connections are still taken, because
    /// proxies may not know yet.
    pub lame: AtomicBool,
    /// Listeners close, connections end after the requests in them.
    pub closing: CancellationToken,
    /// What still runs is dropped.
    pub abort: CancellationToken,
    /// The state is `Exited`.
    pub ended: CancellationToken,
    /// Accept loops.
    pub listeners: TaskTracker,
    /// Connections, and guests that outlive them.
    pub tasks: TaskTracker,
}

/// How long a container that ends by a trap lets other requests finish.
const DRAIN_AFTER_TRAP: Duration = Duration::from_secs(1);
/// More traps than that are logged without it: whoever can send bad requests could fill the disk.
const BACKTRACES_A_SECOND: u64 = 3;
/// Names that one container may be looking up at once.
const LOOK_UPS: usize = 16;
/// Datagrams of at most 64 KiB each that one container may have waiting.
const DATAGRAMS_WAITING: usize = 16;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a container is made in.
#[derive(Clone)]
pub struct Surroundings {
    pub host: Arc<Host>,
    pub net: PodNet,
    pub clock: Arc<dyn Clock>,
    pub events: broadcast::Sender<RuntimeEvent>,
    /// For folders that containers need beside their volumes.
    pub staging: PathBuf,
    pub data: Data,
    pub tracer: Option<Tracer>,
}

impl Container {
    pub fn new(
        id: String,
        mut spec: ContainerSpec,
        around: Surroundings,
    ) -> Result<Arc<Self>, RuntimeError> {
        let Surroundings { host, net, clock, events, staging, data, tracer } = around;
        let (mounts, late) = (std::mem::take(&mut spec.mounts), spec.late_mounts.take());
        let mounts = Mounts::new(mounts, late, staging.join(&id))?;
        fill_in_from_image(&mut spec);
        let pod = PodRef {
            uid: spec.pod.uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            address: Some(spec.pod.address),
            names: spec.pod.names.clone(),
        };
        let caller = Arc::new(Caller::new(pod.clone(), std::mem::take(&mut spec.reach)));
        Ok(Arc::new(Self {
            pod,
            caller,
            sockets: Arc::new(Semaphore::new(SOCKETS_A_CONTAINER)),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            datagrams: Arc::new(Semaphore::new(DATAGRAMS_WAITING)),
            tls: ContainerTls::default(),
            denials: Denials::default(),
            memory: Account::new(spec.limits, host.memory.clone()),
            cpu: CpuAccount::new(spec.limits, host.turns.clone()),
            usage: Arc::default(),
            mounts,
            log: host.logs.open(spec.log_path.clone()),
            console: Arc::new(Console::new(spec.console)),
            connections: Connections::default(),
            ending: Arc::default(),
            data,
            part: None,
            app: OnceLock::new(),
            staging,
            traces: tracer.map(|tracer| Traces::of(tracer, &spec)),
            traps: Traps::new(spec.pod.uid.clone(), spec.name.clone(), events.clone()),
            state: Arc::new(Mutex::new(ContainerState::Running { started_at: clock.now() })),
            id,
            spec,
            host,
            net,
            clock,
            events,
        }))
    }

    /// A component of the container's Spin application: it has an environment, files and rights of
    /// its own, and shares everything that is counted, limited or ended.
    pub fn component(
        &self,
        mut spec: ContainerSpec,
        part: Part,
    ) -> Result<Arc<Self>, RuntimeError> {
        let reach = std::mem::take(&mut spec.reach);
        let (mounts, late) = (std::mem::take(&mut spec.mounts), spec.late_mounts.take());
        let staging = self.staging.join(format!("{}-{}", self.id, part.component.id));
        Ok(Arc::new(Self {
            id: self.id.clone(),
            pod: self.pod.clone(),
            caller: Arc::new(Caller::new(self.pod.clone(), reach)),
            sockets: self.sockets.clone(),
            look_ups: self.look_ups.clone(),
            datagrams: self.datagrams.clone(),
            tls: ContainerTls::default(),
            denials: Denials::default(),
            host: self.host.clone(),
            net: self.net.clone(),
            memory: self.memory.clone(),
            cpu: self.cpu.clone(),
            usage: self.usage.clone(),
            mounts: Mounts::new(mounts, late, staging)?,
            log: self.log.clone(),
            console: self.console.clone(),
            connections: Connections::default(),
            ending: self.ending.clone(),
            data: self.data.clone(),
            traces: self.traces.clone(),
            part: Some(Arc::new(part)),
            app: OnceLock::new(),
            staging: self.staging.clone(),
            traps: self.traps.clone(),
            state: self.state.clone(),
            clock: self.clock.clone(),
            events: self.events.clone(),
            spec,
        }))
    }

    /// Polls one of the container's guests: the epoch advances, and the time is charged.
    pub fn poll<F: Future + ?Sized>(
        &self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.cpu.poll(|| self.host.ticker.poll(guest, cx))
    }

    /// Opens the container's volumes, if that wasn't done before: before a module is instantiated,
    /// and when a component asks for its folders.
    pub async fn open_mounts(&self) -> Result<(), Failure> {
        // Nothing runs without its volumes; whoever asked may ask again.
        self.mounts.open().await.map_err(|why| {
            self.log.note(&format!("a volume can't be opened: {why}"));
            Failure::NoRoom(format!("a volume can't be opened: {why}"))
        })
    }

    /// Other amounts of memory and CPU, from now on; the other limits stay.
    pub fn resize(&self, limits: Limits) {
        self.memory.resize(limits.memory_bytes);
        self.cpu.resize(limits);
    }

    pub fn stats(&self) -> ContainerStats {
        let started_at = match *self.state.lock() {
            ContainerState::Running { started_at } => started_at,
            ContainerState::Exited { started_at, .. } => started_at,
        };
        let (latency, latency_sum) = self.usage.latency();
        ContainerStats {
            name: self.spec.name.clone(),
            attempt: self.spec.attempt,
            started_at: Some(started_at),
            cpu_nanos: self.cpu.used_nanos(),
            memory_bytes: self.memory.used(),
            memory_limit_bytes: self.memory.limit(),
            instances: self.usage.instances(),
            requests: self.usage.requests(),
            traps: self.usage.traps(),
            latency,
            latency_sum,
            log_dropped_lines: self.log.dropped_lines(),
        }
    }

    /// The command line: what the pod says, else the image's name, then the arguments.
    pub fn arguments(&self) -> Vec<String> {
        let image = || vec![program_name(&self.spec.image.reference).to_string()];
        let program =
            if self.spec.command.is_empty() { image() } else { self.spec.command.clone() };
        program.into_iter().chain(self.spec.args.iter().cloned()).collect()
    }

    pub fn observed(&self) -> ObservedContainer {
        ObservedContainer {
            name: self.spec.name.clone(),
            id: self.id.clone(),
            attempt: self.spec.attempt,
            state: self.state.lock().clone(),
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.state.lock(), ContainerState::Running { .. })
    }

    /// A guest failed at a request: said in the log, counted and told.
    pub fn request_failed(&self, failure: &Failure) {
        if matches!(failure, Failure::NoRoom(_)) {
            // The caller is told; the guest did nothing wrong.
            return;
        }
        if matches!(failure, Failure::Trap { .. }) {
            self.usage.trapped();
        }
        let message = failure.message();
        let recent = self.traps.count(message.clone());
        self.log.note(&format!("request failed: {message}"));
        if let Failure::Trap { backtrace, .. } = failure
            && recent <= BACKTRACES_A_SECOND
        {
            self.log.note(&backtrace.to_string());
        }
    }

    /// A guest was refused a host: each time a line in the log, and one Event.
    pub fn denied(&self, message: &str) {
        self.log.note(message);
        if self.denials.is_news(message) {
            self.notice("HostDenied", message.to_owned());
        }
    }

    /// For the people who own the pod.
    pub fn notice(&self, reason: &'static str, message: String) {
        let (pod_uid, container) = (self.pod.uid.clone(), self.spec.name.clone());
        let notice = RuntimeEvent::Notice { pod_uid, container, reason, message };
        // Nobody listens: then nobody wants to know.
        let _ = self.events.send(notice);
    }

    /// Ends the container, once its log is written. The first call decides.
    pub async fn end(&self, exit_code: i32, reason: &str, message: String) {
        // A disk that hangs must not keep the container from ending.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.log.flush()).await;
        {
            let mut state = self.state.lock();
            let ContainerState::Running { started_at } = *state else { return };
            *state = ContainerState::Exited {
                started_at,
                finished_at: self.clock.now(),
                exit_code,
                reason: reason.to_string(),
                message,
            };
        }
        self.console.close();
        self.ending.ended.cancel();
        self.changed();
    }

    /// Ends the container because a request trapped: its ports are free when this returns, so that
    /// the next attempt can have them; other requests get a moment to finish.
    pub async fn end_by_trap(&self, failure: &Failure) {
        let ending = &self.ending;
        ending.lame.store(true, Relaxed);
        ending.closing.cancel();
        ending.listeners.close();
        ending.listeners.wait().await;
        let (exit_code, reason) = failure.exit();
        // A handler that exits ends unasked, whatever its code.
        self.end(exit_code.max(1), reason, failure.message()).await;
        ending.tasks.close();
        let _ = tokio::time::timeout(DRAIN_AFTER_TRAP, ending.tasks.wait()).await;
        ending.abort.cancel();
    }

    pub fn changed(&self) {
        // Nobody listens: then nobody needs the hint.
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: self.pod.uid.clone() });
    }
}

/// What the image says holds where the pod says nothing, as it does for images of containers.
fn fill_in_from_image(spec: &mut ContainerSpec) {
    let image = &spec.image.config;
    if spec.command.is_empty() {
        spec.command = image.entrypoint.clone();
        if spec.args.is_empty() {
            spec.args = image.args.clone();
        }
    }
    for (name, value) in &image.env {
        if !spec.env.iter().any(|(present, _)| present == name) {
            spec.env.push((name.clone(), value.clone()));
        }
    }
    if spec.working_dir.is_none() {
        spec.working_dir = image.working_dir.clone();
    }
}

/// `web` of `registry/acme/web:v1@sha256:...`.
fn program_name(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn a_program_is_called_as_its_image() {
        for (reference, name) in [
            ("web", "web"),
            ("web:v1", "web"),
            ("localhost:5000/acme/web", "web"),
            ("windlass.dev/hello:v1@sha256:00", "hello"),
        ] {
            assert_eq!(program_name(reference), name);
        }
    }
}
