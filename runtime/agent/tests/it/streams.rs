//! exec, attach and port-forward at the kubelet's door, as the API server hands them on.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use windlass_runtime_net::PodRef;
use windlass_runtime_streams::spdy::{Decoder, Encoder, Frame};

use crate::{
    kubelet::Node,
    lifecycle::{POD, bound_pod, is_ready},
};

/// A node with one pod that runs.
async fn ready_node() -> Node {
    let node = Node::start().await;
    node.load("hello").await;
    node.api.put(POD, bound_pod());
    node.until("ready", is_ready).await;
    node
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().uri(path).header("host", "node");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::empty()).expect("a request")
}

fn websocket(path: &str, protocol: &str) -> Request<Body> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    request(path, &headers)
}

fn spdy(path: &str, protocol: &str) -> Request<Body> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", protocol),
    ];
    request(path, &headers)
}

async fn upgraded(node: &Node, request: Request<Body>) -> TokioIo<Upgraded> {
    let response = node.upgrade(request).await;
    assert_eq!(response.status().as_u16(), 101);
    TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"))
}

#[tokio::test]
async fn exec_over_websocket_echoes_stdin_and_tells_the_exit_code() {
    let node = ready_node().await;
    let path = "/exec/default/p/c?input=1&output=1&error=1&command=3&command=a+b";
    let wire = upgraded(&node, websocket(path, "v5.channel.k8s.io")).await;
    let mut client = WebSocketStream::from_raw_socket(wire, Role::Client, None).await;
    for message in [&b"\0hello"[..], b"\xff\0"] {
        client.send(Message::binary(message.to_vec())).await.expect("sent");
    }
    let mut told = vec![String::new(); 4];
    while let Some(Ok(message)) = client.next().await {
        if let Message::Binary(bytes) = message {
            told[usize::from(bytes[0])] += &String::from_utf8_lossy(&bytes[1..]);
        }
    }
    assert_eq!(told[..3], ["", "hello", "3|a b"]);
    assert!(told[3].contains(r#""reason":"NonZeroExitCode""#), "{}", told[3]);
    assert!(told[3].contains(r#"{"reason":"ExitCode","message":"3"}"#), "{}", told[3]);
}

#[tokio::test]
async fn requests_that_can_not_be_upgraded_are_refused_in_words() {
    let node = ready_node().await;
    let v4 = "v4.channel.k8s.io";
    for (request, code, why) in [
        (request("/exec/default/p/c?output=1&command=a", &[]), 400, "unable to upgrade"),
        (
            websocket("/exec/default/p/c?output=1&command=a", "v9"),
            403,
            "no protocol of the client's",
        ),
        (websocket("/exec/default/p/c?command=a", v4), 400, "at least 1 of stdin"),
        (websocket("/exec/default/p/c?output=1", v4), 400, "specify a command"),
        (websocket("/exec/default/p/other?output=1&command=a", v4), 400, "is not valid for pod"),
        (websocket("/exec/default/q/c?output=1&command=a", v4), 404, "is not on this node"),
        (spdy("/portForward/default/p", v4), 403, "no protocol of the client's"),
        (spdy("/portForward/default/q", "portforward.k8s.io"), 404, "is not on this node"),
    ] {
        let asked = request.uri().to_string();
        let response = node.upgrade(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(status == code && text.contains(why), "{asked}: {status} {text}");
    }
}

#[tokio::test]
async fn a_program_that_can_not_run_is_an_outcome() {
    let node = ready_node().await;
    let path = "/exec/default/p/c?output=1&command=missing";
    let wire = upgraded(&node, websocket(path, "v4.channel.k8s.io")).await;
    let mut client = WebSocketStream::from_raw_socket(wire, Role::Client, None).await;
    let message = client.next().await.expect("a message").expect("well-formed").into_data();
    let text = String::from_utf8_lossy(&message).into_owned();
    assert!(text.starts_with('\u{3}') && text.contains("the component has no run"), "{text}");
}

#[tokio::test]
async fn ports_are_forwarded_in_parallel_and_failures_are_told() {
    let node = ready_node().await;
    let pod = node.api.get(POD).expect("the pod");
    let address = pod["status"]["podIP"].as_str().expect("an address").to_owned();
    let at = format!("{address}:8080").parse().expect("an address");
    let mut listener = node.net.listen(&PodRef::default(), at).await.expect("a listener");
    tokio::spawn(async move {
        loop {
            let mut conn = listener.accept().await;
            tokio::spawn(async move {
                let mut text = String::new();
                conn.read_to_string(&mut text).await.expect("read");
                conn.write_all(text.to_uppercase().as_bytes()).await.expect("written");
            });
        }
    });
    let mut wire = upgraded(&node, spdy("/portForward/default/p", "portforward.k8s.io")).await;
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    let mut put = |frame: Frame| encoder.write(&frame, &mut out);
    for n in 0..20u32 {
        // The last one asks for a port where nothing listens.
        let port = if n == 19 { "9" } else { "8080" };
        for (id, kind) in [(4 * n + 1, "error"), (4 * n + 3, "data")] {
            let headers = [("streamtype", kind), ("port", port), ("requestid", &n.to_string())];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            put(Frame::SynStream { id, headers, fin: false });
        }
        let payload = Bytes::from(format!("hello {n}"));
        put(Frame::Data { id: 4 * n + 3, payload, fin: true });
    }
    wire.write_all(&out).await.expect("written");
    let (mut decoder, mut ended) = (Decoder::default(), 0);
    let mut texts = vec![String::new(); 82];
    while ended < 40 {
        let mut buffer = BytesMut::new();
        assert!(wire.read_buf(&mut buffer).await.expect("read") > 0);
        decoder.push(&buffer);
        while let Some(frame) = decoder.next_frame().expect("well-formed") {
            if let Frame::Data { id, payload, fin } = frame {
                texts[id as usize] += &String::from_utf8_lossy(&payload);
                ended += usize::from(fin);
            }
        }
    }
    for n in 0..19 {
        assert_eq!(texts[4 * n + 3], format!("HELLO {n}"));
        assert_eq!(texts[4 * n + 1], "");
    }
    assert!(texts[77].contains("error forwarding port 9 to pod p"), "{}", texts[77]);
}

#[tokio::test]
async fn attach_follows_what_is_written_from_now_on() {
    let node = ready_node().await;
    let line = |stream: &str, text: &str| format!("2026-11-23T10:00:00Z {stream} F {text}\n");
    std::fs::create_dir_all(node.log(0).parent().expect("a parent")).expect("a folder");
    std::fs::write(node.log(0), line("stdout", "before")).expect("written");
    let path = "/attach/default/p/c?output=1&error=1";
    let wire = upgraded(&node, websocket(path, "v4.channel.k8s.io")).await;
    let mut client = WebSocketStream::from_raw_socket(wire, Role::Client, None).await;
    let mut told = vec![String::new(); 4];
    let mut attempts = 0;
    // Written again until the follower, which begins at the end of the file, has seen some.
    while told[1].is_empty() || told[2].is_empty() {
        attempts += 1;
        assert!(attempts < 200, "{told:?}");
        let mut log = std::fs::OpenOptions::new().append(true).open(node.log(0)).expect("the log");
        let lines = line("stdout", "out") + &line("stderr", "err");
        std::io::Write::write_all(&mut log, lines.as_bytes()).expect("written");
        let wait = std::time::Duration::from_millis(50);
        while let Ok(Some(Ok(Message::Binary(bytes)))) =
            tokio::time::timeout(wait, client.next()).await
        {
            told[usize::from(bytes[0])] += &String::from_utf8_lossy(&bytes[1..]);
        }
    }
    assert!(told[1].starts_with("out\n") && told[2].starts_with("err\n"), "{told:?}");
    node.runtime.exit("u", "c", 0);
    while let Some(Ok(message)) = client.next().await {
        if let Message::Binary(bytes) = message {
            told[usize::from(bytes[0])] += &String::from_utf8_lossy(&bytes[1..]);
        }
    }
    assert!(told[3].contains("Success"), "{told:?}");
}
