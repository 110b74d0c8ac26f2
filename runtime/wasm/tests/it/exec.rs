//! `exec`: a program beside the container's own, with streams of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, duplex};
use windlass_runtime_api::{ExecIo, ExecSpec, Mount, Runtime, RuntimeError};

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
    let io = ExecIo {
        stdin,
        stdout: Box::pin(stdout),
        stderr: (!tty).then(|| Box::pin(stderr) as _),
        resize: None,
    };
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

#[tokio::test]
async fn files_are_copied_whatever_the_component_can_run() {
    let node = Node::new();
    let volume = node.folder.path().join("volume");
    std::fs::create_dir(&volume).expect("a folder");
    // It exports a handler and nothing that could be run.
    let mut spec = node.pod("copy", &committed("v1"));
    let host_path = volume.clone();
    spec.mounts = vec![Mount { host_path, container_path: "/data".into(), ..Mount::default() }];
    let spec = node.started(spec).await;
    let uid = &spec.pod.uid;
    let big = "0123456789abcdef".repeat(1 << 16);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(big.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, "folder/big", big.as_bytes()).expect("appended");
    let archive = archive.into_inner().expect("an archive");
    let unpack = ["tar", "-xmf", "-", "-C", "/data"];
    let (code, ran) = exec(&node, uid, &unpack, Some(&archive), false).await.expect("runs");
    assert_eq!((code, ran.err.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(volume.join("folder/big")).expect("a file"), big);
    for (path, code) in [("/data/folder", 0), ("/data/folder/big", 1), ("/nowhere", 1), ("/", 0)] {
        let tested = exec(&node, uid, &["test", "-d", path], None, false).await.expect("runs");
        assert_eq!(tested.0, code, "{path}");
    }
    let pack = ["tar", "cf", "-", "/data/folder/big"];
    let (code, ran) = exec(&node, uid, &pack, None, false).await.expect("runs");
    assert_eq!((code, ran.err.as_str()), (0, ""));
    let mut archive = tar::Archive::new(ran.out.as_bytes());
    let mut entry = archive.entries().expect("entries").next().expect("one").expect("whole");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
    assert_eq!(
        (entry.path().expect("a name").to_str(), text == big),
        (Some("data/folder/big"), true)
    );
    let truncated = exec(&node, uid, &unpack, Some(&ran.out.as_bytes()[..9000]), false).await;
    let (code, ran) = truncated.expect("runs");
    assert!(code == 2 && ran.err.contains("the rest is left out"), "{code} {}", ran.err);
    let (code, ran) =
        exec(&node, uid, &["tar", "cf", "-", "/etc/passwd"], None, false).await.expect("runs");
    assert!(code == 2 && ran.err.contains("only its volumes: /data"), "{code} {}", ran.err);
}
