//! Work inside another network namespace. A socket belongs for ever to the namespace in which it
//! was made, so it is enough to be there for that one call: a thread of our own enters, makes the
//! socket, and goes back; everything after that happens on the runtime as with any other socket.
//! No thread of the runtime ever enters, so none can be left in the wrong place.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpSocket,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{blocks::Block, conntrack::Conntrack, netlink};

/// Sockets that wait to be made.
const QUEUE: usize = 1024;
/// How long making one may take: it never waits for anybody outside the kernel.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(2);
/// Programs that run inside namespaces at once; each has a thread while it runs.
const PROGRAMS: usize = 4;
/// How long one may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(15);

/// What is done in a namespace, or the reason why it couldn't be entered.
type Work = Box<dyn FnOnce(io::Result<()>) + Send>;

struct Job {
    namespace: Arc<OwnedFd>,
    work: Work,
}

/// The one thread that makes sockets in namespaces, for all pods of a node. It starts with the
/// first of them and ends with the last clone.
#[derive(Clone)]
pub(crate) struct Visitor {
    jobs: Arc<Mutex<Option<mpsc::Sender<Job>>>>,
    programs: Arc<Semaphore>,
}

impl Default for Visitor {
    fn default() -> Self {
        Self { jobs: Arc::default(), programs: Arc::new(Semaphore::new(PROGRAMS)) }
    }
}

impl Visitor {
    fn sender(&self) -> io::Result<mpsc::Sender<Job>> {
        let mut jobs = self.jobs.lock();
        match &*jobs {
            Some(sender) if !sender.is_closed() => Ok(sender.clone()),
            _ => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                let home = here()?;
                thread::Builder::new()
                    .name("windlass-netns".into())
                    .spawn(move || visit(&home, receiver))?;
                *jobs = Some(sender.clone());
                Ok(sender)
            }
        }
    }
}

/// A network namespace that is kept from going away.
#[derive(Clone)]
pub(crate) struct Namespace {
    fd: Arc<OwnedFd>,
    visitor: Visitor,
}

impl Namespace {
    pub(crate) fn new(fd: OwnedFd, visitor: Visitor) -> Self {
        Self { fd: Arc::new(fd), visitor }
    }

    /// The one of this process.
    pub(crate) fn own(visitor: Visitor) -> io::Result<Self> {
        Ok(Self::new(here()?, visitor))
    }

    /// A bound TCP socket of the namespace.
    pub(crate) async fn tcp(&self, bind: Option<SocketAddr>) -> io::Result<TcpSocket> {
        self.run(move || tcp(bind)).await
    }

    /// As [`Self::tcp`], for callers that can't wait in the runtime's way. It takes microseconds.
    pub(crate) fn tcp_now(&self, bind: SocketAddr) -> io::Result<TcpSocket> {
        self.run_now(move || tcp(Some(bind)))
    }

    /// A bound UDP socket of the namespace, connected where `to` is given.
    pub(crate) async fn udp(
        &self,
        bind: SocketAddr,
        to: Option<SocketAddr>,
    ) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.run(move || udp(bind, to)).await?)
    }

    /// As [`Self::udp`], for callers that can't wait in the runtime's way.
    pub(crate) fn udp_now(&self, bind: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.run_now(move || udp(bind, None))?)
    }

    /// The table of the namespace's connections.
    pub(crate) async fn conntrack(&self) -> io::Result<Conntrack> {
        self.run(Conntrack::open).await
    }

    /// Gives the namespace a range as its own; who calls it from there has `source`.
    pub(crate) async fn local_range(&self, range: Block, source: Ipv4Addr) -> io::Result<()> {
        self.run(move || netlink::add_local_range(range, Some(source))).await
    }

    /// Undoes [`Self::local_range`].
    pub(crate) async fn no_local_range(&self, range: Block) -> io::Result<()> {
        self.run(move || netlink::remove_local_range(range)).await
    }

    /// Whether the namespace may be entered.
    pub(crate) async fn enter(&self) -> io::Result<()> {
        self.run(|| Ok(())).await
    }

    fn run_now<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = std_mpsc::sync_channel(1);
        let work: Work = Box::new(move |entered| {
            let _ = done.send(entered.and_then(|()| work()));
        });
        let job = Job { namespace: self.fd.clone(), work };
        self.visitor.sender()?.try_send(job).map_err(|_| busy())?;
        result.recv_timeout(SOCKET_TIMEOUT).unwrap_or_else(|_| Err(busy()))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let work: Work = Box::new(move |entered| {
            let _ = done.send(entered.and_then(|()| work()));
        });
        let job = Job { namespace: self.fd.clone(), work };
        let asked = async {
            self.visitor.sender()?.send(job).await.map_err(|_| busy())?;
            result.await.unwrap_or_else(|_| Err(busy()))
        };
        timeout(SOCKET_TIMEOUT, asked).await.unwrap_or_else(|_| Err(busy()))
    }

    /// Runs a program of the host inside the namespace, with this input.
    pub(crate) async fn program(&self, command: Command, input: String) -> io::Result<Output> {
        let permit = self.visitor.programs.clone().acquire_owned().await.map_err(|_| busy())?;
        let (done, result) = oneshot::channel();
        let fd = self.fd.clone();
        // Its own thread: the program waits for a lock that others of its kind may hold.
        thread::Builder::new().name("windlass-netns-run".into()).spawn(move || {
            let _ = done.send(enter(&fd).and_then(|()| run_with_input(command, &input)));
            drop(permit);
        })?;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it doesn't end");
        match timeout(PROGRAM_TIMEOUT, result).await {
            Ok(output) => output.unwrap_or_else(|_| Err(busy())),
            Err(_) => Err(late()),
        }
    }
}

/// The network namespace of this thread.
fn here() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

fn visit(home: &OwnedFd, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { namespace, work }) = jobs.blocking_recv() {
        work(enter(&namespace));
        drop(namespace);
        // Staying would keep the namespace alive. A thread that can't go back ends, and the next
        // job gets another.
        if let Err(error) = enter(home) {
            tracing::warn!(%error, "cannot return to the host's network namespace");
            return;
        }
    }
}

#[allow(unsafe_code, reason = "rustix has setns behind a feature that would rebuild wasmtime")]
fn enter(namespace: &OwnedFd) -> io::Result<()> {
    // SAFETY: it takes a descriptor, which is open for as long as it is borrowed, and changes
    // nothing but to which network the sockets that this thread makes belong.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn tcp(bind: Option<SocketAddr>) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    if let Some(address) = bind {
        if address.port() != 0 {
            // A port whose last connections are still winding down can be taken again.
            socket.set_reuseaddr(true)?;
        }
        socket.bind(address)?;
    }
    Ok(socket)
}

fn udp(bind: SocketAddr, to: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(bind)?;
    socket.set_nonblocking(true)?;
    if let Some(to) = to {
        socket.connect(to)?;
    }
    Ok(socket)
}

fn run_with_input(mut command: Command, input: &str) -> io::Result<Output> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on its standard error.
        let _ = io::Write::write_all(&mut stdin, input.as_bytes());
    }
    child.wait_with_output()
}

fn busy() -> io::Error {
    io::Error::other("the thread that makes sockets inside pods is overloaded")
}
