//! A pod's containers in the pod's network: once its sandbox runs, the network namespace is joined
//! with the pod, so that everybody's sockets meet. What can't be had is told, not left to time out.

use std::{collections::HashMap, fs::File, os::fd::OwnedFd, sync::Arc};

use tokio::sync::Mutex;
use windlass_runtime_api::{Port, RuntimeEvent, Sandbox};
use windlass_runtime_net::{Caller, JoinedPod, PodNet, PodRef, Published};

use crate::engine::Engine;

/// The reason of what is said where a pod has less of a network than others.
const LIMITED: &str = "PodNetworkLimited";
/// As for ports of WASM containers.
const PORT: &str = "PortUnavailableOnHost";

/// The joined pods of a node.
pub struct Network {
    net: PodNet,
    engine: Arc<Engine>,
    pods: Mutex<HashMap<String, Member>>,
}

struct Member {
    /// Of the sandbox's program: another one has other namespaces.
    pid: i64,
    /// None where it could not be joined.
    joined: Option<JoinedPod>,
    /// By container.
    ports: HashMap<String, Vec<Published>>,
}

impl Network {
    pub fn new(net: PodNet, engine: Arc<Engine>) -> Self {
        Self { net, engine, pods: Mutex::default() }
    }

    /// Joins the pod with the namespace of its sandbox, where that isn't done. False: its containers
    /// are alone in there.
    pub async fn join(&self, pod: &Sandbox, pid: i64) -> bool {
        if pod.linux.host_network {
            return true;
        }
        let mut pods = self.pods.lock().await;
        if let Some(known) = pods.get(&pod.uid).filter(|known| known.pid == pid) {
            return known.joined.is_some();
        }
        if let Some(old) = pods.remove(&pod.uid) {
            leave(old).await;
        }
        let joined = self.enter(pod, pid).await;
        let joined = joined.map_err(|why| self.tell(&pod.uid, "", LIMITED, why)).ok();
        let is_joined = joined.is_some();
        pods.insert(pod.uid.clone(), Member { pid, joined, ports: HashMap::new() });
        is_joined
    }

    async fn enter(&self, pod: &Sandbox, pid: i64) -> Result<JoinedPod, String> {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|error| {
            format!(
                "the pod's network namespace can't be opened: {path}: {error}: that takes root, on \
                 the machine that the Docker engine runs on; its containers reach no services, and \
                 nobody reaches them"
            )
        })?;
        let of = PodRef {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            address: Some(pod.address),
            names: pod.names.clone(),
        };
        let caller = Arc::new(Caller::new(of, pod.linux.reach.clone()));
        let joined = self.net.join(caller, OwnedFd::from(namespace)).await;
        joined.map_err(|error| error.to_string())
    }

    /// Opens the declared ports of a container on the host.
    pub async fn publish(&self, pod_uid: &str, container: &str, ports: &[Port]) {
        let mut pods = self.pods.lock().await;
        let Some(member) = pods.get_mut(pod_uid) else { return };
        let Some(joined) = &member.joined else { return };
        // Those of an attempt before: they are the same ports.
        member.ports.remove(container);
        let mut open = Vec::new();
        for port in ports {
            match joined.publish(port.port, port.protocol).await {
                Ok(published) => open.push(published),
                Err(error) => self.tell(pod_uid, container, PORT, error.to_string()),
            }
        }
        member.ports.insert(container.to_owned(), open);
    }

    /// Nothing was published for the pod since it was joined.
    pub async fn lacks_ports(&self, pod_uid: &str) -> bool {
        self.pods.lock().await.get(pod_uid).is_some_and(|member| member.ports.is_empty())
    }

    pub async fn leave(&self, pod_uid: &str) {
        if let Some(member) = self.pods.lock().await.remove(pod_uid) {
            leave(member).await;
        }
    }

    fn tell(&self, pod_uid: &str, container: &str, reason: &'static str, message: String) {
        // Nobody listens before the agent does.
        let _ = self.engine.events.send(RuntimeEvent::Notice {
            pod_uid: pod_uid.to_owned(),
            container: container.to_owned(),
            reason,
            message,
        });
    }
}

async fn leave(member: Member) {
    drop(member.ports);
    if let Some(joined) = member.joined {
        joined.leave().await;
    }
}
