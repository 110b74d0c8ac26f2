//! Connections between the processes of a joined pod and everybody else, copied: from inside, what
//! the pod's rules redirected; from the host, what arrives at a published port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    caller::Caller,
    conn::Conn,
    conntrack::Conntrack,
    dial::ConnectError,
    dns::{self, Dns},
    podnet::{PodNet, Scope},
    relay::{Back, Relay},
};

/// Connections of one pod that are copied at once, a direction.
const CONNECTIONS: usize = 4096;
/// Bytes in flight in each direction of such a connection: what one costs while it is silent.
pub(crate) const COPY_BYTES: usize = 32 * 1024;
/// How long whoever is called may take to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Dials on the pod's behalf what its processes connected to, and answers what they ask the
/// cluster's DNS server. All connections end with it.
pub(crate) async fn serve(net: PodNet, caller: Arc<Caller>, dns: Arc<Dns>, listener: TcpListener) {
    let dns_at = net.cluster_dns().map(|address| SocketAddr::from((address, dns::PORT)));
    accept(&listener, |stream| {
        let (net, caller, dns) = (net.clone(), caller.clone(), dns.clone());
        async move {
            let target = match original(&stream) {
                Ok(target) if Ok(target) != stream.local_addr().map_err(drop) => target,
                // Somebody called the listener itself.
                _ => return reset(&stream),
            };
            if Some(target) == dns_at {
                return dns::serve_tcp(dns, stream).await;
            }
            let dialling = net.connect_address(&caller, "tcp", target);
            let conn = timeout(DIAL_TIMEOUT, dialling).await.unwrap_or_else(|_| {
                Err(ConnectError::Io {
                    to: target.to_string(),
                    source: io::ErrorKind::TimedOut.into(),
                })
            });
            match conn {
                Ok(conn) => copy(stream, conn).await,
                Err(error) => {
                    tracing::debug!(pod = %caller.pod.name, %error, "redirected connection");
                    reset(&stream);
                }
            }
        }
    })
    .await;
}

/// Sends on the pod's behalf what its processes wrote.
pub(crate) fn serve_udp(
    net: PodNet,
    caller: Arc<Caller>,
    front: UdpSocket,
    mut conntrack: Conntrack,
) -> Relay {
    let own = front.local_addr();
    let mut open = move |peer: SocketAddr| {
        let (SocketAddr::V4(sender), Ok(SocketAddr::V4(own))) = (peer, &own) else { return None };
        let to = match conntrack.original(sender, *own) {
            // Somebody wrote to the socket itself.
            Ok(to) if to == *own => return None,
            Ok(to) => to,
            Err(error) => {
                tracing::warn!(
                    pod = %caller.pod.name,
                    %error,
                    "the kernel doesn't tell where a container's datagram was sent to: the module \
                     nf_conntrack_netlink may be missing"
                );
                return None;
            }
        };
        let from = SocketAddr::new(caller.pod.address?, 0);
        match net.bind_udp_outside(&caller, from, Scope::Everyone) {
            Ok(port) => Some(Back::Pod(Box::new(port), to.into())),
            Err(error) => {
                tracing::debug!(pod = %caller.pod.name, %error, "redirected datagram");
                None
            }
        }
    };
    Relay::start(front, Box::new(move |peer| Box::pin(std::future::ready(open(peer)))))
}

/// Leads who connects to a port of the host to a pod's port.
pub(crate) async fn publish(net: PodNet, listener: TcpListener, to: SocketAddr) {
    accept(&listener, |stream| {
        let net = net.clone();
        async move {
            let Err(Conn::Tcp { stream, peer }) = net.hand_over(to, Conn::tcp(stream)) else {
                return;
            };
            match timeout(DIAL_TIMEOUT, net.dial_for_outside(peer.ip(), to)).await {
                Ok(Ok(far)) => copy(stream, Conn::tcp(far)).await,
                Ok(Err(_)) | Err(_) => reset(&stream),
            }
        }
    })
    .await;
}

pub(crate) async fn accept<F>(listener: &TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= CONNECTIONS => {
                tracing::warn!("a pod has {CONNECTIONS} connections already: one more is refused");
                reset(&stream);
            }
            Ok((stream, _)) => drop(connections.spawn(serve(stream))),
            Err(error) => {
                tracing::warn!(%error, "accept failed for a pod's containers");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Where a connection was made to before it was redirected.
fn original(stream: &TcpStream) -> io::Result<SocketAddr> {
    Ok(rustix::net::sockopt::ip_original_dst(stream)?.into())
}

/// Each side may stop sending before the other does.
async fn copy(mut near: TcpStream, mut far: Conn) {
    let _ = near.set_nodelay(true);
    // Either side may hang up at any time; both learn it from their own socket.
    let (up, down) = (COPY_BYTES, COPY_BYTES);
    let _ = copy_bidirectional_with_sizes(&mut near, &mut far, up, down).await;
}

/// Closes with RST, so that the caller sees a failure and not an empty answer.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
