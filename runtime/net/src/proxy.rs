//! Accepts connections on the addresses of services. One for a pod of this node goes to that
//! pod's listener as it is, without a second socket; any other is copied. A port of a service
//! without ready endpoints isn't listened on, so callers are refused at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use crate::{
    conn::Conn,
    holder::{self, Sort},
    podnet::PodNet,
    table::Table,
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
    copies: Arc<Semaphore>,
    listening: BTreeMap<SocketAddr, JoinHandle<()>>,
    /// Ports that the host refused: said once.
    refused: BTreeSet<SocketAddr>,
}

impl Proxy {
    pub fn new(net: PodNet) -> Self {
        let copies = Arc::new(Semaphore::new(COPIES));
        Self { net, copies, listening: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// Makes these the services of the net, and opens and closes listeners to match. A port that
    /// was refused is tried again each time.
    pub async fn apply(&mut self, table: Table) {
        self.net.set_table(table);
        let table = self.net.table();
        let wanted = |port: &SocketAddr| table.ports.get(port).is_some_and(|to| !to.is_empty());
        self.listening.retain(|port, task| {
            let keep = wanted(port);
            if !keep {
                task.abort();
            }
            keep
        });
        self.refused.retain(wanted);
        for port in table.ports.keys().filter(|port| wanted(port)) {
            if !self.listening.contains_key(port) {
                self.open(*port).await;
            }
        }
    }

    async fn open(&mut self, port: SocketAddr) {
        match TcpListener::bind(port).await {
            Ok(listener) => {
                self.refused.remove(&port);
                let task = serve(self.net.clone(), self.copies.clone(), listener, port);
                self.listening.insert(port, tokio::spawn(task));
            }
            Err(error) => {
                if self.refused.insert(port) {
                    tracing::warn!("service port: {}", holder::explain(Sort::Tcp, port, &error));
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.values().for_each(JoinHandle::abort);
    }
}

async fn serve(net: PodNet, copies: Arc<Semaphore>, listener: TcpListener, port: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => deliver(&net, &copies, stream, port),
            Err(error) => {
                tracing::warn!(%port, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives the connection to an endpoint: of those on this node the first that takes it, beginning
/// anywhere in the list, unless one elsewhere comes first. Where none is left it is reset.
fn deliver(net: &PodNet, copies: &Arc<Semaphore>, stream: TcpStream, port: SocketAddr) {
    let endpoints = net.table().endpoints(port).unwrap_or_else(|| Arc::new([]));
    let start = net.draw(endpoints.len());
    let mut conn = Conn::tcp(stream);
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
            let _ = tokio::io::copy_bidirectional(&mut conn, &mut far).await;
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
