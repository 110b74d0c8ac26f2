//! UDP ports of pods. A port is a socket on the pod's address, and, from the first datagram that
//! leaves the cluster on, a second one that the outside sees. Who was written to, and who wrote, is
//! a session: answers come back under the address that the container wrote to (a service, its
//! localhost), and who wrote first may be answered. As with TCP, inside the cluster's ranges
//! datagrams go only to ports that pods of this node have.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{io::ReadBuf, net::UdpSocket, time::Instant};

use crate::{
    caller::{Caller, PodRef},
    dial::{ConnectError, is_localhost},
    holder::{self, Sort},
    podnet::{ListenError, PORTS_TRIED, PodNet, Scope},
    relay::Relay,
};

/// Peers that a socket remembers; the oldest is forgotten first.
const SESSIONS: usize = 256;
/// A session that was silent for so long leads to another endpoint of its service next time.
const SESSION_IDLE: Duration = Duration::from_secs(30);

/// A UDP port that a pod has.
pub(crate) struct UdpPort {
    pub serial: u64,
    pub pod: PodRef,
    pub scope: Scope,
    /// Leads datagrams between this port and the pod's namespace.
    pub relay: Option<Relay>,
    /// It is a port of a process in that namespace.
    pub of_container: bool,
}

/// An open UDP port of a pod.
pub struct PodUdp {
    net: PodNet,
    from: Arc<Caller>,
    address: SocketAddr,
    scope: Scope,
    serial: u64,
    inside: UdpSocket,
    /// IPv4 and IPv6.
    outside: [OnceLock<UdpSocket>; 2],
    sessions: Mutex<Sessions>,
}

/// Which of a port's sockets a datagram takes, and to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Via {
    Inside(SocketAddr),
    Outside(SocketAddr),
}

/// Both directions of one table: as the container writes an address, and where that leads.
#[derive(Default)]
struct Sessions {
    by_name: BTreeMap<SocketAddr, (Via, Instant)>,
    by_peer: BTreeMap<Via, SocketAddr>,
    order: VecDeque<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Refused(#[from] ConnectError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PodNet {
    /// Opens a UDP port of a container's pod; port 0 is any that is free. A port that the host
    /// refuses is an error, because datagrams go through the host.
    pub fn bind_udp(
        &self,
        from: &Arc<Caller>,
        address: SocketAddr,
        scope: Scope,
    ) -> Result<PodUdp, ListenError> {
        let port = self.bind_udp_outside(from, address, scope)?;
        if let Some(joined) = self.joined_pod(&from.pod) {
            joined.show_udp(self, port.address)?;
        }
        Ok(port)
    }

    /// As [`Self::bind_udp`], but a pod's namespace doesn't see the port.
    pub(crate) fn bind_udp_outside(
        &self,
        from: &Arc<Caller>,
        address: SocketAddr,
        scope: Scope,
    ) -> Result<PodUdp, ListenError> {
        let (inside, address, serial) = self.take_udp(&from.pod, address, scope, false)?;
        Ok(PodUdp {
            net: self.clone(),
            from: from.clone(),
            address,
            scope,
            serial,
            inside,
            outside: Default::default(),
            sessions: Mutex::default(),
        })
    }

    /// Takes a UDP port of a pod, and makes the host's socket for it.
    pub(crate) fn take_udp(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        scope: Scope,
        of_container: bool,
    ) -> Result<(UdpSocket, SocketAddr, u64), ListenError> {
        let mut local = self.0.local.lock();
        let taken = |port: u16| local.udp.contains_key(&SocketAddr::new(address.ip(), port));
        // What the host has given to somebody else is passed over, where the pod didn't ask for it.
        let (mut tries, mut opened) = (0, None);
        let unusable = |port: u16| {
            if taken(port) {
                return true;
            }
            tries += 1;
            opened = open(SocketAddr::new(address.ip(), port)).ok();
            opened.is_none() && tries < PORTS_TRIED
        };
        let port = match address.port() {
            0 => self.free_port(unusable).ok_or(ListenError::Exhausted(address.ip()))?,
            port => port,
        };
        let address = SocketAddr::new(address.ip(), port);
        if let Some(entry) = local.udp.get(&address) {
            let holder = format!("{}/{}", entry.pod.namespace, entry.pod.name);
            return Err(ListenError::PortConflict { port, holder });
        }
        let host =
            |error: io::Error| ListenError::Host(holder::explain(Sort::Udp, address, &error));
        let socket = match opened {
            Some(socket) => socket,
            None => open(address).map_err(host)?,
        };
        local.serial += 1;
        let (serial, pod) = (local.serial, pod.clone());
        local.udp.insert(address, UdpPort { serial, pod, scope, relay: None, of_container });
        Ok((socket, address, serial))
    }

    /// A pod of this node has this UDP port, and the pod may write to it.
    fn has_udp(&self, address: SocketAddr, from: &PodRef) -> bool {
        let local = self.0.local.lock();
        let port = local.udp.get(&address);
        port.is_some_and(|port| port.scope == Scope::Everyone || port.pod.uid == from.uid)
    }
}

impl PodUdp {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the container may write to an address.
    pub fn may_send(&self, to: SocketAddr) -> Result<(), ConnectError> {
        self.route(to).map(|_| ())
    }

    /// Sends a datagram, or says `WouldBlock`.
    pub fn try_send(&self, data: &[u8], to: SocketAddr) -> Result<(), SendError> {
        let (socket, to) = self.socket_for(to)?;
        socket.try_send_to(data, to)?;
        Ok(())
    }

    /// Sends a datagram.
    pub async fn send(&self, data: &[u8], to: SocketAddr) -> Result<(), SendError> {
        let (socket, to) = self.socket_for(to)?;
        socket.send_to(data, to).await?;
        Ok(())
    }

    /// Ready once another datagram can be sent.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for socket in self.outside.iter().filter_map(OnceLock::get) {
            if socket.poll_send_ready(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.inside.poll_send_ready(cx)
    }

    /// The next datagram that the container may have, and who sent it. What doesn't fit into the
    /// buffer is lost.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        if let Poll::Ready(received) = self.poll_socket(cx, &self.inside, buffer, Via::Inside) {
            return Poll::Ready(received);
        }
        for socket in self.outside.iter().filter_map(OnceLock::get) {
            if let Poll::Ready(received) = self.poll_socket(cx, socket, buffer, Via::Outside) {
                return Poll::Ready(received);
            }
        }
        Poll::Pending
    }

    fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        socket: &UdpSocket,
        buffer: &mut [u8],
        via: fn(SocketAddr) -> Via,
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let mut read = ReadBuf::new(buffer);
            let sender = match socket.poll_recv_from(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                // An ICMP message about an earlier datagram: who wrote it learns nothing from it.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(sender)) => sender,
            };
            let length = read.filled().len();
            if let Some(sender) = self.accept(via(sender)) {
                return Poll::Ready(Ok((length, sender)));
            }
        }
    }

    /// Under which address the container knows a sender; None where it may not hear of it.
    fn accept(&self, sender: Via) -> Option<SocketAddr> {
        let now = Instant::now();
        let mut sessions = self.sessions.lock();
        if let Some(known) = sessions.known_as(sender, now) {
            return Some(known);
        }
        match sender {
            // From outside comes only what was asked for.
            Via::Outside(_) => None,
            Via::Inside(peer) => {
                let allowed = self.scope == Scope::Everyone || peer.ip() == self.address.ip();
                allowed.then(|| {
                    sessions.remember(peer, sender, now);
                    peer
                })
            }
        }
    }

    fn socket_for(&self, to: SocketAddr) -> Result<(&UdpSocket, SocketAddr), SendError> {
        match self.route(to)? {
            Via::Inside(to) => Ok((&self.inside, to)),
            Via::Outside(to) => Ok((self.outside_for(to)?, to)),
        }
    }

    fn outside_for(&self, to: SocketAddr) -> io::Result<&UdpSocket> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let slot = &self.outside[usize::from(to.is_ipv6())];
        match slot.get() {
            Some(socket) => Ok(socket),
            None => {
                let socket = open((any, 0).into())?;
                Ok(slot.get_or_init(|| socket))
            }
        }
    }

    /// Where an address leads: where it led before, else as the tables and rules say.
    fn route(&self, to: SocketAddr) -> Result<Via, ConnectError> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let now = Instant::now();
        if let Some(via) = self.sessions.lock().leads(to, now) {
            return Ok(via);
        }
        let via = self.new_route(to)?;
        self.sessions.lock().remember(to, via, now);
        Ok(via)
    }

    fn new_route(&self, to: SocketAddr) -> Result<Via, ConnectError> {
        if is_localhost(to.ip()) {
            return self.to_pod(SocketAddr::new(self.address.ip(), to.port()));
        }
        let to = self.net.aim(&self.from, "udp", None, to)?;
        let table = self.net.table();
        if let Some(endpoints) = table.udp_ports.get(&to) {
            let client = table.client_of(to, None, self.address.ip());
            let picked = endpoints.get(self.net.begin(client, endpoints));
            let endpoint = *picked.ok_or_else(|| ConnectError::NoEndpoint(to.to_string()))?;
            self.net.may_be_endpoint(&self.from.pod, endpoint)?;
            return self.to_any(endpoint);
        }
        self.to_any(to)
    }

    fn to_any(&self, to: SocketAddr) -> Result<Via, ConnectError> {
        if self.net.is_cluster(to.ip()) { self.to_pod(to) } else { Ok(Via::Outside(to)) }
    }

    fn to_pod(&self, to: SocketAddr) -> Result<Via, ConnectError> {
        if self.net.has_udp(to, &self.from.pod) {
            return Ok(Via::Inside(to));
        }
        if let Some(joined) = self.net.joined(to.ip())
            && joined.lead_udp(&self.net, to.port())
        {
            return Ok(Via::Inside(to));
        }
        let source = io::ErrorKind::ConnectionRefused.into();
        Err(ConnectError::Io { to: to.to_string(), source })
    }
}

impl Drop for PodUdp {
    fn drop(&mut self) {
        let mut local = self.net.0.local.lock();
        if local.udp.get(&self.address).is_none_or(|port| port.serial != self.serial) {
            return;
        }
        let port = local.udp.remove(&self.address);
        if port.is_some_and(|port| port.relay.is_some())
            && let Some(joined) = local.joined.get(&self.address.ip())
        {
            joined.closing.lock().insert(self.address.port(), Instant::now());
        }
    }
}

impl Sessions {
    fn leads(&mut self, name: SocketAddr, now: Instant) -> Option<Via> {
        let (via, last) = self.by_name.get_mut(&name)?;
        if now - *last > SESSION_IDLE {
            let via = *via;
            self.by_name.remove(&name);
            self.by_peer.remove(&via);
            self.order.retain(|known| *known != name);
            return None;
        }
        *last = now;
        Some(*via)
    }

    fn known_as(&mut self, peer: Via, now: Instant) -> Option<SocketAddr> {
        let name = *self.by_peer.get(&peer)?;
        if let Some((_, last)) = self.by_name.get_mut(&name) {
            *last = now;
        }
        Some(name)
    }

    fn remember(&mut self, name: SocketAddr, via: Via, now: Instant) {
        if self.by_name.insert(name, (via, now)).is_none() {
            self.order.push_back(name);
        }
        self.by_peer.insert(via, name);
        while self.order.len() > SESSIONS {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some((via, _)) = self.by_name.remove(&oldest) {
                self.by_peer.remove(&via);
            }
        }
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
