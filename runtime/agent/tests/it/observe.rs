//! What a node tells of its use, and logs that are followed.

use std::fs;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{
    kubelet::Node,
    lifecycle::{POD, bound_pod, is_ready},
};

async fn with_pod() -> Node {
    let node = Node::start().await;
    node.load("hello").await;
    node.api.put(POD, bound_pod());
    node.until("ready", is_ready).await;
    node.runtime.hold("u", 5 << 20);
    node
}

#[tokio::test]
async fn use_is_told_in_all_three_forms() {
    let node = with_pod().await;
    let (code, page) = node.get("/metrics/resource").await;
    assert_eq!(code, 200);
    let labels = r#"{container="c",namespace="default",pod="p"}"#;
    let cpu = format!("container_cpu_usage_seconds_total{labels} 2.5 ");
    assert!(page.contains(&cpu), "{page}");
    let memory = r#"pod_memory_working_set_bytes{namespace="default",pod="p"} 5242880 "#;
    assert!(page.contains(memory), "{page}");
    assert!(page.contains("\nscrape_error 0\n"), "{page}");
    let machine = page.lines().find(|line| line.starts_with("node_memory_working_set_bytes "));
    let machine: f64 = machine.and_then(|l| l.split(' ').nth(1)?.parse().ok()).expect("a number");
    assert!(machine > 0.0, "{page}");

    let (code, text) = node.get("/stats/summary?only_cpu_and_memory=true").await;
    assert_eq!(code, 200);
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(summary["node"]["nodeName"], "node");
    let reference = json!({"name": "p", "namespace": "default", "uid": "u"});
    assert_eq!(summary["pods"][0]["podRef"], reference);
    let container = &summary["pods"][0]["containers"][0];
    assert_eq!(container["memory"]["workingSetBytes"], 5 << 20);
    // The second of two samples: it used nothing in between.
    assert_eq!(container["cpu"]["usageNanoCores"], 0);
    assert_eq!(container["cpu"]["usageCoreNanoSeconds"], 2_500_000_000_u64);
    assert!(summary["pods"][0]["startTime"].is_string(), "{summary:#}");

    let (code, page) = node.get("/metrics").await;
    assert_eq!(code, 200);
    for line in [
        r#"kubelet_node_name{node="node"} 1"#,
        "kubelet_running_pods 1",
        r#"windlass_requests_total{namespace="default",pod="p",container="c"} 3"#,
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[tokio::test]
async fn a_followed_log_goes_on_across_its_files() {
    let node = with_pod().await;
    let path = node.log(0);
    fs::create_dir_all(path.parent().expect("parent")).expect("dir");
    let line = |text: &str| format!("2026-11-23T10:00:00Z stdout F {text}\n");
    fs::write(&path, line("one") + &line("two")).expect("write");
    let mut body = node.open("/containerLogs/default/p/c?follow=true&tailLines=1").await;
    let mut text = String::new();
    let expected = ["two\n", "two\nthree\n", "two\nthree\nfour\n"];
    for (n, (next, expected)) in ["three", "four", "end"].into_iter().zip(expected).enumerate() {
        while text != expected {
            let frame = body.frame().await.expect("it goes on").expect("a frame");
            text += std::str::from_utf8(frame.data_ref().expect("data")).expect("text");
            assert!(expected.starts_with(&text), "{text}");
        }
        fs::rename(&path, path.with_extension(format!("log.{n}"))).expect("rename");
        fs::write(&path, line(next)).expect("write");
    }
    node.runtime.exit("u", "c", 1);
    let rest = body.collect().await.expect("a body").to_bytes();
    assert_eq!(rest, "end\n");
    // The next attempt has a log of its own, and this one is the previous.
    let restarted = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    node.until("restarted", restarted).await;
    let logs = "/containerLogs/default/p/c";
    assert_eq!(node.get(logs).await.1, "");
    let all = node.get(&format!("{logs}?previous=true")).await.1;
    assert_eq!(all.lines().count(), 5, "{all}");
    assert_eq!(node.get(&format!("{logs}?previous=true&tailLines=2")).await.1.lines().count(), 2);
}
