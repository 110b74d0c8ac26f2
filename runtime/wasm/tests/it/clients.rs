//! What clients send that is out of the ordinary, written out byte by byte: other versions and
//! methods of HTTP, too much of something, and less than they promised.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_runtime_api::{ContainerSpec, Limits};

use crate::node::{DEADLINE, Node, guest};

/// Sends this, and returns all that comes until the server hangs up.
async fn say(node: &Node, spec: &ContainerSpec, request: &str) -> String {
    let mut conn = node.connect(spec).await.expect("connects");
    // A server that has read enough answers and hangs up, whatever is still to come.
    let _ = conn.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, conn.read_to_end(&mut answer)).await;
    read.expect("in time").expect("is read");
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(answer: &str) -> String {
    answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
}

fn text(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, text)| text)
}

/// Both versions of WASI behave alike.
async fn both(node: &Node) -> [ContainerSpec; 2] {
    let two = node.started(node.pod("two", &guest("http-echo"))).await;
    [two, node.started(node.pod("three", &guest("http3"))).await]
}

#[tokio::test]
async fn versions_and_methods_of_http() {
    let node = Node::new();
    for spec in both(&node).await {
        let pod = &spec.pod.name;
        let old = say(&node, &spec, "GET /a HTTP/1.0\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.0 200 OK"), "{pod}: {old}");
        assert!(!head(&old).contains("transfer-encoding") && text(&old).contains("/a"), "{old}");

        let closing = "host: web\r\nconnection: close\r\n";
        let none = say(&node, &spec, &format!("HEAD /a HTTP/1.1\r\n{closing}\r\n")).await;
        assert!(none.starts_with("HTTP/1.1 200 OK") && text(&none).is_empty(), "{pod}: {none}");

        for (request, status, words) in [
            ("CONNECT web:80 HTTP/1.1", "501 Not Implemented", "opens no tunnels"),
            ("GET / HTTP/1.1\r\nupgrade: websocket", "501 Not Implemented", "upgrade to websocket"),
            ("GET / HTTP/1.1\r\nupgrade: h2c", "200 OK", "Method::Get /"),
            ("PATCH /a HTTP/1.1", "200 OK", "/a"),
            ("nonsense", "400 Bad Request", ""),
        ] {
            let answer = say(&node, &spec, &format!("{request}\r\n{closing}\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{pod} {request}: {answer}");
            assert!(text(&answer).contains(words), "{pod} {request}: {answer}");
        }
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let node = Node::new();
    for spec in both(&node).await {
        let many: String = (0..120).map(|n| format!("x-{n}: 1\r\n")).collect();
        let long = format!("x: {}\r\n", "y".repeat(80 << 10));
        for headers in [many, long] {
            let request = format!("GET / HTTP/1.1\r\nhost: web\r\n{headers}\r\n");
            let answer = say(&node, &spec, &request).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{}: {answer}", spec.pod.name);
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_whether_to_send_is_told_when_the_guest_reads() {
    let node = Node::new();
    let spec = node.started(node.pod("three", &guest("http3"))).await;
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
        )
    };
    let mut conn = node.connect(&spec).await.expect("connects");
    conn.write_all(request("/measure").as_bytes()).await.expect("is sent");
    let mut told = [0; 25];
    tokio::time::timeout(DEADLINE, conn.read_exact(&mut told))
        .await
        .expect("in time")
        .expect("is read");
    assert_eq!(told, *b"HTTP/1.1 100 Continue\r\n\r\n");
    conn.write_all(b"12345").await.expect("is sent");
    let mut answer = String::new();
    conn.read_to_string(&mut answer).await.expect("is read");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("5 bytes"), "{answer}");
    // The guest answers without it.
    let answer = say(&node, &spec, &request("/count")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_read_stays_with_its_client() {
    let node = Node::new();
    let limits = Limits { request_timeout: Some(Duration::from_secs(2)), ..Limits::default() };
    let mut spec = node.pod("three", &guest("http3"));
    spec.limits = limits;
    let spec = node.started(spec).await;
    let mut conn = node.connect(&spec).await.expect("connects");
    let head = "POST /slow?ms=60000 HTTP/1.1\r\nhost: web\r\ncontent-length: 100000000\r\n\r\n";
    conn.write_all(head.as_bytes()).await.expect("is sent");
    let (mut sent, part) = (0, vec![b'x'; 16 << 10]);
    let pushed = async {
        while let Ok(written) = conn.write(&part).await {
            sent += written;
        }
    };
    // Nothing else ends it: the server takes no more, and doesn't hang up before the time is over.
    let _ = tokio::time::timeout(Duration::from_secs(1), pushed).await;
    assert!(sent > 0 && sent < 1 << 20, "{sent} bytes were taken from the client");
    let mut answer = vec![0; 12];
    tokio::time::timeout(DEADLINE, conn.read_exact(&mut answer))
        .await
        .expect("in time")
        .expect("is read");
    assert_eq!(answer, b"HTTP/1.1 504");
}

#[tokio::test]
async fn trailers_of_a_request_in_chunks_reach_the_guest() {
    let node = Node::new();
    let spec = node.started(node.pod("three", &guest("http3"))).await;
    let request = "POST /measure HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
    let answer = say(&node, &spec, request).await;
    assert!(answer.contains("3 bytes, 1 trailers"), "{answer}");
}
