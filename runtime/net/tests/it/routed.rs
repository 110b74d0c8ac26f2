//! Routed mode, each test inside a network namespace of its own that stands for the machine.

use std::{fs, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use windlass_runtime_net::{
    Block, BlockError, Blocks, Caller, Limits, PodNet, PodRef, Proxy, Routes, RoutesError, Scope,
    Table,
};
use windlass_sdk_meta::Rng;

use crate::{
    answer,
    netns::{Netns, call, enter},
    read,
};

const PODS: &str = "10.64.0.0/10";
const SERVICES: &str = "10.128.0.0/16";

/// Runs on a thread that is in a machine of its own, with everything that it starts.
fn on_a_machine(work: impl AsyncFnOnce(&Netns) + Send) {
    let machine = Netns::new();
    let namespace: OwnedFd = machine.fd();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work(&machine));
        });
        thread.join().expect("the test on its machine");
    });
}

fn range(text: &str) -> Block {
    text.parse().expect(text)
}

fn claim(dir: &std::path::Path) -> Result<Blocks, BlockError> {
    Blocks::claim_routed(dir, range(PODS), range(SERVICES), &Rng::seeded(2))
}

fn routes(blocks: &Blocks) -> Result<Routes, RoutesError> {
    Routes::add(blocks, &[range(PODS), range(SERVICES)])
}

fn container(block: &Block, n: u32) -> Arc<Caller> {
    let pod = PodRef {
        uid: format!("uid-{n}"),
        namespace: "shop".into(),
        name: format!("pod-{n}"),
        address: Some(block.nth(n).into()),
        ..PodRef::default()
    };
    Arc::new(Caller::new(pod, Default::default()))
}

#[test]
fn pods_and_services_have_addresses_of_the_network() {
    on_a_machine(async |machine| {
        let dir = tempfile::tempdir().expect("a folder");
        let blocks = claim(dir.path()).expect("free");
        let routes = routes(&blocks).expect("as root");
        let ranges = vec![blocks.pods, blocks.services];
        let net = PodNet::loopback(ranges, Limits::default(), Rng::seeded(1));

        // Guests, through a pod's address, a service's, and a node port on all addresses.
        let guest = container(&blocks.pods, 1);
        let at = SocketAddr::new(guest.pod.address.expect("an address"), 8080);
        let listener = net.bind(&guest.pod, at, Scope::Everyone).expect("free").listen().await;
        assert_eq!(listener.host_error(), None);
        tokio::spawn(answer(listener, "guest"));
        let web = SocketAddr::from((blocks.services.nth(20), 80));
        let db = SocketAddr::from((blocks.services.nth(21), 81));
        let behind = SocketAddr::from((blocks.pods.nth(2), 9000));
        let mut proxy = Proxy::new(net.clone(), net.node_address());
        proxy
            .apply(Table {
                ports: [(web, [at].into()), (db, [behind].into())].into(),
                node_ports: [(30_080, [at].into())].into(),
                ..Table::default()
            })
            .await;
        for to in [at, web, ([127, 0, 0, 1], 30_080).into()] {
            let stream = TcpStream::connect(to).await.expect("connected");
            assert_eq!(read(windlass_runtime_net::Conn::tcp(stream)).await, "guest", "{to}");
        }

        // A container: by everybody, at its pod's address, and it reaches a service.
        let namespace = Netns::new();
        let inside = container(&blocks.pods, 2);
        let pod = net.join(inside, namespace.fd()).await.expect("joined");
        assert_eq!(namespace.serve("0.0.0.0:9000", "container").await.port(), 9000);
        let conn = net.connect_address(&guest, "tcp", behind).await.expect("a guest");
        drop(conn);
        let said = tokio::task::spawn_blocking(move || call(db, "x")).await.expect("called");
        assert_eq!(said.expect("the service"), format!("container {} x", blocks.pods.first()));
        assert_eq!(namespace.call(web, "").await.expect("a service"), "guest");
        pod.leave().await;

        // Another cluster of this machine, and one whose process was killed.
        let other = tempfile::tempdir().expect("a folder");
        let taken = claim(other.path()).expect_err("the services' range is in use");
        assert!(matches!(taken, BlockError::Taken { kind: "service", .. }), "{taken}");
        drop(proxy);
        std::mem::forget(routes);
        assert_eq!(local_routes(machine), 2);
        drop(blocks);
        let small = Blocks::claim_routed(
            other.path(),
            range("10.80.0.0/16"),
            range("10.81.0.0/16"),
            &Rng::seeded(3),
        )
        .expect("free");
        let routes = Routes::add(&small, &[range("10.80.0.0/16"), range("10.81.0.0/16")]);
        assert_eq!(local_routes(machine), 2, "those of the killed one are gone");
        drop(routes.expect("added"));
        assert_eq!(local_routes(machine), 0);
    });
}

/// The threads that make sockets in namespaces, of nets on this machine.
fn visitors(machine: &Netns) -> usize {
    let of_machine = |task: &std::path::Path| {
        let comm = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let there = fs::metadata(task.join("ns/net")).is_ok_and(|there| machine.is(&there));
        comm.starts_with("windlass-netns") && there
    };
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    tasks.flatten().filter(|task| of_machine(&task.path())).count()
}

#[test]
fn nothing_is_left_of_a_net() {
    on_a_machine(async |machine| {
        let namespace = Netns::new();
        let ranges = vec![Block::PODS, Block::SERVICES];
        let net = PodNet::loopback(ranges, Limits::default(), Rng::seeded(1));
        let pod = net.join(container(&Block::PODS, 1), namespace.fd()).await.expect("joined");
        assert_eq!(visitors(machine), 1);
        // One thread serves all pods, and is at home when it has nothing to do.
        let second = Netns::new();
        let other = net.join(container(&Block::PODS, 2), second.fd()).await.expect("joined");
        assert_eq!(visitors(machine), 1);
        pod.leave().await;
        other.leave().await;
        assert_eq!(namespace.sockets() + &second.sockets(), "");
        drop(net);
        let gone = async {
            while visitors(machine) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the thread ends");
    });
}

/// Routes of ours.
fn local_routes(machine: &Netns) -> usize {
    machine.ip(&["route", "show", "table", "local", "proto", "87"]).lines().count()
}

#[test]
fn a_machine_with_a_route_inside_the_ranges_is_left_alone() {
    on_a_machine(async |machine| {
        let dir = tempfile::tempdir().expect("a folder");
        machine.ip(&["link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1"]);
        machine.ip(&["link", "set", "vpn0", "up"]);
        machine.ip(&["route", "add", "10.100.0.0/16", "dev", "vpn0"]);
        let blocks = claim(dir.path()).expect("free");
        let said = routes(&blocks).expect_err("in use").to_string();
        for part in ["10.100.0.0/16", "vpn0", PODS, "--pod-range"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(local_routes(machine), 0);
        machine.ip(&["route", "del", "10.100.0.0/16", "dev", "vpn0"]);
        drop(routes(&blocks).expect("free now"));
        // Addresses are in the cluster's database: the folder keeps its mode.
        drop(blocks);
        let said = Blocks::claim(dir.path(), &Rng::seeded(1)).expect_err("routed").to_string();
        assert!(said.contains("--network") && said.contains(SERVICES), "{said}");
        assert!(fs::exists(dir.path().join("network.json")).expect("readable"));
    });
}
