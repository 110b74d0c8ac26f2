//! Pods that have processes in a network namespace beside their WASM containers: who reaches whom.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use windlass_runtime_api::Protocol;
use windlass_runtime_net::{
    Caller, Conn, JoinError, JoinedPod, ListenError, PodListener, PodNet, Proxy, Scope, Table,
};

use crate::{
    netns::{Netns, ask as ask_udp, call},
    reach::{container, net_on, pod_ip},
    udp::Port,
};

const DEADLINE: Duration = Duration::from_secs(10);

async fn joined(net: &PodNet, n: u8) -> (Netns, Arc<Caller>, JoinedPod) {
    let (namespace, caller) = (Netns::new(), Arc::new(container(n, &[])));
    let pod = net.join(caller.clone(), namespace.fd()).await.expect("joined");
    (namespace, caller, pod)
}

/// Answers as the server inside does.
async fn serve(mut listener: PodListener, word: &'static str) {
    loop {
        let mut conn = listener.accept().await;
        tokio::spawn(async move {
            let mut text = String::new();
            conn.read_to_string(&mut text).await.expect("read");
            let answer = format!("{word} {} {text}", conn.peer().ip());
            conn.write_all(answer.as_bytes()).await.expect("written");
        });
    }
}

async fn ask(mut conn: Conn, say: &str) -> String {
    let asked = async {
        conn.write_all(say.as_bytes()).await.expect("written");
        conn.shutdown().await.expect("half closed");
        let mut text = String::new();
        conn.read_to_string(&mut text).await.expect("read");
        text
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("in time")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn containers_and_guests_of_a_pod_share_localhost() {
    let net = net_on(Arc::default());
    let (namespace, caller, _joined) = joined(&net, 0).await;
    let ip = pod_ip(0);
    // A port that only the pod has, and one that everyone may call.
    for (port, scope, word) in [(9100, Scope::Pod, "private"), (9101, Scope::Everyone, "public")] {
        let port = net.bind(&caller.pod, (ip, port).into(), scope).expect("free");
        tokio::spawn(serve(port.listen().await, word));
    }
    let localhost = |port| SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(
        namespace.call(localhost(9100), "hi").await.expect("answered"),
        "private 127.0.0.1 hi"
    );
    assert_eq!(
        namespace.call(localhost(9101), "hi").await.expect("answered"),
        "public 127.0.0.1 hi"
    );
    let own = namespace.call((ip, 9101).into(), "hi").await.expect("its own address");
    assert_eq!(own, format!("public {ip} hi"));

    let database = namespace.serve("127.0.0.1:0", "database").await.port();
    for host in ["localhost", "127.0.0.1", "pod-0"] {
        let conn = net.connect(&caller, "tcp", host, database).await;
        if host == "pod-0" {
            // That is the pod's address, on which nothing listens.
            assert!(conn.is_err());
        } else {
            assert_eq!(ask(conn.expect(host), "select").await, "database 127.0.0.1 select");
        }
    }
}

#[tokio::test]
async fn everybody_reaches_a_container_at_its_pods_address() {
    let net = net_on(Arc::default());
    let (namespace, _caller, pod) = joined(&net, 1).await;
    let ip = pod_ip(1);
    let at = namespace.serve("0.0.0.0:0", "container").await.port();
    let to = SocketAddr::new(ip, at);
    // A guest of another pod, and the node's own calls.
    let other = container(2, &[]);
    let conn = net.connect(&other, "tcp", &ip.to_string(), at).await.expect("a guest");
    assert_eq!(ask(conn, "a").await, format!("container {} a", pod_ip(2)));
    let conn = net.connect_from_node(to).await.expect("a port-forward");
    assert_eq!(ask(conn, "b").await, "container 127.0.0.1 b");
    let closed = net.connect_address(&other, "tcp", SocketAddr::new(ip, 1)).await;
    assert!(closed.expect_err("closed").to_string().contains("refused"));

    // A container of another pod.
    let (elsewhere, _, _third) = joined(&net, 3).await;
    let said = elsewhere.call(to, "c").await.expect("another pod's container");
    assert_eq!(said, format!("container {} c", pod_ip(3)));

    // A process of the host, once the port is published.
    assert!(TcpStream::connect(to).await.is_err());
    let published = pod.publish(at, Protocol::Tcp).await.expect("published");
    let said = tokio::task::spawn_blocking(move || call(to, "d")).await.expect("called");
    assert_eq!(said.expect("answered"), format!("container {ip} d"));
    drop(published);
    until("the port is closed", || std::net::TcpStream::connect(to).is_err()).await;
}

#[tokio::test]
async fn containers_reach_services_and_services_reach_containers() {
    let net = net_on(Arc::default());
    let (namespace, _caller, _joined) = joined(&net, 4).await;
    let guest = container(5, &[]);
    let at = SocketAddr::new(pod_ip(5), 9110);
    let listener = net.bind(&guest.pod, at, Scope::Everyone).expect("free").listen().await;
    tokio::spawn(serve(listener, "guest"));
    let behind = namespace.serve("0.0.0.0:0", "container").await.port();
    let service =
        |n: u8, port: u16| SocketAddr::from(([127, 98, n, std::process::id() as u8], port));
    let (web, db, idle) = (service(1, 80), service(2, 9111), service(3, 81));
    let mut proxy = Proxy::new(net.clone(), [127, 0, 0, 1].into());
    let endpoints =
        [(web, [at].into()), (db, [SocketAddr::new(pod_ip(4), behind)].into()), (idle, [].into())];
    proxy.apply(Table { ports: endpoints.into(), ..Table::default() }).await;

    let said = namespace.call(web, "e").await.expect("the service");
    assert_eq!(said, format!("guest {} e", pod_ip(4)));
    // The container calls itself through its service.
    let said = namespace.call(db, "f").await.expect("its own service");
    assert_eq!(said, format!("container {} f", pod_ip(4)));
    let conn = net.connect_address(&guest, "tcp", db).await.expect("a guest");
    assert_eq!(ask(conn, "g").await, format!("container {} g", pod_ip(5)));
    let said = tokio::task::spawn_blocking(move || call(db, "h")).await.expect("called");
    // The host is nobody that a process which trusts its localhost would trust.
    assert_eq!(said.expect("the host's proxy"), format!("container {} h", pod_ip(4)));
    // Nobody serves it: who calls is refused, as everywhere.
    let refused = async |to| {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let called = namespace.call(to, "i").await.expect_err("no endpoint");
            if called.kind() == std::io::ErrorKind::ConnectionRefused {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{called}");
        }
    };
    refused(idle).await;
    let endpoints = |idle_to: &[SocketAddr]| {
        let ports = [(web, [].into()), (idle, idle_to.into())].into();
        Table { ports, ..Table::default() }
    };
    proxy.apply(endpoints(&[at])).await;
    refused(web).await;
    let said = namespace.call(idle, "l").await.expect("it is served now");
    assert_eq!(said, format!("guest {} l", pod_ip(4)));
    // What the host has on all its addresses is behind no address of the cluster.
    let host = TcpListener::bind("0.0.0.0:0").await.expect("a process of the host");
    let port = host.local_addr().expect("bound").port();
    namespace.call((pod_ip(5), port).into(), "j").await.expect_err("not a port of that pod");
    namespace.call(([127, 80, 0, 1], port).into(), "k").await.expect_err("nobody's address");
}

#[tokio::test]
async fn a_port_belongs_to_a_guest_or_to_a_container() {
    let net = net_on(Arc::default());
    let (namespace, caller, _joined) = joined(&net, 6).await;
    let taken = namespace.serve("0.0.0.0:0", "container").await.port();
    let conflict = net.bind(&caller.pod, (pod_ip(6), taken).into(), Scope::Everyone);
    match conflict.err().expect("taken") {
        ListenError::PortConflict { port, holder } => {
            assert_eq!((port, holder.contains("shop/pod-6")), (taken, true), "{holder}");
        }
        other => panic!("{other}"),
    }
    let listener = net.bind(&caller.pod, (pod_ip(6), 0).into(), Scope::Everyone).expect("any");
    let (address, listener) = (listener.address(), listener.listen().await);
    let refused = namespace.run(move || std::net::TcpListener::bind(("0.0.0.0", address.port())));
    let refused = refused.await.expect_err("the guest has it");
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    // A guest that opens its port again at once finds it free.
    drop(listener);
    let listener = net.bind(&caller.pod, address, Scope::Everyone).expect("free at once");
    let listener = listener.listen().await;
    assert_eq!(listener.host_error(), None);
    for _ in 0..3 {
        let udp = net.bind_udp(&caller, address, Scope::Everyone).expect("free at once");
        drop(udp);
    }
    drop(listener);
    let port = address.port();
    let again = || namespace.run(move || std::net::TcpListener::bind(("0.0.0.0", port)));
    let again = tokio::time::timeout(DEADLINE, async {
        loop {
            match again().await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    again.await.expect("given back");
}

#[tokio::test]
async fn a_pod_may_be_joined_late_and_again_and_leaves_nothing() {
    let net = net_on(Arc::default());
    let caller = Arc::new(container(7, &[]));
    let at = SocketAddr::new(pod_ip(7), 9120);
    let listener = net.bind(&caller.pod, at, Scope::Everyone).expect("free").listen().await;
    tokio::spawn(serve(listener, "early"));
    let namespace = Netns::new();
    let before = namespace.rules();
    let localhost = SocketAddr::from(([127, 0, 0, 1], 9120));
    for _ in 0..2 {
        let pod = net.join(caller.clone(), namespace.fd()).await.expect("joined");
        let said = namespace.call(localhost, "l").await.expect("opened before");
        assert_eq!(said, "early 127.0.0.1 l");
        assert!(namespace.rules().contains("REDIRECT"), "{}", namespace.rules());
        let twice = net.join(caller.clone(), namespace.fd()).await;
        assert!(matches!(twice, Err(JoinError::Joined(_))));
        drop(pod);
        until("rules are gone", || namespace.rules() == before).await;
        until("sockets are closed", || namespace.sockets().is_empty()).await;
    }
    // What an agent that was killed left behind is replaced.
    std::mem::forget(net.join(caller.clone(), namespace.fd()).await.expect("joined"));
    let successor = net_on(Arc::default());
    let pod = successor.join(caller, namespace.fd()).await.expect("found again");
    assert_eq!(namespace.rules().matches("-A OUTPUT").count(), 1);
    pod.leave().await;
    assert_eq!(namespace.rules(), before);
    // The guest's port on the host is as it was.
    let said = tokio::task::spawn_blocking(move || call(at, "m")).await.expect("called");
    assert_eq!(said.expect("answered"), "early 127.0.0.1 m");
}

#[tokio::test]
async fn a_namespace_that_goes_away_is_only_silent() {
    let net = net_on(Arc::default());
    let (namespace, caller, pod) = joined(&net, 8).await;
    let at = namespace.output(&["true"]);
    assert_eq!(at, "");
    drop(namespace);
    let conn = net.connect_address(&caller, "tcp", ([127, 0, 0, 1], 80).into()).await;
    assert!(conn.expect_err("nobody is there").to_string().contains("refused"));
    tokio::time::timeout(DEADLINE, pod.leave()).await.expect("in time");
    let no_namespace = std::fs::File::open("/dev/null").expect("a file").into();
    let refused = net.join(caller, no_namespace).await;
    let said = refused.err().expect("no namespace").to_string();
    assert!(said.contains("shop/pod-8") && said.contains("root"), "{said}");
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let net = net_on(Arc::default());
    let (namespace, caller, pod) = joined(&net, 9).await;
    let other = Arc::new(container(10, &[]));
    let ip = pod_ip(9);
    // A guest of another pod writes to a container, and a guest of the same pod.
    let container_port = namespace.echo("0.0.0.0:0", "container").await;
    let to = SocketAddr::new(ip, container_port);
    let client = Port::open(&net, &other, 0, Scope::Everyone);
    client.send("a", to).await.expect("sent");
    assert_eq!(client.receive().await, (format!("container {} a", pod_ip(10)), to));
    let private = namespace.echo("127.0.0.1:0", "private").await;
    let own = Port::open(&net, &caller, 0, Scope::Everyone);
    let localhost = SocketAddr::from(([127, 0, 0, 1], container_port));
    own.send("b", localhost).await.expect("sent");
    assert_eq!(own.receive().await, ("container 127.0.0.1 b".into(), localhost));
    assert!(client.send("c", SocketAddr::new(ip, private)).await.is_err(), "its localhost's");

    // Containers write to a guest of their pod, at localhost.
    let guest = Port::open(&net, &caller, 0, Scope::Pod);
    let at = SocketAddr::from(([127, 0, 0, 1], guest.0.address().port()));
    let asked = namespace.ask(at, "d");
    let answered = async {
        let (text, sender) = guest.receive().await;
        guest.send(&format!("guest {text}"), sender).await.expect("sent");
    };
    assert_eq!(tokio::join!(asked, answered).0.expect("answered"), format!("guest d from {at}"));

    // And to other pods and to services, which answer under the address that was written to.
    let service: SocketAddr = ([127, 98, 9, std::process::id() as u8], 5353).into();
    let endpoints = [client.0.address()].into();
    net.set_table(Table { udp_ports: [(service, endpoints)].into(), ..Table::default() });
    for to in [client.0.address(), service] {
        let asked = namespace.ask(to, "e");
        let answered = async {
            let (text, sender) = client.receive().await;
            assert_eq!(sender.ip(), ip);
            client.send(&format!("other {text}"), sender).await.expect("sent");
        };
        let said = tokio::join!(asked, answered).0.expect("answered");
        assert_eq!(said, format!("other e from {to}"));
    }

    // A process of the host writes to a published port.
    let declared = namespace.echo("0.0.0.0:0", "declared").await;
    let to = SocketAddr::new(ip, declared);
    let published = pod.publish(declared, Protocol::Udp).await.expect("published");
    let said = tokio::task::spawn_blocking(move || ask_udp(to, "f")).await.expect("asked");
    assert_eq!(said.expect("answered"), format!("declared {ip} f from {to}"));
    drop(published);
    until("the port is closed", || std::net::UdpSocket::bind(to).is_ok()).await;
    for port in [container_port, private, declared] {
        let end = namespace.run(move || {
            std::net::UdpSocket::bind("0.0.0.0:0")?.send_to(b"end", ("127.0.0.1", port))
        });
        end.await.expect("sent");
    }
    drop((own, guest));
    pod.leave().await;
    until("sockets are closed", || namespace.sockets().is_empty()).await;
}
