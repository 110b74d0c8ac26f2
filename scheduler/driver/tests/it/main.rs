//! The scheduler against a server that is played by the test: it streams nodes and pods, takes
//! bindings, and writes down what it is asked; and against our own over the memory store.

mod fake;
mod server;

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use fake::Server;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_sdk_client::{Cluster, Informers};
use windlass_sdk_meta::{Clock, Rng, Timestamp};

/// A clock that stands still.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }
}

fn start(server: &Server) -> CancellationToken {
    let client = windlass_sdk_client::client(server.clone());
    let rng = Rng::seeded(1);
    let cluster = Cluster {
        informers: Informers::new(client.clone(), rng.clone()),
        client,
        clock: Arc::new(Stopped),
        rng,
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(windlass_scheduler_driver::run(cluster, shutdown.clone()));
    shutdown
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn binds_what_fits_and_says_why_not() {
    let server = Server::default();
    let shutdown = start(&server);
    settle().await;
    server.node("x", "1");
    server.pod("a", "600m");
    settle().await;
    server.pod("b", "600m");
    settle().await;
    expect![[r#"
        POST /api/v1/namespaces/default/pods/a/binding {"apiVersion":"v1","kind":"Binding","metadata":{"namespace":"default","name":"a","uid":"a"},"target":{"apiVersion":"v1","kind":"Node","name":"x"}}
        Event Normal Scheduled a: Successfully assigned default/a to x
        Event Warning FailedScheduling b: 0/1 nodes are available: 1 Insufficient cpu.
        PATCH /api/v1/namespaces/default/pods/b/status {"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu.","lastTransitionTime":"2027-01-15T08:00:00Z"}]},"metadata":{"uid":"b"}}"#]]
    .assert_eq(&server.log());
    // Room appears: bound without a wait.
    server.node("y", "1");
    settle().await;
    expect![[r#"
        POST /api/v1/namespaces/default/pods/b/binding {"apiVersion":"v1","kind":"Binding","metadata":{"namespace":"default","name":"b","uid":"b"},"target":{"apiVersion":"v1","kind":"Node","name":"y"}}
        Event Normal Scheduled b: Successfully assigned default/b to y"#]]
    .assert_eq(&server.log());
    // After shutdown nothing is bound.
    shutdown.cancel();
    settle().await;
    server.pod("c", "100m");
    settle().await;
    assert_eq!(server.log(), "");
}

#[tokio::test(start_paused = true)]
async fn a_refused_binding_is_tried_again() {
    let server = Server::default();
    let _shutdown = start(&server);
    server.node("x", "1");
    server.refuse_bindings(503, 2);
    server.pod("a", "600m");
    let start = Instant::now();
    while server.bound("a").is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    assert!(start.elapsed() >= Duration::from_secs(3), "1 s and 2 s of back-off");
    settle().await;
    expect![[r#"
        POST /api/v1/namespaces/default/pods/a/binding refused
        GET /api/v1/namespaces/default/pods/a
        Event Warning FailedScheduling a: binding rejected: refused
        POST /api/v1/namespaces/default/pods/a/binding refused
        GET /api/v1/namespaces/default/pods/a
        PATCH Event count 2
        POST /api/v1/namespaces/default/pods/a/binding {"apiVersion":"v1","kind":"Binding","metadata":{"namespace":"default","name":"a","uid":"a"},"target":{"apiVersion":"v1","kind":"Node","name":"x"}}
        Event Normal Scheduled a: Successfully assigned default/a to x"#]]
    .assert_eq(&server.log());
}

#[tokio::test(start_paused = true)]
async fn what_others_bound_is_taken_as_it_is() {
    let server = Server::default();
    let _shutdown = start(&server);
    server.node("x", "1");
    server.node("y", "1");
    settle().await;
    // Another scheduler binds it first; the watch is late with the news.
    server.hold_pod_events(true);
    server.pod("a", "600m");
    server.bind("a", "x");
    server.hold_pod_events(false);
    server.pod("b", "600m");
    server.pod("c", "600m");
    settle().await;
    let bound = ["a", "b", "c"].map(|pod| server.bound(pod));
    assert_eq!(bound, [Some("x".into()), Some("y".into()), None]);
}

#[tokio::test(start_paused = true)]
async fn many_pods_are_spread_and_none_is_bound_twice() {
    let server = Server::default();
    let _shutdown = start(&server);
    for node in 0..20 {
        server.node(&format!("n{node:02}"), "4");
    }
    for pod in 0..1000 {
        server.pod(&format!("p{pod:04}"), "100m");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = server.log();
    let bindings = log.lines().filter(|line| line.contains("/binding")).count();
    // 40 fit on each node.
    assert_eq!(bindings, 800);
    assert_eq!(server.per_node().values().copied().collect::<Vec<_>>(), [40; 20]);
    // The rest comes in as room appears.
    for node in 20..25 {
        server.node(&format!("n{node:02}"), "4");
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(server.per_node().values().copied().collect::<Vec<_>>(), [40; 25]);
}
