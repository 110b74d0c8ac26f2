//! A pod's containers in the pod's network: once its sandbox runs, the network namespace is joined
//! with the pod, so that everybody's sockets meet. What can't be had is told, not left to time out.

use std::{
    collections::HashMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore},
};
use tokio_util::task::AbortOnDropHandle;
use windlass_runtime_api::{Port, Protocol, RuntimeEvent, Sandbox};
use windlass_runtime_net::{Caller, JoinedPod, PodNet, PodRef, Published};

use crate::{engine::Engine, pause};

/// The reason of what is said where a pod has less of a network than others.
const LIMITED: &str = "PodNetworkLimited";
/// Connections through one relayed port at a time.
const RELAYED: usize = 1024;
/// How often it is looked what a sandbox's process is, and the pause between.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
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
    way: Way,
    /// By container.
    ports: HashMap<String, Vec<Open>>,
}

/// How the pod's containers are reached.
enum Way {
    Joined(JoinedPod),
    /// Its namespace can't be entered: what it declares is reached by its address on the engine's
    /// bridge.
    Bridge(PodRef, Option<IpAddr>),
}

/// A port that is open for as long as this is held.
enum Open {
    Joined(#[expect(dead_code, reason = "held for as long as the port is open")] Published),
    Relayed(#[expect(dead_code, reason = "as above")] AbortOnDropHandle<()>),
}

impl Network {
    pub fn new(net: PodNet, engine: Arc<Engine>) -> Self {
        Self { net, engine, pods: Mutex::default() }
    }

    /// Joins the pod with the namespace of its sandbox, where that isn't done. False: its containers
    /// are alone in there.
    pub async fn join(&self, pod: &Sandbox, pid: i64, bridge: Option<IpAddr>) -> bool {
        if pod.linux.host_network {
            return true;
        }
        let mut pods = self.pods.lock().await;
        if let Some(known) = pods.get(&pod.uid).filter(|known| known.pid == pid) {
            return matches!(known.way, Way::Joined(_));
        }
        if let Some(old) = pods.remove(&pod.uid) {
            leave(old).await;
        }
        let way = match self.enter(pod, pid).await {
            Ok(joined) => {
                if let Some(why) = joined.lacks() {
                    self.tell(&pod.uid, "", LIMITED, why.to_owned());
                }
                Way::Joined(joined)
            }
            Err(why) => {
                self.tell(&pod.uid, "", LIMITED, why);
                Way::Bridge(pod_ref(pod), bridge)
            }
        };
        let is_joined = matches!(way, Way::Joined(_));
        pods.insert(pod.uid.clone(), Member { pid, way, ports: HashMap::new() });
        is_joined
    }

    async fn enter(&self, pod: &Sandbox, pid: i64) -> Result<JoinedPod, String> {
        if let Some(why) = self.engine.elsewhere() {
            return Err(why);
        }
        if !is_sandbox(pid).await {
            return Err(format!(
                "process {pid} of this machine is not the pod's sandbox: the Docker engine runs on \
                 another machine, or hides its processes; the pod's containers reach no services and \
                 no WASM of the pod"
            ));
        }
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|error| {
            format!(
                "the pod's network namespace can't be opened: {path}: {error}: that takes root, on \
                 the machine that the Docker engine runs on; its containers reach no services and no \
                 WASM of the pod, and are reached at their declared TCP ports only"
            )
        })?;
        let caller = Arc::new(Caller::new(pod_ref(pod), pod.linux.reach.clone()));
        let joined = self.net.join(caller, OwnedFd::from(namespace)).await;
        joined.map_err(|error| error.to_string())
    }

    /// Opens the declared ports of a container on the host.
    pub async fn publish(&self, pod_uid: &str, container: &str, ports: &[Port]) {
        let mut pods = self.pods.lock().await;
        let Some(member) = pods.get_mut(pod_uid) else { return };
        // Those of an attempt before: they are the same ports.
        member.ports.remove(container);
        let mut open = Vec::new();
        for port in ports {
            let opened = match &member.way {
                Way::Joined(joined) => {
                    let published = joined.publish(port.port, port.protocol).await;
                    published.map(Open::Joined).map_err(|error| error.to_string())
                }
                Way::Bridge(pod, Some(bridge)) if port.protocol == Protocol::Tcp => {
                    self.relay(pod, *bridge, port.port).await
                }
                Way::Bridge(..) => continue,
            };
            match opened {
                Ok(port) => open.push(port),
                Err(why) => self.tell(pod_uid, container, PORT, why),
            }
        }
        member.ports.insert(container.to_owned(), open);
    }

    /// A port of the pod that leads to its container on the bridge.
    async fn relay(&self, pod: &PodRef, bridge: IpAddr, port: u16) -> Result<Open, String> {
        let address = SocketAddr::new(pod.address.unwrap_or(bridge), port);
        let listener = self.net.listen(pod, address).await;
        let mut listener = listener.map_err(|error| error.to_string())?;
        let refused = listener.host_error().map(str::to_owned);
        let room = Arc::new(Semaphore::new(RELAYED));
        let task = tokio::spawn(async move {
            loop {
                let mut conn = listener.accept().await;
                // The semaphore is never closed.
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                tokio::spawn(async move {
                    let _held = permit;
                    if let Ok(mut stream) = TcpStream::connect((bridge, port)).await {
                        // Either side may break off at any time.
                        let _ = tokio::io::copy_bidirectional(&mut conn, &mut stream).await;
                    }
                });
            }
        });
        match refused {
            None => Ok(Open::Relayed(AbortOnDropHandle::new(task))),
            Some(why) => Err(why),
        }
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

/// Whether this process is one of ours, as another machine's number wouldn't be. The engine's own
/// program is there for a moment before it becomes ours.
async fn is_sandbox(pid: i64) -> bool {
    for _ in 0..LOOKS {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == pause::NAME {
            return true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    false
}

async fn leave(member: Member) {
    drop(member.ports);
    if let Way::Joined(joined) = member.way {
        joined.leave().await;
    }
}

fn pod_ref(pod: &Sandbox) -> PodRef {
    PodRef {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        address: Some(pod.address),
        names: pod.names.clone(),
    }
}
