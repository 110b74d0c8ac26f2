//! Carries out what was planned: each action is a task of its own, marks what it does in the pod's
//! state before it begins, and writes its result there.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use windlass_runtime_api::{
    ConsoleSpec, ContainerSpec, Image, Limits, LinuxSandbox, Nature, OnTrap, Port, Protocol,
    RuntimeError, Sandbox, Started,
};
use windlass_runtime_net::host_resolv_conf;
use windlass_sdk_client::{EventType, Key};
use windlass_sdk_meta::Quantity;
use windlass_sdk_types::{ConfigMap, Kind, Pod, Secret, api::core::v1::Container};

use crate::{
    agent::{Agent, Entry},
    env::{self, Data, Inputs},
    linux, log_files, names, order, resize,
    state::{SandboxState, Trouble},
    unsupported::Refusals,
    volumes::{self, FAILED_MOUNT},
};

/// Delays between attempts to start: first and longest. A missing ConfigMap is often on its way; an
/// image is not; anything else costs a compilation a time.
const CONFIG_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
const IMAGE_RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
const START_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After a runtime failed to stop something.
const STOP_RETRY: Duration = Duration::from_secs(1);
const CLEAR_RETRY: Duration = Duration::from_secs(5);
const CONFIG_ERROR: &str = "CreateContainerConfigError";
const REQUEST_TIMEOUT: &str = "windlass.dev/request-timeout";
const INSTANCE_MEMORY: &str = "windlass.dev/instance-memory";
const ON_TRAP: &str = "windlass.dev/on-trap";

impl Agent {
    pub(crate) fn run_sandbox(self: &Arc<Self>, entry: &mut Entry, pod: &Arc<Pod>) {
        let uid = pod.uid().to_owned();
        let address = match self.address(pod) {
            Ok(address) => address,
            Err(why) => return self.sandbox_failed(entry, &uid, why),
        };
        entry.state.address = Some(address);
        entry.state.sandbox = SandboxState::Making;
        let (agent, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            let made = async {
                let with_containers = agent.has_containers(&pod).await;
                let sandbox = Arc::new(agent.sandbox(&pod, address, with_containers).await?);
                agent.runtimes.run_sandbox(&sandbox, with_containers).await
            };
            let made = made.await;
            agent.update(&uid, |entry| match made {
                Ok(()) => {
                    entry.state.sandbox = SandboxState::Ready;
                    entry.state.trouble = None;
                }
                Err(error) => {
                    entry.state.sandbox = SandboxState::Absent;
                    agent.sandbox_failed(entry, &uid, error.message);
                }
            });
        });
    }

    /// The pod's own, or the node's where it has the node's network.
    fn address(&self, pod: &Pod) -> Result<IpAddr, String> {
        let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if on_host && let Ok(address) = self.node.host_ip.parse() {
            return Ok(address);
        }
        let address = self.addresses.lock().allocate(pod.uid());
        address.map(IpAddr::V4).map_err(|error| error.to_string())
    }

    fn sandbox_failed(&self, entry: &mut Entry, uid: &str, message: String) {
        let about = self.about(&entry.key, uid, None);
        let said = format!("Failed to create pod sandbox: {message}");
        self.recorder.record(&about, EventType::Warning, "FailedCreatePodSandBox", said);
        let before = entry.state.trouble.as_ref();
        let now = self.clock.now();
        entry.state.trouble =
            Some(Trouble::again(before, "ContainerCreating", message, now, START_RETRY));
        self.queue.add(uid.to_owned());
    }

    pub(crate) fn start(
        self: &Arc<Self>,
        entry: &mut Entry,
        pod: &Arc<Pod>,
        container: &str,
        attempt: u32,
    ) {
        let Some(address) = entry.state.address else { return };
        let Some(memory) = entry.state.containers.get_mut(container) else { return };
        memory.starting = Some(attempt);
        let found = order::every(pod).find(|of| of.name == container);
        let Some(spec) = found.map(Cow::into_owned) else { return };
        let (agent, pod, key) = (self.clone(), pod.clone(), entry.key.clone());
        tokio::spawn(async move {
            // A pull may take long: it holds nothing that other containers need.
            let image = agent.image_of(&pod, &spec).await;
            // The semaphore is never closed.
            let _permit = agent.starts.acquire().await;
            let prepared = match image.and_then(|image| agent.taken(&pod, &spec, image)) {
                Ok(image) => agent.prepare(&pod, &spec, attempt, address, image).await,
                Err(error) => Err(error),
            };
            let (image, outcome) = match prepared {
                Ok(prepared) => {
                    agent.remove_log_before(&key, pod.uid(), &spec.name, attempt).await;
                    let image = prepared.image.clone();
                    (Some(image), agent.runtimes.start(prepared).await)
                }
                Err(error) => (None, Err(error)),
            };
            agent.started(&pod, &spec, attempt, image, outcome).await;
        });
    }

    /// Writes down how a start went.
    async fn started(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        image: Option<Image>,
        outcome: Result<Started, RuntimeError>,
    ) {
        let (uid, name, now) = (pod.uid(), &container.name, self.clock.now());
        let about = self.about(&Key::of(pod), uid, Some(name));
        match (outcome, image) {
            (Ok(started), Some(image)) => {
                self.say_started(&about, &started);
                self.update(uid, |entry| {
                    entry.resuming = false;
                    if let Some(memory) = entry.state.containers.get_mut(name) {
                        memory.started(attempt, started.id, now);
                        memory.given = Some(resize::wanted(container));
                        memory.hooking =
                            container.lifecycle.as_ref().is_some_and(|of| of.post_start.is_some());
                        (memory.image, memory.image_digest) = (image.reference, image.digest);
                    }
                });
                self.open_host_ports(pod, container).await;
                // A command may have ended by now; a handler's start time is the runtime's.
                self.observe(uid).await;
                if self.post_start(pod, container).await {
                    self.watch(pod, name);
                }
            }
            (Err(error), _) => {
                self.say_failure(&about, container, &error);
                let delays = match error.reason {
                    CONFIG_ERROR | FAILED_MOUNT | "PortConflict" => CONFIG_RETRY,
                    "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" => IMAGE_RETRY,
                    _ => START_RETRY,
                };
                self.update(uid, |entry| {
                    if let Some(memory) = entry.state.containers.get_mut(name) {
                        let before = memory.trouble.take();
                        memory.starting = None;
                        // Upstream shows a volume that can't be made in an Event only.
                        let reason = match error.reason {
                            FAILED_MOUNT => "ContainerCreating",
                            other => other,
                        };
                        memory.trouble = Some(Trouble::again(
                            before.as_ref(),
                            reason,
                            error.message,
                            now,
                            delays,
                        ));
                    }
                });
            }
            // A start without an image never gets to the runtime.
            (Ok(_), None) => {}
        }
    }

    fn say_started(&self, about: &windlass_sdk_types::ObjectReference, started: &Started) {
        self.recorder.record(about, EventType::Normal, "Created", "Container created");
        match &started.failed {
            None => self.recorder.record(about, EventType::Normal, "Started", "Container started"),
            Some(why) => {
                let said = format!("Error: failed to start container: {why}");
                self.recorder.record(about, EventType::Warning, "Failed", said);
            }
        }
    }

    fn say_failure(
        &self,
        about: &windlass_sdk_types::ObjectReference,
        container: &Container,
        error: &RuntimeError,
    ) {
        let image = container.image.as_deref().unwrap_or_default();
        let warn = |reason: &str, message: String| {
            self.recorder.record(about, EventType::Warning, reason, message);
        };
        match error.reason {
            "ErrImagePull" => {
                warn("Failed", format!("Failed to pull image {image:?}: {}", error.message));
                warn("Failed", "Error: ErrImagePull".to_owned());
            }
            "ErrImageNeverPull" => {
                warn("ErrImageNeverPull", error.message.clone());
                warn("Failed", "Error: ErrImageNeverPull".to_owned());
            }
            "InvalidImageName" => {
                warn("InspectFailed", error.message.clone());
                warn("Failed", "Error: InvalidImageName".to_owned());
            }
            FAILED_MOUNT => warn(FAILED_MOUNT, error.message.clone()),
            _ => warn("Failed", format!("Error: {}", error.message)),
        }
    }

    /// Everything a runtime needs to start this attempt, with nothing left to look up.
    async fn prepare(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        address: IpAddr,
        image: Image,
    ) -> Result<ContainerSpec, RuntimeError> {
        let needs = env::needs(container);
        let mut config_maps: BTreeMap<String, Data> = BTreeMap::new();
        for name in needs.config_maps {
            if let Some(map) = self.fetch::<ConfigMap>(pod, &name).await? {
                config_maps.insert(name, map.data.unwrap_or_default());
            }
        }
        let mut secrets: BTreeMap<String, Data> = BTreeMap::new();
        for name in needs.secrets {
            if let Some(secret) = self.fetch::<Secret>(pod, &name).await? {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                let data = secret.data.unwrap_or_default().into_iter();
                secrets.insert(name, data.map(|(key, value)| (key, text(value.0))).collect());
            }
        }
        let mut services = self.services.in_namespace(pod.namespace());
        if pod.namespace() != "default" {
            services.extend(self.services.get("default", "kubernetes"));
        }
        let services = env::visible_services(pod, &services);
        let files = self.env_files(pod, container, address).await?;
        let is_container = image.nature == Nature::Container;
        let sandbox = Arc::new(self.sandbox(pod, address, is_container).await?);
        let resolved = env::resolve(&Inputs {
            pod,
            container,
            config_maps: &config_maps,
            secrets: &secrets,
            files: &files,
            services: &services,
            hostname: &sandbox.hostname,
            facts: self.facts(pod, &address.to_string()),
        })
        .map_err(config_error)?;
        let folder = self.log_folder(&Key::of(pod), pod.uid());
        let mounts = self.mounts(pod, container, &resolved.env, attempt, address).await?;
        let late_mounts = self.late_mounts(pod, container, attempt, address);
        Ok(ContainerSpec {
            pod: sandbox,
            name: container.name.clone(),
            attempt,
            image,
            command: resolved.command,
            args: resolved.args,
            env: resolved.env,
            working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
            mounts,
            late_mounts,
            ports: ports(container),
            limits: limits(pod, container).map_err(config_error)?,
            log_path: folder.join(&container.name).join(format!("{attempt}.log")),
            on_trap: on_trap(pod).map_err(config_error)?,
            reach: self.reach(pod).await?,
            console: ConsoleSpec {
                stdin: container.stdin == Some(true),
                stdin_once: container.stdin_once == Some(true),
                tty: container.tty == Some(true),
            },
            linux: linux::container(pod, container, &self.node),
        })
    }

    /// None where it doesn't exist.
    pub(crate) async fn fetch<K: Kind>(
        &self,
        pod: &Pod,
        name: &str,
    ) -> Result<Option<K>, RuntimeError> {
        match self.api.get::<K>(pod.namespace(), name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(config_error(error.to_string())),
        }
    }

    pub(crate) fn stop(
        self: &Arc<Self>,
        entry: &mut Entry,
        uid: &str,
        pod: Option<&Arc<Pod>>,
        container: String,
        grace: Duration,
    ) {
        let by = self.clock.now() + grace;
        let Some(memory) = entry.state.containers.get_mut(&container) else { return };
        // A stop that only becomes shorter has had its hook.
        let is_first = memory.stopping.replace(by).is_none();
        if let Some(hook) = entry.hooks.remove(&container) {
            hook.cancel();
        }
        let runtime = self.runtimes.of_id(memory.state.id()).clone();
        let (agent, uid, address) = (self.clone(), uid.to_owned(), entry.state.address);
        let pod = pod.filter(|_| is_first).cloned().zip(address);
        tokio::spawn(async move {
            let mut grace = grace;
            if let Some((pod, address)) = pod
                && let Some(spec) = order::containers(&pod).find(|of| of.name == container)
            {
                grace = agent.pre_stop(&pod, address, spec, grace).await;
            }
            match runtime.stop_container(&uid, &container, grace).await {
                Ok(()) => agent.observe(&uid).await,
                Err(error) => {
                    tracing::warn!(uid, container, %error, "container can't be stopped");
                    tokio::time::sleep(STOP_RETRY).await;
                }
            }
            agent.update(&uid, |entry| {
                let memory = entry.state.containers.get_mut(&container);
                if let Some(memory) = memory.filter(|memory| memory.stopping == Some(by)) {
                    memory.stopping = None;
                }
            });
        });
    }

    pub(crate) fn remove_sandbox(self: &Arc<Self>, entry: &mut Entry, uid: &str) {
        entry.state.sandbox = SandboxState::Removing;
        let (agent, uid) = (self.clone(), uid.to_owned());
        tokio::spawn(async move {
            let removed = agent.runtimes.remove_sandbox(&uid).await;
            if let Err(error) = &removed {
                tracing::warn!(uid, %error, "sandbox can't be removed");
                tokio::time::sleep(STOP_RETRY).await;
            }
            agent.update(&uid, |entry| {
                if removed.is_ok() {
                    agent.addresses.lock().release(&uid);
                    entry.state.sandbox = SandboxState::Absent;
                    entry.host_ports.clear();
                } else {
                    entry.state.sandbox = SandboxState::Ready;
                }
            });
        });
    }

    /// Drops what is left of a pod on this node.
    pub(crate) fn forget(self: &Arc<Self>, uid: &str, key: &Key) {
        if self.runtimes.has_containers(uid) {
            // What a sandbox that never came about left.
            tokio::spawn(self.clone().clear(uid.to_owned()));
        }
        self.addresses.lock().release(uid);
        self.records.remove(uid);
        self.volumes.forget(uid);
        self.statuses.forget(&uid.to_owned());
        self.log_watch.container_changed();
        let folder = self.log_folder(key, uid);
        if folder.exists()
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(path = %folder.display(), %error, "logs stay");
        }
    }

    /// Removes what runtimes have of a pod that is forgotten, for as long as that takes.
    async fn clear(self: Arc<Self>, uid: String) {
        while let Err(error) = self.runtimes.remove_sandbox(&uid).await {
            tracing::warn!(uid, %error, "what is left of a pod can't be removed yet");
            tokio::time::sleep(CLEAR_RETRY).await;
        }
    }

    /// The log of the attempt before the last is not asked for any more.
    async fn remove_log_before(&self, key: &Key, uid: &str, container: &str, attempt: u32) {
        if let Some(old) = attempt.checked_sub(2) {
            let folder = self.log_folder(key, uid).join(container);
            log_files::remove(&folder.join(format!("{old}.log")));
        }
    }
}

impl Agent {
    /// The pod as its runtimes are told of it. What only the kernel's side of a container needs is
    /// looked up only where there are some.
    pub(crate) async fn sandbox(
        &self,
        pod: &Pod,
        address: IpAddr,
        with_containers: bool,
    ) -> Result<Sandbox, RuntimeError> {
        let linux = match with_containers {
            true => {
                let reach = self.reach(pod).await?;
                linux::sandbox(pod, self.cluster_dns, &host_resolv_conf(), reach)
            }
            false => LinuxSandbox::default(),
        };
        Ok(sandbox(pod, address, linux))
    }

    /// Whether the pod is known to need the container engine, by its class or by images that are
    /// here; what has to be pulled first is not known yet.
    async fn has_containers(&self, pod: &Pod) -> bool {
        let Some(engine) = self.runtimes.ready_engine() else { return false };
        match self.class_of(pod).await {
            Ok(None) => {}
            Ok(Some(nature)) => return nature == Nature::Container,
            // It is said when a container is started.
            Err(_) => return false,
        }
        for container in order::every(pod) {
            let name = container.image.as_deref().unwrap_or_default();
            let is_wasm = matches!(self.images.find(name).await, Ok(Some(_)));
            if !is_wasm && matches!(engine.find_image(name).await, Ok(Some(_))) {
                return true;
            }
        }
        false
    }

    /// Remembers what the image is; refuses what a container of that nature can't be given.
    fn taken(&self, pod: &Pod, container: &Container, image: Image) -> Result<Image, RuntimeError> {
        let nature = image.nature;
        if let Some(entry) = self.entries.lock().by_uid.get_mut(pod.uid())
            && let Some(memory) = entry.state.containers.get_mut(&container.name)
        {
            memory.nature = Some(nature);
        }
        if let Some(why) = Refusals::of(pod).concerning(container, &[nature]) {
            return Err(config_error(why.to_owned()));
        }
        if nature == Nature::Container && volumes::group_of(pod).is_some() && !volumes::is_root() {
            let why = "spec.securityContext.fsGroup is not supported: giving volumes to a group \
                       takes root, and this node runs without";
            return Err(config_error(why.to_owned()));
        }
        Ok(image)
    }
}

pub(crate) fn sandbox(pod: &Pod, address: IpAddr, linux: LinuxSandbox) -> Sandbox {
    let (hostname, names) = names::of(pod, address);
    Sandbox {
        linux,
        uid: pod.uid().to_owned(),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        address,
        hostname,
        names: Arc::new(names),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
    }
}

pub(crate) fn ports(container: &Container) -> Vec<Port> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                port: u16::try_from(port.container_port).ok()?,
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    _ => Protocol::Tcp,
                },
            })
        })
        .collect()
}

pub(crate) fn limits(pod: &Pod, container: &Container) -> Result<Limits, String> {
    let resources = container.resources.as_ref();
    let quantity = |field: &str, text: &str| {
        text.parse::<Quantity>().map_err(|error| format!("{field} {text:?}: {error}"))
    };
    let bytes = |field: &str, text: &str| {
        let units = quantity(field, text)?.units();
        u64::try_from(units).map_err(|error| format!("{field} {text:?}: {error}"))
    };
    let millis = |field: &str, text: &str| {
        let millis = quantity(field, text)?.millis();
        u32::try_from(millis).map_err(|error| format!("{field} {text:?}: {error}"))
    };
    let limit = |name: &str| Some(resources?.limits.as_ref()?.get(name)?.0.as_str());
    let request = |name: &str| Some(resources?.requests.as_ref()?.get(name)?.0.as_str());
    let annotated =
        |name: &str| pod.annotation(name).map(|text| (format!("annotation {name}"), text));
    Ok(Limits {
        memory_bytes: limit("memory").map(|text| bytes("limits.memory", text)).transpose()?,
        instance_memory_bytes: annotated(INSTANCE_MEMORY)
            .map(|(field, text)| bytes(&field, text))
            .transpose()?,
        cpu_millis: limit("cpu").map(|text| millis("limits.cpu", text)).transpose()?,
        cpu_weight_millis: request("cpu").map(|text| millis("requests.cpu", text)).transpose()?,
        request_timeout: annotated(REQUEST_TIMEOUT)
            .map(|(field, text)| {
                let duration =
                    text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string());
                duration
                    .and_then(|duration| Duration::try_from(duration).map_err(|e| e.to_string()))
                    .map_err(|error| format!("{field} {text:?}: {error}"))
            })
            .transpose()?,
    })
}

pub(crate) fn on_trap(pod: &Pod) -> Result<OnTrap, String> {
    match pod.annotation(ON_TRAP) {
        None | Some("continue") => Ok(OnTrap::Continue),
        Some("restart") => Ok(OnTrap::Restart),
        Some(other) => {
            Err(format!("annotation {ON_TRAP} {other:?}: supported are \"continue\", \"restart\""))
        }
    }
}

pub(crate) fn config_error(message: String) -> RuntimeError {
    RuntimeError::new(CONFIG_ERROR, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn limits_of(resources: Value, annotations: Value) -> Result<Limits, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "resources": resources}]},
        }))
        .expect("a pod");
        limits(&pod, &pod.spec.as_ref().expect("a spec").containers[0])
    }

    #[test]
    fn limits_are_read_from_resources_and_annotations() {
        let resources =
            json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "0.1"}});
        let annotations = json!({"windlass.dev/request-timeout": "1m30s"});
        let expected = Limits {
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(250),
            cpu_weight_millis: Some(100),
            request_timeout: Some(Duration::from_secs(90)),
            ..Limits::default()
        };
        assert_eq!(limits_of(resources, annotations), Ok(expected));
        for (resources, annotation, named) in [
            (json!({"limits": {"cpu": "much"}}), "1s", "limits.cpu \"much\""),
            (json!({}), "soon", "windlass.dev/request-timeout \"soon\""),
            (json!({}), "-1s", "windlass.dev/request-timeout \"-1s\""),
        ] {
            let said = limits_of(resources, json!({"windlass.dev/request-timeout": annotation}));
            assert!(said.as_ref().is_err_and(|why| why.contains(named)), "{said:?}");
        }
    }
}
