//! Connections that pods make: the name is resolved once, each address is judged, and exactly an
//! address that passed is dialled.
//!
//! Linux answers all of 127.0.0.0/8, so a process of the host that listens on 0.0.0.0 would answer
//! on every pod's and every service's address too. Inside the cluster's ranges a pod is therefore
//! connected only to what is registered here, and to the API server.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::mpsc::error::TrySendError,
    time::timeout,
};
use windlass_runtime_api::Reach;

use crate::{
    blocks::Block,
    caller::{Caller, PodRef, clean},
    conn::Conn,
    inside::Inside,
    machine::LookUpError,
    podnet::{Callee, EPHEMERAL, NOWHERE, PodNet, Scope},
    reach::{Dialled, Surroundings, Verdict, judge, judge_look_up},
    relay::Back,
    resolve::{Step, resolve},
};

/// How long one of several addresses of a name is tried.
const TRY_NEXT_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no such host: {0}")]
    NotFound(String),
    #[error("{host} can't be resolved now: {why}")]
    Unresolved { host: String, why: String },
    #[error("{host} is not reachable for pods: {rule}")]
    Denied { host: String, rule: String },
    #[error("service {0} has no ready endpoint")]
    NoEndpoint(String),
    #[error("cannot connect to {to}: {source}")]
    Io { to: String, source: io::Error },
}

/// How a container gets at what it calls.
#[derive(Debug)]
pub enum Reached {
    /// The port is in this process and offers this: no connection was made.
    Callee(Callee),
    Conn(Conn),
}

/// What a caller can do with a port of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    CalleeOrConn,
    Conn,
}

/// Who dials.
#[derive(Clone, Copy)]
enum By<'a> {
    Pod(&'a PodRef),
    /// The node may reach what is only the pod's own.
    Node,
    /// Who connected to a service's address from outside the cluster.
    Outside,
}

impl PodNet {
    /// Opens a connection on behalf of a container. `host` is a name or an address; `scheme` is
    /// `http`, `https` or `tcp`, for rules that allow one of them.
    pub async fn connect(
        &self,
        from: &Caller,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Conn, ConnectError> {
        self.find(from, scheme, host, port, Wants::Conn).await?.conn()
    }

    /// As [`Self::connect`], for a caller that can also do without a connection. What it may reach,
    /// and which endpoint of a service it gets, is decided in the same way.
    pub async fn reach(
        &self,
        from: &Caller,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Reached, ConnectError> {
        self.find(from, scheme, host, port, Wants::CalleeOrConn).await
    }

    async fn find(
        &self,
        from: &Caller,
        scheme: &str,
        host: &str,
        port: u16,
        wants: Wants,
    ) -> Result<Reached, ConnectError> {
        if let Some(ip) = literal(host) {
            let target = self.aim(from, scheme, None, SocketAddr::new(ip, port))?;
            return self.reach_target(from, &ip.to_string(), target, wants).await;
        }
        let found = self.look_up(from, host).await?;
        let mut refusal = None;
        let mut allowed = Vec::with_capacity(found.len());
        for ip in found {
            let address = SocketAddr::new(ip, port);
            match self.aim(from, scheme, Some(host), address) {
                Ok(target) => allowed.push(target),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        // Outside addresses in IPv4 first: the cluster has no IPv6 of its own.
        allowed.sort_by_key(|target: &SocketAddr| target.is_ipv6());
        let mut last = refusal.unwrap_or_else(|| ConnectError::NotFound(host.to_owned()));
        for (n, target) in allowed.iter().enumerate() {
            let dialling = self.reach_target(from, host, *target, wants);
            let tried = match n + 1 < allowed.len() {
                true => timeout(TRY_NEXT_AFTER, dialling)
                    .await
                    .unwrap_or_else(|_| Err(failed(*target, io::ErrorKind::TimedOut))),
                false => dialling.await,
            };
            match tried {
                Ok(reached) => return Ok(reached),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens a connection on behalf of a container to an address that is already known.
    pub async fn connect_address(
        &self,
        from: &Caller,
        scheme: &str,
        address: SocketAddr,
    ) -> Result<Conn, ConnectError> {
        let target = self.aim(from, scheme, None, address)?;
        self.reach_target(from, &address.ip().to_string(), target, Wants::Conn).await?.conn()
    }

    /// Whether a container may dial an address.
    pub fn check_reach(
        &self,
        from: &Caller,
        scheme: &str,
        address: SocketAddr,
    ) -> Result<(), ConnectError> {
        self.aim(from, scheme, None, address).map(|_| ())
    }

    /// Opens a connection to a port of a pod on behalf of the node itself: what a port-forward or a
    /// proxy needs, to which the rules for pods don't apply.
    pub async fn connect_from_node(&self, pod: SocketAddr) -> Result<Conn, ConnectError> {
        self.dial(By::Node, pod, false, Wants::Conn).await?.conn()
    }

    /// The addresses that a name has for a container: the pod's own names first, then services,
    /// then what the machine's resolver says. They are judged when they are dialled; what is asked
    /// outside is a name that the container's lists could allow.
    pub async fn look_up(&self, from: &Caller, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        if let Some(ip) = literal(host) {
            return Ok(vec![ip]);
        }
        let name = clean(host);
        if is_local_name(&name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let mut last = ConnectError::NotFound(host.to_owned());
        // A dot at the end says that no domain is to be tried behind it.
        let steps = resolve(&self.table(), &from.pod.names, &from.pod.namespace, host);
        for step in steps {
            let found = match step {
                Step::Found(addresses) => return Ok(addresses),
                Step::Ask(candidate) => self.ask(from, candidate).await,
            };
            match found {
                Ok(found) => {
                    from.tell(&name, &found);
                    return Ok(found);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the machine's resolver, if the container's lists could allow the name.
    async fn ask(&self, from: &Caller, name: String) -> Result<Vec<IpAddr>, ConnectError> {
        let asked = std::slice::from_ref(&name);
        if let Verdict::Denied(rule) = judge_look_up(&from.reach, asked) {
            return Err(ConnectError::Denied { host: name, rule });
        }
        self.0.machine.look_up(name.clone()).await.map_err(|error| match error {
            LookUpError::NotFound => ConnectError::NotFound(name),
            LookUpError::Temporary(why) => ConnectError::Unresolved { host: name, why },
        })
    }

    /// Where an address leads for this container, if it may go there.
    pub(crate) fn aim(
        &self,
        from: &Caller,
        scheme: &str,
        name: Option<&str>,
        address: SocketAddr,
    ) -> Result<SocketAddr, ConnectError> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let is_own = |name: &str| {
            let name = clean(name);
            is_local_name(&name) || from.pod.names.hosts.iter().any(|(known, _)| *known == name)
        };
        // What a pod calls a host itself says nothing to a list that somebody else wrote.
        let trusted = name.filter(|name| !is_own(name));
        if is_localhost(address.ip()) && trusted.is_none() {
            // The pod itself, whatever its lists say. Where a resolver outside answers so, it
            // means another machine's.
            return Ok(self.own(&from.pod, address.port()).unwrap_or(address));
        }
        let verdict = self.with_surroundings(&from.pod, |around| {
            from.may_reach(scheme, trusted, address, around, &self.table())
        });
        match verdict {
            Verdict::Allowed => Ok(address),
            Verdict::Denied(rule) => {
                let host = match name {
                    Some(name) => format!("{name} ({address})"),
                    None => address.to_string(),
                };
                Err(ConnectError::Denied { host, rule })
            }
        }
    }

    fn with_surroundings<T>(&self, pod: &PodRef, look: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let node = self.0.machine.addresses();
        look(&Surroundings { own: pod.address, cluster: &self.0.ranges, node: &node })
    }

    async fn reach_target(
        &self,
        from: &Caller,
        host: &str,
        target: SocketAddr,
        wants: Wants,
    ) -> Result<Reached, ConnectError> {
        if is_localhost(target.ip()) {
            // No WASM container of the pod listens there.
            let Some(inside) = self.joined_pod(&from.pod) else {
                return Err(failed(target, io::ErrorKind::ConnectionRefused));
            };
            return dialled(target, inside.connect_localhost(target.port()).await);
        }
        let table = self.table();
        let Some(endpoints) = table.endpoints(target) else {
            return self.dial(By::Pod(&from.pod), target, false, wants).await;
        };
        let api_server = table.is_api_server(target.ip());
        let client = table.client_of(target, None, self.address_of(&from.pod));
        let start = self.begin(client, &endpoints);
        self.dial_one_of((from, host), (&endpoints, start), api_server, wants).await
    }

    /// Tries each endpoint once, from `start` on, until one takes the connection: an endpoint
    /// may have gone a moment before the table says so.
    async fn dial_one_of(
        &self,
        (from, host): (&Caller, &str),
        (endpoints, start): (&[SocketAddr], usize),
        api_server: bool,
        wants: Wants,
    ) -> Result<Reached, ConnectError> {
        let mut last = ConnectError::NoEndpoint(host.to_owned());
        for n in 0..endpoints.len() {
            let to = endpoints[(start + n) % endpoints.len()];
            match self.dial_endpoint(from, to, api_server, wants).await {
                Ok(reached) => return Ok(reached),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Endpoints are what users write into EndpointSlices: no way around what no pod may reach.
    async fn dial_endpoint(
        &self,
        from: &Caller,
        to: SocketAddr,
        api_server: bool,
        wants: Wants,
    ) -> Result<Reached, ConnectError> {
        if !api_server {
            self.may_be_endpoint(&from.pod, to)?;
        }
        self.dial(By::Pod(&from.pod), to, api_server, wants).await
    }

    pub(crate) fn may_be_endpoint(
        &self,
        pod: &PodRef,
        address: SocketAddr,
    ) -> Result<(), ConnectError> {
        let dialled = Dialled { scheme: "", names: &[], address };
        let verdict =
            self.with_surroundings(pod, |around| judge(&Reach::default(), around, &dialled));
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(rule) => Err(ConnectError::Denied { host: address.to_string(), rule }),
        }
    }

    /// Opens a connection: inside the process where a pod of this node has the port.
    async fn dial(
        &self,
        by: By<'_>,
        to: SocketAddr,
        api_server: bool,
        wants: Wants,
    ) -> Result<Reached, ConnectError> {
        if wants == Wants::CalleeOrConn
            && let Some(callee) = self.callee(to, by)
        {
            return Ok(Reached::Callee(callee));
        }
        let refused = || failed(to, io::ErrorKind::ConnectionRefused);
        let own = match by {
            By::Pod(pod) => self.address_of(pod),
            By::Node | By::Outside => NOWHERE,
        };
        match self.registered(to, by) {
            Some(false) => return Err(refused()),
            Some(true) => {
                let (near, far) = tokio::io::duplex(self.0.limits.buffer_bytes);
                let from = SocketAddr::new(own, self.some_port());
                let far = Conn::Duplex { stream: far, local: to, peer: from };
                match self.hand_over_by(by, to, far) {
                    Ok(()) => {
                        let near = Conn::Duplex { stream: near, local: from, peer: to };
                        return Ok(Reached::Conn(near));
                    }
                    // Its queue is full: the host's queue is longer.
                    Err(_) if self.is_on_host(to) => {}
                    Err(_) => return Err(refused()),
                }
            }
            None => match self.joined(to.ip()) {
                Some(inside) => return dialled(to, dial_inside(&inside, by, own, to.port()).await),
                None if self.is_cluster(to.ip()) && !api_server => return Err(refused()),
                None => {}
            },
        }
        // Whoever is called on this machine sees the pod's address.
        let from = (self.is_cluster(own) && self.is_cluster(to.ip())).then_some(own);
        dialled(to, tcp_from(from, to).await)
    }

    /// Gives a connection from outside the cluster to the pod of this node that listens on the
    /// address. Returns it where there is none, or its queue is full.
    pub(crate) fn hand_over(&self, to: SocketAddr, conn: Conn) -> Result<(), Conn> {
        self.hand_over_by(By::Outside, to, conn)
    }

    fn hand_over_by(&self, by: By<'_>, to: SocketAddr, conn: Conn) -> Result<(), Conn> {
        let handed = {
            let local = self.0.local.lock();
            let entry = local.listeners.get(&to);
            entry
                .filter(|entry| may_call(entry.scope, &entry.pod, by))
                .and_then(|e| e.handed.clone())
        };
        match handed {
            Some(handed) => handed.try_send(conn).map_err(|error| match error {
                TrySendError::Full(conn) | TrySendError::Closed(conn) => conn,
            }),
            None => Err(conn),
        }
    }

    /// Whether a pod of this node listens on the address for this caller; None where no pod has it.
    fn registered(&self, address: SocketAddr, by: By<'_>) -> Option<bool> {
        let local = self.0.local.lock();
        let entry = local.listeners.get(&address)?;
        Some(entry.handed.is_some() && may_call(entry.scope, &entry.pod, by))
    }

    fn callee(&self, address: SocketAddr, by: By<'_>) -> Option<Callee> {
        let local = self.0.local.lock();
        let entry = local.listeners.get(&address)?;
        entry.callee.clone().filter(|_| may_call(entry.scope, &entry.pod, by))
    }

    fn is_on_host(&self, address: SocketAddr) -> bool {
        self.0.local.lock().listeners.get(&address).is_some_and(|entry| entry.on_host)
    }

    /// A pod of this node listens on the address.
    pub(crate) fn is_local(&self, address: SocketAddr) -> bool {
        self.0.local.lock().listeners.contains_key(&address)
    }

    /// Opens a socket to an endpoint of a service that no WASM container of this node is.
    pub(crate) async fn dial_for_outside(
        &self,
        from: IpAddr,
        to: SocketAddr,
    ) -> io::Result<TcpStream> {
        match self.joined(to.ip()) {
            Some(inside) => inside.connect(from, to.port()).await,
            None => TcpStream::connect(to).await,
        }
    }

    /// A socket for datagrams to an endpoint of a service, for callers from outside.
    pub(crate) async fn udp_for_outside(&self, to: SocketAddr) -> io::Result<Back> {
        if let Some(inside) = self.joined(to.ip())
            && !self.has_udp_port(to)
            && !inside.lead_udp(self, to.port())
        {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        Ok(Back::Connected(socket))
    }

    fn has_udp_port(&self, address: SocketAddr) -> bool {
        self.0.local.lock().udp.contains_key(&address)
    }

    /// What is led out of the namespaces of pods: pods and services, and in loopback mode those of
    /// the machine's other clusters too, which are then refused as they are to everybody else.
    pub(crate) fn redirected(&self) -> Vec<Block> {
        match self.is_loopback() {
            true => vec![Block::LOOPBACK],
            false => self.0.ranges.clone(),
        }
    }

    /// The address is the cluster's: a pod's or a service's.
    pub(crate) fn is_cluster(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if self.0.ranges.iter().any(|range| range.contains(v4)))
    }

    /// The pod's own address with this port, where it has one.
    fn own(&self, pod: &PodRef, port: u16) -> Option<SocketAddr> {
        let local = self.0.local.lock();
        local.by_pod.get(&pod.uid)?.iter().find(|address| address.port() == port).copied()
    }

    fn address_of(&self, pod: &PodRef) -> IpAddr {
        let own = || {
            let local = self.0.local.lock();
            local.by_pod.get(&pod.uid).and_then(|ports| ports.first()).map(SocketAddr::ip)
        };
        pod.address.or_else(own).unwrap_or(NOWHERE)
    }

    fn some_port(&self) -> u16 {
        let offset = self.draw(usize::from(EPHEMERAL.end - EPHEMERAL.start));
        EPHEMERAL.start + u16::try_from(offset).unwrap_or(0)
    }
}

impl Reached {
    /// For who asked for a connection.
    fn conn(self) -> Result<Conn, ConnectError> {
        match self {
            Self::Conn(conn) => Ok(conn),
            Self::Callee(_) => Err(failed(SocketAddr::new(NOWHERE, 0), io::ErrorKind::Unsupported)),
        }
    }
}

async fn dial_inside(inside: &Inside, by: By<'_>, own: IpAddr, port: u16) -> io::Result<TcpStream> {
    match by {
        By::Node => inside.connect_from_node(port).await,
        By::Pod(_) | By::Outside => inside.connect(own, port).await,
    }
}

fn may_call(scope: Scope, owner: &PodRef, by: By<'_>) -> bool {
    match (scope, by) {
        (Scope::Everyone, _) | (_, By::Node) => true,
        (Scope::Pod, By::Pod(pod)) => pod.uid == owner.uid,
        (Scope::Pod, By::Outside) => false,
    }
}

/// A pod's localhost is itself; it has no other loopback addresses.
pub(crate) fn is_localhost(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

async fn tcp_from(own: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(own) = own else { return TcpStream::connect(to).await };
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(own, 0))?;
    socket.connect(to).await
}

fn is_local_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn dialled(to: SocketAddr, stream: io::Result<TcpStream>) -> Result<Reached, ConnectError> {
    stream
        .map(|stream| Reached::Conn(Conn::tcp(stream)))
        .map_err(|source| ConnectError::Io { to: to.to_string(), source })
}

fn failed(to: SocketAddr, kind: io::ErrorKind) -> ConnectError {
    ConnectError::Io { to: to.to_string(), source: kind.into() }
}
