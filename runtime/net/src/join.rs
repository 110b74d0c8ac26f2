//! Joins a pod with the network namespace of its sandbox container. In loopback mode all of
//! 127.0.0.0/8 in there is the pod's own, so whatever its processes send to pods and services
//! would end in their own namespace: one redirect leads it to a listener of ours, which dials on
//! the pod's behalf; and what is meant for the pod is dialled inside.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, UdpSocket},
    runtime::Handle,
    task::JoinHandle,
};
use windlass_runtime_api::Protocol;

use crate::{
    caller::{Caller, PodRef},
    dns::{self, Dns},
    inside::{BACKLOG, Inside},
    namespace::Namespace,
    podnet::{ListenError, PodNet},
    publish::Published,
    redirect, refuse,
    relay::Relay,
    rules::{self, Redirects, RulesError},
};

/// Listeners of ours inside a namespace take the first free port from here on: above what the
/// kernel gives out by itself, so hardly ever what a container asks for.
const OWN_PORTS: std::ops::RangeInclusive<u16> = 61_001..=61_100;

const NO_DATAGRAMS: &str = "containers reach pods and services over TCP only, not over UDP (but for \
    the cluster's DNS): the kernel doesn't tell where a datagram was sent to; load its module nf_conntrack_netlink";

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("pod {0} has no address")]
    NoAddress(String),
    #[error("pod {0} is joined with a network namespace already")]
    Joined(String),
    #[error(
        "the network namespace of pod {pod} cannot be entered: {source}: that takes root, on the \
         machine that the Docker engine runs on"
    )]
    Enter { pod: String, source: io::Error },
    #[error("no socket can be made in the network namespace of pod {pod}: {source}")]
    Socket { pod: String, source: io::Error },
    #[error("containers of pod {pod} cannot reach services: {source}")]
    Rules { pod: String, source: RulesError },
}

/// A pod and its namespace. Everything that was made is undone when this is dropped: listeners end
/// at once, rules a moment later. The namespace itself is whoever's made it.
pub struct JoinedPod {
    net: PodNet,
    inside: Arc<Inside>,
    tasks: Vec<Task>,
    runtime: Handle,
    lacks: Option<&'static str>,
    /// A port inside that is taken, and on which nothing listens.
    _closed: Option<TcpSocket>,
}

/// What serves the pod's processes; it ends when dropped.
enum Task {
    Loop(JoinHandle<()>),
    Relay(#[expect(dead_code, reason = "held for as long as it is to run")] Relay),
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Self::Loop(task) = self {
            task.abort();
        }
    }
}

impl PodNet {
    /// Joins the pod for which `caller` speaks, and which has an address, with the namespace of its
    /// sandbox container (an open `/proc/PID/ns/net`). From then on the ports of its WASM
    /// containers are open in there too, callers of other ports are led inside, and connections
    /// from inside to pods and services are made on the pod's behalf.
    ///
    /// # Errors
    /// Without root, or where the engine is another machine's: [`JoinError::Enter`]. Without
    /// iptables: [`JoinError::Rules`].
    pub async fn join(
        &self,
        caller: Arc<Caller>,
        namespace: OwnedFd,
    ) -> Result<JoinedPod, JoinError> {
        let pod = format!("{}/{}", caller.pod.namespace, caller.pod.name);
        let Some(address) = caller.pod.address else { return Err(JoinError::NoAddress(pod)) };
        let namespace = Namespace::new(namespace, self.0.visitor.clone());
        if let Err(source) = namespace.enter().await {
            return Err(JoinError::Enter { pod, source });
        }
        let socket = |source| JoinError::Socket { pod: pod.clone(), source };
        let (listener, tcp_port) = own_listener(&namespace).await.map_err(socket)?;
        let (closed, closed_port) = own_port(&namespace).await.map_err(socket)?;
        let (datagrams, udp_port) = own_udp(&namespace).await.map_err(socket)?;
        let (questions, dns_port) = own_udp(&namespace).await.map_err(socket)?;
        let mut conntrack = namespace.conntrack().await.map_err(socket)?;
        let lacks = (!conntrack.answers()).then_some(NO_DATAGRAMS);
        let inside = Arc::new(Inside {
            caller,
            address,
            ranges: self.redirected(),
            namespace,
            closing: Mutex::default(),
        });
        let mut joined = self.enlist(inside.clone()).ok_or(JoinError::Joined(pod.clone()))?;
        let redirects = Redirects {
            own: address,
            ranges: self.redirected(),
            tcp_port,
            udp_port,
            dns: self.cluster_dns().map(|address| (address, dns_port)),
        };
        (joined.lacks, joined._closed) = (lacks, Some(closed));
        // From here on dropping `joined` undoes what was done.
        rules::install(&inside.namespace, &redirects)
            .await
            .map_err(|source| JoinError::Rules { pod, source })?;
        let dns = Arc::new(Dns::new(self.clone(), inside.caller.clone()));
        let refusing = refuse::follow(self.clone(), inside.namespace.clone(), closed_port);
        joined.tasks.push(Task::Loop(tokio::spawn(refusing)));
        let serving = redirect::serve(self.clone(), inside.caller.clone(), dns.clone(), listener);
        joined.tasks.push(Task::Loop(tokio::spawn(serving)));
        joined.tasks.push(Task::Loop(tokio::spawn(dns::serve_udp(dns, questions))));
        let relay = redirect::serve_udp(self.clone(), inside.caller.clone(), datagrams, conntrack);
        joined.tasks.push(Task::Relay(relay));
        joined.open_existing().await;
        Ok(joined)
    }

    /// What containers of pods lack because their networks can't be joined on this machine, or not
    /// wholly, in one sentence; None: nothing.
    pub async fn joining_lacks(&self) -> Option<String> {
        let reached = "containers reach no services and no WASM of their pods, and are reached at their \
                       declared TCP ports only";
        let entered = match Namespace::own(self.0.visitor.clone()) {
            Ok(own) => own.enter().await.map(|()| own),
            Err(error) => Err(error),
        };
        let own = match entered {
            Ok(own) => own,
            Err(error) => {
                return Some(format!(
                    "the networks of pods can't be entered ({error}), which takes root: {reached}"
                ));
            }
        };
        if !rules::can_be_set(&own).await {
            return Some(format!("{}: {reached}", RulesError::NoProgram));
        }
        let answers = own.conntrack().await.is_ok_and(|mut conntrack| conntrack.answers());
        (!answers).then(|| NO_DATAGRAMS.to_owned())
    }

    /// Where containers of this cluster find their DNS server.
    pub fn cluster_dns(&self) -> Option<Ipv4Addr> {
        self.0.ranges.last().copied().map(dns::dns_address)
    }

    fn enlist(&self, inside: Arc<Inside>) -> Option<JoinedPod> {
        let mut local = self.0.local.lock();
        if local.joined.contains_key(&inside.address) {
            return None;
        }
        local.joined.insert(inside.address, inside.clone());
        let runtime = Handle::current();
        let (net, tasks) = (self.clone(), Vec::new());
        Some(JoinedPod { net, inside, tasks, runtime, lacks: None, _closed: None })
    }
}

impl JoinedPod {
    /// What the pod's processes lack, in one sentence.
    pub fn lacks(&self) -> Option<&'static str> {
        self.lacks
    }

    pub fn pod(&self) -> &PodRef {
        &self.inside.caller.pod
    }

    /// Opens a port of the pod on the host, under the pod's address, for callers that are no pods.
    /// Callers inside the cluster don't need it.
    ///
    /// # Errors
    /// What keeps the host from it, in a sentence that names the cure.
    pub async fn publish(&self, port: u16, protocol: Protocol) -> Result<Published, ListenError> {
        let address = SocketAddr::new(self.inside.address, port);
        match protocol {
            Protocol::Tcp => self.net.publish(address, protocol, address).await,
            Protocol::Udp => {
                let serial = self.inside.open_udp(&self.net, port)?;
                Ok(Published::of_udp_port(self.net.clone(), address, serial))
            }
        }
    }

    /// Undoes everything, and returns when it is done.
    pub async fn leave(mut self) {
        self.stop();
        rules::remove(&self.inside.namespace, self.inside.address, &self.inside.ranges).await;
    }

    /// Ports that WASM containers opened before the pod was joined.
    async fn open_existing(&self) {
        let open: Vec<SocketAddr> = {
            let local = self.net.0.local.lock();
            let of_pod = |address: &&SocketAddr| address.ip() == self.inside.address;
            local.listeners.keys().filter(of_pod).copied().collect()
        };
        for address in open {
            if let Err(error) = self.inside.listen(&self.net, address, None).await {
                tracing::warn!(%address, %error, "a WASM container's port is not open inside");
            }
        }
        let open: Vec<SocketAddr> = {
            let local = self.net.0.local.lock();
            let of_pod = |address: &&SocketAddr| address.ip() == self.inside.address;
            local.udp.keys().filter(of_pod).copied().collect()
        };
        for address in open {
            if let Err(error) = self.inside.show_udp(&self.net, address) {
                tracing::warn!(%address, %error, "a WASM container's port is not open inside");
            }
        }
    }

    /// Returns false where it had been called before.
    fn stop(&mut self) -> bool {
        self.tasks.clear();
        let mut local = self.net.0.local.lock();
        let known = local.joined.get(&self.inside.address);
        if !known.is_some_and(|known| Arc::ptr_eq(known, &self.inside)) {
            return false;
        }
        local.joined.remove(&self.inside.address);
        for (address, entry) in &mut local.listeners {
            if address.ip() == self.inside.address {
                entry.inside = None;
            }
        }
        local.udp.retain(|address, port| {
            let own = address.ip() == self.inside.address;
            if own {
                port.relay = None;
            }
            !(own && port.of_container)
        });
        true
    }
}

impl Drop for JoinedPod {
    fn drop(&mut self) {
        if self.stop() {
            let inside = self.inside.clone();
            self.runtime.spawn(async move {
                rules::remove(&inside.namespace, inside.address, &inside.ranges).await;
            });
        }
    }
}

/// A listener for what is redirected. The kernel redirects what is sent in a namespace to its
/// localhost.
async fn own_listener(namespace: &Namespace) -> io::Result<(TcpListener, u16)> {
    let (socket, port) = own_port(namespace).await?;
    Ok((socket.listen(BACKLOG)?, port))
}

/// A port of ours on which nothing listens yet.
async fn own_port(namespace: &Namespace) -> io::Result<(TcpSocket, u16)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in OWN_PORTS {
        match namespace.tcp(Some(([127, 0, 0, 1], port).into())).await {
            Ok(socket) => return Ok((socket, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The same for datagrams.
async fn own_udp(namespace: &Namespace) -> io::Result<(UdpSocket, u16)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in OWN_PORTS {
        match namespace.udp(([127, 0, 0, 1], port).into(), None).await {
            Ok(socket) => return Ok((socket, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
