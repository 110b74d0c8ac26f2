//! Handlers and commands of WASI 0.3: an instance answers several requests, one after the other and
//! at once, and what happens to one of them is the others' business only where it must be.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use windlass_runtime_api::{ContainerSpec, ContainerStats, Limits, OnTrap, Runtime};

use crate::node::{DEADLINE, Node, committed, guest, socket, until};

async fn handler(node: &Node, limits: Limits) -> ContainerSpec {
    let mut spec = node.pod("three", &guest("http3"));
    spec.limits = limits;
    node.started(spec).await
}

async fn stats(node: &Node) -> ContainerStats {
    node.runtime.stats().await.remove(0).containers.remove(0)
}

async fn body(node: &Node, spec: &ContainerSpec, path: &str) -> String {
    let answer = node.get(spec, path).await.expect("answers");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

/// A request with a body in parts, on a connection of its own.
async fn send(
    node: &Node,
    spec: &ContainerSpec,
    path: &str,
    parts: usize,
    trailers: Option<HeaderMap>,
) -> Response<Incoming> {
    let conn = node.connect(spec).await.expect("connects");
    let (mut sender, connection) = http1::handshake(TokioIo::new(conn)).await.expect("HTTP");
    tokio::spawn(connection);
    let part = Bytes::from(vec![b'x'; 64 << 10]);
    let frames = stream::repeat(part).take(parts).map(Frame::data);
    let end = stream::iter(trailers.map(Frame::trailers));
    let body = StreamBody::new(frames.chain(end).map(Ok::<_, std::convert::Infallible>));
    let request = Request::post(path)
        .header("host", "three")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(body);
    let sent = sender.send_request(request.expect("a request"));
    let answer = tokio::time::timeout(DEADLINE, sent).await.expect("in time").expect("answers");
    // The connection lives as long as its sender.
    tokio::spawn(async move {
        sender.ready().await.ok();
        tokio::time::sleep(DEADLINE).await;
        drop(sender);
    });
    answer
}

#[tokio::test]
async fn an_instance_answers_several_requests_and_is_dropped_when_idle() {
    let node = Node::new();
    let spec = handler(&node, Limits::default()).await;
    assert_eq!(stats(&node).await.instances, 0);
    for n in 1..=5 {
        assert_eq!(body(&node, &spec, "/count").await, format!("{n}\n"));
        assert_eq!(stats(&node).await.instances, 1);
    }
    until("the idle instance goes", || {
        let left = futures::executor::block_on(stats(&node));
        (left.instances == 0 && left.memory_bytes == 0).then_some(())
    })
    .await;
    assert_eq!(body(&node, &spec, "/count").await, "1\n");
    // Its number of requests is bounded.
    let mut counts = Vec::new();
    for _ in 0..130 {
        counts.push(body(&node, &spec, "/count").await.trim().parse::<u32>().expect("a number"));
    }
    assert_eq!(counts.iter().max(), Some(&128));
    let answer = body(&node, &spec, "/a?b=c").await;
    assert_eq!(answer, format!("Method::Get /a?b=c for {}: good day\n", spec.pod.address));
    assert!(node.log(&spec, 1).await.contains(&"stdout F asked for /a".to_string()));
}

#[tokio::test]
async fn requests_that_wait_share_an_instance_and_those_that_compute_do_not() {
    let node = Node::new();
    let spec = handler(&node, Limits::default()).await;
    let began = Instant::now();
    let asked = (0..64).map(|_| body(&node, &spec, "/slow?ms=700"));
    let watched = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        stats(&node).await.instances
    };
    let (here, instances) = tokio::join!(join_all(asked), watched);
    let most = here.iter().filter_map(|text| text.split(' ').next()?.parse::<u32>().ok()).max();
    assert!(most > Some(1) && most <= Some(16), "{here:?}");
    // On a busy machine a request that comes finds more instances at work, and gets one of its own.
    assert!((4..64).contains(&instances), "{instances} instances for 64 requests");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    let asked = (0..3).map(|_| body(&node, &spec, "/spin?ms=500"));
    let watched = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stats(&node).await.instances
    };
    let (_, instances) = tokio::join!(join_all(asked), watched);
    assert!(instances >= 2, "{instances} instances for requests that compute");
}

#[tokio::test]
async fn a_trap_ends_its_instance_and_no_other() {
    let node = Node::new();
    let spec = handler(&node, Limits::default()).await;
    assert_eq!(body(&node, &spec, "/count").await, "1\n");
    // In one instance: the one that waits fails with the one that traps.
    let (slow, trapped) = tokio::join!(node.get(&spec, "/slow?ms=3000"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.get(&spec, "/trap").await
    });
    assert_eq!(trapped.expect("answers").status, 500);
    assert_eq!(slow.expect("answers").status, 500);
    assert_eq!(body(&node, &spec, "/count").await, "1\n");
    assert_eq!(stats(&node).await.traps, 1);
    let log = node.log(&spec, 2).await.join("\n");
    assert!(log.contains("request failed: wasm trap"), "{log}");
    // In the middle of an answer, that is not its end.
    let cut = node.get(&spec, "/late-trap").await;
    assert!(cut.is_err(), "{cut:?}");
    let answer = node.get(&spec, "/error").await.expect("answers");
    assert_eq!((answer.status.as_u16(), answer.body.contains("LoopDetected")), (502, true));
}

#[tokio::test]
async fn on_trap_restart_holds_too() {
    let node = Node::new();
    let mut spec = node.pod("restarts", &guest("http3"));
    spec.on_trap = OnTrap::Restart;
    let spec = node.started(spec).await;
    assert_eq!(node.get(&spec, "/trap").await.expect("answers").status, 500);
    let (code, reason, _) = node.exit(&spec).await;
    assert_eq!((code, reason.as_str()), (134, "Error"));
}

#[tokio::test]
async fn bodies_and_trailers_pass_with_little_memory() {
    let node = Node::new();
    let limit = 4 << 20;
    let spec = handler(&node, Limits { memory_bytes: Some(limit), ..Limits::default() }).await;
    let length = 256 * (64 << 10);
    for path in ["/echo", "/pass"] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().expect("a value"));
        let answer = send(&node, &spec, path, 256, Some(trailers)).await;
        assert_eq!(answer.status(), 200, "{path}");
        let mut answer = answer.into_body();
        let (mut received, mut sum, mut most) = (0, None, 0);
        while let Some(frame) = answer.frame().await {
            let frame = frame.expect(path);
            if let Some(data) = frame.data_ref() {
                received += data.len();
                most = most.max(stats(&node).await.memory_bytes);
            } else if let Some(trailers) = frame.trailers_ref() {
                sum = trailers.get("x-sum").cloned();
            }
        }
        assert_eq!(received, length, "{path}");
        assert!(most > 0 && most <= limit, "{path}: {most} bytes");
        // The guest that passes the body on names no trailers in its headers.
        let expected = (path == "/echo").then(|| "42".parse().expect("a value"));
        assert_eq!(sum, expected, "{path}");
    }
    let answer = send(&node, &spec, "/measure", 256, None).await;
    let text = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(text, format!("{length} bytes, 0 trailers\n"));
    assert_eq!(body(&node, &spec, "/make?mib=20").await.len(), 20 << 20);
}

#[tokio::test]
async fn a_request_has_its_time_and_its_instance_goes_with_it() {
    let node = Node::new();
    let limits = Limits { request_timeout: Some(Duration::from_millis(400)), ..Limits::default() };
    let spec = handler(&node, limits).await;
    for path in ["/never", "/spin?ms=60000"] {
        let answer = node.get(&spec, path).await.expect("answers");
        assert_eq!(answer.status, 504, "{path}");
        until("the instance goes", || {
            let left = futures::executor::block_on(stats(&node));
            (left.instances == 0).then_some(())
        })
        .await;
    }
    assert_eq!(body(&node, &spec, "/count").await, "1\n");
}

#[tokio::test]
async fn memory_is_held_and_a_full_container_makes_requests_wait() {
    let node = Node::new();
    let limits = Limits { memory_bytes: Some(40 << 20), ..Limits::default() };
    let spec = handler(&node, limits).await;
    assert_eq!(node.get(&spec, "/grow?mib=64").await.expect("answers").status, 500);
    assert_eq!(body(&node, &spec, "/grow?mib=20").await, format!("held {} bytes\n", 20 << 20));
    let log = node.log(&spec, 1).await.join("\n");
    assert!(log.contains("memory limit of 41943040 bytes exceeded"), "{log}");
}

#[tokio::test]
async fn an_instance_may_work_on_and_is_waited_for() {
    let node = Node::new();
    let spec = handler(&node, Limits::default()).await;
    assert_eq!(body(&node, &spec, "/after?ms=1500").await, "answered\n");
    node.runtime
        .stop_container(&spec.pod.uid, "main", Duration::from_secs(20))
        .await
        .expect("stops");
    assert_eq!(node.exit(&spec).await, (0, "Completed".into(), String::new()));
    assert_eq!(node.log(&spec, 1).await, ["stdout F 1500 ms later"]);
}

#[tokio::test]
async fn a_guest_calls_other_pods() {
    let node = Node::new();
    let hello = node.started(node.pod("hello", &committed("v1"))).await;
    let spec = handler(&node, Limits::default()).await;
    for (to, expected) in [
        (format!("{}/", socket(&hello)), "Hello from Windlass, version v1\n"),
        ("127.0.0.1:1/".into(), "ErrorCode::ConnectionRefused\n"),
        ("127.1.2.3/".into(), "ErrorCode::DestinationIpProhibited\n"),
    ] {
        assert_eq!(body(&node, &spec, &format!("/call?to={to}")).await, expected);
    }
}

#[tokio::test]
async fn commands_run_with_arguments_environment_and_exit_codes() {
    let node = Node::new();
    for (name, arguments, expected) in [
        ("fine", vec!["ok"], (0, "Completed")),
        ("fails", vec!["fail"], (1, "Error")),
        ("exits", vec!["exit", "7"], (7, "Error")),
        ("traps", vec!["trap"], (134, "Error")),
        ("waits", vec!["wait", "50"], (0, "Completed")),
    ] {
        let mut spec = node.pod(name, &guest("command3"));
        spec.args = arguments.iter().map(ToString::to_string).collect();
        let spec = node.started(spec).await;
        let (code, reason, message) = node.exit(&spec).await;
        assert_eq!((code, reason.as_str()), expected, "{name}: {message}");
        let log = node.log(&spec, 1).await;
        let line = format!("stdout F command3 {} with 1 variables", arguments.join(" "));
        assert_eq!(log[0], line, "{name}");
    }
}

#[tokio::test]
async fn a_command_that_waits_is_ended_after_its_grace_period() {
    let node = Node::new();
    let mut spec = node.pod("waits", &guest("command3"));
    spec.args = vec!["wait".into(), "60000".into()];
    let spec = node.started(spec).await;
    node.log(&spec, 1).await;
    node.runtime
        .stop_container(&spec.pod.uid, "main", Duration::from_millis(100))
        .await
        .expect("stops");
    assert_eq!(node.exit(&spec).await.0, 137);
}
