//! HTTP handlers: answers, traps, memory, ends.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::join_all};
use tokio::time::Instant;
use windlass_runtime_api::{
    ContainerState, HttpProbe, Limits, OnTrap, Runtime, RuntimeEvent, TcpProbe,
};

use crate::node::{Node, committed, get_on, guest, socket, until};

#[tokio::test]
async fn two_versions_answer_side_by_side() {
    let node = Node::new();
    let one = node.started(node.pod("one", &committed("v1"))).await;
    let two = node.started(node.pod("two", &committed("v2"))).await;
    for (pod, version) in [(&one, "v1"), (&two, "v2"), (&one, "v1")] {
        let answer = node.get(pod, "/").await.expect("answers");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, format!("Hello from Windlass, version {version}\n"));
    }
    assert_eq!(node.log(&one, 2).await, ["stdout F GET / 200", "stdout F GET / 200"]);
    assert_eq!(node.log(&two, 1).await, ["stdout F GET / 200"]);
}

#[tokio::test]
async fn the_committed_demo_behaves_as_its_source() {
    let node = Node::new();
    for version in ["v1", "v2"] {
        let wasm = committed(version);
        let kept = node.started(node.pod(&format!("kept-{version}"), &wasm)).await;
        let wasm = guest(&format!("hello-{version}"));
        let built = node.started(node.pod(&format!("built-{version}"), &wasm)).await;
        for path in ["/", "/?a=b", "/nowhere"] {
            let (kept, built) = (node.get(&kept, path).await, node.get(&built, path).await);
            assert_eq!(format!("{kept:?}"), format!("{built:?}"), "{version} {path}");
        }
        assert_eq!(node.log(&kept, 3).await, node.log(&built, 3).await);
    }
}

#[tokio::test]
async fn the_pods_address_speaks_http_1_and_2_over_tcp() {
    let node = Node::new();
    let spec = node.started(node.pod("tcp", &committed("v1"))).await;
    let conn = tokio::net::TcpStream::connect(socket(&spec)).await.expect("connects");
    assert_eq!(get_on(conn, "tcp", "/").await.expect("answers").status, 200);

    let conn = tokio::net::TcpStream::connect(socket(&spec)).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(conn),
    )
    .await
    .expect("speaks HTTP/2");
    tokio::spawn(connection);
    let ask = |n: u32| {
        let uri = format!("http://tcp/?n={n}");
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        sender.send_request(http::Request::get(uri).body(body).expect("a request"))
    };
    let answers = join_all((0..20).map(ask).collect::<Vec<_>>()).await;
    for answer in answers {
        assert_eq!(answer.expect("answers").status(), 200);
    }
}

#[tokio::test]
async fn a_request_has_its_body_and_the_containers_environment() {
    let node = Node::new();
    let spec = node.started(node.pod("echo", &guest("http-echo"))).await;
    let answer = node.get(&spec, "/some/path?x=1").await.expect("answers");
    assert_eq!(answer.body, "Method::Get /some/path?x=1\nGREETING=good day\n");
    let mut log = node.log(&spec, 2).await;
    log.sort();
    assert_eq!(log, ["stderr F to stderr, in two writes", "stdout F echo /some/path?x=1"]);
}

#[tokio::test]
async fn a_trap_fails_its_request_only() {
    let node = Node::new();
    let mut events = node.runtime.events();
    let spec = node.started(node.pod("traps", &guest("http-traps"))).await;
    let slow = node.get(&spec, "/slow?ms=300");
    let traps = join_all((0..5).map(|_| node.get(&spec, "/trap")));
    let (slow, traps) = tokio::join!(slow, traps);
    assert_eq!(slow.expect("answers").status, 200);
    for trapped in traps {
        assert_eq!(trapped.expect("answers").status, 500);
    }
    // It had answered, but nothing was sent yet; unless its thread was wanted in between.
    let late = node.get(&spec, "/late-trap").await;
    assert!(late.as_ref().is_ok_and(|answer| answer.status == 500) || late.is_err(), "{late:?}");
    assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
    assert!(matches!(node.state(&spec), Some(ContainerState::Running { .. })));

    let mut told = 0;
    let mut messages = 0;
    while told < 6 {
        let event = tokio::time::timeout(crate::node::DEADLINE, events.next()).await;
        if let Some(RuntimeEvent::Trapped { count, message, .. }) = event.expect("an event") {
            told += count;
            messages += 1;
            assert!(message.contains("unreachable"), "{message}");
        }
    }
    assert!(messages <= 3, "{messages} events for 6 traps");
    let log = node.log(&spec, 6).await.join("\n");
    assert!(log.contains("http_traps::deliberately_trap"), "{log}");
}

#[tokio::test]
async fn on_trap_restart_ends_the_container_and_frees_its_port() {
    let node = Node::new();
    let mut spec = node.pod("restarts", &guest("http-traps"));
    spec.on_trap = OnTrap::Restart;
    let mut spec = node.started(spec).await;
    let slow = node.get(&spec, "/slow?ms=200");
    let trap = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        let trapped = node.get(&spec, "/trap").await;
        let (code, reason, message) = node.exit(&spec).await;
        assert_eq!((code, reason.as_str()), (134, "Error"), "{message}");
        (began, trapped)
    };
    let (slow, (began, trapped)) = tokio::join!(slow, trap);
    assert_eq!(slow.expect("drains").status, 200);
    assert!(trapped.is_ok_and(|answer| answer.status == 500));
    spec.attempt = 1;
    let began_again = Instant::now();
    let spec = node.started(spec).await;
    assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
    println!(
        "trap to exit seen and restarted: {:?}, restart alone {:?}",
        began.elapsed(),
        began_again.elapsed()
    );
}

#[tokio::test]
async fn memory_is_held_over_all_instances() {
    let node = Node::new();
    let mut spec = node.pod("memory", &guest("http-memory"));
    spec.limits = Limits { memory_bytes: Some(40 << 20), ..Limits::default() };
    let spec = node.started(spec).await;
    assert_eq!(node.get(&spec, "/grow?mib=1").await.expect("answers").status, 200);
    assert_eq!(node.get(&spec, "/grow?mib=64").await.expect("answers").status, 500);
    // Each fits alone; not all at once.
    let all = join_all((0..4).map(|_| node.get(&spec, "/grow?mib=15&ms=300"))).await;
    let statuses: Vec<_> = all.into_iter().map(|a| a.expect("answers").status.as_u16()).collect();
    assert!(statuses.contains(&200) && statuses.contains(&500), "{statuses:?}");
    let answer = node.get(&spec, "/grow?mib=20").await.expect("answers");
    assert_eq!(answer.body, format!("held {} bytes\n", 20 << 20));
    let log = node.log(&spec, 1).await.join("\n");
    assert!(log.contains("memory limit of 41943040 bytes exceeded"), "{log}");
}

#[tokio::test]
async fn one_instance_can_have_a_bound_of_its_own() {
    let node = Node::new();
    let mut spec = node.pod("one", &guest("http-memory"));
    spec.limits = Limits { instance_memory_bytes: Some(8 << 20), ..Limits::default() };
    let spec = node.started(spec).await;
    let all = join_all((0..8).map(|_| node.get(&spec, "/grow?mib=4&ms=50"))).await;
    assert!(all.into_iter().all(|answer| answer.expect("answers").status == 200));
    assert_eq!(node.get(&spec, "/grow?mib=8").await.expect("answers").status, 500);
}

#[tokio::test]
async fn a_guest_that_computes_leaves_its_thread_to_others() {
    let node = Node::in_folder(Node::new().folder, Some(1));
    let spec = node.started(node.pod("spins", &guest("http-traps"))).await;
    let spinning = node.get(&spec, "/spin?ms=2500");
    let quick = async {
        let mut answered = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2000) {
            assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
            answered += 1;
        }
        answered
    };
    let (spinning, answered) = tokio::join!(spinning, quick);
    assert_eq!(spinning.expect("answers").status, 200);
    assert!(answered >= 5, "only {answered} answers beside a guest that computes");
}

#[tokio::test]
async fn a_container_that_stops_drains() {
    let node = Node::new();
    let spec = node.started(node.pod("drains", &guest("http-traps"))).await;
    let slow = node.get(&spec, "/slow?ms=500");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopped = node.runtime.stop_container(&spec.pod.uid, "main", Duration::from_secs(20));
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            node.get(&spec, "/").await
        };
        let (stopped, late) = tokio::join!(stopped, late);
        stopped.expect("stops");
        late
    };
    let (slow, late) = tokio::join!(slow, stop);
    let late = late.expect("proxies may still send requests for a moment");
    assert!(late.status == 200 && late.closes);
    assert_eq!(slow.expect("drains").status, 200);
    assert_eq!(node.exit(&spec).await, (0, "Completed".into(), String::new()));
    assert!(node.get(&spec, "/").await.is_err());
    // Again, and after its end: no change.
    node.runtime.stop_container(&spec.pod.uid, "main", Duration::ZERO).await.expect("stops");
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_dropped() {
    let node = Node::new();
    let spec = node.started(node.pod("lasts", &guest("http-traps"))).await;
    let slow = node.get(&spec, "/slow?ms=60000");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let grace = Duration::from_millis(200);
        node.runtime.stop_container(&spec.pod.uid, "main", grace).await
    };
    let began = Instant::now();
    let (slow, stopped) = tokio::join!(slow, stop);
    stopped.expect("stops");
    assert!(slow.is_err(), "{slow:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let (code, reason, _) = node.exit(&spec).await;
    assert_eq!((code, reason.as_str()), (137, "Error"));
}

#[tokio::test]
async fn a_probe_calls_the_handler_in_process() {
    let node = Node::new();
    let spec = node.started(node.pod("probed", &guest("http-traps"))).await;
    let probe = |path: &str, port| HttpProbe {
        container: "main".into(),
        port,
        path: path.into(),
        timeout: Duration::from_secs(1),
        ..HttpProbe::default()
    };
    let ask = async |probe| {
        let answered = node.runtime.http_probe(&spec.pod.uid, probe).await;
        answered.map(|answer| answer.status).map_err(|error| error.message)
    };
    assert_eq!(ask(probe("/", 8080)).await, Ok(200));
    assert_eq!(ask(probe("/trap", 8080)).await, Ok(500));
    let address = spec.pod.address;
    let refused = format!("dial tcp {address}:9090: connect: connection refused");
    assert_eq!(ask(probe("/", 9090)).await, Err(refused.clone()));
    let late = ask(probe("/slow?ms=30000", 8080)).await;
    assert!(late.is_err_and(|message| message.starts_with("context deadline exceeded")));
    let elsewhere = HttpProbe { to: Some("127.0.0.1".into()), ..probe("/", 8080) };
    assert_eq!(ask(elsewhere).await, Ok(200), "the pod's own loopback");
    let nowhere = HttpProbe { to: Some("169.254.169.254".into()), ..probe("/", 80) };
    assert!(ask(nowhere).await.is_err_and(|message| message.contains("not reachable for pods")));
    let tcp = |port| TcpProbe {
        container: "main".into(),
        port,
        timeout: Duration::from_secs(1),
        ..TcpProbe::default()
    };
    assert_eq!(node.runtime.tcp_probe(&spec.pod.uid, tcp(8080)).await, Ok(()));
    let closed = node.runtime.tcp_probe(&spec.pod.uid, tcp(9090)).await;
    assert_eq!(closed.map_err(|error| error.message), Err(refused));
}

#[tokio::test]
async fn a_removed_sandbox_leaves_nothing() {
    let node = Node::new();
    let mut events = node.runtime.events();
    let spec = node.started(node.pod("gone", &committed("v1"))).await;
    let again = node.start(&spec).await.expect("is idempotent");
    assert_eq!(node.start(&spec).await.expect("is idempotent"), again);
    node.runtime.remove_sandbox(&spec.pod.uid).await.expect("removes");
    node.runtime.remove_sandbox(&spec.pod.uid).await.expect("is idempotent");
    assert_eq!(node.runtime.list().await, Ok(vec![]));
    assert!(node.get(&spec, "/").await.is_err());
    let changed = RuntimeEvent::Changed { pod_uid: spec.pod.uid.clone() };
    until("the agent is told", || events.next().now_or_never().flatten().filter(|e| *e == changed))
        .await;
    // The port is free again.
    let mut other = node.pod("other", &committed("v2"));
    other.pod =
        Arc::new(windlass_runtime_api::Sandbox { uid: "uid-other".into(), ..(*spec.pod).clone() });
    let other = node.started(other).await;
    assert_eq!(node.get(&other, "/").await.expect("answers").status, 200);
}
