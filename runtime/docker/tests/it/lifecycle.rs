//! From image to end.

use std::time::{Duration, Instant};

use windlass_runtime_api::{ContainerState, Limits, Mount, Runtime};

use crate::node::{Node, docker};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_and_leaves_nothing() {
    let node = Node::start().await;
    let mut spec = node.spec("plain", "echo out; echo err >&2; hostname; exit 3").await;
    spec.env = vec![("A".into(), "b".into())];
    // The engine has no order between the two streams.
    let output = node.output(&spec).await;
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out", "plain"]);
    let (code, reason, _) = node.ended(&spec).await;
    assert_eq!((code, reason.as_str()), (3, ""));
    let raw = std::fs::read_to_string(node.log_path("plain")).expect("a log");
    assert!(raw.contains(" stderr F err\n") && raw.contains(" stdout F out\n"), "{raw}");
    node.remove(&spec).await;
    // What is asked again changes nothing.
    node.remove(&spec).await;
    assert_eq!(node.left(), "");
    assert_eq!(node.runtime.list().await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_and_args_follow_the_rules_of_kubernetes() {
    let node = Node::start().await;
    let mut spec = node.spec("image", "").await;
    spec.args.clear();
    assert_eq!(node.output(&spec).await, "by default\n");
    node.remove(&spec).await;
    let mut spec = node.spec("args", "echo $FROM_IMAGE $PWD").await;
    spec.working_dir = Some("/tmp".into());
    assert_eq!(node.output(&spec).await, "yes /tmp\n");
    node.remove(&spec).await;
    // A command of the pod's own has none of the image's arguments.
    let mut spec = node.spec("command", "").await;
    (spec.command, spec.args) = (vec!["/bin/echo".into(), "own".into()], vec![]);
    assert_eq!(node.output(&spec).await, "own\n");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_can_t_be_started_is_an_attempt_that_failed() {
    let mut node = Node::start().await;
    let mut spec = node.spec("absent", "").await;
    spec.command = vec!["/no/such/program".into()];
    let started = node.run(&spec).await.expect("an attempt");
    assert!(started.failed.is_some_and(|why| why.contains("/no/such/program")));
    let seen = node.ended(&spec).await;
    assert_eq!((seen.0, seen.1.as_str()), (128, "StartError"));
    // Also for an agent that knows nothing of it.
    node.restart().await;
    let again = node.ended(&spec).await;
    assert_eq!((again.0, again.1.as_str()), (128, "StartError"));
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_over_its_memory_is_killed_for_it() {
    let node = Node::start().await;
    let mut spec = node.spec("greedy", "x=a; while true; do x=$x$x; done").await;
    spec.limits = Limits { memory_bytes: Some(16 << 20), ..Limits::default() };
    node.run(&spec).await.expect("it starts");
    let (code, reason, _) = node.ended(&spec).await;
    assert_eq!((code, reason.as_str()), (137, "OOMKilled"));
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_asked_first_and_forced_at_the_end_of_its_grace() {
    let node = Node::start().await;
    let script = "trap 'echo asked; exit 5' INT; echo up; while :; do sleep 1 & wait; done";
    let mut spec = node.spec("polite", script).await;
    spec.linux.stop_signal = Some("SIGINT".into());
    node.run(&spec).await.expect("it starts");
    node.logged("polite", "up").await;
    let uid = spec.pod.uid.clone();
    node.runtime.stop_container(&uid, "c", Duration::from_secs(20)).await.expect("stopped");
    assert_eq!(node.ended(&spec).await.0, 5);
    assert_eq!(node.log("polite"), "up\nasked\n");
    node.remove(&spec).await;

    let spec = node.spec("deaf", "trap '' TERM; echo up; while :; do sleep 1; done").await;
    node.run(&spec).await.expect("it starts");
    node.logged("deaf", "up").await;
    let began = Instant::now();
    let uid = spec.pod.uid.clone();
    node.runtime.stop_container(&uid, "c", Duration::from_secs(1)).await.expect("stopped");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(node.ended(&spec).await.0, 137);
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_attempt_takes_the_place_of_the_old_one() {
    let node = Node::start().await;
    let mut spec = node.spec("again", "echo attempt; exit 1").await;
    node.output(&spec).await;
    spec.attempt = 1;
    let first = node.run(&spec).await.expect("it starts");
    // Begun twice, it is one.
    let second = node.run(&spec).await;
    assert!(second.is_ok_and(|second| second.id == first.id || second.failed.is_none()));
    node.ended(&spec).await;
    let seen = node.seen(&spec).await.expect("it is there");
    assert_eq!(seen.attempt, 1);
    let filter = format!("label=io.kubernetes.pod.uid={}", spec.pod.uid);
    let all = docker(&["ps", "-aq", "--filter", &filter]);
    assert_eq!(all.lines().count(), 2, "the sandbox and the newest attempt: {all}");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_volumes_hosts_and_localhost() {
    let node = Node::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let mount = |read_only| Mount {
        host_path: folder.path().to_owned(),
        container_path: "/data".into(),
        read_only,
        ..Mount::default()
    };
    let mut server =
        node.spec("pair", "echo hello > /data/x; httpd -f -p 127.0.0.1:8000 -h /data").await;
    server.mounts = vec![mount(false)];
    node.run(&server).await.expect("it starts");
    let script = "until wget -qO- http://localhost:8000/x 2>/dev/null; do sleep 0.1; done; cat /data/x; \
                  touch /data/y 2>/dev/null || echo fixed; grep -c Kubernetes /etc/hosts";
    let mut client = node.spec("pair", script).await;
    client.pod = server.pod.clone();
    client.name = "client".into();
    client.log_path = node.log_path("client");
    client.mounts = vec![mount(true)];
    node.run(&client).await.expect("it starts");
    node.ended(&client).await;
    assert_eq!(node.log("client"), "hello\nhello\nfixed\n1\n");
    assert!(matches!(
        node.seen(&server).await.map(|seen| seen.state),
        Some(ContainerState::Running { .. })
    ));
    let stats = node.runtime.stats().await;
    let own = stats.iter().find(|pod| pod.pod_uid == server.pod.uid).expect("it is measured");
    assert_eq!(own.containers.len(), 1);
    assert!(own.containers[0].memory_bytes > 0);
    node.remove(&server).await;
}
