//! Joins a pod with the network namespace of its sandbox container. In loopback mode all of
//! 127.0.0.0/8 in there is the pod's own, so whatever its processes send to pods and services
//! would end in their own namespace: one redirect leads it to a listener of ours, which dials on
//! the pod's behalf; and what is meant for the pod is dialled inside.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};
use windlass_runtime_api::Protocol;

use crate::{
    caller::{Caller, PodRef},
    holder::{self, Sort},
    inside::{BACKLOG, Inside},
    namespace::Namespace,
    podnet::{ListenError, PodNet},
    redirect,
    rules::{self, Redirects, RulesError},
};

/// Listeners of ours inside a namespace take the first free port from here on: above what the
/// kernel gives out by itself, so hardly ever what a container asks for.
const OWN_PORTS: std::ops::RangeInclusive<u16> = 61_001..=61_100;

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
    redirect: Option<JoinHandle<()>>,
    runtime: Handle,
}

/// A port of a joined pod that is open on the host. It is closed when this is dropped.
pub struct Published {
    address: SocketAddr,
    task: JoinHandle<()>,
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
        let inside = Arc::new(Inside { caller, address, namespace });
        let mut joined = self.enlist(inside.clone()).ok_or(JoinError::Joined(pod.clone()))?;
        let redirects = Redirects { own: address, ranges: self.redirected(), tcp_port };
        // From here on dropping `joined` undoes what was done.
        rules::install(&inside.namespace, &redirects)
            .await
            .map_err(|source| JoinError::Rules { pod, source })?;
        let serving = redirect::serve(self.clone(), inside.caller.clone(), listener);
        joined.redirect = Some(tokio::spawn(serving));
        joined.open_existing().await;
        Ok(joined)
    }

    fn enlist(&self, inside: Arc<Inside>) -> Option<JoinedPod> {
        let mut local = self.0.local.lock();
        if local.joined.contains_key(&inside.address) {
            return None;
        }
        local.joined.insert(inside.address, inside.clone());
        let runtime = Handle::current();
        Some(JoinedPod { net: self.clone(), inside, redirect: None, runtime })
    }
}

impl JoinedPod {
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
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await.map_err(|error| {
                    ListenError::Host(holder::explain(Sort::Tcp, address, &error))
                })?;
                let task = tokio::spawn(redirect::publish(
                    self.net.clone(),
                    self.inside.clone(),
                    listener,
                    port,
                ));
                Ok(Published { address, task })
            }
            Protocol::Udp => Err(ListenError::Host("UDP isn't published yet".into())),
        }
    }

    /// Undoes everything, and returns when it is done.
    pub async fn leave(mut self) {
        self.stop();
        rules::remove(&self.inside.namespace).await;
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
    }

    /// Returns false where it had been called before.
    fn stop(&mut self) -> bool {
        if let Some(task) = self.redirect.take() {
            task.abort();
        }
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
        true
    }
}

impl Drop for JoinedPod {
    fn drop(&mut self) {
        if self.stop() {
            let namespace = self.inside.namespace.clone();
            self.runtime.spawn(async move { rules::remove(&namespace).await });
        }
    }
}

impl Published {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A listener for what is redirected. The kernel redirects what is sent in a namespace to its
/// localhost.
async fn own_listener(namespace: &Namespace) -> io::Result<(TcpListener, u16)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in OWN_PORTS {
        let socket = namespace.tcp(Some(([127, 0, 0, 1], port).into())).await;
        match socket.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok((listener, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
