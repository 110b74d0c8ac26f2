//! Modules of WASI preview 1: a program in Go, as its own compiler makes it. One node for all of
//! it, because unoptimised compilers take long for so large a module.

use windlass_runtime_api::{ContainerSpec, Limits, Mount};

use crate::{
    exec::exec,
    node::{Node, guest},
};

fn pod(node: &Node, name: &str, args: &[&str]) -> ContainerSpec {
    let mut spec = node.pod(name, &guest("go-preview1"));
    spec.args = args.iter().map(|arg| arg.to_string()).collect();
    spec
}

#[tokio::test]
async fn a_go_program_is_a_command_like_others() {
    let node = Node::new();
    runs_to_its_end(&node).await;
    has_the_containers_files(&node).await;
    is_held_to_its_limits(&node).await;
    runs_beside_itself(&node).await;
    assert_eq!(node.runtime.compiled(), 1);
}

async fn runs_to_its_end(node: &Node) {
    for (name, args, exit, lines) in [
        (
            "env",
            vec!["env", "more"],
            (0, "Completed"),
            vec![
                "stdout F arguments: go-preview1 env more",
                "stdout F GREETING=good day",
                "stdout F PWD=/work",
                "stderr F to stderr",
            ],
        ),
        ("exit", vec!["exit", "7"], (7, "Error"), vec![]),
        ("panic", vec!["panic"], (2, "Error"), vec!["stderr F panic: asked to"]),
        ("alloc", vec!["alloc", "64"], (0, "Completed"), vec!["stdout F took 64"]),
    ] {
        let mut spec = pod(node, name, &args);
        spec.working_dir = Some("/work".into());
        let spec = node.started(spec).await;
        let (code, reason, message) = node.exit(&spec).await;
        assert_eq!((code, reason.as_str()), exit, "{name}: {message}");
        if !lines.is_empty() {
            let log = node.log(&spec, lines.len()).await;
            for line in lines {
                assert!(log.iter().any(|logged| logged == line), "{name} {line:?}: {log:?}");
            }
        }
    }
}

async fn has_the_containers_files(node: &Node) {
    let volume = node.folder.path().join("volume");
    std::fs::create_dir(&volume).expect("a folder");
    let mut spec = pod(node, "files", &["files", "/data"]);
    spec.mounts = vec![Mount {
        host_path: volume.clone(),
        container_path: "/data".into(),
        ..Mount::default()
    }];
    let spec = node.started(spec).await;
    assert_eq!(node.exit(&spec).await, (0, "Completed".into(), String::new()));
    let log = node.log(&spec, 3).await;
    assert_eq!(
        log,
        [r#"stdout F "one\ntwo\n""#, "stdout F entry by-go.txt.moved", "stdout F outside: true"]
    );
    assert!(volume.join("made/by-go.txt.moved").is_file());
}

async fn is_held_to_its_limits(node: &Node) {
    let mut spec = pod(node, "oom", &["alloc", "512"]);
    spec.limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let spec = node.started(spec).await;
    let (code, reason, _) = node.exit(&spec).await;
    assert_eq!((code, reason.as_str()), (137, "OOMKilled"));
}

async fn runs_beside_itself(node: &Node) {
    let spec = node.started(pod(node, "spins", &["spin"])).await;
    let uid = &spec.pod.uid;
    let (code, ran) = exec(node, uid, &["cat"], Some(b"through go"), false).await.expect("runs");
    assert_eq!((code, ran.out.as_str(), ran.err.as_str()), (0, "through go", "copied 10\n"));
    let (code, ran) = exec(node, uid, &["exit", "9"], None, false).await.expect("runs");
    assert_eq!((code, ran.out.as_str()), (9, ""));
}

/// A module whose `_start` traps and whose `go` returns.
const TWO_FUNCTIONS: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x04\x01\x60\0\0\
    \x03\x03\x02\0\0\
    \x07\x0f\x02\x06_start\0\0\x02go\0\x01\
    \x0a\x08\x02\x03\0\0\x0b\x02\0\x0b";

#[tokio::test]
async fn an_image_names_the_function_that_runs() {
    let node = Node::new();
    let wasm = node.folder.path().join("two.wasm");
    std::fs::write(&wasm, TWO_FUNCTIONS).expect("write");
    let pod = |name: &str, function: &str| {
        let mut spec = node.pod(name, &wasm);
        spec.image.config.function = function.into();
        spec
    };
    let spec = node.started(pod("go", "go")).await;
    assert_eq!(node.exit(&spec).await.0, 0);
    let spec = node.started(pod("start", "")).await;
    assert_eq!(node.exit(&spec).await.0, 134);
    let error = node.start(&pod("none", "none")).await.expect_err("refused");
    assert!(error.message.contains("without a function none"), "{error}");
}
