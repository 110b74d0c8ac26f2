//! What a start costs, and what is refused at it, with words that name the thing.

use std::{fs, sync::Arc};

use expect_test::{Expect, expect};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;
use windlass_runtime_api::{Port, Protocol, Runtime, RuntimeEvent, Sandbox};

use crate::node::{Node, committed, guest, image, socket, until};

async fn refused(name: &str, bytes: &[u8], expected: Expect) {
    let node = Node::new();
    let path = node.folder.path().join(format!("{name}.wasm"));
    fs::write(&path, bytes).expect("a file");
    let error = node.start(&node.pod("refused", &path)).await.expect_err("is refused");
    expected.assert_eq(&format!("{}: {}", error.reason, error.message));
}

#[tokio::test]
async fn what_cannot_run_is_refused_by_name() {
    refused(
        "gadget",
        &fs::read(guest("http-unknown-import")).expect("a guest"),
        expect!["CreateContainerError: image test/gadget:v1 imports acme:gadgets/lathe@1.2.0, which this node does not provide"],
    )
    .await;
    refused(
        "module",
        b"\0asm\x01\0\0\0",
        expect!["CreateContainerError: image test/module:v1 is a core module without _start: only commands of WASI preview 1 and components run here"],
    )
    .await;
    refused(
        "empty",
        b"\0asm\x0d\0\x01\0",
        expect!["CreateContainerError: image test/empty:v1 exports none of wasi:http/incoming-handler (WASI 0.2), wasi:http/handler (0.3) and wasi:cli/run, but nothing"],
    )
    .await;
    refused(
        "script",
        b"#!/bin/sh\n",
        expect!["CreateContainerError: image test/script:v1 holds no WebAssembly file"],
    )
    .await;
}

#[tokio::test]
async fn a_limit_below_one_instance_is_said_at_the_start() {
    let node = Node::new();
    let mut spec = node.pod("tight", &committed("v1"));
    spec.limits.memory_bytes = Some(1 << 16);
    let error = node.start(&spec).await.expect_err("is refused");
    assert_eq!(error.reason, "CreateContainerError");
    assert!(error.message.contains("and its limit is 65536"), "{error}");
}

#[tokio::test]
async fn a_damaged_image_is_not_compiled() {
    let node = Node::new();
    let mut image = image(&committed("v1"));
    image.wasm_digest = format!("sha256:{}", "0".repeat(64));
    let error = node.start(&node.pod_of("damaged", image)).await.expect_err("is refused");
    assert!(error.message.contains("is damaged"), "{error}");
}

#[tokio::test]
async fn a_restarted_node_finds_what_it_compiled() {
    let first = Node::new();
    let wasm = guest("http-caller");
    let began = Instant::now();
    first.started(first.pod("a", &wasm)).await;
    let cold = began.elapsed();
    let began = Instant::now();
    first.started(first.pod("b", &wasm)).await;
    let linked = began.elapsed();
    assert_eq!(first.runtime.compiled(), 1);

    let second = Node::in_folder(first.folder.clone(), None);
    let began = Instant::now();
    second.started(second.pod("a", &wasm)).await;
    let cached = began.elapsed();
    assert_eq!(second.runtime.compiled(), 0);
    println!(
        "start of {} bytes: compiled {cold:?}, cached {cached:?}, linked {linked:?}",
        fs::metadata(&wasm).expect("a guest").len()
    );

    // Damage is found out and repaired.
    let cache = first.folder.path().join("cache");
    let engines: Vec<_> = fs::read_dir(cache).expect("a folder").flatten().collect();
    assert_eq!(engines.len(), 1);
    let mut files = fs::read_dir(engines[0].path()).expect("a folder").flatten();
    let code = files.find(|file| file.path().extension().is_some_and(|e| e == "cwasm"));
    let code = code.map(|file| file.path());
    let code = code.expect("native code");
    let mut bytes = fs::read(&code).expect("native code");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&code).expect("removable");
    fs::write(&code, &bytes).expect("writable");
    for compiled in [1, 0] {
        let next = Node::in_folder(first.folder.clone(), None);
        next.started(next.pod("a", &wasm)).await;
        assert_eq!(next.runtime.compiled(), compiled);
    }
}

#[tokio::test]
async fn pods_of_one_image_wait_for_one_compilation() {
    let node = Node::new();
    let wasm = guest("http-echo");
    let specs: Vec<_> = (0..10).map(|n| node.pod(&format!("p{n}"), &wasm)).collect();
    let started = futures::future::join_all(specs.iter().map(|spec| node.start(spec))).await;
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert_eq!(node.runtime.compiled(), 1);
}

#[tokio::test]
async fn a_port_has_one_container() {
    let node = Node::new();
    let first = node.started(node.pod("shared", &committed("v1"))).await;
    let mut second = first.clone();
    second.name = "second".into();
    let error = node.start(&second).await.expect_err("is refused");
    assert_eq!(error.reason, "PortConflict");
    assert_eq!(error.message, "port 8080 is taken by container main of the same pod");
    second.ports = vec![Port { name: "http".into(), port: 9090, protocol: Protocol::Tcp }];
    let second = node.started(second).await;
    for spec in [&first, &second] {
        assert_eq!(node.get(spec, "/").await.expect("answers").status, 200);
    }
}

#[tokio::test]
async fn an_annotation_picks_the_port() {
    let node = Node::new();
    let mut spec = node.pod("picks", &committed("v1"));
    let annotations = [("windlass.dev/http-port".to_string(), "admin".to_string())].into();
    spec.pod = Arc::new(Sandbox { annotations, ..(*spec.pod).clone() });
    spec.ports.push(Port { name: "admin".into(), port: 9000, protocol: Protocol::Tcp });
    let mut spec = node.started(spec).await;
    assert!(node.get(&spec, "/").await.is_err());
    spec.ports.remove(0);
    assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
}

#[tokio::test]
async fn a_port_that_the_host_refuses_is_said_and_still_answers_inside() {
    let node = Node::new();
    let mut events = node.runtime.events();
    let spec = node.pod("taken", &committed("v1"));
    let _holder = tokio::net::TcpListener::bind(socket(&spec)).await.expect("binds");
    let spec = node.started(spec).await;
    assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200);
    let notice = until("the agent is told", || match events.next().now_or_never().flatten() {
        Some(RuntimeEvent::Notice { reason, message, .. }) => Some(format!("{reason}: {message}")),
        _ => None,
    });
    let notice = notice.await;
    assert!(notice.starts_with("PortUnavailableOnHost") && notice.contains("8080"), "{notice}");
}
