//! A runtime that only remembers what it was told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Notify, broadcast},
};
use tokio_stream::wrappers::BroadcastStream;
use windlass_runtime_agent::{Images, Upload};
use windlass_runtime_api::{
    ContainerSpec, ContainerState, ContainerStats, ExecIo, ExecSpec, HttpAnswer, HttpProbe, Image,
    MemoryBudget, ObservedContainer, ObservedSandbox, Runtime, RuntimeError, RuntimeEvent, Sandbox,
    SandboxStats, Started, TcpProbe,
};
use windlass_runtime_image::{ImageError, Listed};
use windlass_sdk_meta::Timestamp;

/// Clones share what runs.
#[derive(Clone)]
pub struct FakeRuntime {
    pub state: Arc<Mutex<State>>,
    events: broadcast::Sender<RuntimeEvent>,
    memory_changed: Arc<Notify>,
}

#[derive(Default)]
pub struct State {
    pub sandboxes: BTreeMap<String, (Arc<Sandbox>, BTreeMap<String, ObservedContainer>)>,
    /// What was started, in order.
    pub started: Vec<ContainerSpec>,
    pub probe_code: u16,
    /// Where probes went, in order, and the commands that were run.
    pub asked: Vec<String>,
    pub stops: Vec<(String, Duration)>,
    /// What each container of a pod holds while it runs, by uid.
    pub memory: BTreeMap<String, u64>,
    /// What they may hold together, and what is to be left of it.
    pub budget: Option<(u64, u64)>,
    pub start_takes: Duration,
    /// From when a list is true to when it is given out.
    pub list_takes: Duration,
}

impl State {
    fn list(&self) -> (Vec<ObservedSandbox>, Duration) {
        let observed = self.sandboxes.values().map(|(sandbox, containers)| ObservedSandbox {
            pod_uid: sandbox.uid.clone(),
            name: sandbox.name.clone(),
            namespace: sandbox.namespace.clone(),
            address: sandbox.address,
            containers: containers.values().cloned().collect(),
        });
        (observed.collect(), self.list_takes)
    }

    fn stats(&self) -> Vec<SandboxStats> {
        let of = |(sandbox, containers): &(Arc<Sandbox>, BTreeMap<String, ObservedContainer>)| {
            let running = containers.values().filter_map(|of| match of.state {
                ContainerState::Running { started_at } => Some((of, started_at)),
                ContainerState::Exited { .. } => None,
            });
            let stats = running.map(|(of, started_at)| ContainerStats {
                name: of.name.clone(),
                attempt: of.attempt,
                started_at: Some(started_at),
                cpu_nanos: 2_500_000_000,
                memory_bytes: self.memory.get(&sandbox.uid).copied().unwrap_or_default(),
                requests: 3,
                ..ContainerStats::default()
            });
            SandboxStats {
                pod_uid: sandbox.uid.clone(),
                name: sandbox.name.clone(),
                namespace: sandbox.namespace.clone(),
                containers: stats.collect(),
            }
        };
        self.sandboxes.values().map(of).collect()
    }

    fn budget(&self) -> Option<MemoryBudget> {
        let (limit_bytes, reserve_bytes) = self.budget?;
        let stats = self.stats();
        let held = stats.iter().flat_map(|pod| &pod.containers).map(|of| of.memory_bytes);
        Some(MemoryBudget { limit_bytes, used_bytes: held.sum(), reserve_bytes })
    }
}

impl FakeRuntime {
    pub fn new() -> Self {
        let start_takes = Duration::from_millis(1);
        let state = State { probe_code: 200, start_takes, ..State::default() };
        let memory_changed = Arc::default();
        Self {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::channel(64).0,
            memory_changed,
        }
    }

    /// From now on the containers of a pod hold so much.
    pub fn hold(&self, uid: &str, bytes: u64) {
        self.state.lock().expect("lock").memory.insert(uid.to_owned(), bytes);
        self.memory_changed.notify_waiters();
    }

    /// Lets a container end by itself.
    pub fn exit(&self, uid: &str, container: &str, exit_code: i32) {
        self.end(uid, container, exit_code);
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: uid.to_owned() });
    }

    pub fn tell(&self, event: RuntimeEvent) {
        let _ = self.events.send(event);
    }

    fn end(&self, uid: &str, container: &str, exit_code: i32) {
        let mut state = self.state.lock().expect("lock");
        let Some((_, containers)) = state.sandboxes.get_mut(uid) else { return };
        let Some(container) = containers.get_mut(container) else { return };
        if let ContainerState::Running { started_at } = container.state {
            container.state = ContainerState::Exited {
                started_at,
                finished_at: now(),
                exit_code,
                reason: String::new(),
                message: String::new(),
            };
        }
    }
}

/// Virtual time, as the agent's clock has it.
pub fn now() -> Timestamp {
    use windlass_sdk_meta::Clock;
    crate::lifecycle::VirtualClock.now()
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError> {
        let mut state = self.state.lock().expect("lock");
        state.sandboxes.entry(sandbox.uid.clone()).or_insert((sandbox, BTreeMap::new()));
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.state.lock().expect("lock").sandboxes.remove(pod_uid);
        Ok(())
    }

    async fn start_container(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let takes = self.state.lock().expect("lock").start_takes;
        tokio::time::sleep(takes).await;
        if spec.image.reference == "broken" {
            return Err(RuntimeError::new("CreateContainerError", "no such import"));
        }
        let mut state = self.state.lock().expect("lock");
        let id = format!("{}-{}", spec.name, spec.attempt);
        let (_, containers) = state.sandboxes.get_mut(&spec.pod.uid).expect("sandbox");
        let container = ObservedContainer {
            name: spec.name.clone(),
            id: id.clone(),
            attempt: spec.attempt,
            state: ContainerState::Running { started_at: now() },
        };
        containers.insert(spec.name.clone(), container);
        state.started.push(spec);
        Ok(Started::new(id))
    }

    async fn stop_container(
        &self,
        pod_uid: &str,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        self.state.lock().expect("lock").stops.push((container.to_owned(), grace));
        // It takes a second, or the grace where that is shorter.
        tokio::time::sleep(grace.min(Duration::from_secs(1))).await;
        self.end(pod_uid, container, 0);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        let (observed, takes) = self.state.lock().expect("lock").list();
        tokio::time::sleep(takes).await;
        Ok(observed)
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        BroadcastStream::new(self.events.subscribe())
            .map(|event| event.unwrap_or(RuntimeEvent::Lagged))
            .boxed()
    }

    async fn stats(&self) -> Vec<SandboxStats> {
        self.state.lock().expect("lock").stats()
    }

    fn memory_budget(&self) -> Option<MemoryBudget> {
        self.state.lock().expect("lock").budget()
    }

    async fn low_memory(&self) {
        loop {
            let changed = self.memory_changed.notified();
            if self.memory_budget().is_some_and(|budget| budget.is_low()) {
                return;
            }
            changed.await;
        }
    }

    /// Copies stdin to stdout, tells the command on stderr, and ends with the number it is given.
    async fn exec(
        &self,
        _: &str,
        _: &str,
        exec: ExecSpec,
        mut io: ExecIo,
    ) -> Result<i32, RuntimeError> {
        self.state.lock().expect("lock").asked.push(exec.command.join(" "));
        if exec.command[0] == "forever" {
            std::future::pending::<()>().await;
        }
        if exec.command[0] == "missing" {
            return Err(RuntimeError::new("ExecError", "the component has no run"));
        }
        if let Some(stdin) = &mut io.stdin {
            tokio::io::copy(stdin, &mut io.stdout).await.expect("copied");
        }
        if let Some(stderr) = &mut io.stderr {
            stderr.write_all(exec.command.join("|").as_bytes()).await.expect("written");
        }
        Ok(exec.command[0].parse().unwrap_or(0))
    }

    /// Answers with the code that is set; of gRPC with "serving" while that is 200.
    async fn http_probe(&self, _: &str, probe: HttpProbe) -> Result<HttpAnswer, RuntimeError> {
        let mut state = self.state.lock().expect("lock");
        let status = state.probe_code;
        state.asked.push(format!("{}:{}{}", probe.to.unwrap_or_default(), probe.port, probe.path));
        Ok(match probe.grpc {
            None => HttpAnswer { status, ..HttpAnswer::default() },
            Some(_) => HttpAnswer {
                status: 200,
                body: vec![0, 0, 0, 0, 2, 8, if status == 200 { 1 } else { 2 }],
                grpc: Some((0, String::new())),
                ..HttpAnswer::default()
            },
        })
    }

    async fn tcp_probe(&self, _: &str, probe: TcpProbe) -> Result<(), RuntimeError> {
        let mut state = self.state.lock().expect("lock");
        state.asked.push(format!("tcp:{}", probe.port));
        match state.probe_code {
            200 => Ok(()),
            _ => Err(RuntimeError::new("ProbeRefused", "dial tcp: connect: connection refused")),
        }
    }
}

/// Every image is there but the one called `missing`, until it is imported.
#[derive(Default)]
pub struct FakeImages(pub Mutex<Vec<String>>);

#[async_trait]
impl Images for FakeImages {
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let imported = self.0.lock().expect("lock").iter().any(|name| name == reference);
        let missing = ["missing", "wasm-by-word"].contains(&reference);
        Ok((!missing || imported).then(|| Image {
            reference: reference.to_owned(),
            digest: "sha256:1".into(),
            nature: Default::default(),
            wasm_digest: "sha256:2".into(),
            wasm_path: "/nowhere".into(),
            config: Default::default(),
        }))
    }

    async fn find_wasm(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        // Any that is there will do.
        self.find(if reference == "wasm-by-word" { "hello" } else { reference }).await
    }

    async fn list(&self) -> Vec<Listed> {
        Vec::new()
    }

    async fn import(
        &self,
        reference: &str,
        _: Upload,
        bound_bytes: u64,
    ) -> Result<Image, ImageError> {
        self.0.lock().expect("lock").push(reference.to_owned());
        let image = self.find(reference).await.ok().flatten();
        image.ok_or(ImageError::TooLarge { bound_bytes })
    }
}
