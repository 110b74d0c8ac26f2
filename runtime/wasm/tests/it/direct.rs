//! Calls between guests of a node, which need no connection: to the callee they are what calls over
//! one are.

use std::time::Duration;

use http::StatusCode;

use windlass_runtime_api::{ContainerSpec, Limits, Runtime};

use crate::node::{Node, committed, guest, socket, until};

/// A caller and a callee of WASI 0.3; the caller passes the callee's answer on as it comes.
async fn two(node: &Node) -> (ContainerSpec, ContainerSpec) {
    let limits = Limits { memory_bytes: Some(16 << 20), ..Limits::default() };
    let mut specs = ["caller", "callee"].map(|name| node.pod(name, &guest("http3")));
    specs.iter_mut().for_each(|spec| spec.limits = limits);
    let [caller, callee] = specs;
    (node.started(caller).await, node.started(callee).await)
}

fn through(callee: &ContainerSpec, path: &str) -> String {
    format!("/call?to={}{path}", socket(callee))
}

#[tokio::test]
async fn answers_stream_and_break_off_as_they_do_over_a_connection() {
    let node = Node::new();
    let (caller, callee) = two(&node).await;
    // More than either may hold.
    let answer = node.get(&caller, &through(&callee, "/make?mib=48")).await.expect("answers");
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 48 << 20));
    let answer = node.get(&caller, &through(&callee, "/trap")).await.expect("answers");
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.body.contains("its container's log says why"), "{answer:?}");
    let broken = node.get(&caller, &through(&callee, "/late-trap")).await;
    assert!(broken.is_err(), "{broken:?}");
    // What the callee did is on its account: the last one trapped after its head.
    let stats = node.stats(&callee);
    assert_eq!((stats.requests, stats.traps), (3, 2), "{stats:?}");
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let node = Node::new();
    let caller = node.started(node.pod("caller", &guest("http-caller"))).await;
    let hello = node.started(node.pod("hello", &committed("v1"))).await;
    let url = format!("http://{}/", socket(&hello));
    let whole = node.get(&caller, &format!("/?url={url}")).await.expect("answers");
    let head = node.get(&caller, &format!("/?method=HEAD&url={url}")).await.expect("answers");
    assert_eq!((whole.status, head.status), (StatusCode::OK, StatusCode::OK));
    assert!(whole.body.starts_with("Hello") && head.body.is_empty(), "{whole:?} {head:?}");
}

#[tokio::test]
async fn a_callee_that_stops_finishes_what_it_was_asked() {
    let node = Node::new();
    let (caller, callee) = two(&node).await;
    let stop = async |grace: Duration| {
        until("the call has begun", || (node.stats(&callee).instances > 0).then_some(())).await;
        node.runtime.stop_container(&callee.pod.uid, "main", grace).await.expect("stops");
    };
    let slow = through(&callee, "/slow?ms=500");
    let (answer, ()) = tokio::join!(node.get(&caller, &slow), stop(Duration::from_secs(10)));
    assert_eq!(answer.expect("answers").body, "1 here\n");
    assert_eq!(node.exit(&callee).await.0, 0);
    let refused = node.get(&caller, &slow).await.expect("answers");
    assert_eq!(refused.body, "ErrorCode::ConnectionRefused\n");
}

#[tokio::test]
async fn a_callee_that_is_ended_fails_its_callers() {
    let node = Node::new();
    let (caller, callee) = two(&node).await;
    let never = through(&callee, "/never");
    let stop = async {
        until("the call has begun", || (node.stats(&callee).instances > 0).then_some(())).await;
        let grace = Duration::from_millis(100);
        node.runtime.stop_container(&callee.pod.uid, "main", grace).await.expect("stops");
    };
    let (answer, ()) = tokio::join!(node.get(&caller, &never), stop);
    // Whichever of its tasks is ended first: that of the call, or that of the instance.
    let said = answer.expect("answers").body;
    let known = ["ErrorCode::ConnectionTerminated\n", "the instance was ended\n"];
    assert!(known.contains(&said.as_str()), "{said}");
}
