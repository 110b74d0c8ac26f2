//! Trace contexts in and out of guests, and spans that a collector is sent.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};
use windlass_runtime_net::PodRef;
use windlass_runtime_wasm::TraceConfig;
use windlass_sdk_meta::Rng;

use crate::node::{DEADLINE, Node, guest, next_address};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

type Heard = mpsc::UnboundedReceiver<(HeaderMap, Bytes)>;

/// Answers everything on a connection with 200, and tells what it was sent.
fn answer<C>(conn: C, tell: mpsc::UnboundedSender<(HeaderMap, Bytes)>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let (mut head, body) = request.into_parts();
            let path = head.uri.path().parse().expect("a header");
            head.headers.insert("x-path", path);
            let body = body.collect().await?.to_bytes();
            let _ = tell.send((head.headers, body));
            Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("{}"))))
        }
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(conn), service));
}

/// A collector on the machine.
async fn collector() -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, tell.clone());
        }
    });
    (address, heard)
}

/// A pod of the node that is no guest.
async fn pod(node: &Node) -> (SocketAddr, Heard) {
    let address = SocketAddr::new(next_address(), 8080);
    let own = PodRef { uid: "uid-listener".into(), ..PodRef::default() };
    let mut listener = node.net.listen(&own, address).await.expect("it listens");
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            answer(listener.accept().await, tell.clone());
        }
    });
    (address, heard)
}

async fn next(heard: &mut Heard) -> (HeaderMap, Bytes) {
    tokio::time::timeout(DEADLINE, heard.recv()).await.expect("in time").expect("it listens")
}

/// A guest is asked to call somebody who tells the headers that came.
async fn called(node: &Node, headers: &[(&str, &str)]) -> HeaderMap {
    let (server, mut heard) = pod(node).await;
    let caller = node.started(node.pod("caller", &guest("http-caller"))).await;
    let path = format!("/?url=http://{server}/there");
    let answer = node.get_with(&caller, &path, headers).await.expect("answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    next(&mut heard).await.0
}

#[tokio::test]
async fn without_a_collector_the_context_is_passed_on() {
    let node = Node::new();
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = called(&node, &[("traceparent", &parent), ("tracestate", "a=1,b=2")]).await;
    assert_eq!(headers["traceparent"], parent.as_str());
    assert_eq!(headers["tracestate"], "a=1,b=2");
    let node = Node::new();
    assert!(called(&node, &[]).await.get("traceparent").is_none());
}

#[tokio::test]
async fn a_collector_is_sent_the_spans_of_sampled_requests() {
    let (collector, mut heard) = collector().await;
    let folder = Arc::new(tempfile::tempdir().expect("temporary folder"));
    let node = Node::with(folder, |config| {
        let endpoint = format!("http://{collector}").parse().expect("an endpoint");
        config.tracing = Some(TraceConfig { endpoint, ratio: 0.0, rng: Rng::seeded(3) });
    });
    let headers = called(&node, &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]).await;
    let outgoing = headers["traceparent"].to_str().expect("text").to_owned();
    assert!(outgoing.starts_with(&format!("00-{TRACE}-")) && !outgoing.contains(SPAN));

    let mut spans: BTreeMap<u64, Value> = BTreeMap::new();
    while spans.len() < 2 {
        let (headers, body) = next(&mut heard).await;
        assert_eq!(headers["content-type"], "application/json");
        let told: Value = serde_json::from_slice(&body).expect("JSON");
        let resource = &told["resourceSpans"][0];
        assert!(resource["resource"].to_string().contains(r#""stringValue":"caller""#), "{told:#}");
        for span in resource["scopeSpans"][0]["spans"].as_array().expect("spans") {
            spans.insert(span["kind"].as_u64().expect("a kind"), span.clone());
        }
    }
    let (server, client) = (&spans[&2], &spans[&3]);
    assert_eq!(server["traceId"], TRACE);
    assert_eq!(server["parentSpanId"], SPAN);
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(outgoing, format!("00-{TRACE}-{}-01", client["spanId"].as_str().expect("an id")));
    assert!(client["attributes"].to_string().contains("/there"), "{client:#}");
}

#[tokio::test]
async fn each_request_of_an_instance_has_its_own_trace() {
    let node = Node::new();
    let (server, mut heard) = pod(&node).await;
    let caller = node.started(node.pod("caller", &guest("http3"))).await;
    let ask = async |n: u32, parent: Option<String>| {
        let path = format!("/call?to={server}/{n}");
        let headers: Vec<(&str, &str)> = parent.iter().map(|p| ("traceparent", &**p)).collect();
        let answer = node.get_with(&caller, &path, &headers).await.expect("answers");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let parent = |n: u32| format!("00-{n:032x}-{SPAN}-01");
    // One after the other, in one instance; a request without a trace has none of another's.
    for n in 1..=3 {
        ask(n, Some(parent(n))).await;
        assert_eq!(next(&mut heard).await.0["traceparent"], parent(n).as_str());
        ask(n, None).await;
        assert!(next(&mut heard).await.0.get("traceparent").is_none());
    }
    // And at once.
    futures::future::join_all((10..30).map(|n| ask(n, Some(parent(n))))).await;
    for _ in 10..30 {
        let (headers, _) = next(&mut heard).await;
        let n = headers["x-path"].to_str().expect("text")[1..].parse().expect("a number");
        assert_eq!(headers["traceparent"], parent(n).as_str());
    }
}
