//! The loop of a node: something changed about a pod, so look at it, plan, and act. Looking and
//! planning never wait; what takes time runs as a task that writes its result back and asks for
//! another look.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{Runtime, RuntimeEvent};
use windlass_runtime_net::{PodAddresses, PodNet, Published};
use windlass_sdk_client::{Api, EventType, Informer, Key, Queue, Recorder};
use windlass_sdk_meta::Clock;
use windlass_sdk_types::{Kind, ObjectReference, Pod, Service};

use crate::{
    config::AgentConfig,
    eviction::{self, Evictions},
    images::Images,
    kubelet,
    log_watch::LogWatch,
    node, order,
    plan::{Action, NodeView, Plan, plan_pod},
    probe::{self, Watched},
    records::Records,
    runtimes::{Listing, Runtimes, follow_engine},
    state::{Attempt, PodState, Record, SandboxState},
    stats::Meter,
    status,
    statuses::{self, StatusText},
    volumes::{self, Volumes},
};

/// Containers being started at a time: what the runtime can't do at once it queues itself.
const STARTS: usize = 256;
/// Status writes under way at a time; they share the server's group commits.
const STATUS_WRITERS: usize = 32;
/// A pod that only waits for its containers is told this late, because mostly they run by then.
const PENDING_TOLD_AFTER: Duration = Duration::from_millis(20);
/// How much longer than the drain a stopping agent waits for a runtime.
const DRAIN_MARGIN: Duration = Duration::from_millis(500);

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("a node needs a runtime")]
    NoRuntime,
    #[error("the agent's records: {0}")]
    Records(#[source] std::io::Error),
    #[error("runtime {name}: {source}")]
    Runtime { name: &'static str, source: windlass_runtime_api::RuntimeError },
}

/// Runs a node until told to stop, then lets its containers finish their requests.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let runtimes = Runtimes::new(&config.runtimes).ok_or(AgentError::NoRuntime)?;
    let first = runtimes.first().clone();
    let stop = shutdown.child_token();
    let _stop_tasks = stop.clone().drop_guard();
    let pods: Informer<Pod> =
        config.cluster.informers.selected(&format!("spec.nodeName={}", config.node.name));
    let services: Informer<Service> = config.cluster.informers.of();
    let (probes, targets) = mpsc::unbounded_channel();
    let agent = Arc::new(Agent {
        name: config.node.name.clone(),
        node: NodeView {
            host_ip: config.node.address.to_string(),
            runtime: first.name(),
            containers: runtimes.engine().is_some(),
            cpu_millis: config.node.cpu_millis,
            memory_bytes: node::allocatable_bytes(&config.node, first.memory_budget()),
        },
        api: config.cluster.api("kubelet"),
        recorder: Recorder::on_host(
            config.cluster.client.clone(),
            "kubelet",
            &config.node.name,
            config.cluster.clock.clone(),
        ),
        clock: config.cluster.clock.clone(),
        addresses: Mutex::new(PodAddresses::new(config.pod_block)),
        images: config.images.clone(),
        records: config.records.clone(),
        log_dir: config.log_dir.clone(),
        volumes: Volumes::new(config.volume_dir.clone(), config.cluster.informers.clone()),
        pods,
        services,
        net: config.kubelet.as_ref().map(|kubelet| kubelet.net.clone()),
        runtimes,
        cluster_dns: config.cluster_dns,
        entries: Mutex::default(),
        queue: Queue::new(),
        statuses: Queue::new(),
        starts: Arc::new(Semaphore::new(STARTS)),
        probes,
        meter: Meter::default(),
        evictions: Evictions::default(),
        log_watch: LogWatch::new(),
    });
    let kubelet_port = config.kubelet.as_ref().and_then(|k| k.listener.local_addr().ok());
    let view = node::View {
        kubelet_port: kubelet_port.map(|address| address.port()),
        memory_budget: first.memory_budget(),
        engine: agent.runtimes.engine().and_then(|engine| engine.availability()),
        engine_images: agent.runtimes.engine().cloned(),
        memory_pressure: agent.evictions.pressure(),
    };
    tokio::spawn(node::run(config.node, config.cluster, config.images, view, stop.clone()));
    if let Some(kubelet) = config.kubelet {
        tokio::spawn(kubelet::serve(kubelet, agent.clone(), stop.clone()));
    }
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        () = async { agent.pods.synced().await; agent.services.synced().await } => {}
    }
    let events = agent.runtimes.events();
    agent.restore().await?;
    tokio::spawn(probe::run(targets, agent.clone(), stop.clone()));
    tokio::spawn(volumes::keep_fresh(agent.clone(), stop.clone()));
    tokio::spawn(follow_runtime(agent.clone(), events, stop.clone()));
    tokio::spawn(eviction::run(agent.clone(), stop.clone()));
    tokio::spawn(follow_engine(agent.clone(), stop.clone()));
    tokio::spawn(follow_images(agent.clone(), stop.clone()));
    for _ in 0..STATUS_WRITERS {
        tokio::spawn(statuses::write(agent.clone(), stop.clone()));
    }
    agent.look(shutdown).await;
    agent.drain(config.drain).await;
    Ok(())
}

/// Containers that wait for an image try again when one was pushed to the node.
async fn follow_images(agent: Arc<Agent>, stop: CancellationToken) {
    while stop.run_until_cancelled(agent.images.came()).await.is_some() {
        agent.images_changed();
    }
}

/// The state of a running node, shared by its tasks.
pub(crate) struct Agent {
    /// Of the node.
    pub name: String,
    pub node: NodeView,
    pub api: Api,
    pub recorder: Recorder,
    pub clock: Arc<dyn Clock>,
    pub addresses: Mutex<PodAddresses>,
    pub images: Arc<dyn Images>,
    pub records: Records,
    pub log_dir: PathBuf,
    pub volumes: Volumes,
    pub pods: Informer<Pod>,
    pub services: Informer<Service>,
    /// Where host ports are opened; None in the simulation.
    pub net: Option<PodNet>,
    pub runtimes: Runtimes,
    /// Where containers look up names of services.
    pub cluster_dns: Option<Ipv4Addr>,
    pub entries: Mutex<Entries>,
    /// Pods to look at, by uid.
    pub queue: Queue<String>,
    /// Pods whose status must be told.
    pub statuses: Queue<String>,
    pub starts: Arc<Semaphore>,
    /// Bounded by the containers that run: each is put in once an attempt.
    pub probes: mpsc::UnboundedSender<Watched>,
    pub meter: Meter,
    pub evictions: Evictions,
    pub log_watch: LogWatch,
}

#[derive(Default)]
pub(crate) struct Entries {
    pub by_uid: BTreeMap<String, Entry>,
    /// Results of runtime calls and the like that were written down, of all pods together: what a
    /// runtime was asked before one of them says nothing about it.
    updates: u64,
    /// Records from before a restart whose pods haven't been seen yet.
    records: BTreeMap<String, Record>,
}

/// One pod this node has to do with.
pub(crate) struct Entry {
    pub key: Key,
    pub state: PodState,
    /// The status as it should be.
    pub planned: StatusText,
    /// The status as the API has it.
    pub told: StatusText,
    /// The object is to be removed once its last status is told.
    pub delete: bool,
    /// postStart hooks under way, by container: they end when the container is stopped.
    pub hooks: BTreeMap<String, CancellationToken>,
    /// Containers outlived the agent, and the pod's network isn't there again yet.
    pub resuming: bool,
    /// Open for the pod, by container.
    pub host_ports: BTreeMap<String, Vec<Published>>,
    record: Option<Record>,
    /// `Entries::updates` when this one was updated last.
    updated: u64,
    /// (container, reason) -> what was said last.
    said: BTreeMap<(String, &'static str), (u32, String)>,
}

impl Agent {
    /// Takes up what was there before the agent started: pods keep their address and their counts,
    /// and what the runtime still has of pods that are gone is removed.
    async fn restore(self: &Arc<Self>) -> Result<(), AgentError> {
        let records = self.records.load().map_err(AgentError::Records)?;
        let listing = self.list().await?;
        let seen = &listing.pods;
        {
            let mut entries = self.entries.lock();
            entries.records = records;
            // What runs keeps its address, whether the API had been told of it or not.
            for (uid, sandbox) in seen {
                self.keep_address(uid, sandbox.address);
            }
            let (pods, now) = (self.pods.list(), self.clock.now());
            for pod in &pods {
                self.enter(&mut entries, pod);
            }
            for (uid, entry) in &mut entries.by_uid {
                let sandbox = seen.get(uid);
                entry.state.address = sandbox.map(|s| s.address).or(entry.state.address);
                entry.state.observe(listing.seen(uid), now);
                entry.resuming = entry.state.containers.values().any(|memory| {
                    matches!(memory.state, Attempt::Running { .. })
                        && self.runtimes.of_id(memory.state.id()).outlives_agent()
                });
            }
            for uid in std::mem::take(&mut entries.records).keys() {
                self.records.remove(uid);
            }
            entries.by_uid.keys().for_each(|uid| self.queue.add(uid.clone()));
        }
        // Probes what ran before the agent did.
        for pod in self.pods.list() {
            order::containers(&pod).for_each(|container| self.watch(&pod, &container.name));
        }
        self.resume(&listing);
        self.remove_left_over(&listing).await;
        self.remove_old_logs().await;
        let known = self.entries.lock().by_uid.keys().cloned().collect();
        self.volumes.remove_old(&known);
        Ok(())
    }

    async fn list(&self) -> Result<Listing, AgentError> {
        let name = self.runtimes.first().name();
        self.runtimes.list().await.map_err(|source| AgentError::Runtime { name, source })
    }

    fn keep_address(&self, uid: &str, address: IpAddr) {
        let IpAddr::V4(address) = address else { return };
        if address.to_string() == self.node.host_ip {
            return;
        }
        if let Err(error) = self.addresses.lock().restore(uid, address) {
            tracing::warn!(uid, %error, "a sandbox has an address of somebody else");
        }
    }

    /// Makes a pod known. Its address is taken back where it had one and may still need it.
    fn enter(&self, entries: &mut Entries, pod: &Pod) {
        let uid = pod.uid().to_owned();
        if entries.by_uid.contains_key(&uid) {
            return;
        }
        let record = entries.records.remove(&uid);
        let mut state = PodState::restore(pod, record.as_ref());
        let told = statuses::of(pod);
        let over = matches!(told["phase"].as_str(), Some("Succeeded" | "Failed"));
        let own = state.address.filter(|address| address.to_string() != self.node.host_ip);
        if let Some(IpAddr::V4(address)) = own.filter(|_| !over)
            && let Err(error) = self.addresses.lock().restore(&uid, address)
        {
            tracing::warn!(namespace = pod.namespace(), name = pod.name(), %error, "new address");
            state.address = None;
        }
        let entry = Entry {
            key: Key::of(pod),
            state,
            planned: StatusText::of(&told),
            told: StatusText::of(&told),
            delete: false,
            hooks: BTreeMap::new(),
            host_ports: BTreeMap::new(),
            resuming: false,
            record,
            updated: 0,
            said: BTreeMap::new(),
        };
        entries.by_uid.insert(uid, entry);
    }

    /// Looks at pods until told to stop.
    async fn look(self: &Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.pods.changes();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                change = changes.next_change() => {
                    let before = change.before.as_deref().map(Kind::uid);
                    if let Some(pod) = &change.now {
                        self.enter(&mut self.entries.lock(), pod);
                        self.queue.add(pod.uid().to_owned());
                        let meta = change.before.as_deref().map(|pod| &pod.metadata);
                        let told = |m: &windlass_sdk_types::ObjectMeta| {
                            (m.labels.clone(), m.annotations.clone(), m.generation)
                        };
                        // Files may show them.
                        if meta.is_some_and(|before| told(before) != told(&pod.metadata)) {
                            self.volumes.changed(pod.uid());
                        }
                    }
                    // Deleted, or another pod of the same name.
                    let now = change.now.as_deref().map(Kind::uid);
                    if let Some(gone) = before.filter(|uid| Some(*uid) != now) {
                        self.queue.add(gone.to_owned());
                    }
                }
                job = self.queue.next() => self.sync(&job),
            }
        }
    }

    /// One look at a pod. Doesn't wait for anything.
    fn sync(self: &Arc<Self>, uid: &str) {
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.by_uid.get_mut(uid) else { return };
        let pod = self.pods.find(&entry.key).filter(|pod| pod.uid() == uid);
        if let Some(pod) = &pod {
            entry.state.started_at.get_or_insert(now);
            for container in order::every(pod) {
                entry.state.containers.entry(container.name.clone()).or_default();
            }
            entry.state.others_ask = self.others_ask(pod, &entry.state);
        }
        let planned = entry.planned.tree();
        let plan = plan_pod(pod.as_deref(), &entry.state, &planned, &self.node, now);
        tracing::debug!(kind = "Pod", key = %entry.key, why = plan.why, actions = ?plan.actions, "planned");
        self.say(entry, uid, &plan);
        if let Some(status) = plan.status
            && status != planned
        {
            let delay =
                if status::only_waits(&status) { PENDING_TOLD_AFTER } else { Duration::ZERO };
            entry.planned = StatusText::of(&status);
            self.statuses.add_after(uid.to_owned(), delay);
        }
        if let Some(at) = plan.wake_at {
            let delay = at.duration_since(now).try_into().unwrap_or(Duration::ZERO);
            self.queue.add_after(uid.to_owned(), delay);
        }
        if plan.actions.contains(&Action::Forget) {
            let key = entry.key.clone();
            entries.by_uid.remove(uid);
            drop(entries);
            return self.forget(uid, &key);
        }
        for action in plan.actions {
            match (&pod, action) {
                (Some(pod), Action::RunSandbox) => self.run_sandbox(entry, pod),
                (Some(pod), Action::Start { container, attempt }) => {
                    self.start(entry, pod, &container, attempt);
                }
                (Some(pod), Action::Resize { container }) => self.resize(entry, pod, &container),
                (pod, Action::Stop { container, grace }) => {
                    self.stop(entry, uid, pod.as_ref(), container, grace);
                }
                (_, Action::RemoveSandbox) => self.remove_sandbox(entry, uid),
                (_, Action::Delete) => {
                    entry.delete = true;
                    self.statuses.add(uid.to_owned());
                }
                // Nothing is started for a pod whose object is gone.
                (None, _) | (_, Action::Forget) => {}
            }
        }
        let record = entry.state.record(&entry.key.namespace, &entry.key.name);
        if record.is_some() && record != entry.record {
            record.iter().for_each(|record| self.records.write(uid, record));
            entry.record = record;
        }
    }

    fn say(&self, entry: &mut Entry, uid: &str, plan: &Plan) {
        for say in &plan.says {
            let attempt = entry.state.containers.get(&say.container).map_or(0, |m| m.attempt);
            let what = (attempt, say.message.clone());
            let key = (say.container.clone(), say.reason);
            if entry.said.insert(key, what.clone()).as_ref() != Some(&what) {
                let about = self.about(&entry.key, uid, Some(&say.container));
                self.recorder.record(&about, say.sort, say.reason, say.message.clone());
            }
        }
    }

    /// What Events about a pod, or a container of it, refer to.
    pub fn about(&self, key: &Key, uid: &str, container: Option<&str>) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            uid: Some(uid.to_owned()),
            resource_version: None,
            field_path: container.filter(|name| !name.is_empty()).map(|name| {
                let pod = self.pods.find(key);
                let list = pod.map_or("containers", |pod| order::list_of(&pod, name));
                format!("spec.{list}{{{name}}}")
            }),
        }
    }

    /// Runs `change` on a pod's state, then has the pod looked at. Nothing where it is forgotten.
    pub fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut entries = self.entries.lock();
        entries.updates += 1;
        let updates = entries.updates;
        let entry = entries.by_uid.get_mut(uid);
        let done = entry.map(|entry| {
            entry.updated = updates;
            change(entry)
        });
        drop(entries);
        self.queue.add(uid.to_owned());
        done
    }

    /// Asks the runtimes about one pod, again where it was updated meanwhile.
    pub async fn observe(&self, uid: &str) {
        loop {
            let asked = self.entries.lock().updates;
            let listing = match self.runtimes.observe(uid).await {
                Ok(listing) => listing,
                Err(error) => return tracing::warn!(uid, %error, "runtime can't be asked"),
            };
            let mut entries = self.entries.lock();
            let Some(entry) = entries.by_uid.get_mut(uid) else { return };
            if entry.updated <= asked {
                return self.see(uid, entry, &listing);
            }
        }
    }

    fn see(&self, uid: &str, entry: &mut Entry, listing: &Listing) {
        if self.take_in(uid, entry, listing.seen(uid), self.clock.now()) {
            self.queue.add(uid.to_owned());
            self.log_watch.container_changed();
        }
    }

    /// Lets containers that wait for an image try again, because one came.
    pub fn images_changed(&self) {
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        for (uid, entry) in &mut entries.by_uid {
            for memory in entry.state.containers.values_mut() {
                let waits = |reason: &str| matches!(reason, "ErrImagePull" | "ErrImageNeverPull");
                if let Some(trouble) = memory.trouble.as_mut().filter(|t| waits(&t.reason)) {
                    trouble.retry_at = now;
                    self.queue.add(uid.clone());
                }
            }
        }
    }

    /// Lets every container finish its requests. Nothing is told to the API: for the cluster this
    /// is a node that restarts.
    async fn drain(&self, grace: Duration) {
        let running: Vec<(String, String, Arc<dyn Runtime>)> = {
            let entries = self.entries.lock();
            let containers = entries.by_uid.iter().flat_map(|(uid, entry)| {
                entry.state.containers.iter().map(move |(name, memory)| (uid, name, memory))
            });
            containers
                .filter(|(_, _, memory)| matches!(memory.state, Attempt::Running { .. }))
                .map(|(uid, name, memory)| {
                    (uid.clone(), name.clone(), self.runtimes.of_id(memory.state.id()).clone())
                })
                .filter(|(_, _, runtime)| !runtime.outlives_agent())
                .collect()
        };
        let stops =
            running.iter().map(|(uid, name, runtime)| runtime.stop_container(uid, name, grace));
        let all = futures::future::join_all(stops);
        if tokio::time::timeout(grace + DRAIN_MARGIN, all).await.is_err() {
            tracing::warn!("containers were still busy at the end of the drain");
        }
    }

    /// Removes the logs of pods that went while the agent didn't run.
    async fn remove_old_logs(&self) {
        let known: BTreeSet<PathBuf> = {
            let entries = self.entries.lock();
            let of = |(uid, entry): (&String, &Entry)| self.log_folder(&entry.key, uid);
            entries.by_uid.iter().map(of).collect()
        };
        let Ok(folders) = std::fs::read_dir(&self.log_dir) else { return };
        for folder in folders.flatten().map(|folder| folder.path()) {
            if !known.contains(&folder)
                && let Err(error) = std::fs::remove_dir_all(&folder)
            {
                tracing::warn!(path = %folder.display(), %error, "old logs stay");
            }
        }
    }

    pub fn log_folder(&self, key: &Key, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{}_{}_{uid}", key.namespace, key.name))
    }
}

/// Turns what a runtime tells into looks and Events. Hints that come together are one look.
async fn follow_runtime(
    agent: Arc<Agent>,
    events: futures::stream::BoxStream<'static, RuntimeEvent>,
    stop: CancellationToken,
) {
    let mut events = events.ready_chunks(1024);
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            chunk = events.next() => match chunk {
                Some(chunk) => chunk,
                None => return,
            },
        };
        let (mut changed, mut all) = (BTreeSet::new(), false);
        for event in chunk {
            match event {
                RuntimeEvent::Changed { pod_uid } => {
                    changed.insert(pod_uid);
                }
                RuntimeEvent::Lagged => all = true,
                RuntimeEvent::Trapped { pod_uid, container, count, message } => {
                    let message = format!("A request ended in a trap: {message}");
                    let times = u32::try_from(count).unwrap_or(u32::MAX);
                    agent.warn(&pod_uid, &container, "TrappedRequests", times, message);
                }
                RuntimeEvent::Notice { pod_uid, container, reason, message } => {
                    agent.warn(&pod_uid, &container, reason, 1, message);
                }
            }
        }
        if all {
            agent.observe_all().await;
        } else {
            // One that takes long (the log of a container that ended) holds up no other pod.
            for uid in changed {
                let agent = agent.clone();
                tokio::spawn(async move { agent.observe(&uid).await });
            }
        }
    }
}

impl Agent {
    fn warn(&self, uid: &str, container: &str, reason: &str, times: u32, message: String) {
        let key = self.entries.lock().by_uid.get(uid).map(|entry| entry.key.clone());
        if let Some(key) = key {
            let about = self.about(&key, uid, Some(container));
            self.recorder.record_times(times, &about, EventType::Warning, reason, message);
        }
    }

    async fn observe_all(self: &Arc<Self>) {
        let asked = self.entries.lock().updates;
        let Ok(listing) = self.list().await else { return };
        self.remove_left_over(&listing).await;
        let mut outdated = Vec::new();
        for (uid, entry) in &mut self.entries.lock().by_uid {
            match entry.state.sandbox {
                // Who makes or removes it asks when that is done.
                SandboxState::Making | SandboxState::Removing => {}
                _ if entry.updated > asked => outdated.push(uid.clone()),
                _ => self.see(uid, entry, &listing),
            }
        }
        for uid in outdated {
            self.observe(&uid).await;
        }
        self.resume(&listing);
    }
}
