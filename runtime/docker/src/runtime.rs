//! The engine as a runtime of the node.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;
use windlass_runtime_api::{
    Attached, Availability, BoxAsyncRead, ContainerSpec, ContainerState, EngineImage, ExecIo,
    ExecSpec, HttpAnswer, HttpProbe, Limits, ObservedSandbox, PulledImage, RegistryAuth, Runtime,
    RuntimeError, RuntimeEvent, Sandbox, SandboxStats, Started,
};
use windlass_runtime_net::PodNet;
use windlass_sdk_meta::Clock;

use crate::{
    collect::Pulled,
    engine::{DockerHost, Engine, Heard},
    files::Files,
    logs::Logs,
    network::Network,
    sandbox::Gates,
};

/// The kernel's own bound.
pub(crate) const LEAST_OOM_SCORE: i64 = -1000;

/// Everything the runtime needs.
pub struct DockerConfig {
    pub host: DockerHost,
    /// Of this node alone: several may share an engine, and each sees only what is its own.
    pub node: String,
    /// For files that containers see.
    pub dir: PathBuf,
    pub clock: Arc<dyn Clock>,
    /// Where the sockets of pods are made.
    pub net: PodNet,
}

/// Containers in a Docker engine. It need not be there: then everything that needs it fails with a
/// reason, until it comes.
pub struct DockerRuntime {
    inner: Arc<Inner>,
    _keeping: AbortOnDropHandle<()>,
}

pub(crate) struct Inner {
    pub engine: Arc<Engine>,
    pub node: String,
    pub clock: Arc<dyn Clock>,
    pub files: Files,
    pub logs: Arc<Logs>,
    pub network: Network,
    pub pulled: Pulled,
    pub gates: Gates,
    /// What the engine is able to set.
    pub least_oom_score: AtomicI64,
    /// What was found out about containers, by id: since when they run, or how they ended. Only what
    /// the engine has; an end never changes.
    pub seen: Mutex<HashMap<String, ContainerState>>,
}

impl DockerRuntime {
    /// Begins to look for the engine. Must be called inside a tokio runtime.
    pub fn start(config: DockerConfig) -> Arc<Self> {
        let engine = Arc::new(Engine::new(
            config.host,
            config.node.clone(),
            config.clock.clone(),
            config.net.clone(),
        ));
        let inner = Arc::new(Inner {
            logs: Logs::new(engine.clone(), config.clock.clone()),
            network: Network::new(config.net, engine.clone()),
            pulled: Pulled::open(config.dir.join("pulled.json")),
            engine,
            node: config.node,
            clock: config.clock,
            files: Files { dir: config.dir },
            gates: Gates::default(),
            least_oom_score: AtomicI64::new(LEAST_OOM_SCORE),
            seen: Mutex::default(),
        });
        let kept = inner.clone();
        let keeping = tokio::spawn(async move {
            let heard = |event| kept.heard(event);
            tokio::join!(kept.engine.keep(heard), kept.collect_images());
        });
        Arc::new(Self { inner, _keeping: AbortOnDropHandle::new(keeping) })
    }
}

impl Drop for DockerRuntime {
    fn drop(&mut self) {
        // Whoever comes next writes to the same files.
        self.inner.logs.stop();
    }
}

impl Inner {
    fn heard(&self, event: Heard) {
        match event {
            Heard::Everything => {
                // What ran may have ended unheard.
                self.seen.lock().retain(|_, state| matches!(state, ContainerState::Exited { .. }));
            }
            Heard::Started { pod_uid, .. } => self.engine.changed(&pod_uid),
            Heard::Died { pod_uid, id } => {
                let mut seen = self.seen.lock();
                if matches!(seen.get(&id), Some(ContainerState::Running { .. })) {
                    seen.remove(&id);
                }
                drop(seen);
                self.engine.changed(&pod_uid);
            }
            Heard::Removed { pod_uid, id } => {
                self.seen.lock().remove(&id);
                self.logs.forget(&id);
                self.engine.changed(&pod_uid);
            }
        }
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError> {
        self.inner.engine.ask(self.inner.ensure_sandbox(&sandbox)).await.map(drop)
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.inner.engine.ask(self.inner.remove_pod(pod_uid)).await
    }

    async fn start_container(&self, container: ContainerSpec) -> Result<Started, RuntimeError> {
        let done = self.inner.engine.ask(self.inner.start(container)).await;
        // The agent tries again.
        self.inner.made_room(&done).await;
        done
    }

    async fn stop_container(
        &self,
        pod_uid: &str,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        self.inner.engine.ask(self.inner.stop(pod_uid, container, grace)).await
    }

    async fn resize_container(
        &self,
        pod_uid: &str,
        container: &str,
        limits: Limits,
    ) -> Result<(), RuntimeError> {
        self.inner.engine.ask(self.inner.resize(pod_uid, container, &limits)).await
    }

    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        self.inner.engine.ask(self.inner.observed(None)).await
    }

    async fn observe(&self, pod_uid: &str) -> Result<Option<ObservedSandbox>, RuntimeError> {
        Ok(self.inner.engine.ask(self.inner.observed(Some(pod_uid))).await?.pop())
    }

    fn outlives_agent(&self) -> bool {
        true
    }

    fn availability(&self) -> Option<watch::Receiver<Availability>> {
        Some(self.inner.engine.availability())
    }

    async fn find_image(&self, reference: &str) -> Result<Option<EngineImage>, RuntimeError> {
        self.inner.engine.ask(self.inner.find(reference)).await
    }

    async fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<RegistryAuth>,
    ) -> Result<PulledImage, RuntimeError> {
        self.inner.engine.ask(self.inner.pull(reference, credentials)).await
    }

    async fn load_image(
        &self,
        reference: &str,
        name: &str,
        archive: BoxAsyncRead,
    ) -> Result<PulledImage, RuntimeError> {
        let done = self.inner.engine.ask(self.inner.load(reference, name, archive)).await;
        // An archive is read once: the agent tries again with another.
        self.inner.made_room(&done).await;
        done
    }

    async fn export_image(&self, reference: &str) -> Result<BoxAsyncRead, RuntimeError> {
        self.inner.export(reference).await
    }

    async fn list_images(&self) -> Vec<EngineImage> {
        self.inner.engine.ask(async { Ok(self.inner.images().await) }).await.unwrap_or_default()
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let events = self.inner.engine.events.subscribe();
        let next = |mut events: broadcast::Receiver<RuntimeEvent>| async move {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((RuntimeEvent::Lagged, events)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        };
        futures::stream::unfold(events, next).boxed()
    }

    /// The pod's network is not the engine's business: the agent asks where sockets are made.
    async fn http_probe(&self, _: &str, _: HttpProbe) -> Result<HttpAnswer, RuntimeError> {
        Err(RuntimeError::new("ProbeError", "containers are probed through the pod's network"))
    }

    async fn exec(
        &self,
        pod_uid: &str,
        container: &str,
        exec: ExecSpec,
        io: ExecIo,
    ) -> Result<i32, RuntimeError> {
        self.inner.exec(pod_uid, container, exec, io).await
    }

    async fn attach(
        &self,
        pod_uid: &str,
        container: &str,
        io: ExecIo,
    ) -> Result<Attached, RuntimeError> {
        self.inner.attach(pod_uid, container, io).await
    }

    async fn stats(&self) -> Vec<SandboxStats> {
        self.inner.engine.ask(async { Ok(self.inner.usage().await) }).await.unwrap_or_default()
    }

    async fn written_bytes(&self, pod_uid: &str) -> Vec<(String, u64)> {
        self.inner.engine.ask(self.inner.written(pod_uid)).await.unwrap_or_default()
    }
}
