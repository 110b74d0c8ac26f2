//! A pod that has a network namespace of its own, because some of its containers are processes:
//! what is made for it in there. Its WASM containers' ports are opened there too, so that the
//! processes find them at localhost; and what no WASM container listens on is dialled there.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    blocks::Block,
    caller::{Caller, PodRef},
    conn::Conn,
    namespace::Namespace,
    podnet::{ListenError, PodNet, Scope},
    relay::{Back, Relay},
    udp::UdpPort,
};

/// Connections that the kernel queues for a listener.
pub(crate) const BACKLOG: u32 = 1024;
/// UDP ports of a pod's processes that are open on the pod's address.
const UDP_PORTS: usize = 64;
/// How long a UDP port that was closed may take to be free inside, and how often that is tried.
const CLOSING: Duration = Duration::from_secs(2);
const CLOSING_PAUSE: Duration = Duration::from_millis(5);
/// How long to wait when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What this process has inside the namespace of one pod.
pub(crate) struct Inside {
    pub caller: Arc<Caller>,
    pub address: IpAddr,
    /// Addresses that the namespace takes for its own: those of pods and services.
    pub ranges: Vec<Block>,
    pub namespace: Namespace,
    /// UDP ports of guests that were closed a moment ago, and when: their sockets inside go as soon
    /// as the task that has them is run again.
    pub closing: Mutex<BTreeMap<u16, Instant>>,
}

/// A listener inside the namespace, for a port that a WASM container has. It ends when dropped.
pub(crate) struct InsideListener {
    listener: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl Drop for InsideListener {
    fn drop(&mut self) {
        // The task lets go of the socket only when it is run next: who takes the port at once must
        // find it free.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        self.task.abort();
    }
}

impl PodNet {
    /// The pod with this address, where it has a namespace.
    pub(crate) fn joined(&self, address: IpAddr) -> Option<Arc<Inside>> {
        self.0.local.lock().joined.get(&address).cloned()
    }

    /// This pod, where it has a namespace.
    pub(crate) fn joined_pod(&self, pod: &PodRef) -> Option<Arc<Inside>> {
        self.joined(pod.address?).filter(|inside| inside.caller.pod.uid == pod.uid)
    }
}

impl Inside {
    /// Takes a port inside, so that no container of the pod gets it.
    pub(crate) fn bind(&self, port: u16, scope: Scope) -> Result<TcpSocket, ListenError> {
        let at = SocketAddr::new(bound_to(scope).into(), port);
        self.namespace.tcp_now(at).map_err(|error| self.refused(port, &error))
    }

    /// Opens a port of the pod inside. Whoever connects is handed to the port's listener.
    pub(crate) async fn listen(
        &self,
        net: &PodNet,
        address: SocketAddr,
        bound: Option<TcpSocket>,
    ) -> Result<(), ListenError> {
        let Some((scope, handed)) = wanting(net, address) else { return Ok(()) };
        let port = address.port();
        let opened = match bound {
            Some(socket) => Ok(socket),
            None => self.namespace.tcp(Some((bound_to(scope), port).into())).await,
        };
        let listener = match opened.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => listener,
            // Somebody did it meanwhile.
            Err(_) if wanting(net, address).is_none() => return Ok(()),
            Err(error) => return Err(self.refused(port, &error)),
        };
        let mut local = net.0.local.lock();
        let still_joined =
            local.joined.get(&self.address).is_some_and(|now| std::ptr::eq(Arc::as_ptr(now), self));
        let entry = local.listeners.get_mut(&address).filter(|_| still_joined);
        if let Some(entry) = entry.filter(|entry| entry.handed.is_some() && entry.inside.is_none())
        {
            let listener = Arc::new(listener);
            let task = tokio::spawn(hand_over(listener.clone(), handed, address));
            entry.inside = Some(InsideListener { listener, task });
        }
        Ok(())
    }

    /// Connects to a port as `from` does. Like the pod's address anywhere, it leads to what listens
    /// on that address, and not to what only the pod's localhost has.
    pub(crate) async fn connect(&self, from: IpAddr, port: u16) -> io::Result<TcpStream> {
        // Addresses of pods are the namespace's own, so callers keep theirs. The host's processes
        // have the pod's: what trusts its localhost must not trust them.
        let source = is_in(&self.ranges, from).then_some((from, 0).into());
        let socket = self.namespace.tcp(source).await?;
        socket.connect(SocketAddr::new(self.address, port)).await
    }

    /// Connects to a port of the pod's localhost.
    pub(crate) async fn connect_localhost(&self, port: u16) -> io::Result<TcpStream> {
        self.namespace.tcp(None).await?.connect((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Connects as the node does: what listens on localhost alone counts too.
    pub(crate) async fn connect_from_node(&self, port: u16) -> io::Result<TcpStream> {
        match self.connect_localhost(port).await {
            Ok(stream) => Ok(stream),
            Err(_) => self.connect(IpAddr::V4(Ipv4Addr::LOCALHOST), port).await,
        }
    }

    /// Opens a UDP port that a guest of the pod has for the pod's processes too.
    pub(crate) fn show_udp(
        self: &Arc<Self>,
        net: &PodNet,
        address: SocketAddr,
    ) -> Result<(), ListenError> {
        let port = net.0.local.lock().udp.get(&address).map(|port| (port.scope, port.serial));
        let Some((scope, serial)) = port else { return Ok(()) };
        let at = SocketAddr::new(bound_to(scope).into(), address.port());
        match self.namespace.udp_now(at) {
            Ok(front) => self.relay_to_guest(net, address, serial, front),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && self.is_closing(at.port()) =>
            {
                let (inside, net) = (self.clone(), net.clone());
                tokio::spawn(async move { inside.show_udp_soon(net, address, serial, at).await });
            }
            Err(error) => return Err(self.refused(address.port(), &error)),
        }
        Ok(())
    }

    async fn show_udp_soon(&self, net: PodNet, address: SocketAddr, serial: u64, at: SocketAddr) {
        while self.is_closing(at.port()) {
            if let Ok(front) = self.namespace.udp(at, None).await {
                return self.relay_to_guest(&net, address, serial, front);
            }
            tokio::time::sleep(CLOSING_PAUSE).await;
        }
        tracing::warn!(%address, "a container has the UDP port that a guest of its pod has too");
    }

    fn relay_to_guest(&self, net: &PodNet, address: SocketAddr, serial: u64, front: UdpSocket) {
        let ip = self.address;
        let open = move |_peer| async move {
            let back = UdpSocket::bind((ip, 0)).await.ok()?;
            back.connect(address).await.ok()?;
            Some(Back::Connected(back))
        };
        let relay = Relay::start(front, Box::new(move |peer| Box::pin(open(peer))));
        let mut local = net.0.local.lock();
        if let Some(port) = local.udp.get_mut(&address).filter(|port| port.serial == serial) {
            port.relay = Some(relay);
        }
    }

    fn is_closing(&self, port: u16) -> bool {
        let mut closing = self.closing.lock();
        closing.retain(|_, since| since.elapsed() < CLOSING);
        closing.contains_key(&port)
    }

    /// Opens a UDP port of a process of the pod on the pod's address, because somebody calls it.
    /// Returns whether a process has the port.
    pub(crate) fn lead_udp(&self, net: &PodNet, port: u16) -> bool {
        let at = SocketAddr::new(self.address, port);
        // A port that can be had is nobody's.
        let is_used = match self.namespace.udp_now(at) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::AddrInUse,
        };
        let opened = is_used.then(|| self.open_udp(net, port));
        if let Some(Err(error)) = &opened {
            tracing::debug!(pod = %self.caller.pod.name, %error, "a UDP port of a container");
        }
        opened.is_some_and(|opened| opened.is_ok())
    }

    /// Opens a UDP port of a process of the pod on the pod's address. Returns its serial.
    pub(crate) fn open_udp(&self, net: &PodNet, port: u16) -> Result<u64, ListenError> {
        self.forget_idle_udp(net)?;
        let address = SocketAddr::new(self.address, port);
        let (front, _, serial) = net.take_udp(&self.caller.pod, address, Scope::Everyone, true)?;
        let (namespace, ip, ranges) = (self.namespace.clone(), self.address, self.ranges.clone());
        let open = move |peer: SocketAddr| {
            let namespace = namespace.clone();
            let is_pod = is_in(&ranges, peer.ip());
            async move { udp_inside(&namespace, (peer, is_pod), ip, port).await.ok() }
        };
        let relay = Relay::start(front, Box::new(move |peer| Box::pin(open(peer))));
        if let Some(port) = net.0.local.lock().udp.get_mut(&address) {
            port.relay = Some(relay);
        }
        Ok(serial)
    }

    /// Keeps the ports that were opened because somebody called them within their bound.
    fn forget_idle_udp(&self, net: &PodNet) -> Result<(), ListenError> {
        let mut local = net.0.local.lock();
        let own = |address: &SocketAddr, port: &UdpPort| {
            address.ip() == self.address && port.of_container
        };
        if local.udp.iter().filter(|(address, port)| own(address, port)).count() < UDP_PORTS {
            return Ok(());
        }
        let is_idle = |port: &UdpPort| port.relay.as_ref().is_none_or(Relay::is_idle);
        local.udp.retain(|address, port| !(own(address, port) && is_idle(port)));
        match local.udp.iter().filter(|(address, port)| own(address, port)).count() < UDP_PORTS {
            true => Ok(()),
            false => Err(ListenError::Exhausted(self.address)),
        }
    }

    fn refused(&self, port: u16, error: &io::Error) -> ListenError {
        let PodRef { namespace, name, .. } = &self.caller.pod;
        if error.kind() == io::ErrorKind::AddrInUse {
            let holder = format!("{namespace}/{name} (one of its containers in Docker)");
            return ListenError::PortConflict { port, holder };
        }
        ListenError::Host(format!(
            "port {port} cannot be opened in the network namespace of pod {namespace}/{name}: \
             {error}"
        ))
    }
}

fn is_in(ranges: &[Block], ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if ranges.iter().any(|range| range.contains(v4)))
}

fn bound_to(scope: Scope) -> Ipv4Addr {
    match scope {
        Scope::Pod => Ipv4Addr::LOCALHOST,
        Scope::Everyone => Ipv4Addr::UNSPECIFIED,
    }
}

/// The port's channel, where it listens and isn't open inside yet.
fn wanting(net: &PodNet, address: SocketAddr) -> Option<(Scope, mpsc::Sender<Conn>)> {
    let local = net.0.local.lock();
    let entry = local.listeners.get(&address).filter(|entry| entry.inside.is_none())?;
    Some((entry.scope, entry.handed.clone()?))
}

/// The inner side of a session: a socket that writes to the port as `peer`, as far as that is an
/// address that the namespace has.
async fn udp_inside(
    namespace: &Namespace,
    (peer, is_pod): (SocketAddr, bool),
    ip: IpAddr,
    port: u16,
) -> io::Result<Back> {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (from, to) = match peer.ip() {
        // The pod's own guests may call what only its localhost has.
        own if own == ip => (localhost, localhost),
        caller if is_pod => (caller, ip),
        // The host: the pod calls itself, because answers to 127.0.0.1 come from there.
        _ => (ip, ip),
    };
    let to = Some(SocketAddr::new(to, port));
    match namespace.udp((from, peer.port()).into(), to).await {
        Ok(socket) => Ok(Back::Connected(socket)),
        Err(_) => Ok(Back::Connected(namespace.udp((from, 0).into(), to).await?)),
    }
}

async fn hand_over(listener: Arc<TcpListener>, handed: mpsc::Sender<Conn>, address: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if handed.send(Conn::tcp(stream)).await.is_err() {
                    return;
                }
            }
            // It was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%address, %error, "accept failed inside a pod's namespace");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
