//! What a container's guests do with sockets, whatever the interface's version: each call checks
//! its addresses, counts the socket, and asks `PodNet`.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use windlass_runtime_net::{
    Conn, ConnectError, ListenError, PodListener, PodPort, PodUdp, Scope, SendError,
};

use crate::container::Container;

/// Sockets that one container may have at once, those of outgoing requests included.
pub const SOCKETS_A_CONTAINER: usize = 512;
/// And all of a node's, unless the process may open fewer files.
const SOCKETS_A_NODE: usize = 16 << 10;
/// As long as Linux tries by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// No datagram is larger.
pub const DATAGRAM_BYTES: usize = 64 << 10;

thread_local! {
    /// Datagrams are received into it and copied out at their own length: a buffer for each socket
    /// would be memory that no limit counts.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM_BYTES].into());
}

/// The room for sockets on a node: half of the files that the process may open.
pub fn node_sockets() -> Arc<Semaphore> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(SOCKETS_A_NODE.min(files / 2)))
}

/// Why a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    AccessDenied,
    InvalidArgument,
    Timeout,
    TooManySockets,
    AddressNotBindable,
    AddressInUse,
    Unreachable,
    Refused,
    /// What is written reaches nobody.
    Broken,
    Reset,
    Aborted,
    DatagramTooLarge,
    /// Too many datagrams wait to be sent.
    TooMuchToSend,
    NoSuchName,
    ResolverBusy,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Any port of every address.
    pub fn any(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// Room for one socket, for as long as it is held.
#[derive(Debug)]
pub struct Permit {
    _of_container: OwnedSemaphorePermit,
    _of_node: OwnedSemaphorePermit,
}

impl Permit {
    pub fn take(container: &Container) -> Result<Self, Trouble> {
        let take = |of: &Arc<Semaphore>| of.clone().try_acquire_owned();
        match (take(&container.sockets), take(&container.host.sockets)) {
            (Ok(of_container), Ok(of_node)) => {
                Ok(Self { _of_container: of_container, _of_node: of_node })
            }
            _ => Err(Trouble::TooManySockets),
        }
    }

    /// Waits until there is room.
    pub async fn wait(container: Arc<Container>) -> Result<Self, Trouble> {
        let take = |of: &Arc<Semaphore>| of.clone().acquire_owned();
        let gone = |_| Trouble::TooManySockets;
        let of_container = take(&container.sockets).await.map_err(gone)?;
        let of_node = take(&container.host.sockets).await.map_err(gone)?;
        Ok(Self { _of_container: of_container, _of_node: of_node })
    }
}

/// A TCP port that a guest bound, and the address it bound it under.
pub struct Bound {
    port: PodPort,
    /// As the guest named it, with the port it got.
    pub shown: SocketAddr,
}

/// Takes a port of the pod: 0.0.0.0 and the pod's address are for everyone, localhost is for the
/// pod.
pub fn bind_tcp(
    container: &Container,
    family: Family,
    local: SocketAddr,
) -> Result<Bound, Trouble> {
    let (address, scope) = place(container, family, local)?;
    let port = container.net.bind(&container.pod, address, scope);
    let port = port.map_err(|error| told(container, error))?;
    let shown = SocketAddr::new(local.ip(), port.address().port());
    Ok(Bound { port, shown })
}

/// Begins to listen. What the host refuses is told as an Event: callers inside still work.
pub async fn listen(container: &Container, bound: Bound) -> PodListener {
    let listener = bound.port.listen().await;
    if let Some(error) = listener.host_error() {
        container.notice("PortUnavailableOnHost", error.to_owned());
    }
    listener
}

/// Connects to an address.
pub async fn connect(
    container: Arc<Container>,
    family: Family,
    remote: SocketAddr,
) -> Result<Conn, Trouble> {
    check_remote(family, remote)?;
    let connecting = container.net.connect_address(&container.caller, "tcp", remote);
    let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| Trouble::Timeout)?;
    connected.map_err(|error| refusal(&container, &error))
}

/// Opens a UDP port of the pod. Returns also the address as the guest named it, with its port.
pub fn bind_udp(
    container: &Container,
    family: Family,
    local: SocketAddr,
) -> Result<(PodUdp, SocketAddr), Trouble> {
    let (address, scope) = place(container, family, local)?;
    let port = container.net.bind_udp(&container.caller, address, scope);
    let port = port.map_err(|error| told(container, error))?;
    let shown = SocketAddr::new(local.ip(), port.address().port());
    Ok((port, shown))
}

/// The addresses of a name.
pub async fn look_up(container: Arc<Container>, name: String) -> Result<Vec<IpAddr>, Trouble> {
    let _turn =
        container.look_ups.clone().try_acquire_owned().map_err(|_| Trouble::ResolverBusy)?;
    let bare = name.trim_end_matches('.');
    if bare.is_empty() || bare.len() > 253 || !bare.is_ascii() || bare.contains(char::is_whitespace)
    {
        return Err(Trouble::InvalidArgument);
    }
    let found = container.net.look_up(&container.caller, &name).await;
    found.map_err(|error| refusal(&container, &error))
}

/// The next datagram that is for the guest, and its sender: of a socket that is connected, from
/// `remote` alone.
pub fn poll_receive(
    udp: &PodUdp,
    family: Family,
    remote: Option<SocketAddr>,
    cx: &mut Context<'_>,
) -> Poll<Result<(Vec<u8>, SocketAddr), Trouble>> {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    loop {
        let received = BUFFER.with_borrow_mut(|buffer| {
            let received = udp.poll_receive(cx, buffer);
            received.map_ok(|(length, sender)| (buffer[..length].to_vec(), sender))
        });
        let (data, sender) = ready!(received).map_err(|error| io_trouble(&error))?;
        // Others were sent before the socket was connected elsewhere.
        if remote.is_none_or(|remote| canonical(remote) == canonical(sender)) {
            return Poll::Ready(Ok((data, shown(family, sender))));
        }
    }
}

/// Where a datagram goes: of a socket that is connected, nowhere else.
pub fn destination(
    family: Family,
    remote: Option<SocketAddr>,
    given: Option<SocketAddr>,
) -> Result<SocketAddr, Trouble> {
    let to = match (remote, given) {
        (Some(remote), Some(given)) if remote != given => return Err(Trouble::InvalidArgument),
        (Some(to), _) | (None, Some(to)) => to,
        (None, None) => return Err(Trouble::InvalidArgument),
    };
    check_remote(family, to)?;
    Ok(to)
}

/// May a datagram go there?
pub fn check_send(container: &Container, udp: &PodUdp, to: SocketAddr) -> Result<(), Trouble> {
    udp.may_send(to).map_err(|error| refusal(container, &error))
}

pub fn send_trouble(container: &Container, error: &SendError) -> Trouble {
    match error {
        SendError::Refused(error) => refusal(container, error),
        SendError::Io(error) => io_trouble(error),
    }
}

/// What a refusal is to the guest. A denial is also told to the people who own the pod.
pub fn refusal(container: &Container, error: &ConnectError) -> Trouble {
    match error {
        ConnectError::Denied { .. } => {
            container.denied(&error.to_string());
            Trouble::AccessDenied
        }
        ConnectError::NotFound(_) => Trouble::NoSuchName,
        ConnectError::Unresolved { .. } => Trouble::ResolverBusy,
        ConnectError::NoEndpoint(_) => Trouble::Refused,
        ConnectError::Io { source, .. } => io_trouble(source),
    }
}

pub fn io_trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::Refused,
        io::ErrorKind::BrokenPipe => Trouble::Broken,
        io::ErrorKind::ConnectionReset => Trouble::Reset,
        io::ErrorKind::ConnectionAborted => Trouble::Aborted,
        io::ErrorKind::TimedOut => Trouble::Timeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Trouble::Unreachable,
        io::ErrorKind::PermissionDenied => Trouble::AccessDenied,
        _ => match rustix::io::Errno::from_io_error(error) {
            Some(rustix::io::Errno::MSGSIZE) => Trouble::DatagramTooLarge,
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Trouble::TooManySockets,
            _ => Trouble::Other,
        },
    }
}

/// The address of the pod that a guest's own address stands for, and who may call it.
fn place(
    container: &Container,
    family: Family,
    local: SocketAddr,
) -> Result<(SocketAddr, Scope), Trouble> {
    check_family(family, local.ip())?;
    let own = container.spec.pod.address;
    let ip = local.ip();
    let scope = if ip.is_unspecified() || ip == own {
        Scope::Everyone
    } else if ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        Scope::Pod
    } else {
        return Err(Trouble::AddressNotBindable);
    };
    Ok((SocketAddr::new(own, local.port()), scope))
}

/// An address that a socket of this family can be connected to.
pub fn check_remote(family: Family, remote: SocketAddr) -> Result<(), Trouble> {
    check_family(family, remote.ip())?;
    let unusable = match remote.ip() {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if unusable || remote.port() == 0 { Err(Trouble::InvalidArgument) } else { Ok(()) }
}

fn check_family(family: Family, ip: IpAddr) -> Result<(), Trouble> {
    match (family, ip) {
        (Family::V4, IpAddr::V4(_)) => Ok(()),
        (Family::V6, IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => Ok(()),
        _ => Err(Trouble::InvalidArgument),
    }
}

/// An address as a socket of this family shows it: pods have IPv4 alone.
pub fn shown(family: Family, address: SocketAddr) -> SocketAddr {
    match (family, address.ip()) {
        (Family::V6, IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

fn told(container: &Container, error: ListenError) -> Trouble {
    match error {
        ListenError::PortConflict { .. } => Trouble::AddressInUse,
        ListenError::Exhausted(_) => Trouble::AddressInUse,
        ListenError::Host(why) => {
            container.log.note(&why);
            container.notice("PortUnavailableOnHost", why);
            Trouble::AccessDenied
        }
    }
}
