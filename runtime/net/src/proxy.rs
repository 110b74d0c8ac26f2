//! Accepts connections on the addresses of services, and on the node's ports for them. One for a pod of this node goes to that
//! pod's listener as it is, without a second socket; any other is copied. A port of a service
//! without ready endpoints isn't listened on, so callers are refused at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::Semaphore,
    task::JoinHandle,
};

use crate::{
    conn::Conn,
    holder::{self, Sort},
    podnet::PodNet,
    redirect::COPY_BYTES,
    relay::Relay,
    table::{Rows, Table},
};

/// Connections that are being copied to endpoints outside this process, a node.
const COPIES: usize = 16 * 1024;
/// How long an endpoint outside this process may take to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listeners of all services' ports.
pub struct Proxy {
    net: PodNet,
    /// Where node ports are.
    node: IpAddr,
    copies: Arc<Semaphore>,
    listening: BTreeMap<(Sort, SocketAddr), Listening>,
    /// Ports that the host refused: said once.
    refused: BTreeSet<(Sort, SocketAddr)>,
}

/// It ends when dropped.
enum Listening {
    Tcp(JoinHandle<()>),
    Udp(#[expect(dead_code, reason = "held for as long as it is to run")] Relay),
}

impl Proxy {
    /// Node ports are open at `node`.
    pub fn new(net: PodNet, node: IpAddr) -> Self {
        let copies = Arc::new(Semaphore::new(COPIES));
        Self { net, node, copies, listening: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// Makes these the services of the net, and opens and closes listeners to match. A port that
    /// was refused is tried again each time.
    pub async fn apply(&mut self, table: Table) {
        self.net.set_table(table);
        let rows = self.net.rows(self.node);
        let wanted = |(sort, port): &(Sort, SocketAddr)| rows.of(*sort).contains_key(port);
        self.listening.retain(|port, _| wanted(port));
        self.refused.retain(wanted);
        for sort in [Sort::Tcp, Sort::Udp] {
            for port in rows.of(sort).keys() {
                if !self.listening.contains_key(&(sort, *port)) {
                    self.open(sort, *port).await;
                }
            }
        }
    }

    async fn open(&mut self, sort: Sort, port: SocketAddr) {
        let opened = match sort {
            Sort::Tcp => TcpListener::bind(port).await.map(|listener| {
                let (net, copies) = (self.net.clone(), self.copies.clone());
                Listening::Tcp(tokio::spawn(serve(net, copies, listener, port, self.node)))
            }),
            Sort::Udp => UdpSocket::bind(port).await.map(|socket| {
                let (net, node) = (self.net.clone(), self.node);
                let endpoint = move |client| {
                    let endpoints = net.rows(node).udp.get(&port).cloned()?;
                    let client = net.table().client_of(port, Some(node), client);
                    endpoints.get(net.begin(client, &endpoints)).copied()
                };
                Listening::Udp(lead_datagrams(self.net.clone(), socket, endpoint))
            }),
        };
        match opened {
            Ok(listening) => {
                self.refused.remove(&(sort, port));
                self.listening.insert((sort, port), listening);
            }
            Err(error) => {
                if self.refused.insert((sort, port)) {
                    tracing::warn!("service port: {}", holder::explain(sort, port, &error));
                }
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Tcp(task) = self {
            task.abort();
        }
    }
}

impl Rows {
    fn of(&self, sort: Sort) -> &BTreeMap<SocketAddr, Arc<[SocketAddr]>> {
        match sort {
            Sort::Tcp => &self.tcp,
            Sort::Udp => &self.udp,
        }
    }
}

impl PodNet {
    /// What is listened on for callers from outside.
    fn rows(&self, node: IpAddr) -> Rows {
        self.table().rows(node, &self.0.ranges, &self.0.machine.addresses())
    }
}

/// Leads datagrams of callers from outside to one endpoint each.
pub(crate) fn lead_datagrams(
    net: PodNet,
    front: UdpSocket,
    endpoint: impl Fn(IpAddr) -> Option<SocketAddr> + Send + 'static,
) -> Relay {
    let open = move |peer: SocketAddr| {
        let to = endpoint(peer.ip());
        let net = net.clone();
        async move { net.udp_for_outside(to?).await.ok() }
    };
    Relay::start(front, Box::new(move |peer| Box::pin(open(peer))))
}

async fn serve(
    net: PodNet,
    copies: Arc<Semaphore>,
    listener: TcpListener,
    port: SocketAddr,
    node: IpAddr,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let table = net.table();
                let endpoints = table.behind(port, node);
                let conn = Conn::tcp(stream);
                let client = table.client_of(port, Some(node), conn.peer().ip());
                let start = net.begin(client, &endpoints);
                deliver(&net, &copies, conn, &endpoints, start);
            }
            Err(error) => {
                tracing::warn!(%port, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives the connection to an endpoint: of those on this node the first that takes it, beginning at
/// `start` in the list, unless one elsewhere comes first. Where none is left it is reset.
fn deliver(
    net: &PodNet,
    copies: &Arc<Semaphore>,
    mut conn: Conn,
    endpoints: &[SocketAddr],
    start: usize,
) {
    for n in 0..endpoints.len() {
        let to = endpoints[(start + n) % endpoints.len()];
        match net.hand_over(to, conn) {
            Ok(()) => return,
            Err(back) => conn = back,
        }
        if !net.is_local(to) {
            let rest: Vec<SocketAddr> =
                (n..endpoints.len()).map(|n| endpoints[(start + n) % endpoints.len()]).collect();
            match copies.clone().try_acquire_owned() {
                Ok(permit) => {
                    let net = net.clone();
                    tokio::spawn(async move {
                        copy(net, conn, rest).await;
                        drop(permit);
                    });
                }
                Err(_) => reset(conn),
            }
            return;
        }
    }
    reset(conn);
}

/// Copies between the connection and the first endpoint that accepts.
async fn copy(net: PodNet, mut conn: Conn, endpoints: Vec<SocketAddr>) {
    for to in endpoints {
        match net.hand_over(to, conn) {
            Ok(()) => return,
            Err(back) => conn = back,
        }
        let dialling = net.dial_for_outside(conn.peer().ip(), to);
        if let Ok(Ok(mut far)) = tokio::time::timeout(DIAL_TIMEOUT, dialling).await {
            let _ = far.set_nodelay(true);
            // Either side may hang up at any time; both learn it from their own socket.
            let (up, down) = (COPY_BYTES, COPY_BYTES);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut conn, &mut far, up, down).await;
            return;
        }
    }
    reset(conn);
}

/// Closes with RST, so that the caller sees a failure and not an empty answer.
fn reset(conn: Conn) {
    if let Conn::Tcp { stream, .. } = conn {
        let _ = stream.set_zero_linger();
    }
}
