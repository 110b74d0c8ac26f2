//! Commands: what they print, how they end.

use std::time::Duration;

use tokio::time::Instant;
use windlass_runtime_api::{ContainerState, Limits, Runtime};

use crate::node::{Node, guest};

async fn check(args: &[&str], limits: Limits, exit: (i32, &str), logged: &[&str]) {
    let node = Node::new();
    let mut spec = node.pod("command", &guest("command-exit"));
    spec.args = args.iter().map(|arg| arg.to_string()).collect();
    spec.limits = limits;
    let spec = node.started(spec).await;
    let (code, reason, _) = node.exit(&spec).await;
    assert_eq!((code, reason.as_str()), exit, "{args:?}");
    let log = node.log(&spec, 1).await.join("\n");
    for line in logged {
        assert!(log.contains(line), "{args:?} {line:?}: {log}");
    }
}

#[tokio::test]
async fn a_command_ends_with_its_exit_code_and_its_log() {
    let none = Limits::default();
    let lines = [
        "stdout F arguments: command-exit 3",
        "stdout F GREETING=good day",
        "stderr F about to end",
    ];
    check(&["3"], none, (3, "Error"), &lines).await;
    check(&["0"], none, (0, "Completed"), &["stdout F arguments: command-exit 0"]).await;
    check(&["fail"], none, (1, "Error"), &[]).await;
    check(&["trap"], none, (134, "Error"), &["trapped: wasm trap", "unreachable"]).await;
    check(&["grow", "8"], none, (0, "Completed"), &["stdout F took 8388608"]).await;
}

#[tokio::test]
async fn a_command_past_its_memory_is_oom_killed() {
    let limits = Limits { memory_bytes: Some(16 << 20), ..Limits::default() };
    check(&["grow", "64"], limits, (137, "OOMKilled"), &["memory limit of 16777216"]).await;
}

#[tokio::test]
async fn a_command_that_never_ends_is_ended() {
    for args in [vec![], vec!["sleep".to_string()]] {
        let node = Node::in_folder(Node::new().folder, Some(1));
        let mut spec = node.pod("busy", &guest("command-busy"));
        spec.args = args;
        spec.command = vec!["busy".into()];
        let spec = node.started(spec).await;
        assert_eq!(node.log(&spec, 1).await, ["stdout F running"]);
        assert!(matches!(node.state(&spec), Some(ContainerState::Running { .. })));
        let began = Instant::now();
        let grace = Duration::from_millis(200);
        node.runtime.stop_container(&spec.pod.uid, "main", grace).await.expect("stops");
        assert!(began.elapsed() >= grace && began.elapsed() < Duration::from_secs(10));
        let (code, reason, _) = node.exit(&spec).await;
        assert_eq!((code, reason.as_str()), (137, "Error"));
    }
}
