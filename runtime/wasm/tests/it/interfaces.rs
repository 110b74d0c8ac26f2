//! Interfaces beyond WASI's core, limits of a request, and what is counted.

use std::time::Duration;

use tokio::time::Instant;
use windlass_runtime_api::Runtime;

use crate::node::{Node, committed, guest};

#[tokio::test]
async fn config_reads_the_environment_and_logging_writes_the_log() {
    let node = Node::new();
    let mut spec = node.pod("config", &guest("http-config"));
    spec.env.push(("MODE".into(), "fast".into()));
    let spec = node.started(spec).await;
    for (path, body) in [
        ("/?key=MODE", "Some(\"fast\")\n"),
        ("/?key=NONE", "None\n"),
        ("/", "[(\"GREETING\", \"good day\"), (\"MODE\", \"fast\")]\n"),
    ] {
        assert_eq!(node.get(&spec, path).await.expect("answers").body, body);
    }
    let log = node.log(&spec, 9).await;
    let lines = ["stderr F WARN config: asked for /", "stderr F INFO two", "stderr F lines"];
    assert_eq!(log[..3], lines);
}

#[tokio::test]
async fn a_request_has_its_time() {
    let node = Node::new();
    let mut spec = node.pod("timed", &guest("http-attacks"));
    spec.limits.request_timeout = Some(Duration::from_millis(300));
    let spec = node.started(spec).await;
    for path in ["/spin", "/never"] {
        let began = Instant::now();
        let answer = node.get(&spec, path).await.expect("answers");
        assert_eq!(answer.status, 504, "{path}");
        assert_eq!(answer.body, "the request was ended after its limit of 0.3 s\n");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    // A head that came in time doesn't help an answer that never ends.
    assert!(node.get(&spec, "/hang").await.is_err());
    assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
    assert_eq!(node.runtime.stats().await[0].containers[0].instances, 0);
}

#[tokio::test]
async fn what_containers_use_is_counted() {
    let node = Node::new();
    let spec = node.started(node.pod("counted", &guest("http-traps"))).await;
    for path in ["/", "/spin?ms=100", "/slow?ms=30", "/trap"] {
        node.get(&spec, path).await.expect("answers");
    }
    let stats = node.runtime.stats().await;
    let stats = &stats[0].containers[0];
    assert_eq!((stats.name.as_str(), stats.requests, stats.traps), ("main", 4, 1));
    let cpu = Duration::from_nanos(stats.cpu_nanos);
    assert!(cpu >= Duration::from_millis(90) && cpu < Duration::from_secs(5), "{cpu:?}");
    assert_eq!((stats.instances, stats.memory_bytes), (0, 0));
    assert_eq!(stats.latency.last().map(|(_, count)| *count), Some(4));
    assert!(stats.latency_sum >= Duration::from_millis(130), "{stats:?}");
}

/// What one request costs with nothing on the wire; printed, and held to an order of magnitude.
#[tokio::test]
async fn a_request_is_cheap() {
    let node = Node::in_folder(Node::new().folder, Some(1));
    let spec = node.started(node.pod("cheap", &committed("v1"))).await;
    let probe = windlass_runtime_api::HttpProbe {
        container: "main".into(),
        port: 8080,
        path: "/".into(),
        timeout: Duration::from_secs(10),
        ..Default::default()
    };
    let began = Instant::now();
    let rounds = 1000;
    for _ in 0..rounds {
        let answered = node.runtime.http_probe(&spec.pod.uid, probe.clone()).await;
        assert_eq!(answered.map(|answer| answer.status), Ok(200));
    }
    let each = began.elapsed() / rounds;
    let stats = node.runtime.stats().await;
    let guest = Duration::from_nanos(stats[0].containers[0].cpu_nanos) / rounds;
    println!("a request: {each:?}, of it in the guest: {guest:?}");
    assert!(each < Duration::from_millis(20), "{each:?}");
}
