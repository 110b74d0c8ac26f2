//! Datagrams between pods, services and the host, on loopback.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::net::UdpSocket;
use windlass_runtime_net::{Caller, ListenError, PodNet, PodUdp, Scope, SendError, Table};

use crate::reach::{container, net_on, pod_ip};

pub struct Port(pub PodUdp);

impl Port {
    pub fn open(net: &PodNet, of: &Arc<Caller>, port: u16, scope: Scope) -> Self {
        let ip = of.pod.address.expect("an address");
        Self(net.bind_udp(of, SocketAddr::new(ip, port), scope).expect("free"))
    }

    pub async fn send(&self, text: &str, to: SocketAddr) -> Result<(), SendError> {
        self.0.send(text.as_bytes(), to).await
    }

    pub async fn receive(&self) -> (String, SocketAddr) {
        let mut buffer = [0; 2048];
        let received = poll_fn(|cx| self.0.poll_receive(cx, &mut buffer));
        let received = tokio::time::timeout(Duration::from_secs(5), received).await;
        let (length, sender) = received.expect("in time").expect("received");
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), sender)
    }

    async fn is_quiet(&self) -> bool {
        let mut buffer = [0; 2048];
        futures::poll!(poll_fn(|cx| self.0.poll_receive(cx, &mut buffer))).is_pending()
    }
}

fn two() -> (PodNet, Arc<Caller>, Arc<Caller>) {
    (net_on(Arc::default()), Arc::new(container(0, &[])), Arc::new(container(1, &[])))
}

#[tokio::test]
async fn pods_write_to_each_other_and_to_themselves() {
    let (net, one, two) = two();
    let (client, server) =
        (Port::open(&net, &one, 0, Scope::Everyone), Port::open(&net, &two, 0, Scope::Everyone));
    let at = server.0.address();
    client.send("ask", at).await.expect("sent");
    let (text, sender) = server.receive().await;
    assert_eq!((text.as_str(), sender), ("ask", client.0.address()));
    server.send("answer", sender).await.expect("sent");
    assert_eq!(client.receive().await, ("answer".into(), at));

    // The pod's localhost, and only the pod's.
    let own = Port::open(&net, &one, 0, Scope::Pod);
    let localhost = SocketAddr::new([127, 0, 0, 1].into(), own.0.address().port());
    client.send("mine", localhost).await.expect("sent");
    let (text, sender) = own.receive().await;
    assert_eq!((text.as_str(), sender), ("mine", client.0.address()));
    own.send("yours", sender).await.expect("sent");
    assert_eq!(client.receive().await, ("yours".into(), localhost));
    assert!(server.send("not yours", own.0.address()).await.is_err());
    let again = net.bind_udp(&two, at, Scope::Everyone);
    assert!(matches!(again, Err(ListenError::PortConflict { .. })));
    drop(server);
    net.bind_udp(&two, at, Scope::Everyone).expect("free again");
}

#[tokio::test]
async fn a_service_answers_under_its_own_address() {
    let (net, one, two) = two();
    let (client, server) =
        (Port::open(&net, &one, 0, Scope::Everyone), Port::open(&net, &two, 0, Scope::Everyone));
    let service: SocketAddr = ([127, 97, 2, 1], 53).into();
    let endpoints = [server.0.address()].into();
    net.set_table(Table { udp_ports: [(service, endpoints)].into(), ..Table::default() });
    client.send("ask", service).await.expect("sent");
    let (_, sender) = server.receive().await;
    server.send("answer", sender).await.expect("sent");
    assert_eq!(client.receive().await, ("answer".into(), service));
}

#[tokio::test]
async fn the_host_is_answered_but_not_written_to() {
    let (net, one, _) = two();
    let server = Port::open(&net, &one, 0, Scope::Everyone);
    let hidden = Port::open(&net, &one, 0, Scope::Pod);
    let host = UdpSocket::bind("127.0.0.2:0").await.expect("a process of the host");
    let wild = UdpSocket::bind("0.0.0.0:0").await.expect("a process of the host");
    let (at, wild_port) =
        (host.local_addr().expect("address"), wild.local_addr().expect("address").port());
    for to in [at, SocketAddr::new(pod_ip(1), wild_port), ([127, 97, 0, 9], wild_port).into()] {
        assert!(server.send("no", to).await.is_err(), "{to}");
    }
    host.send_to(b"hello", server.0.address()).await.expect("sent");
    assert_eq!(server.receive().await, ("hello".into(), at));
    server.send("welcome", at).await.expect("who wrote is answered");
    let mut buffer = [0; 64];
    let (length, from) = host.recv_from(&mut buffer).await.expect("received");
    assert_eq!((&buffer[..length], from), (&b"welcome"[..], server.0.address()));
    // What is the pod's alone hears nobody else.
    host.send_to(b"psst", hidden.0.address()).await.expect("sent");
    host.send_to(b"done", server.0.address()).await.expect("sent");
    assert_eq!(server.receive().await.0, "done");
    assert!(hidden.is_quiet().await);
}

#[tokio::test]
async fn lists_hold_for_datagrams() {
    let net = net_on(Arc::default());
    let strict = Arc::new(container(0, &["udp://192.0.2.1:53"]));
    let port = Port::open(&net, &strict, 0, Scope::Everyone);
    let may = |ip: [u8; 4], port_number: u16| {
        port.0.may_send(SocketAddr::new(IpAddr::from(ip), port_number)).is_ok()
    };
    assert!(may([192, 0, 2, 1], 53) && !may([192, 0, 2, 1], 54) && !may([192, 0, 2, 2], 53));
    assert!(!may([169, 254, 169, 254], 53) && !may([255, 255, 255, 255], 67));
}
