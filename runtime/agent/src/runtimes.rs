//! The runtimes of a node as one. A pod has a sandbox in each that it needs; each container belongs
//! to the runtime that its image needs. Container ids carry their runtime's name (`docker://ID`)
//! wherever the agent keeps them: so it is always known whom to ask, also when that one is silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{
    ContainerSpec, Nature, ObservedSandbox, Runtime, RuntimeError, RuntimeEvent, Sandbox,
    SandboxStats, Started,
};
use windlass_sdk_types::Kind;

use crate::{
    agent::{Agent, Entry},
    order,
    state::{Attempt, Seen},
};

pub(crate) struct Runtimes {
    /// Always answers, and every pod has a sandbox in it: probes and port-forwards go through it.
    first: Arc<dyn Runtime>,
    /// May be silent.
    others: Vec<Other>,
}

struct Other {
    runtime: Arc<dyn Runtime>,
    /// Pods that may have something there: all others need not be asked about.
    pods: Mutex<BTreeSet<String>>,
    /// `pods` is whole.
    listed: AtomicBool,
}

/// Everything that the runtimes that answered have, by pod.
pub(crate) struct Listing {
    pub pods: BTreeMap<String, ObservedSandbox>,
    pub silent: Vec<&'static str>,
}

impl Listing {
    pub fn seen(&self, uid: &str) -> Seen<'_> {
        Seen { sandbox: self.pods.get(uid), silent: &self.silent }
    }
}

impl Runtimes {
    /// None without any.
    pub fn new(all: &[Arc<dyn Runtime>]) -> Option<Self> {
        let (first, others) = all.split_first()?;
        let others = others.iter().cloned();
        let others = others.map(|runtime| Other {
            runtime,
            pods: Mutex::default(),
            listed: AtomicBool::new(false),
        });
        Some(Self { first: first.clone(), others: others.collect() })
    }

    pub fn first(&self) -> &Arc<dyn Runtime> {
        &self.first
    }

    /// The one that runs images of this nature.
    pub fn of(&self, nature: Nature) -> Result<&Arc<dyn Runtime>, RuntimeError> {
        match nature {
            Nature::Wasm => Ok(&self.first),
            Nature::Container => self
                .engine()
                .ok_or_else(|| RuntimeError::new(NO_ENGINE, "this node runs no containers")),
        }
    }

    /// The one that runs containers, where the node has one.
    pub fn engine(&self) -> Option<&Arc<dyn Runtime>> {
        let is_it = |other: &&Other| other.runtime.name() == Nature::Container.runtime();
        self.others.iter().find(is_it).map(|other| &other.runtime)
    }

    /// The engine, where it can be asked now.
    pub fn ready_engine(&self) -> Option<&Arc<dyn Runtime>> {
        self.engine().filter(|engine| {
            engine.availability().is_none_or(|availability| availability.borrow().is_ready())
        })
    }

    /// Whose container this is.
    pub fn of_id(&self, id: &str) -> &Arc<dyn Runtime> {
        let name = id.split_once("://").map(|(name, _)| name);
        let other = self.others.iter().find(|other| Some(other.runtime.name()) == name);
        other.map_or(&self.first, |other| &other.runtime)
    }

    pub async fn list(&self) -> Result<Listing, RuntimeError> {
        let mut listing = Listing { pods: BTreeMap::new(), silent: Vec::new() };
        for pod in self.first.list().await? {
            add(&mut listing.pods, self.first.name(), pod);
        }
        for other in &self.others {
            let name = other.runtime.name();
            match other.runtime.list().await {
                Ok(all) => {
                    let uids = all.iter().map(|pod| pod.pod_uid.clone());
                    // Those that are just being made are kept.
                    other.pods.lock().extend(uids);
                    other.listed.store(true, Relaxed);
                    all.into_iter().for_each(|pod| add(&mut listing.pods, name, pod));
                }
                Err(error) => {
                    tracing::debug!(runtime = name, %error, "no list");
                    listing.silent.push(name);
                }
            }
        }
        Ok(listing)
    }

    pub async fn observe(&self, uid: &str) -> Result<Listing, RuntimeError> {
        let mut listing = Listing { pods: BTreeMap::new(), silent: Vec::new() };
        if let Some(pod) = self.first.observe(uid).await? {
            add(&mut listing.pods, self.first.name(), pod);
        }
        for other in &self.others {
            let name = other.runtime.name();
            if !other.pods.lock().contains(uid) {
                if !other.listed.load(Relaxed) {
                    listing.silent.push(name);
                }
                continue;
            }
            match other.runtime.observe(uid).await {
                Ok(pod) => {
                    pod.into_iter().for_each(|pod| add(&mut listing.pods, name, pod));
                }
                Err(error) => {
                    tracing::debug!(runtime = name, uid, %error, "no answer");
                    listing.silent.push(name);
                }
            }
        }
        Ok(listing)
    }

    /// Makes the pod's sandbox; that of containers first where the pod is known to have any, because
    /// sockets that are made later must find its network.
    pub async fn run_sandbox(
        &self,
        sandbox: &Arc<Sandbox>,
        with_containers: bool,
    ) -> Result<(), RuntimeError> {
        if with_containers {
            for other in &self.others {
                other.pods.lock().insert(sandbox.uid.clone());
                let name = other.runtime.name();
                let silent = other.runtime.availability().is_some_and(|a| !a.borrow().is_ready());
                match other.runtime.run_sandbox(sandbox.clone()).await {
                    // The pod's containers will say so; others of it need not wait.
                    Err(error) if silent => tracing::debug!(runtime = name, %error, "no sandbox"),
                    done => done?,
                }
            }
        }
        self.first.run_sandbox(sandbox.clone()).await
    }

    /// Is there something of the pod to be removed beside what the first runtime has?
    pub fn has_containers(&self, uid: &str) -> bool {
        self.others.iter().any(|other| other.pods.lock().contains(uid))
    }

    pub async fn remove_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        // First what may fail: until it is done the pod keeps its address.
        for other in &self.others {
            if other.pods.lock().contains(uid) {
                other.runtime.remove_sandbox(uid).await?;
                other.pods.lock().remove(uid);
            }
        }
        self.first.remove_sandbox(uid).await
    }

    pub async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let runtime = self.of(spec.image.nature)?;
        for other in self.others.iter().filter(|other| other.runtime.name() == runtime.name()) {
            other.pods.lock().insert(spec.pod.uid.clone());
        }
        if !self.others.is_empty() {
            // It may have been lost with the process, or never been needed before.
            self.first.run_sandbox(spec.pod.clone()).await?;
        }
        let name = runtime.name();
        let started = runtime.start_container(spec).await?;
        Ok(Started { id: full_id(name, &started.id), ..started })
    }

    pub fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let others = self.others.iter().map(|other| other.runtime.events());
        futures::stream::select_all(std::iter::once(self.first.events()).chain(others)).boxed()
    }

    /// What the pod's containers wrote beside their volumes, by container.
    pub async fn written_bytes(&self, uid: &str) -> Vec<(String, u64)> {
        let mut written = Vec::new();
        for other in &self.others {
            if other.pods.lock().contains(uid) {
                written.extend(other.runtime.written_bytes(uid).await);
            }
        }
        written
    }

    /// What runs, each pod once.
    pub async fn stats(&self) -> Vec<SandboxStats> {
        let mut pods = self.first.stats().await;
        for other in &self.others {
            for pod in other.runtime.stats().await {
                match pods.iter_mut().find(|known| known.pod_uid == pod.pod_uid) {
                    Some(known) => known.containers.extend(pod.containers),
                    None => pods.push(pod),
                }
            }
        }
        pods
    }
}

/// The reason of a container that needs an engine which the node doesn't have.
pub(crate) const NO_ENGINE: &str = "DockerUnavailable";

/// Two runtimes may have parts of one pod.
fn add(
    pods: &mut BTreeMap<String, ObservedSandbox>,
    runtime: &'static str,
    mut pod: ObservedSandbox,
) {
    for container in &mut pod.containers {
        container.id = full_id(runtime, &container.id);
    }
    match pods.get_mut(&pod.pod_uid) {
        None => {
            pods.insert(pod.pod_uid.clone(), pod);
        }
        Some(known) => {
            for container in pod.containers {
                // An image may have changed its nature: the newer attempt is what counts.
                let place = known.containers.iter().position(|of| of.name == container.name);
                match place {
                    None => known.containers.push(container),
                    Some(at) if known.containers[at].attempt < container.attempt => {
                        known.containers[at] = container;
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn full_id(runtime: &str, id: &str) -> String {
    format!("{runtime}://{id}")
}

impl Agent {
    /// Sandboxes whose containers outlived the agent get again what ended with it: their parts in the
    /// other runtimes, and their network.
    pub(crate) fn resume(self: &Arc<Self>, listing: &Listing) {
        for pod in self.pods.list() {
            let Some(sandbox) = listing.pods.get(pod.uid()) else { continue };
            let runs = |entry: &Entry| entry.state.any_running();
            let runs = self.entries.lock().by_uid.get(pod.uid()).is_some_and(runs);
            if pod.is_deleting() || !runs || !self.runtimes.has_containers(pod.uid()) {
                continue;
            }
            let (agent, address) = (self.clone(), sandbox.address);
            tokio::spawn(async move {
                let resumed = async {
                    let sandbox = Arc::new(agent.sandbox(&pod, address, true).await?);
                    agent.runtimes.run_sandbox(&sandbox, true).await
                };
                match resumed.await {
                    Ok(()) => agent.update(pod.uid(), |entry| entry.resuming = false),
                    Err(error) => {
                        tracing::warn!(uid = pod.uid(), %error, "sandbox not taken up");
                        None
                    }
                };
                for container in order::every(&pod) {
                    let runs = agent.runtime_of(pod.uid(), &container.name).outlives_agent();
                    if runs {
                        agent.open_host_ports(&pod, &container).await;
                    }
                }
                agent.observe(pod.uid()).await;
            });
        }
    }

    /// Removes what runtimes have of pods that are gone.
    pub(crate) async fn remove_left_over(&self, listing: &Listing) {
        for uid in listing.pods.keys() {
            if self.entries.lock().by_uid.contains_key(uid) {
                continue;
            }
            match self.runtimes.remove_sandbox(uid).await {
                Ok(()) => self.addresses.lock().release(uid),
                Err(error) => tracing::warn!(uid, %error, "left-over sandbox stays"),
            }
        }
    }

    /// Lets what waits for the container engine try again, because it came.
    fn engine_came(&self) {
        // Its store may have what no registry has.
        let waits =
            |reason: &str| matches!(reason, NO_ENGINE | "ErrImagePull" | "ErrImageNeverPull");
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        for (uid, entry) in &mut entries.by_uid {
            let containers = entry.state.containers.values_mut().map(|memory| &mut memory.trouble);
            let troubles = containers.chain(std::iter::once(&mut entry.state.trouble));
            for trouble in troubles.flatten().filter(|trouble| waits(&trouble.reason)) {
                trouble.retry_at = now;
                self.queue.add(uid.clone());
            }
        }
    }

    /// The runtime that has a container's newest attempt.
    pub(crate) fn runtime_of(&self, uid: &str, container: &str) -> Arc<dyn Runtime> {
        let entries = self.entries.lock();
        let memory = entries.by_uid.get(uid).and_then(|of| of.state.containers.get(container));
        let id = memory.map_or("", |memory| memory.state.id());
        self.runtimes.of_id(id).clone()
    }
}

/// Hears of the container engine's coming, until told to stop.
pub(crate) async fn follow_engine(agent: Arc<Agent>, stop: CancellationToken) {
    let engine = agent.runtimes.engine().and_then(|engine| engine.availability());
    let Some(mut engine) = engine else { return };
    let following = async {
        while engine.changed().await.is_ok() {
            if engine.borrow_and_update().is_ready() {
                agent.engine_came();
            }
        }
    };
    let _ = stop.run_until_cancelled(following).await;
}

impl Attempt {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Never => "",
            Self::Running { id, .. } => id,
            Self::Ended(ended) => &ended.id,
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_runtime_api::{ContainerState, ObservedContainer};

    use super::*;

    fn pod(containers: &[(&str, u32)]) -> ObservedSandbox {
        let started_at = windlass_sdk_meta::Timestamp::UNIX_EPOCH;
        let containers = containers.iter().map(|(name, attempt)| ObservedContainer {
            name: (*name).to_owned(),
            id: format!("{name}{attempt}"),
            attempt: *attempt,
            state: ContainerState::Running { started_at },
        });
        ObservedSandbox {
            pod_uid: "u".into(),
            name: "p".into(),
            namespace: "n".into(),
            address: [127, 64, 0, 1].into(),
            containers: containers.collect(),
        }
    }

    #[test]
    fn parts_of_a_pod_are_put_together() {
        let mut pods = BTreeMap::new();
        add(&mut pods, "wasm", pod(&[("front", 0), ("changed", 2)]));
        add(&mut pods, "docker", pod(&[("back", 1), ("changed", 1)]));
        let ids: Vec<&str> = pods["u"].containers.iter().map(|of| of.id.as_str()).collect();
        assert_eq!(ids, ["wasm://front0", "wasm://changed2", "docker://back1"]);
        add(&mut pods, "docker", pod(&[("changed", 3)]));
        assert_eq!(pods["u"].containers[1].id, "docker://changed3");
    }
}
