//! A runtime without guests: containers start after a moment of virtual time, then run until they
//! are stopped, or end as their image's name says. The runtime outlives its agent, as Docker would,
//! unless the simulation says that its process died too (`reboot`).

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, future::pending, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use windlass_runtime_agent::{Images, Upload};
use windlass_runtime_api::{
    ContainerSpec, ContainerState, HttpAnswer, HttpProbe, Image, ObservedContainer,
    ObservedSandbox, Runtime, RuntimeError, RuntimeEvent, Sandbox, Started,
};
use windlass_runtime_image::{ImageError, Listed};
use windlass_sdk_meta::{Clock, Rng};

/// Hints that a slow reader may leave unread before it gets `Lagged`.
const EVENTS: usize = 256;
/// The longest that a container takes to start or to stop.
const TURN_MS: usize = 40;
/// The longest that a container runs that ends by itself.
const LIFE_MS: usize = 800;
/// From when on a container answers its probe, after its start.
const WARM_MS: i64 = 300;

/// Containers of this image end at once with success, those of the next fail the first time, those
/// of the last are never on the node.
pub const ONCE: &str = "once";
pub const FLAKY: &str = "flaky";
pub const ABSENT: &str = "absent";

/// What the machine runs.
pub struct FakeRuntime {
    pods: Mutex<BTreeMap<String, Pod>>,
    events: broadcast::Sender<RuntimeEvent>,
    clock: Arc<dyn Clock>,
    rng: Rng,
    wrongs: Mutex<Vec<String>>,
}

/// The runtime as one life of the agent has it. After that life its calls do nothing.
pub struct Session {
    runtime: Arc<FakeRuntime>,
    dead: CancellationToken,
}

/// A sandbox that exists, for the rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    pub uid: String,
    pub name: String,
    pub address: String,
    pub containers: Vec<String>,
}

struct Pod {
    sandbox: Arc<Sandbox>,
    containers: Vec<ObservedContainer>,
}

impl FakeRuntime {
    pub fn new(clock: Arc<dyn Clock>, rng: Rng) -> Arc<Self> {
        let events = broadcast::channel(EVENTS).0;
        let (pods, wrongs) = (Mutex::default(), Mutex::default());
        Arc::new(Self { pods, events, clock, rng, wrongs })
    }

    /// The runtime for a life of the agent that ends with `dead`.
    pub fn session(self: &Arc<Self>, dead: CancellationToken) -> Arc<Session> {
        Arc::new(Session { runtime: self.clone(), dead })
    }

    /// The process that ran the containers died: nothing is left.
    pub fn reboot(&self) {
        self.pods.lock().clear();
    }

    /// Sandboxes with the containers that run in them.
    pub fn running(&self) -> Vec<Running> {
        let pods = self.pods.lock();
        let each = pods.values().map(|pod| Running {
            uid: pod.sandbox.uid.clone(),
            name: format!("{}/{}", pod.sandbox.namespace, pod.sandbox.name),
            address: pod.sandbox.address.to_string(),
            containers: pod
                .containers
                .iter()
                .filter(|container| matches!(container.state, ContainerState::Running { .. }))
                .map(|container| container.name.clone())
                .collect(),
        });
        each.collect()
    }

    /// What no agent should have asked for.
    pub fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().clone()
    }

    fn wrong(&self, what: String) {
        self.wrongs.lock().push(what);
    }

    async fn turn(&self) {
        tokio::time::sleep(Duration::from_millis(self.rng.below(TURN_MS) as u64)).await;
    }

    fn changed(&self, pod_uid: &str) {
        // Nobody listens while the agent is away; it looks at everything when it comes back.
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: pod_uid.to_owned() });
    }

    /// Ends a container, if it is still this attempt that runs.
    fn end(&self, pod_uid: &str, id: &str, exit_code: i32) {
        let mut pods = self.pods.lock();
        let containers = pods.get_mut(pod_uid).into_iter().flat_map(|pod| &mut pod.containers);
        for known in containers.filter(|known| known.id == id) {
            if let ContainerState::Running { started_at } = known.state {
                known.state = ContainerState::Exited {
                    started_at,
                    finished_at: self.clock.now(),
                    exit_code,
                    reason: if exit_code == 0 { "Completed" } else { "Error" }.into(),
                    message: String::new(),
                };
            }
        }
        drop(pods);
        self.changed(pod_uid);
    }

    /// Puts a started attempt where the one before it was.
    fn put(&self, container: &ContainerSpec, id: &str) -> Result<(), RuntimeError> {
        let (uid, attempt) = (&container.pod.uid, container.attempt);
        let observed = ObservedContainer {
            name: container.name.clone(),
            id: id.to_owned(),
            attempt,
            state: ContainerState::Running { started_at: self.clock.now() },
        };
        let mut pods = self.pods.lock();
        let gone = || RuntimeError::new("CreateContainerError", "the sandbox is gone");
        let containers = &mut pods.get_mut(uid).ok_or_else(gone)?.containers;
        if let Some(known) = containers.iter().find(|known| known.name == container.name)
            && (known.attempt >= attempt || matches!(known.state, ContainerState::Running { .. }))
        {
            self.wrong(format!("attempt {attempt} of {uid} started beside {known:?}"));
        }
        containers.retain(|known| known.name != container.name);
        containers.push(observed);
        Ok(())
    }
}

impl Session {
    /// Never returns after the agent's life.
    async fn alive(&self) {
        if self.dead.is_cancelled() {
            pending().await
        }
    }
}

#[async_trait]
impl Runtime for Session {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn run_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<(), RuntimeError> {
        self.runtime.turn().await;
        self.alive().await;
        let mut pods = self.runtime.pods.lock();
        let same =
            |pod: &&Pod| pod.sandbox.address == sandbox.address && pod.sandbox.uid != sandbox.uid;
        if let Some(other) = pods.values().find(same) {
            let (uid, address) = (&other.sandbox.uid, sandbox.address);
            self.runtime.wrong(format!("{} gets {address} of {uid}", sandbox.uid));
        }
        let uid = sandbox.uid.clone();
        pods.entry(uid).or_insert_with(|| Pod { sandbox, containers: Vec::new() });
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.runtime.turn().await;
        self.alive().await;
        self.runtime.pods.lock().remove(pod_uid);
        self.runtime.changed(pod_uid);
        Ok(())
    }

    async fn start_container(&self, container: ContainerSpec) -> Result<Started, RuntimeError> {
        self.runtime.turn().await;
        self.alive().await;
        let (runtime, uid) = (&self.runtime, &container.pod.uid);
        let id = format!("{uid}-{}-{}", container.name, container.attempt);
        runtime.put(&container, &id)?;
        runtime.changed(uid);
        let is = |image: &str| container.image.reference.contains(image);
        let exit_code = match container.attempt {
            _ if is(ONCE) => Some(0),
            0 if is(FLAKY) => Some(1),
            _ => None,
        };
        if let Some(exit_code) = exit_code {
            let life = Duration::from_millis(runtime.rng.below(LIFE_MS) as u64);
            let (runtime, uid, id) = (runtime.clone(), uid.clone(), id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(life).await;
                runtime.end(&uid, &id, exit_code);
            });
        }
        Ok(Started::new(id))
    }

    async fn stop_container(
        &self,
        pod_uid: &str,
        container: &str,
        _: Duration,
    ) -> Result<(), RuntimeError> {
        self.runtime.turn().await;
        self.alive().await;
        let ids: Vec<String> = {
            let pods = self.runtime.pods.lock();
            let containers = pods.get(pod_uid).into_iter().flat_map(|pod| &pod.containers);
            containers.filter(|known| known.name == container).map(|c| c.id.clone()).collect()
        };
        ids.iter().for_each(|id| self.runtime.end(pod_uid, id, 0));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        let pods = self.runtime.pods.lock();
        let each = pods.values().map(|pod| ObservedSandbox {
            pod_uid: pod.sandbox.uid.clone(),
            name: pod.sandbox.name.clone(),
            namespace: pod.sandbox.namespace.clone(),
            address: pod.sandbox.address,
            containers: pod.containers.clone(),
        });
        Ok(each.collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let receiver = self.runtime.events.subscribe();
        let next = |mut receiver: broadcast::Receiver<RuntimeEvent>| async {
            match receiver.recv().await {
                Ok(event) => Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((RuntimeEvent::Lagged, receiver))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        };
        futures::stream::unfold(receiver, next).boxed()
    }

    async fn http_probe(
        &self,
        pod_uid: &str,
        probe: HttpProbe,
    ) -> Result<HttpAnswer, RuntimeError> {
        let now = self.runtime.clock.now();
        let pods = self.runtime.pods.lock();
        let containers = pods.get(pod_uid).into_iter().flat_map(|pod| &pod.containers);
        let mut running = containers.filter(|container| container.name == probe.container);
        match running.next().map(|container| &container.state) {
            Some(ContainerState::Running { started_at }) => {
                let age = now.duration_since(*started_at).as_millis();
                let status = if age >= i128::from(WARM_MS) { 200 } else { 503 };
                Ok(HttpAnswer { status, ..HttpAnswer::default() })
            }
            _ => Err(RuntimeError::new("ProbeFailed", "connection refused")),
        }
    }
}

/// Every image is on the node but those that are named absent.
pub struct FakeImages;

#[async_trait]
impl Images for FakeImages {
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let digest = format!("sha256:{reference}");
        let image = Image {
            reference: reference.to_owned(),
            digest: digest.clone(),
            nature: Default::default(),
            wasm_digest: digest,
            wasm_path: PathBuf::new(),
            config: Default::default(),
        };
        Ok((!reference.contains(ABSENT)).then_some(image))
    }

    async fn list(&self) -> Vec<Listed> {
        Vec::new()
    }

    async fn import(&self, _: &str, _: Upload, _: u64) -> Result<Image, ImageError> {
        Err(ImageError::Interrupted(io::Error::other("the simulation imports nothing")))
    }
}
