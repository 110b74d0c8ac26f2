//! `exec`: a program beside the container's own, with streams of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, duplex};
use windlass_runtime_api::{ExecIo, ExecSpec, Runtime, RuntimeError};

use crate::node::{Node, committed, guest, until};

#[derive(Default)]
pub struct Ran {
    pub out: String,
    pub err: String,
}

pub async fn exec(
    node: &Node,
    pod_uid: &str,
    command: &[&str],
    stdin: Option<&[u8]>,
    tty: bool,
) -> Result<(i32, Ran), RuntimeError> {
    let (stdout, mut out) = duplex(1024);
    let (stderr, mut err) = duplex(1024);
    let stdin = stdin.map(|bytes| Box::pin(std::io::Cursor::new(bytes.to_vec())) as _);
    let io =
        ExecIo { stdin, stdout: Box::pin(stdout), stderr: (!tty).then(|| Box::pin(stderr) as _) };
    let command = command.iter().map(|word| word.to_string()).collect();
    let mut ran = Ran::default();
    let (code, _, _) = tokio::join!(
        node.runtime.exec(pod_uid, "main", ExecSpec { command, tty }, io),
        out.read_to_string(&mut ran.out),
        err.read_to_string(&mut ran.err),
    );
    Ok((code?, ran))
}

#[tokio::test]
async fn a_program_runs_beside_the_containers_own() {
    let node = Node::new();
    let spec = node.started(node.pod("exec", &guest("command-exec"))).await;
    assert_eq!(node.log(&spec, 1).await, ["stdout F main is running"]);
    let uid = &spec.pod.uid;
    let big = "some input\n".repeat(50_000);
    for (command, stdin, tty, code, out, err) in [
        (vec!["both"], None, false, 0, "out\n", "err\n"),
        (vec!["cat"], Some(big.as_str()), false, 0, big.as_str(), "copied 550000\n"),
        (vec!["cat"], None, false, 0, "", "copied 0\n"),
        (
            vec!["env", "--flag"],
            None,
            false,
            0,
            "arguments: command-exec env --flag\nGREETING=good day\nterminal: false\n",
            "",
        ),
        (
            vec!["command-exec", "env"],
            None,
            true,
            0,
            "arguments: command-exec env\nGREETING=good day\nterminal: true\n",
            "",
        ),
        (vec!["42"], None, false, 42, "", ""),
    ] {
        let ran = exec(&node, uid, &command, stdin.map(str::as_bytes), tty).await;
        let (exit, ran) = ran.expect("runs");
        assert_eq!((exit, ran.out.as_str(), ran.err.as_str()), (code, out, err), "{command:?}");
    }
    let (code, ran) = exec(&node, uid, &["both"], None, true).await.expect("runs");
    assert_eq!((code, ran.out.len()), (0, "out\nerr\n".len()));
    let (code, ran) = exec(&node, uid, &["flood", "2000"], None, false).await.expect("runs");
    assert_eq!((code, ran.out.len()), (0, 2000 << 10));
    let (code, ran) = exec(&node, uid, &["trap"], None, false).await.expect("runs");
    assert_eq!(code, 134);
    assert!(ran.err.contains("unreachable"), "{}", ran.err);
    // None of it is in the container's log, and the container goes on.
    assert_eq!(node.log(&spec, 1).await.len(), 1);
    assert!(node.state(&spec).is_some());
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let node = Node::new();
    let spec = node.started(node.pod("handler", &committed("v1"))).await;
    let error = exec(&node, &spec.pod.uid, &["ls"], None, false).await.err().expect("is refused");
    assert!(error.message.contains("the component exports no wasi:cli/run"), "{error}");
    let error = exec(&node, "nobody", &["ls"], None, false).await.err().expect("is refused");
    assert!(error.message.contains("container main is not running"), "{error}");
}

#[tokio::test]
async fn a_program_ends_with_its_caller_and_with_its_container() {
    let node = Node::new();
    let spec = node.started(node.pod("ends", &guest("command-exec"))).await;
    let uid = &spec.pod.uid;
    let instances = || async {
        let stats = node.runtime.stats().await;
        stats[0].containers[0].instances
    };
    let left =
        tokio::time::timeout(Duration::from_millis(300), exec(&node, uid, &["sleep"], None, false));
    assert!(left.await.is_err());
    until("its instance is gone", || (futures::executor::block_on(instances()) == 1).then_some(()))
        .await;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.runtime.stop_container(uid, "main", Duration::ZERO).await
    };
    let (ran, stopped) = tokio::join!(exec(&node, uid, &["sleep"], None, false), stop);
    stopped.expect("stops");
    assert_eq!(ran.expect("ran").0, 137);
}
