//! What guests call.

use windlass_runtime_api::ContainerSpec;

use crate::node::{Node, committed, guest, socket};

async fn check(node: &Node, caller: &ContainerSpec, url: &str, status: u16, text: &str) {
    let answer = node.get(caller, &format!("/?url={url}")).await.expect("answers");
    assert_eq!(answer.status, status, "{url}: {answer:?}");
    assert!(answer.body.contains(text), "{url}: {answer:?}");
}

#[tokio::test]
async fn a_guest_calls_other_pods_and_not_the_node() {
    let node = Node::new();
    let hello = node.started(node.pod("hello", &committed("v1"))).await;
    let caller = node.started(node.pod("caller", &guest("http-caller"))).await;
    let to = socket(&hello);
    for _ in 0..3 {
        check(&node, &caller, &format!("http://{to}/"), 200, "Hello from Windlass").await;
    }
    check(&node, &caller, &format!("http://{to}/nowhere"), 404, "nothing at").await;
    // Its own port, through localhost: the answer to a request without a URL.
    check(&node, &caller, "http://localhost:8080/", 502, "HttpRequestUriInvalid").await;
    check(&node, &caller, "http://127.0.0.1:1/", 502, "ConnectionRefused").await;
    check(&node, &caller, "http://127.1.2.3/", 502, "DestinationIpProhibited").await;
    // No TLS is spoken there.
    check(&node, &caller, &format!("https://{to}/"), 502, "Tls").await;
    let log = node.log(&caller, 2).await.join("\n");
    assert!(log.contains("127.1.2.3:80 is not reachable for pods"), "{log}");
}

#[tokio::test]
async fn a_connection_that_was_kept_may_be_gone() {
    let node = Node::new();
    let caller = node.started(node.pod("caller", &guest("http-caller"))).await;
    let mut hello = node.pod("hello", &committed("v1"));
    let url = format!("http://{}/", socket(&hello));
    for attempt in 0..3 {
        hello.attempt = attempt;
        hello = node.started(hello).await;
        check(&node, &caller, &url, 200, "Hello from Windlass").await;
    }
}
