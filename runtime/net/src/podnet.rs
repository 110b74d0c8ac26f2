//! The seam between pods and the network. A listener of a pod is two things: a socket on the
//! pod's address for whoever comes from outside this process, and a channel through which callers
//! inside it (other pods, the service proxy) hand their connection over without a second socket.
//! The channel is what the cluster relies on; a port that the host refuses is only said.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
};
use windlass_sdk_meta::Rng;

use crate::{
    blocks::Block,
    caller::PodRef,
    conn::Conn,
    holder::{self, Sort},
    inside::{Inside, InsideListener},
    machine::{Linux, Machine},
    namespace::Visitor,
    table::Table,
    udp::UdpPort,
};

/// Makes every socket of the pods of this node. Clones share everything.
#[derive(Clone)]
pub struct PodNet(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// The cluster's own ranges: the only loopback addresses a pod may dial. The last is the
    /// services'.
    pub ranges: Vec<Block>,
    pub limits: Limits,
    pub table: watch::Sender<Arc<Table>>,
    pub local: Mutex<Local>,
    pub rng: Rng,
    pub machine: Arc<dyn Machine>,
    pub visitor: Visitor,
}

/// Bounds of what callers inside the process may queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections handed over to a listener that it hasn't accepted yet.
    pub backlog: usize,
    /// Bytes in flight in each direction of an in-memory connection.
    pub buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { backlog: 1024, buffer_bytes: 64 * 1024 }
    }
}

#[derive(Default)]
pub(crate) struct Local {
    pub listeners: BTreeMap<SocketAddr, Entry>,
    pub by_pod: HashMap<String, Vec<SocketAddr>>,
    pub udp: BTreeMap<SocketAddr, UdpPort>,
    /// Pods that have a network namespace of their own, by address.
    pub joined: BTreeMap<IpAddr, Arc<Inside>>,
    /// Tells an entry from one that was made for the same address later.
    pub serial: u64,
}

/// A TCP port that a pod has.
pub(crate) struct Entry {
    pub serial: u64,
    pub pod: PodRef,
    pub scope: Scope,
    /// None: the pod doesn't listen yet.
    pub handed: Option<mpsc::Sender<Conn>>,
    /// The port is open on the host too.
    pub on_host: bool,
    /// Answers those who need no connection.
    pub callee: Option<Callee>,
    /// The port is open in the pod's namespace too.
    pub inside: Option<InsideListener>,
}

/// What answers at a port of this process without a connection. What it is, only those know who
/// offer it and who ask for it with [`PodNet::reach`].
pub type Callee = Arc<dyn Any + Send + Sync>;

/// Who may call a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The pod itself: its containers see it at localhost.
    Pod,
    Everyone,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another container of the pod (or, by mistake, another pod) has this port.
    #[error("port {port} is already in use by pod {holder}")]
    PortConflict { port: u16, holder: String },
    #[error("no port of {0} is free")]
    Exhausted(IpAddr),
    #[error("{0}")]
    Host(String),
}

/// Ports that are given out where none is asked for, as Linux does.
pub(crate) const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;
/// Ports that are tried for a pod that takes any.
pub(crate) const PORTS_TRIED: usize = 64;

impl PodNet {
    /// A net of these addresses; the mode is told from them: those of [`Block::PODS`] need nothing,
    /// others must be the machine's own (see [`crate::Routes`]). `ranges` are the cluster's pod ranges (see [`Block::PODS`]), and last its
    /// service range.
    pub fn loopback(ranges: Vec<Block>, limits: Limits, rng: Rng) -> Self {
        Self::on(Arc::new(Linux::default()), ranges, limits, rng)
    }

    /// As [`Self::loopback`], on a machine that tells something else.
    pub fn on(machine: Arc<dyn Machine>, ranges: Vec<Block>, limits: Limits, rng: Rng) -> Self {
        Self(Arc::new(Inner {
            ranges,
            limits,
            table: watch::Sender::default(),
            local: Mutex::default(),
            rng,
            machine,
            visitor: Visitor::default(),
        }))
    }

    /// Opens a TCP port of a pod. Only a conflict inside the cluster is an error; what the host
    /// refuses is told by [`PodListener::host_error`].
    pub async fn listen(
        &self,
        pod: &PodRef,
        address: SocketAddr,
    ) -> Result<PodListener, ListenError> {
        Ok(self.bind(pod, address, Scope::Everyone)?.listen().await)
    }

    /// Takes a TCP port of a pod without listening on it yet; port 0 is any that is free.
    pub fn bind(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        scope: Scope,
    ) -> Result<PodPort, ListenError> {
        let joined = self.joined(address.ip());
        let mut tries = 0;
        loop {
            let registration = self.register(pod, address, scope)?;
            let Some(joined) = &joined else {
                return Ok(PodPort { registration, inside: None });
            };
            let port = registration.address.port();
            tries += 1;
            match joined.bind(port, scope) {
                Ok(socket) => return Ok(PodPort { registration, inside: Some(socket) }),
                // A container of the pod has what nobody asked for by number.
                Err(ListenError::PortConflict { .. })
                    if address.port() == 0 && tries < PORTS_TRIED => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn register(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        scope: Scope,
    ) -> Result<Registration, ListenError> {
        let mut local = self.0.local.lock();
        let taken = |port: u16| {
            let entry = local.listeners.get(&SocketAddr::new(address.ip(), port))?;
            Some(format!("{}/{}", entry.pod.namespace, entry.pod.name))
        };
        let port = match address.port() {
            0 => self.free_port(|port| taken(port).is_some()),
            port => Some(port),
        };
        let port = port.ok_or(ListenError::Exhausted(address.ip()))?;
        if let Some(holder) = taken(port) {
            return Err(ListenError::PortConflict { port, holder });
        }
        let address = SocketAddr::new(address.ip(), port);
        local.serial += 1;
        let serial = local.serial;
        let pod_uid = pod.uid.clone();
        local.by_pod.entry(pod_uid.clone()).or_default().push(address);
        let pod = pod.clone();
        let entry =
            Entry { serial, pod, scope, handed: None, on_host: false, callee: None, inside: None };
        local.listeners.insert(address, entry);
        Ok(Registration { net: self.clone(), pod_uid, address, serial })
    }

    /// Where node ports and host ports are: in loopback mode nothing is open to other machines that
    /// nobody asked to be.
    pub fn node_address(&self) -> IpAddr {
        match self.is_loopback() {
            true => NOWHERE,
            false => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// The mode: on loopback, else routed.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.ranges.iter().all(|range| range.first().is_loopback())
    }

    /// The services as they are now.
    pub fn table(&self) -> Arc<Table> {
        self.0.table.borrow().clone()
    }

    /// Replaces the services; connections made from now on see only the new ones.
    pub fn set_table(&self, table: Table) {
        self.0.table.send_replace(Arc::new(table));
    }

    /// Hears that the services have changed.
    pub(crate) fn table_changes(&self) -> watch::Receiver<Arc<Table>> {
        self.0.table.subscribe()
    }

    /// A place in `0..count` to begin with, so that callers spread over endpoints.
    pub(crate) fn draw(&self, count: usize) -> usize {
        self.0.rng.below(count)
    }

    /// A port for who didn't ask for one, beginning anywhere.
    pub(crate) fn free_port(&self, mut taken: impl FnMut(u16) -> bool) -> Option<u16> {
        let count = EPHEMERAL.end - EPHEMERAL.start;
        let start = u16::try_from(self.draw(usize::from(count))).unwrap_or(0);
        let nth = |n: u16| EPHEMERAL.start + (start + n) % count;
        (0..count).map(nth).find(|port| !taken(*port))
    }
}

/// A TCP port that a pod has taken. Given back when it is dropped.
pub struct PodPort {
    registration: Registration,
    /// The same port in the pod's namespace.
    inside: Option<TcpSocket>,
}

impl PodPort {
    pub fn address(&self) -> SocketAddr {
        self.registration.address
    }

    /// Begins to listen.
    pub async fn listen(self) -> PodListener {
        let Registration { net, address, serial, .. } = &self.registration;
        let (address, serial) = (*address, *serial);
        let (handed, incoming) = mpsc::channel(net.0.limits.backlog);
        let everyone = {
            let local = net.0.local.lock();
            local.listeners.get(&address).is_some_and(|entry| entry.scope == Scope::Everyone)
        };
        let (host, mut host_error) = match everyone {
            // The host knows no difference between a pod's localhost and its address.
            false => (None, None),
            true => match TcpListener::bind(address).await {
                Ok(listener) => (Some(listener), None),
                Err(error) => (None, Some(holder::explain(Sort::Tcp, address, &error))),
            },
        };
        {
            let mut local = net.0.local.lock();
            let entry = local.listeners.get_mut(&address);
            if let Some(entry) = entry.filter(|entry| entry.serial == serial) {
                entry.handed = Some(handed.clone());
                entry.on_host = host.is_some();
            }
        }
        if let Some(joined) = net.joined(address.ip())
            && let Err(error) = joined.listen(net, address, self.inside).await
        {
            host_error.get_or_insert(error.to_string());
        }
        PodListener {
            address,
            incoming,
            host,
            host_error,
            _handed: handed,
            registration: self.registration,
        }
    }
}

/// An open port of a pod.
pub struct PodListener {
    address: SocketAddr,
    incoming: mpsc::Receiver<Conn>,
    host: Option<TcpListener>,
    host_error: Option<String>,
    /// So that the channel is open for as long as the listener is there.
    _handed: mpsc::Sender<Conn>,
    registration: Registration,
}

impl PodListener {
    /// The next connection, from the host's socket or handed over inside the process. Cancel-safe.
    pub async fn accept(&mut self) -> Conn {
        loop {
            tokio::select! {
                biased;
                handed = self.incoming.recv() => match handed {
                    Some(conn) => return conn,
                    // The listener holds a sender.
                    None => std::future::pending::<()>().await,
                },
                accepted = accept_on(self.host.as_ref()) => match accepted {
                    Ok(stream) => return Conn::tcp(stream),
                    Err(error) => {
                        // Out of descriptors: others must close some first.
                        tracing::warn!(address = %self.address, %error, "accept failed");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Stops listening, and returns the connections that had arrived but were not accepted yet, so
    /// that none is lost.
    pub fn close(self) -> Vec<Conn> {
        let Self { mut incoming, host, registration, .. } = self;
        drop(registration);
        incoming.close();
        let mut rest: Vec<Conn> = std::iter::from_fn(|| incoming.try_recv().ok()).collect();
        if let Some(host) = host {
            while let Some(Ok((stream, _))) = host.accept().now_or_never() {
                rest.push(Conn::tcp(stream));
            }
        }
        rest
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now until the port is closed, callers in this process may have this instead of a
    /// connection.
    pub fn offer(&self, callee: Callee) {
        let mut local = self.registration.net.0.local.lock();
        let entry = local.listeners.get_mut(&self.address);
        if let Some(entry) = entry.filter(|entry| entry.serial == self.registration.serial) {
            entry.callee = Some(callee);
        }
    }

    /// Why the port can't be reached from outside this process, in a sentence that names the cure.
    pub fn host_error(&self) -> Option<&str> {
        self.host_error.as_deref()
    }
}

/// Takes the port out of the map when it goes.
struct Registration {
    net: PodNet,
    pod_uid: String,
    address: SocketAddr,
    serial: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut local = self.net.0.local.lock();
        if local.listeners.get(&self.address).is_none_or(|entry| entry.serial != self.serial) {
            return;
        }
        local.listeners.remove(&self.address);
        if let Some(ports) = local.by_pod.get_mut(&self.pod_uid) {
            ports.retain(|address| *address != self.address);
            if ports.is_empty() {
                local.by_pod.remove(&self.pod_uid);
            }
        }
    }
}

async fn accept_on(host: Option<&TcpListener>) -> io::Result<TcpStream> {
    match host {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// The address of a pod that has none.
pub(crate) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
