//! The seam between pods and the network. A listener of a pod is two things: a socket on the
//! pod's address for whoever comes from outside this process, and a channel through which callers
//! inside it (other pods, the service proxy) hand their connection over without a second socket.
//! The channel is what the cluster relies on; a port that the host refuses is only said.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::FutureExt;
use parking_lot::{Mutex, RwLock};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use windlass_runtime_api::PodNames;
use windlass_sdk_meta::Rng;

use crate::{
    blocks::Block,
    conn::Conn,
    holder,
    resolve::{Step, resolve},
    table::Table,
};

/// Makes every socket of the pods of this node. Clones share everything.
#[derive(Clone)]
pub struct PodNet(Arc<Inner>);

struct Inner {
    /// The cluster's own ranges: the only loopback addresses a pod may dial.
    ranges: Vec<Block>,
    limits: Limits,
    table: RwLock<Arc<Table>>,
    local: Mutex<Local>,
    rng: Rng,
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
struct Local {
    listeners: BTreeMap<SocketAddr, Entry>,
    by_pod: HashMap<String, Vec<SocketAddr>>,
    /// Tells an entry from one that was made for the same address later.
    serial: u64,
}

struct Entry {
    serial: u64,
    pod: PodRef,
    handed: mpsc::Sender<Conn>,
}

/// The pod on whose behalf a socket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRef {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// What names mean to it.
    pub names: Arc<PodNames>,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another container of the pod (or, by mistake, another pod) has this port.
    #[error("port {port} is already in use by pod {holder}")]
    PortConflict { port: u16, holder: String },
    #[error("{0} is not available in this network mode: {1}")]
    Unsupported(&'static str, &'static str),
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no such host: {0}")]
    NotFound(String),
    #[error("{host} is not reachable for pods: {rule}")]
    Denied { host: String, rule: &'static str },
    #[error("service {0} has no ready endpoint")]
    NoEndpoint(String),
    #[error("cannot connect to {to}: {source}")]
    Io { to: String, source: io::Error },
}

impl PodNet {
    /// Loopback mode. `ranges` are the cluster's pod and service ranges (see [`Block::PODS`]).
    pub fn loopback(ranges: Vec<Block>, limits: Limits, rng: Rng) -> Self {
        Self(Arc::new(Inner {
            ranges,
            limits,
            table: RwLock::default(),
            local: Mutex::default(),
            rng,
        }))
    }

    /// Opens a TCP port of a pod. Only a conflict inside the cluster is an error; what the host
    /// refuses is told by [`PodListener::host_error`].
    pub async fn listen(
        &self,
        pod: &PodRef,
        address: SocketAddr,
    ) -> Result<PodListener, ListenError> {
        let (handed, incoming) = mpsc::channel(self.0.limits.backlog);
        let registration = self.register(pod, address, handed)?;
        let (host, host_error) = match TcpListener::bind(address).await {
            Ok(listener) => (Some(listener), None),
            Err(error) => (None, Some(holder::explain(address, &error))),
        };
        Ok(PodListener { address, incoming, host, host_error, _registration: registration })
    }

    /// Opens a connection on behalf of a pod. `host` is a name or an address.
    pub async fn connect(
        &self,
        from: &PodRef,
        host: &str,
        port: u16,
    ) -> Result<Conn, ConnectError> {
        let address = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, port),
            Err(_) if host.eq_ignore_ascii_case("localhost") => (Ipv4Addr::LOCALHOST, port).into(),
            Err(_) => self.look_up(from, host, port).await?,
        };
        self.connect_address(from, host, address).await
    }

    /// Opens a connection on behalf of a pod to an address that is already known.
    pub async fn connect_address(
        &self,
        from: &PodRef,
        host: &str,
        address: SocketAddr,
    ) -> Result<Conn, ConnectError> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let target = if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            self.own_port(from, address.port()).ok_or_else(|| refused(address))?
        } else {
            address
        };
        if let Some(rule) = denied(target.ip(), &self.0.ranges) {
            return Err(ConnectError::Denied { host: host.to_owned(), rule });
        }
        let endpoints = self.table().endpoints(target);
        match endpoints {
            None => self.dial(from, target).await,
            Some(endpoints) => self.dial_one_of(from, host, &endpoints).await,
        }
    }

    /// Opens a connection to an address of a pod on behalf of the node itself: what a port-forward
    /// or a proxy needs, to which the rules for pods don't apply.
    pub async fn connect_from_node(&self, pod: SocketAddr) -> Result<Conn, ConnectError> {
        self.dial(&PodRef::default(), pod).await
    }

    /// UDP ports of pods.
    pub async fn bind_udp(&self, _pod: &PodRef, _address: SocketAddr) -> Result<(), ListenError> {
        Err(ListenError::Unsupported("UDP", "pods have TCP ports only so far"))
    }

    /// The addresses a name has for a pod: its own names first, then services, then what the
    /// host's resolver says.
    pub async fn lookup_host(
        &self,
        from: &PodRef,
        host: &str,
    ) -> Result<Vec<IpAddr>, ConnectError> {
        for step in resolve(&self.table(), &from.names, &from.namespace, host) {
            match step {
                Step::Found(addresses) => return Ok(addresses),
                Step::Ask(name) => {
                    if let Ok(found) = tokio::net::lookup_host((name.as_str(), 0)).await {
                        return Ok(found.map(|address| address.ip()).collect());
                    }
                }
            }
        }
        Err(ConnectError::NotFound(host.to_owned()))
    }

    /// The services as they are now.
    pub fn table(&self) -> Arc<Table> {
        self.0.table.read().clone()
    }

    /// Replaces the services; connections made from now on see only the new ones.
    pub fn set_table(&self, table: Table) {
        *self.0.table.write() = Arc::new(table);
    }

    /// Gives a connection to the pod of this node that listens on the address. Returns it where
    /// there is none, or its queue is full.
    pub(crate) fn hand_over(&self, to: SocketAddr, conn: Conn) -> Result<(), Conn> {
        let handed = self.0.local.lock().listeners.get(&to).map(|entry| entry.handed.clone());
        match handed {
            Some(handed) => handed.try_send(conn).map_err(|error| match error {
                mpsc::error::TrySendError::Full(conn) | mpsc::error::TrySendError::Closed(conn) => {
                    conn
                }
            }),
            None => Err(conn),
        }
    }

    /// A pod of this node listens on the address.
    pub(crate) fn is_local(&self, address: SocketAddr) -> bool {
        self.0.local.lock().listeners.contains_key(&address)
    }

    /// A place in `0..count` to begin with, so that callers spread over endpoints.
    pub(crate) fn draw(&self, count: usize) -> usize {
        self.0.rng.below(count)
    }

    async fn look_up(
        &self,
        from: &PodRef,
        host: &str,
        port: u16,
    ) -> Result<SocketAddr, ConnectError> {
        let addresses = self.lookup_host(from, host).await?;
        // Outside addresses in IPv4 first: the cluster has no IPv6 of its own.
        let address = addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first());
        address
            .map(|ip| SocketAddr::new(*ip, port))
            .ok_or_else(|| ConnectError::NotFound(host.to_owned()))
    }

    /// Tries each endpoint once, beginning anywhere, until one takes the connection: an endpoint
    /// may have gone a moment before the table says so.
    async fn dial_one_of(
        &self,
        from: &PodRef,
        host: &str,
        endpoints: &[SocketAddr],
    ) -> Result<Conn, ConnectError> {
        let start = self.draw(endpoints.len());
        let mut last = ConnectError::NoEndpoint(host.to_owned());
        for n in 0..endpoints.len() {
            match self.dial(from, endpoints[(start + n) % endpoints.len()]).await {
                Ok(conn) => return Ok(conn),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial(&self, from: &PodRef, to: SocketAddr) -> Result<Conn, ConnectError> {
        if self.is_local(to) {
            let (near, far) = tokio::io::duplex(self.0.limits.buffer_bytes);
            let far = Conn::Duplex { stream: far, peer: self.address_of(from) };
            if self.hand_over(to, far).is_ok() {
                return Ok(Conn::Duplex { stream: near, peer: to });
            }
        }
        match TcpStream::connect(to).await {
            Ok(stream) => Ok(Conn::tcp(stream)),
            Err(source) => Err(ConnectError::Io { to: to.to_string(), source }),
        }
    }

    fn own_port(&self, pod: &PodRef, port: u16) -> Option<SocketAddr> {
        let local = self.0.local.lock();
        local.by_pod.get(&pod.uid)?.iter().find(|address| address.port() == port).copied()
    }

    fn address_of(&self, pod: &PodRef) -> SocketAddr {
        let local = self.0.local.lock();
        let own = local.by_pod.get(&pod.uid).and_then(|ports| ports.first());
        SocketAddr::new(own.map_or(Ipv4Addr::LOCALHOST.into(), SocketAddr::ip), 0)
    }

    fn register(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        handed: mpsc::Sender<Conn>,
    ) -> Result<Registration, ListenError> {
        let mut local = self.0.local.lock();
        if let Some(entry) = local.listeners.get(&address) {
            let holder = format!("{}/{}", entry.pod.namespace, entry.pod.name);
            return Err(ListenError::PortConflict { port: address.port(), holder });
        }
        local.serial += 1;
        let serial = local.serial;
        local.listeners.insert(address, Entry { serial, pod: pod.clone(), handed });
        local.by_pod.entry(pod.uid.clone()).or_default().push(address);
        Ok(Registration { net: self.clone(), pod_uid: pod.uid.clone(), address, serial })
    }
}

/// An open port of a pod.
pub struct PodListener {
    address: SocketAddr,
    incoming: mpsc::Receiver<Conn>,
    host: Option<TcpListener>,
    host_error: Option<String>,
    _registration: Registration,
}

impl PodListener {
    /// The next connection, from the host's socket or handed over inside the process. Cancel-safe.
    pub async fn accept(&mut self) -> Conn {
        loop {
            tokio::select! {
                biased;
                handed = self.incoming.recv() => match handed {
                    Some(conn) => return conn,
                    // The registration holds a sender for as long as the listener is there.
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
        let Self { mut incoming, host, _registration, .. } = self;
        drop(_registration);
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

    /// Why the port can't be reached from outside this process, in a sentence that names the cure.
    pub fn host_error(&self) -> Option<&str> {
        self.host_error.as_deref()
    }
}

/// Takes the listener out of the map when it goes.
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

fn refused(to: SocketAddr) -> ConnectError {
    ConnectError::Io { to: to.to_string(), source: io::ErrorKind::ConnectionRefused.into() }
}

/// The rule that keeps a pod from an address, if any: what an unprivileged container couldn't
/// reach either. Applied to the address dialled, after resolution.
fn denied(to: IpAddr, ranges: &[Block]) -> Option<&'static str> {
    let IpAddr::V4(v4) = to else {
        let IpAddr::V6(v6) = to else { return None };
        return (v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local())
            .then_some("the node's own addresses are not for pods");
    };
    if ranges.iter().any(|range| range.contains(v4)) {
        None
    } else if v4.is_loopback() || v4.is_unspecified() {
        Some("the node's own addresses are not for pods")
    } else if v4.is_link_local() {
        Some("link-local addresses are not for pods")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_reach_the_cluster_and_the_outside_but_not_the_node() {
        let ranges = [Block::PODS, Block::SERVICES];
        for (address, allowed) in [
            ("127.64.0.9", true),
            ("127.96.3.1", true),
            ("10.1.2.3", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("127.128.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("fe80::1", false),
        ] {
            let rule = denied(address.parse().expect(address), &ranges);
            assert_eq!(rule.is_none(), allowed, "{address}: {rule:?}");
        }
    }
}
