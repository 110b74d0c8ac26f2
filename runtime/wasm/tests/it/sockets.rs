//! Sockets of guests, used from inside guests: each test with every version of the interface.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use windlass_runtime_api::{AllowedHosts, ContainerSpec, Port, Protocol, Runtime, RuntimeEvent};
use windlass_runtime_net::{LookUpError, Machine, Table};

use crate::node::{DEADLINE, Node, guest, until};

/// A machine that knows these names, each with its next answer, and has these addresses.
#[derive(Default)]
struct Known {
    names: Mutex<BTreeMap<&'static str, Vec<Vec<IpAddr>>>>,
    own: Vec<IpAddr>,
}

impl Machine for Known {
    fn look_up(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>> {
        let mut names = self.names.lock();
        let answer = match names.get_mut(host.as_str()) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None if host == "busy.example" => Err(LookUpError::Temporary("busy".into())),
            None => Err(LookUpError::NotFound),
        };
        // Not at once, as a real one.
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    }

    fn addresses(&self) -> Arc<[IpAddr]> {
        self.own.clone().into()
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn machine() -> Arc<Known> {
    let known = Known { own: ips(&["192.0.2.77"]), ..Known::default() };
    known.names.lock().extend([
        ("outside.example", vec![ips(&["192.0.2.1", "2001:db8::1"])]),
        ("rebind.example", vec![ips(&["127.0.0.1"])]),
        ("meta.example", vec![ips(&["169.254.169.254"])]),
        ("turns.example", vec![ips(&["127.96.0.1"]), ips(&["169.254.169.254"])]),
    ]);
    Arc::new(known)
}

/// The guests of a version of the interface: one that does what it is asked for, and an echo.
#[derive(Clone, Copy, Debug)]
struct Version {
    client: &'static str,
    echo: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version { client: "http-sockets", echo: "command-echo" },
    Version { client: "http3-sockets", echo: "command3-echo" },
];

impl Version {
    fn pod(self, node: &Node, name: &str) -> ContainerSpec {
        node.pod(name, &guest(self.client))
    }

    async fn started(self, node: &Node, name: &str) -> ContainerSpec {
        node.started(self.pod(node, name)).await
    }

    async fn echo(self, node: &Node, name: &str, what: &str, at: &str) -> ContainerSpec {
        echo(node, self.echo, name, what, at).await
    }
}

async fn echo(node: &Node, with: &str, name: &str, what: &str, at: &str) -> ContainerSpec {
    let mut spec = node.pod(name, &guest(with));
    spec.args = vec![what.into(), at.into()];
    spec.ports = vec![];
    let spec = node.started(spec).await;
    let log = node.log(&spec, 1).await;
    assert!(log[0].ends_with(&format!("listens at {at}")), "{log:?}");
    spec
}

async fn ask(node: &Node, caller: &ContainerSpec, path: &str) -> String {
    let answer = node.get(caller, path).await.expect("answers");
    format!("{} {}", answer.status.as_u16(), answer.body.trim_end())
}

async fn check(node: &Node, caller: &ContainerSpec, path: &str, expected: &str) {
    assert_eq!(ask(node, caller, path).await, expected, "{path}");
}

#[tokio::test]
async fn pods_call_each_other_over_tcp() {
    for version in VERSIONS {
        let node = Node::new();
        let server = version.echo(&node, "server", "tcp", "0.0.0.0:7000").await;
        let client = version.started(&node, "client").await;
        let (there, here) = (server.pod.address, client.pod.address);
        check(
            &node,
            &client,
            &format!("/tcp?to={there}:7000&send=hello"),
            &format!("200 hello|{there}:7000|{here}"),
        )
        .await;
        let log = node.log(&server, 2).await;
        assert!(log[1].ends_with(&format!("called by {here}")), "{log:?}");
        // More than any buffer holds, both ways at once.
        check(
            &node,
            &client,
            &format!("/tcp?to={there}:7000&send=0123456789abcdef&times=1000"),
            "200 4096000",
        )
        .await;
        // From the host, as a person would.
        let mut stream = TcpStream::connect((there, 7000)).await.expect("open on the host");
        stream.write_all(b"from outside").await.expect("write");
        stream.shutdown().await.expect("the end");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert_eq!(text, "from outside");
        // Nothing listens there; and the port is free again once its container ended.
        check(&node, &client, &format!("/tcp?to={there}:7001"), "502 connection-refused").await;
        node.runtime
            .stop_container(&server.pod.uid, "main", Default::default())
            .await
            .expect("ends");
        check(&node, &client, &format!("/tcp?to={there}:7000"), "502 connection-refused").await;
    }
}

#[tokio::test]
async fn containers_of_a_pod_share_localhost() {
    for version in VERSIONS {
        let node = Node::new();
        let front = version.started(&node, "pod").await;
        let mut back = front.clone();
        (back.name, back.image) = ("back".into(), crate::node::image(&guest(version.echo)));
        (back.args, back.ports) = (vec!["tcp".into(), "127.0.0.1:7002".into()], vec![]);
        back.log_path = node.folder.path().join("logs/back/0.log");
        let back = node.started(back).await;
        node.log(&back, 1).await;
        let own = front.pod.address;
        for (to, shown) in [
            ("127.0.0.1:7002", format!("{own}:7002")),
            ("[::1]:7002", format!("[::ffff:{own}]:7002")),
        ] {
            let here = if to.starts_with('[') { format!("::ffff:{own}") } else { own.to_string() };
            check(
                &node,
                &front,
                &format!("/tcp?to={to}&send=hi"),
                &format!("200 hi|{shown}|{here}"),
            )
            .await;
        }
        // The handler of the pod, through the same localhost, and with the other container's command.
        let other = version.started(&node, "other").await;
        for to in [format!("{own}:7002"), "127.0.0.1:7002".into()] {
            check(&node, &other, &format!("/tcp?to={to}&send=hi"), "502 connection-refused").await;
        }
        assert!(TcpStream::connect((own, 7002)).await.is_err(), "not open on the host");
        check(&node, &front, "/bind?at=127.0.0.1:7002", "502 address-in-use").await;
        check(&node, &front, "/bind?at=0.0.0.0:8080", "502 address-in-use").await;
        check(&node, &front, "/bind?at=0.0.0.0:7003", "200 0.0.0.0:7003").await;
        check(&node, &front, &format!("/bind?at={own}:7003"), &format!("200 {own}:7003")).await;
        check(&node, &front, "/bind?at=[::]:7003", "200 [::]:7003").await;
        let stranger = other.pod.address;
        for at in
            ["127.0.0.2:7003".to_string(), "192.0.2.1:7003".into(), format!("{stranger}:7003")]
        {
            check(&node, &front, &format!("/bind?at={at}"), "502 address-not-bindable").await;
            check(&node, &front, &format!("/bind?with=udp&at={at}"), "502 address-not-bindable")
                .await;
        }
        let any = ask(&node, &front, "/bind?at=0.0.0.0:0").await;
        let port: u16 = any.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        assert!(port >= 32_768, "{any}");
    }
}

#[tokio::test]
async fn datagrams_come_back() {
    for version in VERSIONS {
        let node = Node::on(machine());
        let server = version.echo(&node, "server", "udp", "0.0.0.0:7004").await;
        let client = version.started(&node, "client").await;
        let there = server.pod.address;
        for connected in ["no", "yes"] {
            let path = format!("/udp?to={there}:7004&send=ping&connected={connected}");
            check(&node, &client, &path, &format!("200 ping|{there}:7004")).await;
        }
        let service = "127.97.3.4:53".parse().expect("address");
        let endpoints = [(there, 7004).into()].into();
        node.net.set_table(Table { udp_ports: [(service, endpoints)].into(), ..Table::default() });
        check(
            &node,
            &client,
            "/udp?to=127.97.3.4:53&send=ping&connected=yes",
            "200 ping|127.97.3.4:53",
        )
        .await;
        for (to, error) in [
            ("127.0.0.53:53", "access-denied"),
            ("169.254.169.254:53", "access-denied"),
            ("192.0.2.77:53", "access-denied"),
            ("224.0.0.251:5353", "invalid-argument"),
            ("255.255.255.255:67", "invalid-argument"),
            ("127.0.0.1:7004", "connection-refused"),
        ] {
            check(&node, &client, &format!("/udp?to={to}&send=x"), &format!("502 {error}")).await;
        }
    }
}

#[tokio::test]
async fn names_are_the_pods_and_the_clusters_and_then_the_machines() {
    for version in VERSIONS {
        let node = Node::on(machine());
        let cart: std::net::Ipv4Addr = "127.97.0.6".parse().expect("address");
        node.net.set_table(Table {
            names: [("default".into(), [("cart".into(), cart)].into())].into(),
            by_address: [(cart, ("default".into(), "cart".into()))].into(),
            ..Table::default()
        });
        let pod = version.started(&node, "named").await;
        let own = format!("200 {}", pod.pod.address);
        for (name, expected) in [
            ("cart", "200 127.97.0.6"),
            ("cart.default", "200 127.97.0.6"),
            ("cart.default.svc.cluster.local", "200 127.97.0.6"),
            ("cart.other.svc.cluster.local", "502 name-unresolvable"),
            ("localhost", "200 127.0.0.1"),
            ("named", own.as_str()),
            ("NAMED.", own.as_str()),
            ("outside.example", "200 192.0.2.1\n2001:db8::1"),
            ("127.0.0.53", "200 127.0.0.53"),
            ("nobody.example", "502 name-unresolvable"),
            ("busy.example", "502 temporary-resolver-failure"),
            ("", "502 invalid-argument"),
        ] {
            check(&node, &pod, &format!("/name?name={name}"), expected).await;
        }
    }
}

#[tokio::test]
async fn what_no_pod_may_reach_is_refused_and_told() {
    for version in VERSIONS {
        let node = Node::on(machine());
        let mut events = node.runtime.events();
        let host = TcpListener::bind("127.0.0.1:0").await.expect("a process of the host");
        let wild = TcpListener::bind("0.0.0.0:0").await.expect("a process of the host");
        let ports =
            [host, wild].map(|listener| (listener.local_addr().expect("address").port(), listener));
        let attacker = version.started(&node, "attacker").await;
        let caller = node.started(node.pod("caller", &guest("http-caller"))).await;
        let (own, other) = (attacker.pod.address, caller.pod.address);
        for (port, _) in &ports {
            for to in ["127.0.0.1".into(), "[::1]".into(), own.to_string(), other.to_string()] {
                check(&node, &attacker, &format!("/tcp?to={to}:{port}"), "502 connection-refused")
                    .await;
            }
        }
        let port = ports[1].0;
        for to in [
            "127.0.0.2",
            "127.127.0.1",
            "192.0.2.77",
            "169.254.169.254",
            "[fe80::1]",
            "100.100.100.200",
        ] {
            check(&node, &attacker, &format!("/tcp?to={to}:{port}"), "502 access-denied").await;
        }
        for to in ["0.0.0.0:80", "224.0.0.1:80", "[::ffff:127.0.0.1]:80", "127.0.0.2:0"] {
            check(&node, &attacker, &format!("/tcp?to={to}"), "502 invalid-argument").await;
        }
        // Names that lead there, the second time too.
        for (host, error) in [
            ("rebind.example", "DestinationIpProhibited"),
            ("meta.example", "DestinationIpProhibited"),
            ("turns.example", "ConnectionRefused"),
            ("turns.example", "DestinationIpProhibited"),
        ] {
            let said = ask(&node, &caller, &format!("/?url=http://{host}:{port}/")).await;
            assert!(said.contains(error), "{host}: {said}");
        }
        for (_, listener) in &ports {
            let came =
                tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept());
            assert!(came.await.is_err(), "the host's process was reached");
        }
        let log = until("the denials are logged", || {
            let text = std::fs::read_to_string(&caller.log_path).ok()?;
            (text.lines().count() >= 3).then_some(text)
        })
        .await;
        let line =
            format!("turns.example (169.254.169.254:{port}) is not reachable for pods: link-local");
        assert!(log.contains(&line), "{log}");
        let told = async {
            use futures::StreamExt;
            loop {
                if let Some(RuntimeEvent::Notice { reason, message, .. }) = events.next().await
                    && message.starts_with(&line)
                {
                    return reason;
                }
            }
        };
        assert_eq!(tokio::time::timeout(DEADLINE, told).await.expect("in time"), "HostDenied");
    }
}

#[tokio::test]
async fn allowed_hosts_hold_for_sockets_and_requests() {
    for version in VERSIONS {
        let node = Node::on(machine());
        let server = version.echo(&node, "server", "tcp", "0.0.0.0:7005").await;
        let there = server.pod.address;
        let lists =
            |text: &str| vec![AllowedHosts::parse("annotation of the pod", text).expect("list")];
        let mut strict = version.pod(&node, "strict");
        strict.reach.lists = lists("outside.example");
        let strict = node.started(strict).await;
        let path = format!("/tcp?to={there}:7005&send=x");
        check(&node, &strict, &path, "502 access-denied").await;
        check(&node, &strict, "/name?name=outside.example", "200 192.0.2.1\n2001:db8::1").await;
        check(&node, &strict, "/name?name=secret.evil.example", "502 access-denied").await;
        check(&node, &strict, "/tcp?to=192.0.2.2:80", "502 access-denied").await;
        let log = node.log(&strict, 3).await.join("\n");
        assert!(log.contains("annotation of the pod doesn't name it"), "{log}");

        let mut open = version.pod(&node, "open");
        open.reach.lists = lists(&format!("{there}:7005"));
        let open = node.started(open).await;
        let said = ask(&node, &open, &path).await;
        assert!(said.starts_with("200 x|"), "{said}");

        let mut caller = node.pod("caller", &guest("http-caller"));
        caller.reach.lists = lists("*.other.example");
        let caller = node.started(caller).await;
        let said = ask(&node, &caller, "/?url=http://outside.example/").await;
        assert!(said.contains("DestinationIpProhibited"), "{said}");
    }
}

#[tokio::test]
async fn sockets_are_counted() {
    for version in VERSIONS {
        let node = Node::new();
        let attacker = version.started(&node, "attacker").await;
        check(&node, &attacker, "/many?count=10000", "200 512 new-socket-limit").await;
        // All of them are back, also when several try at once.
        let tries = join_all((0..4).map(|_| ask(&node, &attacker, "/many?count=100"))).await;
        assert_eq!(tries, ["200 100"; 4]);
        let victim = version.started(&node, "victim").await;
        check(&node, &victim, "/many?count=500", "200 500").await;
    }
}

#[tokio::test]
async fn a_port_the_host_refuses_is_told() {
    for version in VERSIONS {
        let node = Node::new();
        let mut events = node.runtime.events();
        let squatter = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = squatter.local_addr().expect("address").port();
        let server = version.echo(&node, "server", "tcp", &format!("0.0.0.0:{port}")).await;
        let mut client = version.pod(&node, "client");
        client.ports = vec![Port { name: "http".into(), port: 8080, protocol: Protocol::Tcp }];
        let client = node.started(client).await;
        let there = server.pod.address;
        let said = ask(&node, &client, &format!("/tcp?to={there}:{port}&send=inside")).await;
        assert!(said.starts_with("200 inside|"), "{said}");
        let told = async {
            use futures::StreamExt;
            loop {
                if let Some(RuntimeEvent::Notice { reason, .. }) = events.next().await {
                    return reason;
                }
            }
        };
        let reason = tokio::time::timeout(DEADLINE, told).await.expect("in time");
        assert_eq!(reason, "PortUnavailableOnHost");
    }
}

#[tokio::test]
async fn a_stream_from_one_connection_is_sent_on_another() {
    let node = Node::new();
    let client = node.started(node.pod("client", &guest("http3-sockets"))).await;
    let (old, new) = (&VERSIONS[0], &VERSIONS[1]);
    let a = old.echo(&node, "a", "tcp", "0.0.0.0:7006").await.pod.address;
    let b = new.echo(&node, "b", "tcp", "0.0.0.0:7006").await.pod.address;
    let path = format!("/through?a={a}:7006&b={b}:7006&send=passed-on");
    check(&node, &client, &path, "200 passed-on").await;
}

#[tokio::test]
async fn what_a_socket_does_once_is_refused_the_second_time() {
    let node = Node::new();
    let client = node.started(node.pod("client", &guest("http3-sockets"))).await;
    let there = VERSIONS[1].echo(&node, "server", "tcp", "0.0.0.0:7007").await.pod.address;
    let said = ask(&node, &client, &format!("/twice?to={there}:7007")).await;
    expect_test::expect!["200 invalid-state invalid-state 0 invalid-state invalid-state invalid-state connection-refused invalid-state"]
        .assert_eq(&said);
}

#[tokio::test]
async fn calls_that_wait_for_datagrams_get_one_each() {
    let node = Node::new();
    let client = node.started(node.pod("client", &guest("http3-sockets"))).await;
    let there = VERSIONS[1].echo(&node, "server", "udp", "0.0.0.0:7008").await.pod.address;
    let path = format!("/udp?to={there}:7008&send=ping&times=3");
    let one = format!("ping|{there}:7008");
    check(&node, &client, &path, &format!("200 {one} {one} {one}")).await;
}
