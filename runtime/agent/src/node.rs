//! The Node object and its Lease: made at start, renewed for as long as the agent runs. The Lease is
//! the heartbeat; the Node's status is written only when it changes, or every five minutes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{Availability, EngineImage, MemoryBudget, Runtime};
use windlass_sdk_client::{Api, Cluster, Error, Patch};
use windlass_sdk_meta::{Backoff, Clock, Quantity, Timestamp, format_micro_time, format_time};
use windlass_sdk_types::{Kind, Lease, Node, path};

use crate::{config::NodeFacts, images::Images};

/// Upstream's defaults: a Lease is good for 40 s and renewed every 10.
const LEASE_SECONDS: i64 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long the container engine may take to list its images.
const ENGINE: Duration = Duration::from_secs(2);
const STATUS_EVERY: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);
/// The label of nodes that run containers now, as the RuntimeClass `docker` selects them.
const DOCKER: &str = "windlass.dev/runtime.docker";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Images that the status lists, as upstream bounds it.
const IMAGES_TOLD: usize = 50;
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// What the Node shows of its agent.
pub(crate) struct View {
    pub kubelet_port: Option<u16>,
    /// What guests may hold together; None: the machine's memory.
    pub memory_budget: Option<MemoryBudget>,
    /// Pods are being evicted for want of memory, or were until a moment ago.
    pub memory_pressure: watch::Receiver<bool>,
    /// Of the container engine; None where the node is to run no containers.
    pub engine: Option<watch::Receiver<Availability>>,
    pub engine_images: Option<Arc<dyn Runtime>>,
}

/// Keeps Node and Lease until told to stop. Failures are said and tried again.
pub(crate) async fn run(
    facts: NodeFacts,
    cluster: Cluster,
    images: Arc<dyn Images>,
    view: View,
    stop: CancellationToken,
) {
    let api = cluster.api("kubelet");
    let mut keeper = Keeper {
        api,
        facts,
        clock: cluster.clock.clone(),
        images,
        view,
        told: Value::Null,
        told_at: Timestamp::UNIX_EPOCH,
        uid: String::new(),
        labelled: None,
        engine_images: Vec::new(),
    };
    let mut backoff = RETRY;
    loop {
        let pause = match keeper.beat().await {
            Ok(()) => {
                backoff.reset();
                RENEW_EVERY
            }
            Err(error) => {
                tracing::warn!(node = %keeper.facts.name, %error, "node not told yet");
                backoff.next_delay()
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // An agent that is gone has cancelled `stop`.
            Ok(()) = keeper.view.memory_pressure.changed() => {}
            Ok(()) = changed(keeper.view.engine.as_mut()) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn changed(engine: Option<&mut watch::Receiver<Availability>>) -> Result<(), RecvError> {
    match engine {
        Some(engine) => engine.changed().await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    api: Api,
    facts: NodeFacts,
    clock: Arc<dyn Clock>,
    images: Arc<dyn Images>,
    view: View,
    /// The status that was written last.
    told: Value,
    told_at: Timestamp,
    /// Of the Node; empty before it is registered.
    uid: String,
    /// What the label says.
    labelled: Option<bool>,
    /// As the status lists them.
    engine_images: Vec<Value>,
}

impl View {
    fn engine_ready(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.borrow().is_ready())
    }
}

impl Keeper {
    async fn beat(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let images = self.images.list().await;
        let listed = images.iter().take(IMAGES_TOLD).map(|image| {
            let by_digest = image.names.iter();
            let by_digest = by_digest.map(|name| format!("{}@{}", without_tag(name), image.digest));
            let mut names: Vec<String> = by_digest.collect();
            names.dedup();
            names.extend(image.names.iter().filter(|name| !name.contains('@')).cloned());
            json!({ "names": names, "sizeBytes": image.size_bytes })
        });
        let mut images: Vec<Value> = listed.collect();
        self.ask_engine().await;
        let room = IMAGES_TOLD.saturating_sub(images.len());
        images.extend(self.engine_images.iter().take(room).cloned());
        if self.uid.is_empty() {
            self.register(now, &images).await?;
        }
        self.label().await?;
        let status = status(&self.facts, &self.view, &images, &self.told, now);
        let is_due = now.duration_since(self.told_at) >= STATUS_EVERY;
        if is_due || without_heartbeat(&status) != without_heartbeat(&self.told) {
            let patch = Patch::Merge(json!({ "status": status }));
            match self.api.patch_status::<Node>("", &self.facts.name, &patch).await {
                Ok(_) => (self.told, self.told_at) = (status, now),
                Err(error) if error.is_not_found() => {
                    // Somebody deleted it: register again.
                    self.uid.clear();
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.renew(now).await
    }

    /// What the engine's store has. One that takes long must not be taken for a node that is lost:
    /// then what it told before is told.
    async fn ask_engine(&mut self) {
        let Some(engine) = &self.view.engine_images else { return };
        let Ok(listed) = tokio::time::timeout(ENGINE, engine.list_images()).await else { return };
        let shown =
            |image: EngineImage| json!({ "names": image.names, "sizeBytes": image.size_bytes });
        self.engine_images = listed.into_iter().take(IMAGES_TOLD).map(shown).collect();
    }

    /// Says by the label whether containers run here, where that changed.
    async fn label(&mut self) -> Result<(), Error> {
        let ready = self.view.engine_ready();
        if self.labelled == Some(ready) {
            return Ok(());
        }
        let value = if ready { Value::from("true") } else { Value::Null };
        let patch = Patch::Merge(json!({ "metadata": { "labels": { DOCKER: value } } }));
        self.api.patch::<Node>("", &self.facts.name, &patch).await?;
        self.labelled = Some(ready);
        Ok(())
    }

    async fn register(&mut self, now: Timestamp, images: &[Value]) -> Result<(), Error> {
        self.told = Value::Null;
        let status = status(&self.facts, &self.view, images, &Value::Null, now);
        let ready = self.view.engine_ready();
        let labels = labels(&self.facts, ready);
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.facts.name, "labels": labels },
            "spec": {},
            "status": status,
        });
        let body = node.to_string().into_bytes();
        let nodes = path::<Node>("", "", "");
        let created = self.api.request(http::Method::POST, &nodes, "application/json", body).await;
        let node = match created {
            Ok(answer) => Node::decode(&answer)?,
            Err(error) if error.is_already_exists() => {
                let mut labels = labels;
                if !ready {
                    labels[DOCKER] = Value::Null;
                }
                let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
                self.api.patch::<Node>("", &self.facts.name, &patch).await?
            }
            Err(error) => return Err(error),
        };
        self.uid = node.uid().to_owned();
        self.labelled = Some(ready);
        let ready = node.status.as_ref().and_then(|status| status.conditions.as_deref());
        let is_told = ready.unwrap_or_default().iter().any(|condition| {
            condition.type_ == "Ready"
                && condition
                    .last_heartbeat_time
                    .as_ref()
                    .is_some_and(|at| format_time(at.0) == format_time(now))
        });
        if is_told {
            (self.told, self.told_at) = (status, now);
        }
        Ok(())
    }

    async fn renew(&self, now: Timestamp) -> Result<(), Error> {
        let name = &self.facts.name;
        let spec = json!({
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": format_micro_time(now),
        });
        let patch = Patch::Merge(json!({ "spec": spec }));
        match self.api.patch::<Lease>(LEASE_NAMESPACE, name, &patch).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": self.uid }]);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": owner },
            "spec": spec,
        });
        let body = lease.to_string().into_bytes();
        let leases = path::<Lease>(LEASE_NAMESPACE, "", "");
        self.api.request(http::Method::POST, &leases, "application/json", body).await.map(drop)
    }
}

/// The repository of an image's name. A colon before a slash belongs to a registry's port.
pub(crate) fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name)
}

fn labels(facts: &NodeFacts, containers: bool) -> Value {
    let mut labels = json!({
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/os": "linux",
        "windlass.dev/runtime.wasm": "true",
    });
    if containers {
        labels[DOCKER] = "true".into();
    }
    for (key, value) in &facts.labels {
        labels[key] = value.as_str().into();
    }
    labels
}

/// The part of the disk that pods may request: upstream's node keeps a tenth free.
const DISK_PERCENT: u64 = 90;

/// The memory that pods may request: what is kept free can't be promised to anybody.
pub(crate) fn allocatable_bytes(facts: &NodeFacts, budget: Option<MemoryBudget>) -> u64 {
    let shared = budget.map(|of| of.limit_bytes.saturating_sub(of.reserve_bytes));
    shared.unwrap_or(u64::MAX).min(facts.memory_bytes)
}

/// The Node's status. `before` gives the transition times.
fn status(
    facts: &NodeFacts,
    view: &View,
    images: &[Value],
    before: &Value,
    now: Timestamp,
) -> Value {
    let mut resources = json!({
        "cpu": Quantity::from_millis(facts.cpu_millis).to_string(),
        "memory": Quantity::from_bytes(facts.memory_bytes).to_string(),
        "pods": Quantity::from_units(facts.pods.into()).to_string(),
    });
    if facts.disk_bytes > 0 {
        resources["ephemeral-storage"] = Quantity::from_bytes(facts.disk_bytes).to_string().into();
    }
    let mut allocatable = resources.clone();
    if facts.disk_bytes > 0 {
        let bytes = facts.disk_bytes / 100 * DISK_PERCENT;
        allocatable["ephemeral-storage"] = Quantity::from_bytes(bytes).to_string().into();
    }
    let bytes = allocatable_bytes(facts, view.memory_budget);
    allocatable["memory"] = Quantity::from_bytes(bytes).to_string().into();
    let memory = match *view.memory_pressure.borrow() {
        true => {
            ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
        }
        false => ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    };
    let rows = [
        ("MemoryPressure", memory.0, memory.1, memory.2),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let engine = view.engine.as_ref().map(|engine| engine.borrow().clone());
    let docker = engine.as_ref().map(|engine| match engine {
        Availability::Ready { lacks: None, .. } => {
            ("DockerReady", "True", "DockerAnswers", "containers run in the Docker engine")
        }
        Availability::Ready { lacks: Some(lacks), .. } => {
            ("DockerReady", "True", "DockerLimited", lacks.as_str())
        }
        Availability::Absent { why } => ("DockerReady", "False", "DockerAbsent", why.as_str()),
    });
    let conditions = rows.into_iter().chain(docker).map(|(sort, status, reason, message)| {
        let known = before["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let same = known.iter().find(|c| c["type"] == sort && c["status"] == status);
        json!({
            "type": sort,
            "status": status,
            "lastHeartbeatTime": format_time(now),
            "lastTransitionTime": same.map_or_else(
                || format_time(now).into(),
                |same| same["lastTransitionTime"].clone(),
            ),
            "reason": reason,
            "message": message,
        })
    });
    let conditions: Vec<Value> = conditions.collect();
    let runtime_version = match &engine {
        Some(Availability::Ready { version, .. }) => {
            format!("{},docker://{version}", facts.runtime_version)
        }
        _ => facts.runtime_version.clone(),
    };
    json!({
        "capacity": resources,
        "allocatable": allocatable,
        "conditions": conditions,
        "addresses": [
            { "type": "InternalIP", "address": facts.address.to_string() },
            { "type": "Hostname", "address": facts.name },
        ],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": view.kubelet_port.unwrap_or_default() } },
        "nodeInfo": {
            "machineID": facts.machine_id,
            "systemUUID": facts.machine_id,
            "bootID": facts.boot_id,
            "kernelVersion": facts.kernel,
            "osImage": facts.os_image,
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": facts.version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": facts.architecture,
        },
        "images": images,
    })
}

fn without_heartbeat(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastHeartbeatTime"] = Value::Null;
    }
    status
}
