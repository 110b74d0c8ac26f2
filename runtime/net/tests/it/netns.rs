//! Network namespaces that stand for the sandbox containers of pods. They are made by the tests,
//! which therefore need root and iproute2, as `cargo xtask test` checks; without them they fail.

use std::{
    fs::{File, Metadata},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// A namespace with a localhost, until it is dropped.
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("windlass-test-{}-{n}", std::process::id());
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        let file = File::open(format!("/run/netns/{name}")).expect("the namespace");
        Self { name, file }
    }

    pub fn fd(&self) -> OwnedFd {
        self.file.try_clone().expect("a descriptor").into()
    }

    /// The file is this namespace.
    pub fn is(&self, file: &Metadata) -> bool {
        let own = self.file.metadata().expect("the namespace");
        (own.dev(), own.ino()) == (file.dev(), file.ino())
    }

    /// Runs on a thread inside, as a container's process would.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.fd();
        let inside = move || {
            enter(&namespace);
            work()
        };
        let joined = || thread::spawn(inside).join().expect("the thread inside");
        tokio::task::spawn_blocking(joined).await.expect("the thread inside")
    }

    /// A server inside that answers each caller with what it is told, after this word.
    pub async fn serve(&self, address: &'static str, word: &'static str) -> SocketAddr {
        let listener = self.run(move || TcpListener::bind(address)).await.expect("a port inside");
        let at = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream, word));
            }
        });
        at
    }

    /// A UDP socket inside that answers each datagram with it, after this word. Returns its port.
    pub async fn echo(&self, address: &'static str, word: &'static str) -> u16 {
        let socket = self.run(move || UdpSocket::bind(address)).await.expect("a port inside");
        let port = socket.local_addr().expect("bound").port();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if buffer.starts_with(b"end") {
                    return;
                }
                let text = String::from_utf8_lossy(&buffer[..length]);
                let _ = socket.send_to(format!("{word} {} {text}", peer.ip()).as_bytes(), peer);
            }
        });
        port
    }

    /// Sends a datagram from inside, and returns the answer and who gave it.
    pub async fn ask(&self, to: SocketAddr, say: &'static str) -> std::io::Result<String> {
        self.run(move || ask(to, say)).await
    }

    /// Calls from inside, and returns the answer.
    pub async fn call(&self, to: SocketAddr, say: &'static str) -> std::io::Result<String> {
        self.run(move || call(to, say)).await
    }

    /// What a program prints inside.
    pub fn output(&self, program: &[&str]) -> String {
        let mut command = Command::new("ip");
        let output = command.args(["netns", "exec", &self.name]).args(program).output();
        let output = output.expect("iproute2");
        assert!(output.status.success(), "{program:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ip` inside, and returns what it prints.
    pub fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// The rules that were made inside.
    pub fn rules(&self) -> String {
        self.output(&["iptables", "-t", "nat", "-S"])
    }

    /// Sockets that are open inside.
    pub fn sockets(&self) -> String {
        let tables = ["tcp", "udp", "tcp6", "udp6"].map(|sort| format!("/proc/net/{sort}"));
        let mut program = vec!["cat"];
        program.extend(tables.iter().map(String::as_str));
        // Each table has a header; connections that wind down are nobody's.
        let is_open = |line: &&str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[0] != "sl" && columns[3] != "06"
        };
        self.output(&program).lines().filter(is_open).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub fn call(to: SocketAddr, say: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(say.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn ask(to: SocketAddr, say: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send_to(say.as_bytes(), to)?;
    let mut buffer = [0; 2048];
    let (length, sender) = socket.recv_from(&mut buffer)?;
    Ok(format!("{} from {sender}", String::from_utf8_lossy(&buffer[..length])))
}

fn answer(mut stream: TcpStream, word: &str) {
    let peer = stream.peer_addr().expect("a peer").ip();
    let mut text = String::new();
    if stream.read_to_string(&mut text).is_ok() {
        let _ = write!(stream, "{word} {peer} {text}");
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?} takes root: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[allow(unsafe_code, reason = "setns has no safe binding among the workspace's crates")]
pub fn enter(namespace: &OwnedFd) {
    // SAFETY: the descriptor is open, and only this thread's sockets are affected.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
}
