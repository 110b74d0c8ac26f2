//! The agent goes and comes back: nothing is started twice, no line is lost or doubled.

use std::{process::Command, time::Duration};

use windlass_runtime_api::{ContainerState, Runtime};

use crate::node::{Node, docker};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_found_again_and_its_log_goes_on() {
    let mut node = Node::start().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); usleep 5000; done";
    let spec = node.spec("counting", script).await;
    let started = node.run(&spec).await.expect("it starts");
    for wanted in ["line 20\n", "line 120\n", "line 220\n"] {
        node.logged("counting", wanted).await;
        node.restart().await;
        let seen = node.seen(&spec).await.expect("it is found");
        assert_eq!(seen.id, started.id);
        assert!(matches!(seen.state, ContainerState::Running { .. }), "{seen:?}");
    }
    // Begun again, it is the one that runs.
    let again = node.run(&spec).await.expect("it runs");
    assert_eq!(again.id, started.id);
    assert_eq!(node.ended(&spec).await.0, 0);
    let expected: String = (0..400).map(|n| format!("line {n}\n")).collect();
    assert_eq!(node.log("counting"), expected);
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_nobody_looked_is_told_with_its_whole_log() {
    let mut node = Node::start().await;
    let script = "echo begin; until [ -e /tmp/go ]; do usleep 10000; done; echo end; exit 4";
    let spec = node.spec("unseen", script).await;
    let started = node.run(&spec).await.expect("it starts");
    node.logged("unseen", "begin").await;
    // The old runtime is dropped before the container ends.
    let other = Node::start().await;
    let old = std::mem::replace(&mut node.runtime, other.runtime.clone());
    drop(old);
    docker(&["exec", &started.id, "touch", "/tmp/go"]);
    docker(&["wait", &started.id]);
    node.restart().await;
    assert_eq!(node.ended(&spec).await.0, 4);
    assert_eq!(node.log("unseen"), "begin\nend\n");
    // Another node of the same engine sees nothing of it.
    assert_eq!(other.runtime.list().await.expect("a list"), []);
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_died_is_started_again_and_nothing_stays_in_the_old_one() {
    let node = Node::start().await;
    let mut spec = node.spec("orphan", "sleep 1000").await;
    node.run(&spec).await.expect("it starts");
    let filter = format!("label=io.kubernetes.pod.uid={}", spec.pod.uid);
    let pause = docker(&[
        "ps",
        "-q",
        "--filter",
        &filter,
        "--filter",
        "label=io.kubernetes.container.name=POD",
    ]);
    docker(&["kill", pause.trim()]);
    let mut second = node.spec("orphan", "sleep 1000").await;
    second.pod = spec.pod.clone();
    second.name = "second".into();
    node.run(&second).await.expect("it starts beside a new sandbox");
    assert_eq!(node.ended(&spec).await.0, 137);
    spec.attempt = 1;
    node.run(&spec).await.expect("it starts again");
    let networks = |id: &str| {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", id]);
        let link = Command::new("readlink").arg(format!("/proc/{}/ns/net", pid.trim())).output();
        String::from_utf8(link.expect("readlink").stdout).expect("text")
    };
    let ids: Vec<String> =
        docker(&["ps", "-q", "--filter", &filter]).lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(ids.iter().all(|id| networks(id) == networks(&ids[0])));
    node.runtime.stop_container(&spec.pod.uid, "c", Duration::ZERO).await.expect("stopped");
    node.remove(&spec).await;
}
