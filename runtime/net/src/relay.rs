//! Datagrams between a pod's namespace and everybody else. Each relay has a socket on one side; who
//! writes to it gets a session, with a socket of its own on the other side, so that answers find
//! back. Sessions that are silent end, and there is a bound to them.

use std::{collections::BTreeMap, future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};

use crate::udp::PodUdp;

/// Sessions of one relay.
const SESSIONS: usize = 256;
/// A session that is silent for so long ends. Shorter than the kernel remembers (30 s where nobody
/// answered), because what it gives to somebody else then must not lead to the old place.
const IDLE: Duration = Duration::from_secs(25);
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// The other side of a session.
pub(crate) enum Back {
    Connected(UdpSocket),
    /// On a pod's behalf, to one address.
    Pod(Box<PodUdp>, SocketAddr),
}

/// Opens the other side for who wrote; None: nobody answers.
pub(crate) type Open = Box<dyn FnMut(SocketAddr) -> BoxFuture<'static, Option<Back>> + Send>;

/// A relay, and the port it is for. It ends when dropped.
pub(crate) struct Relay {
    task: tokio::task::JoinHandle<()>,
    used: Arc<Mutex<Instant>>,
}

struct Session {
    back: Arc<Back>,
    used: Arc<Mutex<Instant>>,
    task: AbortHandle,
}

impl Relay {
    pub(crate) fn start(front: UdpSocket, open: Open) -> Self {
        let used = Arc::new(Mutex::new(Instant::now()));
        let task = tokio::spawn(relay(Arc::new(front), open, used.clone()));
        Self { task, used }
    }

    /// Nobody has written for so long that nobody would miss it.
    pub(crate) fn is_idle(&self) -> bool {
        self.used.lock().elapsed() > IDLE
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(front: Arc<UdpSocket>, mut open: Open, used: Arc<Mutex<Instant>>) {
    let mut sessions: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            Some(ended) = answers.join_next() => {
                // A task that was aborted made place for another already.
                if let Ok(peer) = ended {
                    sessions.remove(&peer);
                }
                continue;
            }
            received = front.recv_from(&mut buffer) => received,
        };
        // An error is about a datagram that was sent earlier.
        let Ok((length, peer)) = received else { continue };
        let now = Instant::now();
        *used.lock() = now;
        if !sessions.contains_key(&peer) {
            let Some(back) = open(peer).await else { continue };
            make_place(&mut sessions);
            let (back, used) = (Arc::new(back), Arc::new(Mutex::new(now)));
            let task = answers.spawn(answer(front.clone(), back.clone(), peer, used.clone()));
            sessions.insert(peer, Session { back, used, task });
        }
        if let Some(session) = sessions.get(&peer) {
            *session.used.lock() = now;
            session.back.send(&buffer[..length]).await;
        }
    }
}

/// The session that was silent the longest goes first.
fn make_place(sessions: &mut BTreeMap<SocketAddr, Session>) {
    if sessions.len() < SESSIONS {
        return;
    }
    let oldest = sessions.iter().min_by_key(|(_, session)| *session.used.lock());
    if let Some(peer) = oldest.map(|(peer, _)| *peer)
        && let Some(session) = sessions.remove(&peer)
    {
        session.task.abort();
    }
}

/// Leads answers back until the session is silent.
async fn answer(
    front: Arc<UdpSocket>,
    back: Arc<Back>,
    peer: SocketAddr,
    used: Arc<Mutex<Instant>>,
) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let until = *used.lock() + IDLE;
        match timeout_at(until, back.receive(&mut buffer)).await {
            Ok(Ok(length)) => {
                *used.lock() = Instant::now();
                // What can't be sent now is lost, as datagrams are.
                let _ = front.send_to(&buffer[..length], peer).await;
            }
            // Nobody listens there yet.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) => return peer,
            Err(_) if used.lock().elapsed() >= IDLE => return peer,
            Err(_) => {}
        }
    }
}

impl Back {
    async fn send(&self, data: &[u8]) {
        // What can't be sent is lost, as datagrams are.
        match self {
            Self::Connected(socket) => drop(socket.send(data).await),
            Self::Pod(udp, to) => {
                if let Err(error) = udp.send(data, *to).await {
                    tracing::debug!(%to, %error, "datagram of a container");
                }
            }
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Connected(socket) => socket.recv(buffer).await,
            Self::Pod(udp, to) => loop {
                let (length, sender) = poll_fn(|cx| udp.poll_receive(cx, buffer)).await?;
                if sender == *to {
                    return Ok(length);
                }
            },
        }
    }
}
