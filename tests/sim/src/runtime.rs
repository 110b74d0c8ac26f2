//! A runtime without guests: containers start after a moment of virtual time and run until they
//! are stopped. It keeps what it holds when the agent goes away, as Docker would, unless the
//! simulation says that the process died (`reboot`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast;
use windlass_runtime_api::{
    ContainerSpec, ContainerState, HttpProbe, ObservedContainer, ObservedSandbox, Runtime,
    RuntimeError, RuntimeEvent, Sandbox, Started,
};
use windlass_sdk_meta::{Clock, Rng};

/// Hints that a slow reader may leave unread before it gets `Lagged`.
const EVENTS: usize = 256;
/// The longest that a container takes to start.
const START_MS: usize = 40;

/// See the module.
pub struct FakeRuntime {
    pods: Mutex<BTreeMap<String, ObservedSandbox>>,
    events: broadcast::Sender<RuntimeEvent>,
    clock: Arc<dyn Clock>,
    rng: Rng,
}

impl FakeRuntime {
    pub fn new(clock: Arc<dyn Clock>, rng: Rng) -> Arc<Self> {
        Arc::new(Self { pods: Mutex::default(), events: broadcast::channel(EVENTS).0, clock, rng })
    }

    /// The process that ran the containers died: nothing is left.
    pub fn reboot(&self) {
        self.pods().clear();
    }

    /// Containers that run, as `namespace/pod/container`, for invariants.
    pub fn running(&self) -> Vec<String> {
        let pods = self.pods();
        let names = pods.values().flat_map(|pod| {
            let running = pod.containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. }));
            running.map(|c| format!("{}/{}/{}", pod.namespace, pod.name, c.name))
        });
        names.collect()
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, ObservedSandbox>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, pod_uid: &str) {
        // Nobody listens while the agent is away; it looks at everything when it comes back.
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: pod_uid.to_owned() });
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError> {
        self.pods().entry(sandbox.uid.clone()).or_insert_with(|| ObservedSandbox {
            pod_uid: sandbox.uid.clone(),
            name: sandbox.name.clone(),
            namespace: sandbox.namespace.clone(),
            containers: Vec::new(),
        });
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.pods().remove(pod_uid);
        self.changed(pod_uid);
        Ok(())
    }

    async fn start_container(&self, container: ContainerSpec) -> Result<Started, RuntimeError> {
        tokio::time::sleep(Duration::from_millis(self.rng.below(START_MS) as u64)).await;
        let uid = &container.pod.uid;
        let id = format!("{uid}-{}-{}", container.name, container.attempt);
        let observed = ObservedContainer {
            name: container.name.clone(),
            id: id.clone(),
            attempt: container.attempt,
            state: ContainerState::Running { started_at: self.clock.now() },
        };
        let mut pods = self.pods();
        let gone = || RuntimeError::new("CreateContainerError", "the sandbox is gone");
        let containers = &mut pods.get_mut(uid).ok_or_else(gone)?.containers;
        containers.retain(|known| known.name != observed.name);
        containers.push(observed);
        drop(pods);
        self.changed(uid);
        Ok(Started { id })
    }

    async fn stop_container(&self, pod_uid: &str, container: &str, _: Duration) -> Result<(), RuntimeError> {
        tokio::time::sleep(Duration::from_millis(self.rng.below(START_MS) as u64)).await;
        let now = self.clock.now();
        let mut pods = self.pods();
        let containers = pods.get_mut(pod_uid).into_iter().flat_map(|pod| &mut pod.containers);
        for known in containers.filter(|known| known.name == container) {
            if let ContainerState::Running { started_at } = known.state {
                known.state = ContainerState::Exited {
                    started_at,
                    finished_at: now,
                    exit_code: 0,
                    reason: "Completed".into(),
                    message: String::new(),
                };
            }
        }
        drop(pods);
        self.changed(pod_uid);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        Ok(self.pods().values().cloned().collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let receiver = self.events.subscribe();
        let next = |mut receiver: broadcast::Receiver<RuntimeEvent>| async {
            match receiver.recv().await {
                Ok(event) => Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((RuntimeEvent::Lagged, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        };
        futures::stream::unfold(receiver, next).boxed()
    }

    async fn http_probe(&self, _: &str, _: HttpProbe) -> Result<u16, RuntimeError> {
        Ok(200)
    }
}
