//! The volumes of this node's pods: what they refer to is fetched, written when the first container
//! of a pod starts, and written again when it changes. Nothing looks at a pod without a reason: a
//! changed object, a token that grows old, or a folder that has a limit puts it into one queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use windlass_runtime_api::Mount;
use windlass_runtime_volume::{self as volume, Content, Data, Facts, Inputs, Needs, TokenAsk};
use windlass_sdk_client::{Informers, Key, Queue};
use windlass_sdk_meta::{Quantity, Timestamp, parse_time};
use windlass_sdk_types::{
    ConfigMap, Kind, Pod, Secret, ServiceAccount,
    api::core::v1::{Container, Volume},
};

use crate::{
    agent::{Agent, Entry},
    env, logs, mounts, order,
    state::{Attempt, Failure, Seen},
    storage,
};

/// The reason of upstream's Event about a volume that can't be made.
pub(crate) const FAILED_MOUNT: &str = "FailedMount";
/// A token is replaced when this part of its life is over, in percent.
const TOKEN_PERCENT: i32 = 80;
/// After a refresh that failed.
const REFRESH_RETRY: Duration = Duration::from_secs(10);
/// How often the folder of an emptyDir with a limit is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Memory is scarcer.
const MEASURE_MEMORY_EVERY: Duration = Duration::from_secs(2);
/// The part of the node's memory that an emptyDir in memory may take where nothing else bounds it.
const MEMORY_PART: u64 = 8;

/// Where volumes are, and who must hear of which change.
pub(crate) struct Volumes {
    /// None in the simulation: no pod has mounts there.
    pub(crate) dir: Option<PathBuf>,
    informers: Informers,
    /// Pods whose files must be looked at.
    queue: Queue<String>,
    pub(crate) pods: Mutex<BTreeMap<String, Made>>,
    watches: Mutex<BTreeMap<Object, Watched>>,
    /// Two writers of one volume must not meet.
    writing: Mutex<()>,
}

/// A pod whose volumes are on disk.
#[derive(Clone, Default)]
pub(crate) struct Made {
    tokens: BTreeMap<TokenAsk, Token>,
    /// Also those that wait for a first use.
    pub(crate) late: bool,
}

#[derive(Clone)]
struct Token {
    text: String,
    refresh_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    ConfigMap(Key),
    Secret(Key),
}

struct Watched {
    pods: BTreeSet<String>,
    _stop: DropGuard,
}

/// What was fetched for a pod's volumes.
struct Fetched {
    config_maps: BTreeMap<String, Data>,
    secrets: BTreeMap<String, Data>,
    tokens: BTreeMap<TokenAsk, Token>,
}

impl Volumes {
    pub fn new(dir: Option<PathBuf>, informers: Informers) -> Self {
        Self {
            dir,
            informers,
            queue: Queue::new(),
            pods: Mutex::default(),
            watches: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Looks at a pod's files again where it has any.
    pub fn changed(&self, uid: &str) {
        if self.pods.lock().contains_key(uid) {
            self.queue.add(uid.to_owned());
        }
    }

    /// Removes everything of a pod.
    pub fn forget(&self, uid: &str) {
        self.pods.lock().remove(uid);
        self.watches.lock().retain(|_, watched| {
            watched.pods.remove(uid);
            !watched.pods.is_empty()
        });
        if let Some(dir) = &self.dir {
            let _writing = self.writing.lock();
            let folder = dir.join(uid);
            if let Err(error) = volume::remove(&folder) {
                tracing::warn!(path = %folder.display(), %error, "volumes stay");
            }
        }
    }

    /// Removes what pods left that went while the agent didn't run.
    pub fn remove_old(&self, known: &BTreeSet<String>) {
        let entries = self.dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !known.contains(&uid) {
                self.forget(&uid);
            }
        }
    }

    pub(crate) fn volume_folder(&self, uid: &str, name: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(uid).join("volumes").join(name))
    }

    /// The file of the node that holds a container's termination message.
    pub fn termination_file(&self, uid: &str, container: &str, attempt: u32) -> Option<PathBuf> {
        let folder = self.dir.as_ref()?.join(uid).join("termination");
        Some(folder.join(format!("{container}.{attempt}")))
    }
}

/// `fsGroup`: whose the pod's volumes are.
pub(crate) fn group_of(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Removes the volumes of all pods, also what isn't below this folder; for when a node is removed.
pub fn remove_volumes(volume_dir: &Path) -> std::io::Result<()> {
    let entries = std::fs::read_dir(volume_dir).into_iter().flatten().flatten();
    entries.into_iter().try_for_each(|entry| volume::remove(&entry.path()))
}

/// Writes volumes anew when there is a reason, until told to stop.
pub(crate) async fn keep_fresh(agent: Arc<Agent>, stop: CancellationToken) {
    loop {
        let job = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            job = agent.volumes.queue.next() => job,
        };
        agent.refresh_volumes(&job).await;
    }
}

impl Agent {
    pub(crate) fn volume_source(&self, uid: &str, source: &Volume) -> PathBuf {
        match &source.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.volumes.volume_folder(uid, &source.name).unwrap_or_default(),
        }
    }

    /// True where something changed. Containers that ended leave their last words.
    pub(crate) fn take_in(
        &self,
        uid: &str,
        entry: &mut Entry,
        seen: Seen<'_>,
        now: Timestamp,
    ) -> bool {
        let changed = entry.state.observe(seen, now);
        let pod = changed.then(|| self.pods.find(&entry.key)).flatten();
        let pod = pod.filter(|pod| pod.uid() == uid);
        for container in pod.iter().flat_map(|pod| order::every(pod)) {
            let Some(memory) = entry.state.containers.get_mut(&container.name) else { continue };
            let attempt = memory.attempt;
            let Attempt::Ended(ended) = &mut memory.state else { continue };
            if memory.message_of.replace(attempt) == Some(attempt) {
                continue;
            }
            let mut message = pod
                .as_ref()
                .map(|pod| self.termination_message(pod, &container, attempt))
                .unwrap_or_default();
            let policy = container.termination_message_policy.as_deref();
            if message.is_empty() && ended.exit_code != 0 && policy == Some("FallbackToLogsOnError")
            {
                let folder = self.log_folder(&entry.key, uid).join(&container.name);
                message = logs::last_words(&folder.join(format!("{attempt}.log")));
            }
            if !message.is_empty() {
                ended.message = message;
            }
        }
        changed
    }

    /// What a container that ended left as its message; empty where nothing.
    fn termination_message(&self, pod: &Pod, container: &Container, attempt: u32) -> String {
        let Some(file) = self.volumes.termination_file(pod.uid(), &container.name, attempt) else {
            return String::new();
        };
        if file.exists() {
            let message = volume::termination_message(&file);
            // Read once; what ended is remembered by the record and the API.
            let _ = std::fs::remove_file(&file);
            return message;
        }
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mounts: Vec<Mount> = container
            .volume_mounts
            .iter()
            .flatten()
            .filter(|mount| mount.sub_path.is_none() && mount.sub_path_expr.is_none())
            .filter_map(|mount| {
                let source = volumes.clone().find(|source| source.name == mount.name)?;
                Some(Mount {
                    host_path: self.volume_source(pod.uid(), source),
                    container_path: mount.mount_path.clone(),
                    read_only: mount.read_only == Some(true),
                    ..Mount::default()
                })
            })
            .collect();
        let path = env::termination_path(container);
        mount_of(path, &mounts).map(|path| volume::termination_message(&path)).unwrap_or_default()
    }

    /// Fetches and writes the volumes of a pod; the error is a message for the pod's owner.
    pub(crate) async fn make_volumes(
        self: &Arc<Self>,
        pod: &Pod,
        address: IpAddr,
        late: bool,
    ) -> Result<(), String> {
        let uid = pod.uid();
        let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volumes: Vec<&Volume> =
            all.filter(|source| late || !mounts::is_late(pod, source)).collect();
        let mut needs = Needs::default();
        for of in volumes.iter().map(|source| volume::needs(source)) {
            needs.config_maps.extend(of.config_maps);
            needs.secrets.extend(of.secrets);
            needs.tokens.extend(of.tokens);
        }
        // Watched first, so that no change is missed; also what isn't there, for it may come.
        self.watch_objects(pod, &needs);
        let known = self.volumes.pods.lock().get(uid).cloned().unwrap_or_default();
        let fetched = self.fetch_all(pod, &needs, &known).await?;
        let tokens = fetched.tokens.iter().map(|(ask, token)| (ask.clone(), token.text.clone()));
        let pod_ip = address.to_string();
        let inputs = Inputs {
            facts: self.facts(pod, &pod_ip),
            config_maps: &fetched.config_maps,
            secrets: &fetched.secrets,
            tokens: &tokens.collect(),
        };
        let mut measure_after: Option<Duration> = None;
        {
            let _writing = self.volumes.writing.lock();
            for source in volumes {
                let failed = |message: String| {
                    format!("MountVolume.SetUp failed for volume {:?} : {message}", source.name)
                };
                let content = volume::resolve(source, &inputs).map_err(failed)?;
                let period = match content {
                    Content::Empty { in_memory: true, .. } => Some(MEASURE_MEMORY_EVERY),
                    Content::Empty { size_limit_bytes: Some(_), .. } => Some(MEASURE_EVERY),
                    _ => None,
                };
                measure_after = measure_after.into_iter().chain(period).min();
                let group = group_of(pod).filter(|_| self.runtimes.engine().is_some() && is_root());
                self.write(uid, &source.name, content, group).map_err(failed)?;
            }
        }
        let next = fetched.tokens.values().map(|token| token.refresh_at).min();
        let made = Made { tokens: fetched.tokens, late };
        self.volumes.pods.lock().insert(uid.to_owned(), made);
        if let Some(at) = next {
            let delay = at.duration_since(self.clock.now()).try_into().unwrap_or(REFRESH_RETRY);
            self.volumes.queue.add_after(uid.to_owned(), delay);
        }
        if let Some(period) = measure_after {
            self.volumes.queue.add_after(uid.to_owned(), period);
        }
        Ok(())
    }

    fn write(
        &self,
        uid: &str,
        name: &str,
        content: Content,
        group: Option<u32>,
    ) -> Result<(), String> {
        let Some(folder) = self.volumes.volume_folder(uid, name) else { return Ok(()) };
        // Where containers can write nothing is changed later: they could lead us elsewhere.
        let is_new = !folder.exists();
        let (written, read_only) = match content {
            // As upstream: what is the machine's stays as it is.
            Content::Host { path, sort } => return volume::host_path(Path::new(&path), &sort),
            Content::Empty { mode, in_memory: true, .. } => {
                (volume::memory_dir(&folder, uid, name, mode), false)
            }
            Content::Empty { mode, .. } => (volume::empty_dir(&folder, mode), false),
            Content::Files(mut files) => {
                if group.is_some() {
                    files.iter_mut().for_each(|file| file.mode |= 0o440);
                }
                (volume::write_files(&folder, &files, self.clock.now()).map(|_| ()), true)
            }
        };
        let given = |()| match group {
            Some(group) if is_new || read_only => volume::give_to_group(&folder, group, read_only),
            _ => Ok(()),
        };
        written.and_then(given).map_err(|error| error.to_string())
    }

    /// What a pod may learn of itself.
    pub(crate) fn facts<'a>(&'a self, pod: &'a Pod, pod_ip: &'a str) -> Facts<'a> {
        Facts {
            pod,
            pod_ip,
            host_ip: &self.node.host_ip,
            node_cpu_millis: self.node.cpu_millis,
            node_memory_bytes: self.node.memory_bytes,
        }
    }

    async fn fetch_all(&self, pod: &Pod, needs: &Needs, known: &Made) -> Result<Fetched, String> {
        let now = self.clock.now();
        let mut fetched = Fetched {
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            tokens: BTreeMap::new(),
        };
        for name in &needs.config_maps {
            let map = self.fetch::<ConfigMap>(pod, name).await.map_err(|error| error.message)?;
            let Some(map) = map else { continue };
            let text = map.data.unwrap_or_default().into_iter();
            let mut data: Data = text.map(|(key, value)| (key, value.into_bytes())).collect();
            data.extend(map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
            fetched.config_maps.insert(name.clone(), data);
        }
        for name in &needs.secrets {
            let secret = self.fetch::<Secret>(pod, name).await.map_err(|error| error.message)?;
            let Some(secret) = secret else { continue };
            let data = secret.data.unwrap_or_default().into_iter();
            fetched.secrets.insert(name.clone(), data.map(|(key, value)| (key, value.0)).collect());
        }
        for ask in &needs.tokens {
            let token = match known.tokens.get(ask) {
                Some(token) if token.refresh_at > now => token.clone(),
                _ => self.request_token(pod, ask).await?,
            };
            fetched.tokens.insert(ask.clone(), token);
        }
        Ok(fetched)
    }

    /// A token of the pod's service account that ends with the pod (TokenRequest).
    async fn request_token(&self, pod: &Pod, ask: &TokenAsk) -> Result<Token, String> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default".to_owned());
        let audiences: Vec<&str> =
            Some(ask.audience.as_str()).into_iter().filter(|name| !name.is_empty()).collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "audiences": audiences, "expirationSeconds": ask.expiration_seconds,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod",
                    "name": pod.name(), "uid": pod.uid() } },
        });
        let path = windlass_sdk_types::path::<ServiceAccount>(pod.namespace(), &account, "token");
        let body = body.to_string().into_bytes();
        let failed = |error: &dyn std::fmt::Display| format!("failed to fetch token: {error}");
        let asked = self.api.request(Method::POST, &path, "application/json", body).await;
        let answer = asked.map_err(|error| failed(&error))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
        let (status, now) = (&answer["status"], self.clock.now());
        let text = status["token"].as_str().ok_or_else(|| failed(&"the answer has none"))?;
        let ends = status["expirationTimestamp"].as_str().and_then(parse_time);
        let asked = Duration::from_secs(ask.expiration_seconds.unsigned_abs());
        let life = ends.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let refresh_at = now + life.unwrap_or(asked) * TOKEN_PERCENT.unsigned_abs() / 100;
        Ok(Token { text: text.to_owned(), refresh_at })
    }

    /// One watch for each object, however many pods show it.
    fn watch_objects(self: &Arc<Self>, pod: &Pod, needs: &Needs) {
        let key = |name: &String| Key::new(pod.namespace(), name);
        let maps = needs.config_maps.iter().map(|name| Object::ConfigMap(key(name)));
        let secrets = needs.secrets.iter().map(|name| Object::Secret(key(name)));
        let mut watches = self.volumes.watches.lock();
        for object in maps.chain(secrets) {
            let watched = watches.entry(object.clone()).or_insert_with(|| {
                let stop = CancellationToken::new();
                let follow = self.clone();
                match object.clone() {
                    Object::ConfigMap(key) => {
                        tokio::spawn(follow.follow::<ConfigMap>(key, object, stop.clone()))
                    }
                    Object::Secret(key) => {
                        tokio::spawn(follow.follow::<Secret>(key, object, stop.clone()))
                    }
                };
                Watched { pods: BTreeSet::new(), _stop: stop.drop_guard() }
            });
            watched.pods.insert(pod.uid().to_owned());
        }
    }

    /// Queues the pods that show an object whenever it changes.
    async fn follow<K: Kind>(self: Arc<Self>, key: Key, object: Object, stop: CancellationToken) {
        let informer = self.volumes.informers.one::<K>(&key);
        let mut changes = informer.changes();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = changes.next() => {}
            }
            let watches = self.volumes.watches.lock();
            let pods = watches.get(&object).map(|watched| watched.pods.clone());
            drop(watches);
            pods.iter().flatten().for_each(|uid| self.volumes.changed(uid));
        }
    }

    async fn refresh_volumes(self: &Arc<Self>, uid: &str) {
        let known = {
            let entries = self.entries.lock();
            entries
                .by_uid
                .get(uid)
                .and_then(|entry| Some((entry.key.clone(), entry.state.address?)))
        };
        let made = self.volumes.pods.lock().get(uid).map(|made| made.late);
        let Some((key, address)) = known else { return };
        let Some(pod) = self.pods.find(&key).filter(|pod| pod.uid() == uid) else { return };
        if let Some(late) = made
            && let Err(message) = self.make_volumes(&pod, address, late).await
        {
            // What was written stays; upstream's nodes tell it the same way.
            let about = self.about(&key, uid, None);
            let sort = windlass_sdk_client::EventType::Warning;
            self.recorder.record(&about, sort, FAILED_MOUNT, message);
            self.volumes.queue.add_after(uid.to_owned(), REFRESH_RETRY);
        }
        if !self.entries.lock().by_uid.contains_key(uid) {
            return self.volumes.forget(uid);
        }
        self.measure(&pod).await;
    }

    /// Measures a pod from time to time where what it stores is limited.
    pub(crate) fn watch_storage(&self, pod: &Pod) {
        if storage::has_limit(pod) {
            self.volumes.queue.add_after(pod.uid().to_owned(), MEASURE_EVERY);
        }
    }

    /// A pod whose emptyDir outgrew its limit is evicted, and one that has more than its containers
    /// may store.
    async fn measure(&self, pod: &Pod) {
        for source in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(limit) = self.size_limit(pod, source) else { continue };
            let Some(folder) = self.volumes.volume_folder(pod.uid(), &source.name) else { return };
            let used = volume::used_bytes(&folder);
            if Quantity::from_bytes(used) > limit {
                let (name, text) = (&source.name, limit.to_string());
                let message =
                    format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. ");
                self.evict(pod, message);
            }
        }
        if storage::has_limit(pod) {
            match self.storage_exceeded(pod).await {
                Some(message) => self.evict(pod, message),
                None => self.watch_storage(pod),
            }
        }
    }

    fn evict(&self, pod: &Pod, message: String) {
        self.update(pod.uid(), |entry| {
            let failure = Failure { reason: "Evicted".to_owned(), message };
            entry.state.failure.get_or_insert(failure);
        });
    }

    /// What an emptyDir may hold: its own limit; in memory also what the pod's containers may use
    /// together, and always something.
    pub(crate) fn size_limit(&self, pod: &Pod, source: &Volume) -> Option<Quantity> {
        let empty = source.empty_dir.as_ref()?;
        let own = empty.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok());
        let own = own.filter(|limit| *limit > Quantity::ZERO);
        if empty.medium.as_deref() != Some("Memory") {
            return own;
        }
        let of_containers: Option<Vec<Quantity>> = order::containers(pod)
            .map(|of| of.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.parse().ok())
            .collect();
        let most = Quantity::from_bytes(self.node.memory_bytes / MEMORY_PART);
        let together =
            of_containers.map(|all| all.into_iter().fold(Quantity::ZERO, Quantity::saturating_add));
        own.into_iter().chain(together).chain([most]).min()
    }
}

/// The file of the node that a container's path is, where a mounted folder is its parent.
pub(crate) fn mount_of(path: &str, mounts: &[Mount]) -> Option<PathBuf> {
    let (parent, name) = path.rsplit_once('/')?;
    let mount = mounts.iter().find(|mount| mount.container_path.trim_end_matches('/') == parent)?;
    Some(mount.host_path.join(name))
}
