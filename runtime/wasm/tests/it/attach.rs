//! Attaching to a container's own program: its output from now on, and its stdin.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use windlass_runtime_api::{Attached, ConsoleSpec, ContainerSpec, ExecIo, Runtime};

use crate::node::{DEADLINE, Node, committed, guest};

/// A caller: what it sends, and what it gets.
struct Caller {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
}

fn caller() -> (Caller, ExecIo) {
    let ((stdin, theirs), (out, stdout), (err, stderr)) =
        (duplex(1024), duplex(1024), duplex(1024));
    let io = ExecIo {
        stdin: Some(Box::pin(theirs)),
        stdout: Box::pin(out),
        stderr: Some(Box::pin(err)),
        resize: None,
    };
    (Caller { stdin, stdout, stderr }, io)
}

async fn started(node: &Node, name: &str, args: &[&str], console: ConsoleSpec) -> ContainerSpec {
    let mut spec = node.pod(name, &guest("command-exec"));
    spec.args = args.iter().map(|arg| arg.to_string()).collect();
    spec.console = console;
    node.started(spec).await
}

async fn attach(node: &Node, spec: &ContainerSpec, io: ExecIo) -> Result<bool, String> {
    let attaching = node.runtime.attach(&spec.pod.uid, "main", io);
    let attached = tokio::time::timeout(DEADLINE, attaching).await.expect("it ends in time");
    attached.map(|how| matches!(how, Attached::Ended)).map_err(|error| error.message)
}

const STDIN: ConsoleSpec = ConsoleSpec { stdin: true, stdin_once: false, tty: false };

#[tokio::test]
async fn the_only_sessions_end_is_the_end_of_stdin() {
    let node = Node::new();
    let once = ConsoleSpec { stdin_once: true, ..STDIN };
    let spec = started(&node, "once", &["cat"], once).await;
    let (Caller { mut stdin, mut stdout, mut stderr }, io) = caller();
    let (mut out, mut err) = (String::new(), String::new());
    let (attached, _, _, ()) = tokio::join!(
        attach(&node, &spec, io),
        stdout.read_to_string(&mut out),
        stderr.read_to_string(&mut err),
        async {
            stdin.write_all(b"one line\n").await.expect("sent");
            drop(stdin);
        },
    );
    assert_eq!((attached, out.as_str(), err.as_str()), (Ok(true), "one line\n", "copied 9\n"));
    assert_eq!(node.exit(&spec).await.0, 0);
    // It is in the log as well.
    assert_eq!(node.log(&spec, 2).await, ["stdout F one line", "stderr F copied 9"]);
}

#[tokio::test]
async fn stdin_outlives_a_session_where_more_may_come() {
    let node = Node::new();
    let spec = started(&node, "often", &["cat"], STDIN).await;
    for text in ["first", "second"] {
        let (Caller { mut stdin, mut stdout, stderr: _stderr }, io) = caller();
        let session = async {
            stdin.write_all(text.as_bytes()).await.expect("sent");
            let mut echoed = vec![0; text.len()];
            stdout.read_exact(&mut echoed).await.expect("echoed");
            assert_eq!(String::from_utf8_lossy(&echoed), text);
        };
        tokio::select! {
            ended = attach(&node, &spec, io) => panic!("{text}: {ended:?}"),
            () = session => {}
        }
    }
    node.runtime.stop_container(&spec.pod.uid, "main", Duration::ZERO).await.expect("stops");
    assert_eq!(node.exit(&spec).await.0, 137);
    let (_caller, io) = caller();
    let refused = attach(&node, &spec, io).await;
    assert_eq!(refused, Err("container main is not running".into()));
}

#[tokio::test]
async fn a_command_that_is_asked_to_end_reads_the_end_of_its_input() {
    let node = Node::new();
    let spec = started(&node, "asked", &["cat"], STDIN).await;
    let (Caller { mut stdin, mut stdout, stderr: _stderr }, io) = caller();
    let mut out = String::new();
    let session = async {
        stdin.write_all(b"last words").await.expect("sent");
        let mut echoed = [0; 10];
        stdout.read_exact(&mut echoed).await.expect("echoed");
        // The session goes on, and has more to say.
        let patient = Duration::from_secs(600);
        node.runtime.stop_container(&spec.pod.uid, "main", patient).await.expect("stops");
        stdout.read_to_string(&mut out).await.expect("ends");
    };
    let (attached, ()) = tokio::join!(attach(&node, &spec, io), session);
    assert_eq!(attached, Ok(true));
    assert_eq!(node.exit(&spec).await.0, 0);
}

#[tokio::test]
async fn a_terminal_has_one_output_and_shows_what_came_before() {
    let node = Node::new();
    let tty = ConsoleSpec { tty: true, ..STDIN };
    let spec = started(&node, "tty", &["ask"], tty).await;
    // The prompt is written before anybody listens.
    assert_eq!(node.log(&spec, 1).await, ["stdout F terminal: true true true"]);
    let (Caller { mut stdin, mut stdout, stderr: _stderr }, io) = caller();
    let mut out = String::new();
    let (attached, _, ()) =
        tokio::join!(attach(&node, &spec, io), stdout.read_to_string(&mut out), async {
            stdin.write_all(b"me\n").await.expect("sent")
        },);
    assert_eq!(attached, Ok(true));
    assert_eq!(out, "terminal: true true true\nname? hello me\n");
    let log = node.log(&spec, 2).await;
    assert_eq!(log, ["stdout F terminal: true true true", "stdout F name? hello me"]);
}

#[tokio::test]
async fn without_stdin_what_is_sent_is_dropped() {
    let node = Node::new();
    let spec = started(&node, "none", &["cat"], ConsoleSpec::default()).await;
    assert_eq!(node.exit(&spec).await.0, 0);
    assert_eq!(node.log(&spec, 1).await, ["stderr F copied 0"]);
    let handler = node.started(node.pod("handler", &committed("v1"))).await;
    let (_caller, io) = caller();
    assert_eq!(attach(&node, &handler, io).await, Ok(false), "its log is followed");
}

#[tokio::test]
async fn a_session_that_does_not_keep_up_is_cut_off() {
    let node = Node::new();
    // 8 MiB, once a line came in.
    let spec = started(&node, "slow", &["flood-when-told", "8192"], STDIN).await;
    let (Caller { mut stdin, stdout: _unread, stderr: _stderr }, io) = caller();
    let (attached, sent) =
        tokio::join!(attach(&node, &spec, io), async { stdin.write_all(b"\n").await });
    sent.expect("sent");
    assert_eq!(attached, Err("the session did not keep up with what is written".into()));
    assert_eq!(node.exit(&spec).await.0, 0, "the program goes on without it");
}
