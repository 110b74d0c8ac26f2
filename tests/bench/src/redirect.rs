//! Bytes/s of a container's connection to another pod's container through a service: the kernel's
//! redirect, our listener, and our socket in the other namespace, against the bridge that Docker
//! would give the same two. The namespaces and the bridge are made here, so that no engine is
//! needed; that takes root and iproute2.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Context, ensure};
use windlass_runtime_net::{Block, Caller, PodNet, PodRef, Table};
use windlass_sdk_meta::Rng;

use crate::report::{Figure, Report, percentile};

const ROUNDS: usize = 7;
const BYTES: u64 = 512 << 20;
const CHUNK_BYTES: usize = 64 << 10;
const PORT: u16 = 9000;

/// Namespaces of one run: two pods and the switch between them.
struct Lab {
    id: u32,
}

impl Lab {
    fn start() -> anyhow::Result<Self> {
        let lab = Self { id: std::process::id() };
        for part in ["a", "b", "bridge"] {
            ip(&["netns", "add", &lab.name(part)])?;
            ip(&["-n", &lab.name(part), "link", "set", "lo", "up"])?;
        }
        let switch = lab.name("bridge");
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for (part, address) in [("a", "10.211.0.1/24"), ("b", "10.211.0.2/24")] {
            let (pod, port) = (lab.name(part), format!("to-{part}"));
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &pod];
            ip(&[&["-n", &switch, "link", "add", &port][..], &pair].concat())?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &pod, "address", "add", address, "dev", "eth0"])?;
            ip(&["-n", &pod, "link", "set", "eth0", "up"])?;
        }
        Ok(lab)
    }

    fn name(&self, part: &str) -> String {
        format!("windlass-bench-{}-{part}", self.id)
    }

    fn open(&self, part: &str) -> anyhow::Result<OwnedFd> {
        Ok(File::open(format!("/run/netns/{}", self.name(part)))?.into())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for part in ["a", "b", "bridge"] {
            let _ = ip(&["netns", "del", &self.name(part)]);
        }
    }
}

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let lab = Lab::start().context("namespaces take root and the package iproute2")?;
    let low = u8::try_from(lab.id % 200)?;
    let address = |n: u8| std::net::Ipv4Addr::new(127, 90, n, low);
    let service: SocketAddr = ([127, 97, 1, low], PORT).into();
    let ranges = vec![Block::PODS, Block::SERVICES];
    let net = PodNet::loopback(ranges, Default::default(), Rng::from_system());
    let endpoints = [SocketAddr::from((address(2), PORT))].into();
    net.set_table(Table { ports: [(service, endpoints)].into(), ..Table::default() });
    let join = |n: u8, part: &str| -> anyhow::Result<_> {
        let address = Some(address(n).into());
        let pod = PodRef { uid: part.into(), name: part.into(), address, ..PodRef::default() };
        let caller = Arc::new(Caller::new(pod, Default::default()));
        Ok(runtime.block_on(net.join(caller, lab.open(part)?))?)
    };
    let _joined = [join(1, "a")?, join(2, "b")?];
    let inside = lab.open("b")?;
    let listener = thread::spawn(move || {
        enter(&inside)?;
        anyhow::Ok(TcpListener::bind(("0.0.0.0", PORT))?)
    });
    let listener = listener.join().map_err(|_| anyhow::anyhow!("no server"))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || swallow(stream));
        }
    });
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        through.push(rate(&lab, service)?);
        direct.push(rate(&lab, ([10, 211, 0, 2], PORT).into())?);
    }
    report.add(&Figure {
        bench: "net",
        metric: "redirect_mib_per_s",
        value: percentile(&mut through, 50),
        unit: "MiB/s",
        peer: Some(("bridge", percentile(&mut direct, 50))),
        how: "one connection that sends 512 MiB from a process in one pod's network namespace to one in another's, by a service's address (redirect, agent, namespace) against the other's address on a bridge between the two; median of 7, alternating",
    })
}

/// MiB/s of one connection, until the other side says that it has everything.
fn rate(lab: &Lab, to: SocketAddr) -> anyhow::Result<f64> {
    let inside = lab.open("a")?;
    let sender = thread::spawn(move || {
        enter(&inside)?;
        let start = Instant::now();
        let mut stream = TcpStream::connect(to)?;
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..BYTES / CHUNK_BYTES as u64 {
            stream.write_all(&chunk)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut got = [0; 8];
        stream.read_exact(&mut got)?;
        ensure!(u64::from_be_bytes(got) == BYTES, "bytes were lost");
        Ok((BYTES >> 20) as f64 / start.elapsed().as_secs_f64())
    });
    sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))?
}

fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut count = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&count.to_be_bytes()),
            length => count += length as u64,
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    ensure!(output.status.success(), "ip {arguments:?}: {output:?}");
    Ok(())
}

#[allow(unsafe_code, reason = "setns has no safe binding among the workspace's crates")]
fn enter(namespace: &OwnedFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, and only this thread's sockets are affected.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
