//! Listeners, hand-over and claims with real sockets, all on loopback.

mod dns;
mod join;
mod netns;
mod ports;
mod reach;
mod routed;
mod udp;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use windlass_runtime_api::{AllowedHosts, Reach};
use windlass_runtime_net::{
    Block, BlockError, Blocks, Caller, Conn, ConnectError, Limits, ListenError, PodListener,
    PodNet, PodRef, Proxy, Reached, Table,
};
use windlass_sdk_meta::Rng;

fn net() -> PodNet {
    PodNet::loopback(vec![Block::PODS, Block::SERVICES], Limits::default(), Rng::seeded(1))
}

fn pod(name: &str) -> PodRef {
    PodRef {
        uid: format!("uid-{name}"),
        namespace: "default".into(),
        name: name.into(),
        ..PodRef::default()
    }
}

fn caller(name: &str) -> Caller {
    Caller::new(pod(name), Reach::default())
}

/// A pod address that tests of other processes on this machine hardly use.
fn address(port: u16) -> SocketAddr {
    let low = std::process::id() % 60_000;
    ([127, 95, (low >> 8) as u8, low as u8], port).into()
}

async fn answer(mut listener: PodListener, text: &'static str) {
    loop {
        let mut conn = listener.accept().await;
        tokio::spawn(async move { conn.write_all(text.as_bytes()).await });
    }
}

async fn read(mut conn: Conn) -> String {
    let mut text = String::new();
    let read = conn.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("in time").expect("read");
    text
}

#[tokio::test]
async fn a_pod_is_reached_from_the_host_and_from_inside() {
    let (net, to) = (net(), address(8080));
    let listener = net.listen(&pod("a"), to).await.expect("listen");
    assert_eq!(listener.host_error(), None);
    tokio::spawn(answer(listener, "hello"));
    assert_eq!(read(Conn::tcp(TcpStream::connect(to).await.expect("tcp"))).await, "hello");
    let inside =
        net.connect(&caller("b"), "tcp", &to.ip().to_string(), 8080).await.expect("inside");
    assert!(matches!(inside, Conn::Duplex { .. }), "no second socket");
    assert_eq!((inside.peer(), read(inside).await.as_str()), (to, "hello"));
}

#[tokio::test]
async fn who_can_do_without_a_connection_is_given_what_the_port_offers() {
    let (net, to) = (net(), address(8085));
    let listener = net.listen(&pod("a"), to).await.expect("listen");
    let (other, host) = (caller("b"), to.ip().to_string());
    let reached = net.reach(&other, "http", &host, to.port()).await.expect("nothing is offered");
    assert!(matches!(reached, Reached::Conn(Conn::Duplex { .. })), "{reached:?}");
    listener.offer(Arc::new("a's handler"));
    let reached = net.reach(&other, "http", &host, to.port()).await.expect("is reached");
    let Reached::Callee(callee) = reached else { panic!("{reached:?}") };
    assert_eq!(callee.downcast_ref(), Some(&"a's handler"));
    // Whoever wants bytes gets bytes, and the lists hold for both.
    assert!(net.connect(&other, "http", &host, to.port()).await.is_ok());
    let list = AllowedHosts { by: "a test".into(), hosts: Vec::new() };
    let held = Caller::new(pod("c"), Reach { lists: vec![list] });
    let denied = net.reach(&held, "http", &host, to.port()).await;
    assert!(matches!(denied, Err(ConnectError::Denied { .. })), "{denied:?}");
    listener.close();
    let gone = net.reach(&other, "http", &host, to.port()).await;
    assert!(matches!(gone, Err(ConnectError::Io { .. })), "{gone:?}");
}

#[tokio::test]
async fn localhost_is_the_pod_itself() {
    let (net, to) = (net(), address(8081));
    let listener = net.listen(&pod("a"), to).await.expect("listen");
    tokio::spawn(answer(listener, "me"));
    assert_eq!(
        read(net.connect(&caller("a"), "tcp", "localhost", 8081).await.expect("own")).await,
        "me"
    );
    let other = net.connect(&caller("b"), "tcp", "127.0.0.1", 8081).await;
    assert!(matches!(other, Err(ConnectError::Io { .. })), "{:?}", other.err());
    let node = net.connect(&caller("b"), "tcp", "127.0.0.2", 22).await;
    assert!(matches!(node, Err(ConnectError::Denied { .. })), "{:?}", node.err());
}

#[tokio::test]
async fn one_port_one_container_until_it_is_closed() {
    let (net, to) = (net(), address(8082));
    let first = net.listen(&pod("a"), to).await.expect("listen");
    let second = net.listen(&pod("a"), to).await;
    assert!(matches!(second, Err(ListenError::PortConflict { port: 8082, .. })));
    // One connection of each sort has arrived and is not accepted yet: close gives both back.
    let waiting = TcpStream::connect(to).await.expect("tcp");
    let inside =
        net.connect(&caller("b"), "tcp", &to.ip().to_string(), 8082).await.expect("inside");
    let mut rest = first.close();
    assert_eq!(rest.len(), 2);
    for conn in &mut rest {
        conn.write_all(b"late").await.expect("write");
    }
    drop(rest);
    assert_eq!(read(Conn::tcp(waiting)).await, "late");
    assert_eq!(read(inside).await, "late");
    net.listen(&pod("a"), to).await.expect("free again");
}

#[tokio::test]
async fn a_port_the_host_refuses_still_works_inside() {
    let (net, to) = (net(), address(8083));
    let _squatter = TcpListener::bind(("0.0.0.0", 8083)).await.expect("free port");
    let listener = net.listen(&pod("a"), to).await.expect("listen");
    let said = listener.host_error().expect("refused").to_owned();
    let me = format!("process {}", std::process::id());
    assert!(said.contains(&me) && said.contains("0.0.0.0:8083"), "{said}");
    tokio::spawn(answer(listener, "inside"));
    let inside =
        net.connect(&caller("b"), "tcp", &to.ip().to_string(), 8083).await.expect("inside");
    assert_eq!(read(inside).await, "inside");
}

#[test]
fn two_claimants_get_different_blocks_and_keep_them() {
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let first = Blocks::claim(one.path(), &Rng::seeded(3)).expect("first");
    // The same seed looks at the same block first and must go on from it.
    let second = Blocks::claim(two.path(), &Rng::seeded(3)).expect("second");
    assert_ne!((first.pods, first.services), (second.pods, second.services));
    let said = Blocks::claim(one.path(), &Rng::seeded(4)).expect_err("held").to_string();
    let me = format!("in use by process {}", std::process::id());
    assert!(said.contains(&first.pods.to_string()) && said.contains(&me), "{said}");
    let (pods, services) = (first.pods, first.services);
    drop(first);
    let again = Blocks::claim(one.path(), &Rng::seeded(5)).expect("free again");
    assert_eq!((again.pods, again.services), (pods, services));
}

#[test]
fn a_damaged_memory_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("network.json"), "{\"pods\": 3").expect("write");
    let error = Blocks::claim(dir.path(), &Rng::seeded(1)).expect_err("damaged");
    assert!(matches!(error, BlockError::Damaged { .. }));
    assert!(error.to_string().contains("network.json"), "{error}");
}

#[tokio::test]
async fn a_service_is_served_by_ready_endpoints_only() {
    let (net, to, service) = (net(), address(8084), address(8090));
    let listener = net.listen(&pod("a"), to).await.expect("listen");
    tokio::spawn(answer(listener, "local"));
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let remote = elsewhere.local_addr().expect("address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = elsewhere.accept().await.expect("accept");
            stream.write_all(b"remote").await.expect("write");
        }
    });
    let mut proxy = Proxy::new(net.clone(), [127, 0, 0, 1].into());
    let table = |endpoints: &[SocketAddr]| Table {
        ports: [(service, endpoints.into())].into(),
        ..Table::default()
    };
    let dial = || async { TcpStream::connect(service).await.map(Conn::tcp) };

    proxy.apply(table(&[])).await;
    assert_eq!(dial().await.expect_err("nobody").kind(), std::io::ErrorKind::ConnectionRefused);

    proxy.apply(table(&[to])).await;
    assert_eq!(read(dial().await.expect("connect")).await, "local");
    let inside = net.connect(&caller("b"), "tcp", &service.ip().to_string(), service.port()).await;
    assert_eq!(read(inside.expect("inside")).await, "local");

    proxy.apply(table(&[remote])).await;
    assert_eq!(read(dial().await.expect("connect")).await, "remote");

    // An endpoint that is gone before the table says so costs nobody a connection.
    let gone: SocketAddr = address(9);
    proxy.apply(table(&[gone, to, gone])).await;
    for _ in 0..20 {
        assert_eq!(read(dial().await.expect("connect")).await, "local");
    }
}
