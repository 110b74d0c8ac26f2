//! Ports of the host that lead into the cluster: services over UDP, node ports, host ports.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};
use windlass_runtime_api::Protocol;
use windlass_runtime_net::{ListenError, PodNet, Proxy, Scope, Table};

use crate::{
    answer,
    netns::{Netns, ask, call},
    reach::{container, net_on, pod_ip},
    udp::Port,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A port that nobody has a moment before.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

async fn read(from: SocketAddr) -> String {
    let read = async {
        let mut text = String::new();
        let mut stream = TcpStream::connect(from).await?;
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    tokio::time::timeout(DEADLINE, read).await.expect("in time").unwrap_or_else(|e| e.to_string())
}

/// A guest that serves TCP and UDP on a port; it answers two datagrams.
async fn guest(net: &PodNet, n: u8) -> SocketAddr {
    let guest = Arc::new(container(n, &[]));
    let at = SocketAddr::new(pod_ip(n), 9200);
    let listener = net.bind(&guest.pod, at, Scope::Everyone).expect("free").listen().await;
    tokio::spawn(answer(listener, "guest"));
    let port = Port::open(net, &guest, 9200, Scope::Everyone);
    tokio::spawn(async move {
        for _ in 0..2 {
            let (text, from) = port.receive().await;
            port.send(&format!("guest {text}"), from).await.expect("sent");
        }
    });
    at
}

#[tokio::test]
async fn node_ports_and_services_over_udp() {
    let net = net_on(Arc::default());
    let at = guest(&net, 15).await;
    let (node, none) = (free_port(), free_port());
    let service: SocketAddr = ([127, 98, 15, std::process::id() as u8], 9201).into();
    let endpoints: Arc<[SocketAddr]> = [at].into();
    let table = Table {
        udp_ports: [(service, endpoints.clone())].into(),
        node_ports: [(node, endpoints.clone()), (none, [].into())].into(),
        node_udp_ports: [(node, endpoints)].into(),
        ..Table::default()
    };
    let mut proxy = Proxy::new(net.clone(), [127, 0, 0, 1].into());
    proxy.apply(table).await;
    let localhost = |port| SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(read(localhost(node)).await, "guest");
    assert!(read(localhost(none)).await.contains("refused"));
    for to in [service, localhost(node)] {
        let said = tokio::task::spawn_blocking(move || ask(to, "n")).await.expect("asked");
        assert_eq!(said.expect("answered"), format!("guest n from {to}"));
    }
    // A guest's own localhost is not the node's.
    let inside = net.connect(&container(16, &[]), "tcp", "127.0.0.1", node).await;
    assert!(inside.is_err());
    proxy.apply(Table::default()).await;
    let closed = async {
        while !read(localhost(node)).await.contains("refused") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.expect("closed");
}

#[tokio::test]
async fn host_ports_lead_to_guests_and_to_containers() {
    let net = net_on(Arc::default());
    let at = guest(&net, 17).await;
    let (tcp, inner) = (free_port(), free_port());
    let published = net.publish_host_port(None, tcp, Protocol::Tcp, at).await.expect("free");
    assert_eq!(published.address(), ([127, 0, 0, 1], tcp).into());
    assert_eq!(read(published.address()).await, "guest");
    let datagrams = net.publish_host_port(None, tcp, Protocol::Udp, at).await.expect("free");
    let to = datagrams.address();
    let said = tokio::task::spawn_blocking(move || ask(to, "o")).await.expect("asked");
    assert_eq!(said.expect("answered"), format!("guest o from {to}"));
    let taken = net.publish_host_port(None, tcp, Protocol::Tcp, at).await;
    match taken.err().expect("taken") {
        ListenError::Host(why) => {
            let me = format!("process {}", std::process::id());
            assert!(why.contains(&me) && why.contains(&tcp.to_string()), "{why}");
        }
        other => panic!("{other}"),
    }

    let namespace = Netns::new();
    let pod = net.join(Arc::new(container(18, &[])), namespace.fd()).await.expect("joined");
    let container = namespace.serve("0.0.0.0:0", "container").await.port();
    let echo = namespace.echo("0.0.0.0:0", "echo").await;
    let to = |port| SocketAddr::new(pod_ip(18), port);
    let ip = Some([127, 0, 0, 2].into());
    let published =
        net.publish_host_port(ip, inner, Protocol::Tcp, to(container)).await.expect("free");
    let from = published.address();
    let said = tokio::task::spawn_blocking(move || call(from, "p")).await.expect("called");
    assert!(said.expect("answered").ends_with(" p"));
    let published = net.publish_host_port(ip, inner, Protocol::Udp, to(echo)).await.expect("free");
    let from = published.address();
    let said = tokio::task::spawn_blocking(move || ask(from, "q")).await.expect("asked");
    assert!(said.expect("answered").contains(" q from"));
    pod.leave().await;
}
