//! Who is reached by whom: localhost, names, lists of allowed hosts, and ways around them.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use windlass_runtime_api::{AllowedHosts, PodNames, Reach};
use windlass_runtime_net::{
    Block, Caller, Conn, ConnectError, Limits, LookUpError, Machine, PodNet, PodRef, Scope, Table,
};
use windlass_sdk_meta::Rng;

use crate::{address, answer, read};

/// A machine whose resolver gives each answer of a name once, the last again and again.
#[derive(Default)]
pub struct Scripted {
    pub names: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    pub asked: Mutex<Vec<String>>,
    pub own: Vec<IpAddr>,
    pub resolvers: Vec<SocketAddr>,
}

impl Scripted {
    fn answers(self, name: &str, answers: &[&[&str]]) -> Self {
        let parse = |ip: &&str| ip.parse().expect("an address");
        let answers = answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        self.names.lock().insert(name.into(), answers);
        self
    }
}

impl Machine for Scripted {
    fn look_up(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>> {
        let mut names = self.names.lock();
        let answer = match names.get_mut(&host) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(LookUpError::NotFound),
        };
        self.asked.lock().push(host);
        Box::pin(async move { answer })
    }

    fn addresses(&self) -> Arc<[IpAddr]> {
        self.own.clone().into()
    }

    fn resolvers(&self) -> Vec<SocketAddr> {
        self.resolvers.clone()
    }
}

pub fn net_on(machine: Arc<Scripted>) -> PodNet {
    let ranges = vec![Block::PODS, Block::SERVICES];
    PodNet::on(machine, ranges, Limits::default(), Rng::seeded(1))
}

/// A container of a pod at the n-th of this test's addresses.
pub fn container(n: u8, lists: &[&str]) -> Caller {
    let pod = PodRef {
        uid: format!("uid-{n}"),
        namespace: "shop".into(),
        name: format!("pod-{n}"),
        address: Some(pod_ip(n)),
        names: Arc::new(PodNames {
            hosts: vec![(format!("pod-{n}"), pod_ip(n))],
            ..PodNames::default()
        }),
    };
    let lists = lists.iter().map(|text| AllowedHosts::parse("the list", text).expect("a list"));
    Caller::new(pod, Reach { lists: lists.collect() })
}

pub fn pod_ip(n: u8) -> IpAddr {
    let low = std::process::id() % 60_000;
    [127, 90 + n, (low >> 8) as u8, low as u8].into()
}

fn outcome(result: Result<Conn, ConnectError>) -> String {
    match result {
        Ok(_) => "connected".into(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_port_at_localhost_is_the_pods_own() {
    let net = net_on(Arc::default());
    let (one, two) = (container(0, &[]), container(1, &[""]));
    let at = |n, port| SocketAddr::new(pod_ip(n), port);
    let private = net.bind(&one.pod, at(0, 9000), Scope::Pod).expect("free").listen().await;
    tokio::spawn(answer(private, "private"));
    let public = net.bind(&two.pod, at(1, 9000), Scope::Everyone).expect("free").listen().await;
    tokio::spawn(answer(public, "public"));
    for host in ["localhost", "127.0.0.1", "[::1]", "::ffff:127.0.0.1", "pod-0", "x.localhost"] {
        let conn = net.connect(&one, "tcp", host, 9000).await.expect(host);
        assert_eq!(read(conn).await, "private", "{host}");
    }
    // Its own localhost, also where a list allows nothing.
    assert_eq!(
        read(net.connect(&two, "tcp", "localhost", 9000).await.expect("own")).await,
        "public"
    );
    let ip = pod_ip(0).to_string();
    let other = net.connect(&container(2, &[]), "tcp", &ip, 9000).await;
    assert!(outcome(other).contains("refused"));
    assert!(TcpStream::connect(at(0, 9000)).await.is_err(), "not open on the host");
    // The node may: that is what a port-forward is.
    assert_eq!(read(net.connect_from_node(at(0, 9000)).await.expect("node")).await, "private");
}

#[tokio::test]
async fn the_hosts_processes_are_not_behind_the_clusters_addresses() {
    let net = net_on(Arc::default());
    let host = TcpListener::bind("0.0.0.0:0").await.expect("a process of the host");
    let port = host.local_addr().expect("address").port();
    let (service, pod) = (SocketAddr::new([127, 97, 1, 1].into(), 80), container(0, &[]));
    // Linux itself connects it.
    TcpStream::connect((pod_ip(1), port)).await.expect("any loopback address leads there");
    host.accept().await.expect("accepted");
    for ip in [pod_ip(0).to_string(), pod_ip(1).to_string(), "127.97.1.2".into()] {
        let said = outcome(net.connect(&pod, "tcp", &ip, port).await);
        assert!(said.contains("refused"), "{ip}: {said}");
    }
    // Nor through an EndpointSlice that somebody wrote.
    for endpoint in [SocketAddr::new(pod_ip(1), port), SocketAddr::new([127, 0, 0, 1].into(), port)]
    {
        let endpoints = [endpoint].into();
        net.set_table(Table { ports: [(service, endpoints)].into(), ..Table::default() });
        let said = outcome(net.connect(&pod, "tcp", "127.97.1.1", 80).await);
        assert!(said.contains("refused") || said.contains("not reachable"), "{endpoint}: {said}");
    }
    // Only the API server is such an endpoint.
    let owner = ("default".to_owned(), "kubernetes".to_owned());
    let endpoint = SocketAddr::new([127, 97, 15, 255].into(), port);
    net.set_table(Table {
        ports: [(service, [endpoint].into())].into(),
        by_address: [([127, 97, 1, 1].into(), owner)].into(),
        ..Table::default()
    });
    let conn = net.connect(&pod, "tcp", "127.97.1.1", 80).await.expect("the API server");
    let (_, seen) = host.accept().await.expect("accepted");
    assert_eq!((seen, seen.ip()), (conn.local(), pod_ip(0)), "it sees the pod's address");
}

#[tokio::test]
async fn a_name_that_answers_differently_gains_nothing() {
    let machine = Scripted { own: vec!["192.0.2.9".parse().expect("ip")], ..Scripted::default() };
    let machine = machine
        .answers("loopback.evil", &[&["127.0.0.1"]])
        .answers("meta.evil", &[&["169.254.169.254"]])
        .answers("node.evil", &[&["192.0.2.9"]])
        .answers("mapped.evil", &[&["::ffff:127.0.0.53"]])
        .answers("turns.evil", &[&["127.96.0.1"], &["127.0.0.1"], &["169.254.169.254"]])
        .answers("both.evil", &[&["169.254.169.254", "127.96.0.1"]]);
    let machine = Arc::new(machine);
    let net = net_on(machine.clone());
    let pod = container(0, &[]);
    let listener = net.bind(&pod.pod, (pod_ip(0), 80).into(), Scope::Everyone).expect("free");
    tokio::spawn(answer(listener.listen().await, "itself"));
    let dial = async |host: &str| outcome(net.connect(&pod, "tcp", host, 80).await);
    for host in ["loopback.evil", "meta.evil", "node.evil", "mapped.evil"] {
        let said = dial(host).await;
        assert!(said.contains(&format!("{host} (")) && said.contains("not reachable"), "{said}");
    }
    // The good answer leads nowhere here, and each later connection is judged anew.
    assert!(dial("turns.evil").await.contains("cannot connect to 127.96.0.1:80"));
    assert!(dial("turns.evil").await.contains("loopback"));
    assert!(dial("turns.evil").await.contains("link-local"));
    // Of several answers only those that may be dialled are.
    assert!(dial("both.evil").await.contains("cannot connect to 127.96.0.1:80"));
    let asked = machine.asked.lock().len();
    assert_eq!(asked, 8, "one question a connection");
}

#[tokio::test]
async fn lists_hold_for_names_services_and_addresses_that_were_looked_up() {
    let machine = Scripted::default()
        .answers("good.example", &[&["192.0.2.1"]])
        .answers("bad.example", &[&["192.0.2.2"]]);
    let machine = Arc::new(machine);
    let net = net_on(machine.clone());
    let pod = container(0, &["good.example:80, cart, *.stock.svc.cluster.local, 192.0.2.64/26"]);
    let service = |ip: [u8; 4], namespace: &str, name: &str| {
        (ip.into(), (namespace.to_owned(), name.to_owned()))
    };
    let of = |services: &[([u8; 4], &str, &str)]| Table {
        by_address: services.iter().map(|(ip, ns, name)| service(*ip, ns, name)).collect(),
        ports: services.iter().map(|(ip, ..)| ((*ip, 80).into(), [].into())).collect(),
        names: services.iter().fold(BTreeMap::new(), |mut names, (ip, ns, name)| {
            let names_of = names.entry((*ns).to_owned()).or_insert_with(BTreeMap::new);
            names_of.insert((*name).to_owned(), (*ip).into());
            names
        }),
        ..Table::default()
    };
    net.set_table(of(&[
        ([127, 97, 0, 1], "shop", "cart"),
        ([127, 97, 0, 2], "shop", "admin"),
        ([127, 97, 0, 3], "stock", "db"),
    ]));
    let allowed = async |host: &str| match net.connect(&pod, "tcp", host, 80).await {
        Err(ConnectError::Denied { .. }) => false,
        Err(ConnectError::NoEndpoint(_)) => true,
        other => panic!("{host}: {}", outcome(other)),
    };
    for (host, may) in [
        ("cart", true),
        ("cart.shop", true),
        ("cart.shop.svc.cluster.local.", true),
        ("127.97.0.1", true),
        ("admin", false),
        ("127.97.0.2", false),
        ("db.stock", true),
        ("127.97.0.3", true),
    ] {
        assert_eq!(allowed(host).await, may, "{host}");
    }
    // A socket dials an address: the name it was looked up by counts.
    let may = |address: &str| {
        let address: SocketAddr = address.parse().expect("an address");
        net.check_reach(&pod, "tcp", address).is_ok()
    };
    assert!(!may("192.0.2.1:80"));
    net.look_up(&pod, "good.example").await.expect("is allowed");
    assert!(may("192.0.2.1:80") && !may("192.0.2.1:22"));
    assert!(may("192.0.2.65:80") && !may("192.0.2.2:80"));
    // The range makes every name one that may be looked up; what it leads to is judged.
    net.look_up(&pod, "bad.example").await.expect("may lead to the range");
    assert!(!may("192.0.2.2:80"));
    // A name that the pod gave an address itself allows nothing.
    let mut liar = container(2, &["good.example"]);
    let hosts = vec![("good.example".to_owned(), "192.0.2.9".parse().expect("ip"))];
    liar.pod.names = Arc::new(PodNames { hosts, ..PodNames::default() });
    let said = net.connect(&liar, "tcp", "good.example", 80).await;
    assert!(matches!(said, Err(ConnectError::Denied { .. })), "{}", outcome(said));
    let strict = container(1, &["good.example"]);
    let told = net.look_up(&strict, "secret.bad.example").await;
    assert!(matches!(told, Err(ConnectError::Denied { .. })), "{told:?}");
    assert!(!machine.asked.lock().iter().any(|name| name.contains("secret")));
}

#[tokio::test]
async fn a_connection_of_the_process_has_addresses_at_both_ends() {
    let net = net_on(Arc::default());
    let (one, two) = (container(0, &[]), container(1, &[]));
    let to = SocketAddr::new(pod_ip(1), 7000);
    let mut listener = net.listen(&two.pod, to).await.expect("free");
    let mut near = net.connect_address(&one, "tcp", to).await.expect("connected");
    let far = listener.accept().await;
    assert_eq!((near.local(), near.peer()), (far.peer(), far.local()));
    assert_eq!((near.local().ip(), near.peer()), (pod_ip(0), to));
    assert!(near.local().port() != 0);
    near.write_all(b"x").await.expect("open");
    let full = address(0);
    let bound = net.bind(&one.pod, full, Scope::Everyone).expect("any port");
    assert!(bound.address().port() >= 32_768);
    // Taken, and nobody listens yet.
    let early = net.connect_address(&two, "tcp", bound.address()).await;
    assert!(
        matches!(&early, Err(ConnectError::Io { source, .. }) if source.kind() == ErrorKind::ConnectionRefused),
        "{}",
        outcome(early)
    );
}
