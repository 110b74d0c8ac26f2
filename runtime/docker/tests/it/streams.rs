//! Programs beside a container's own, terminals, and its own streams.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    sync::mpsc,
};
use windlass_runtime_api::{Attached, ConsoleSpec, ExecIo, ExecSpec, Runtime};

use crate::node::Node;

struct Caller {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    resize: mpsc::Sender<(u16, u16)>,
}

fn caller(tty: bool) -> (Caller, ExecIo) {
    let ((stdin, theirs), (out, stdout), (err, stderr)) =
        (duplex(1 << 16), duplex(1 << 16), duplex(1 << 16));
    let (resize, sizes) = mpsc::channel(4);
    let io = ExecIo {
        stdin: Some(Box::pin(theirs)),
        stdout: Box::pin(out),
        stderr: (!tty).then(|| Box::pin(err) as _),
        resize: tty.then_some(sizes),
    };
    (Caller { stdin: Some(stdin), stdout, stderr, resize }, io)
}

async fn all(mut stream: DuplexStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    text
}

fn sh(script: &str, tty: bool) -> ExecSpec {
    ExecSpec { command: vec!["sh".into(), "-c".into(), script.into()], tty }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_have_streams_and_an_exit_code() {
    let node = Node::start().await;
    let spec = node.spec("exec", "sleep 1000").await;
    node.run(&spec).await.expect("it starts");
    let (mut caller, io) = caller(false);
    let uid = spec.pod.uid.clone();
    let running = node.runtime.exec(&uid, "c", sh("cat; echo err >&2; exit 3", false), io);
    let talking = async {
        let mut stdin = caller.stdin.take().expect("open");
        stdin.write_all(b"to the program\n").await.expect("taken");
        drop(stdin);
    };
    let (ended, ()) = tokio::join!(running, talking);
    assert_eq!(ended.expect("it ran"), 3);
    assert_eq!(all(caller.stdout).await, "to the program\n");
    assert_eq!(all(caller.stderr).await, "err\n");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_of_the_caller_s() {
    let node = Node::start().await;
    let spec = node.spec("tty", "sleep 1000").await;
    node.run(&spec).await.expect("it starts");
    let (mut caller, io) = caller(true);
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 1 & wait; done";
    let (runtime, uid) = (node.runtime.clone(), spec.pod.uid.clone());
    let program = sh(script, true);
    let running = tokio::spawn(async move { runtime.exec(&uid, "c", program, io).await });
    let mut lines = BufReader::new(&mut caller.stdout).lines();
    assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some("ready"));
    caller.resize.send((123, 45)).await.expect("taken");
    assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some("45 123"));
    assert_eq!(running.await.expect("it ran").expect("it ended"), 0);
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_caller_goes_is_ended() {
    let node = Node::start().await;
    let spec = node.spec("left", "sleep 1000").await;
    node.run(&spec).await.expect("it starts");
    let (mut caller, io) = caller(false);
    let uid = spec.pod.uid.clone();
    {
        let running = node.runtime.exec(&uid, "c", sh("echo $$; exec sleep 4321", false), io);
        let mut lines = BufReader::new(&mut caller.stdout).lines();
        tokio::select! {
            ended = running => panic!("{ended:?}"),
            line = lines.next_line() => assert!(line.expect("a line").is_some()),
        }
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (caller, io) = self::caller(false);
        let counting = sh("pgrep -f 'sleep 4321' | grep -v $$ | wc -l", false);
        node.runtime.exec(&uid, "c", counting, io).await.expect("it ran");
        let left = all(caller.stdout).await;
        if left.trim() == "0" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{left}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_attaches_talks_with_the_container_s_own_program() {
    let node = Node::start().await;
    let mut spec = node.spec("attach", "echo up; read line; echo got $line; exit 7").await;
    spec.console = ConsoleSpec { stdin: true, stdin_once: true, tty: false };
    node.run(&spec).await.expect("it starts");
    node.logged("attach", "up").await;
    let (mut caller, io) = caller(false);
    let uid = spec.pod.uid.clone();
    let attached = node.runtime.attach(&uid, "c", io);
    let talking = async {
        let mut stdin = caller.stdin.take().expect("open");
        stdin.write_all(b"this\n").await.expect("taken");
        stdin
    };
    let (attached, _stdin) = tokio::join!(attached, talking);
    assert!(matches!(attached, Ok(Attached::Ended)));
    assert_eq!(all(caller.stdout).await, "got this\n");
    assert_eq!(node.ended(&spec).await.0, 7);
    assert_eq!(node.log("attach"), "up\ngot this\n");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_of_a_terminal_is_one_line() {
    let mut node = Node::start().await;
    let long = 40_000;
    let script =
        format!("head -c {long} /dev/zero | tr '\\0' x; echo; echo short; printf 'no end'");
    let mut spec = node.spec("long", &script).await;
    spec.console = ConsoleSpec { tty: true, ..ConsoleSpec::default() };
    node.run(&spec).await.expect("it starts");
    node.ended(&spec).await;
    let lines = |node: &Node| {
        let text = std::fs::read_to_string(node.log_path("long")).expect("a log");
        let mut lines = vec![String::new()];
        for part in text.lines() {
            let mut words = part.splitn(4, ' ').skip(2);
            let (tag, text) = (words.next().expect("a tag"), words.next().unwrap_or_default());
            lines.last_mut().expect("a line").push_str(text.trim_end_matches('\r'));
            if tag == "F" {
                lines.push(String::new());
            }
        }
        lines
    };
    let expected = vec!["x".repeat(long), "short".into(), "no end".into(), String::new()];
    assert_eq!(lines(&node), expected);
    // Read again it is neither doubled nor cut.
    node.restart().await;
    node.ended(&spec).await;
    assert_eq!(lines(&node), expected);
    node.remove(&spec).await;
}
