//! Sends spans to a collector by OTLP over HTTP, as JSON (OpenTelemetry protocol 1.x, OTLP/HTTP).
//! Written out by hand: the form is a page of JSON, and the crates that know it bring protobuf, a
//! second HTTP client and their own task to every build. Spans that the collector doesn't take are
//! dropped, counted and told.

use std::{
    collections::BTreeMap, fmt, future::Future, pin::Pin, str::FromStr, sync::Arc, time::Duration,
};

use ::http::{Request, Uri, header, uri::Scheme};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc, time::Instant};

use crate::trace::{Resource, Span, SpanKind};

/// Spans in one request.
const BATCH: usize = 512;
/// A span waits this long for others.
const PAUSE: Duration = Duration::from_secs(1);
/// For one request, with connecting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a collector's answer.
const ANSWER_BYTES: usize = 64 << 10;
/// How often it is told that spans are lost.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The task that sends.
pub type Exporting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a collector listens: `http://HOST:PORT[/PATH]`, to which `/v1/traces` is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// Why a text names no collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = |why: &str| {
            Err(EndpointError(format!(
                "{text:?} is no OTLP endpoint: {why}; it looks like http://127.0.0.1:4318"
            )))
        };
        let Ok(uri) = text.parse::<Uri>() else { return wrong("it is no URL") };
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return wrong(
                "https is not spoken here: a collector on this machine can pass spans on",
            );
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return wrong("it doesn't begin with http://");
        }
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return wrong("it names no host");
        };
        if uri.query().is_some() {
            return wrong("it has a query");
        }
        Ok(Self {
            authority: authority.to_string(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(4318),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Sends what comes, until nobody can send any more.
pub async fn export(endpoint: Endpoint, mut spans: mpsc::Receiver<Span>) {
    let mut lost = 0u64;
    let mut told: Option<Instant> = None;
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        let end = Instant::now() + PAUSE;
        while batch.len() < BATCH {
            let more = spans.recv_many(&mut batch, BATCH);
            if !matches!(tokio::time::timeout_at(end, more).await, Ok(1..)) {
                break;
            }
        }
        let sent = tokio::time::timeout(PATIENCE, send(&endpoint, encode(&batch))).await;
        if let Err(why) = sent.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            lost += batch.len() as u64;
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                tracing::warn!(%endpoint, why, lost, "spans are lost");
                told = Some(Instant::now());
            }
        }
        batch.clear();
    }
}

async fn send(endpoint: &Endpoint, body: Vec<u8>) -> Result<(), String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let stream = TokioIo::new(stream.map_err(|error| text(&error))?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| text(&error))?;
    let request = Request::post(&endpoint.path)
        .header(header::HOST, &endpoint.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let _ = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it is answered with {status}")) }
    };
    // Both live in this task: none is left behind where the other is given up.
    tokio::select! {
        biased;
        answered = exchange => answered,
        ended = connection => Err(ended.map_or_else(|e| text(&e), |()| "it hung up".to_owned())),
    }
}

/// `ExportTraceServiceRequest` as JSON: one resource a container.
fn encode(spans: &[Span]) -> Vec<u8> {
    let mut by_resource: BTreeMap<*const Resource, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        by_resource.entry(Arc::as_ptr(&span.resource)).or_default().push(span);
    }
    let resources = by_resource.into_values().map(|spans| {
        let attributes = resource(&spans[0].resource);
        let spans: Vec<Value> = spans.into_iter().map(span).collect();
        json!({ "resource": { "attributes": attributes },
            "scopeSpans": [{ "scope": { "name": "windlass" }, "spans": spans }] })
    });
    let document = json!({ "resourceSpans": resources.collect::<Vec<_>>() });
    serde_json::to_vec(&document).unwrap_or_default()
}

fn resource(of: &Resource) -> Value {
    attributes(&[
        ("service.name", json!({ "stringValue": of.service })),
        ("k8s.namespace.name", json!({ "stringValue": of.namespace })),
        ("k8s.pod.name", json!({ "stringValue": of.pod })),
        ("k8s.pod.uid", json!({ "stringValue": of.pod_uid })),
        ("k8s.container.name", json!({ "stringValue": of.container })),
    ])
}

fn span(of: &Span) -> Value {
    let mut about = vec![
        ("http.request.method", json!({ "stringValue": of.method })),
        ("url.path", json!({ "stringValue": of.path })),
    ];
    if !of.peer.is_empty() {
        about.push(("server.address", json!({ "stringValue": of.peer })));
    }
    if let Some(status) = of.status {
        // 64-bit numbers are text in protobuf's JSON.
        about.push(("http.response.status_code", json!({ "intValue": status.to_string() })));
    }
    // A client is wrong about 4xx as well (semantic conventions for HTTP).
    let (kind, bad) = match of.kind {
        SpanKind::Server => (2, 500),
        SpanKind::Client => (3, 400),
    };
    let began = of.began.as_nanosecond();
    let took = i128::try_from(of.took.as_nanos()).unwrap_or(0);
    let mut span = json!({
        "traceId": format!("{:032x}", of.hop.trace),
        "spanId": format!("{:016x}", of.hop.span),
        "flags": 1,
        "name": of.method,
        "kind": kind,
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": (began + took).to_string(),
        "attributes": attributes(&about),
    });
    if let Some(parent) = of.parent {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    if !of.state.is_empty() {
        span["traceState"] = of.state.as_str().into();
    }
    if of.status.is_none_or(|status| status >= bad) {
        span["status"] = json!({ "code": 2 });
    }
    span
}

fn attributes(all: &[(&str, Value)]) -> Value {
    all.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use windlass_sdk_meta::Timestamp;

    use super::*;
    use crate::trace::Hop;

    #[test]
    fn endpoints() {
        let parsed = |text: &str| match text.parse::<Endpoint>() {
            Ok(endpoint) => format!("{endpoint} at {}:{}", endpoint.host, endpoint.port),
            Err(error) => error.to_string(),
        };
        let texts = [
            "http://127.0.0.1:4318",
            "http://collector/otlp/",
            "http://[::1]:4318",
            "https://collector:4318",
            "collector:4318",
            "http://",
        ];
        let told: String = texts.iter().map(|text| parsed(text) + "\n").collect();
        expect![[r#"
            http://127.0.0.1:4318/v1/traces at 127.0.0.1:4318
            http://collector/otlp/v1/traces at collector:4318
            http://[::1]:4318/v1/traces at ::1:4318
            "https://collector:4318" is no OTLP endpoint: https is not spoken here: a collector on this machine can pass spans on; it looks like http://127.0.0.1:4318
            "collector:4318" is no OTLP endpoint: it doesn't begin with http://; it looks like http://127.0.0.1:4318
            "http://" is no OTLP endpoint: it is no URL; it looks like http://127.0.0.1:4318
        "#]]
        .assert_eq(&told);
    }

    #[test]
    fn spans_as_json() {
        let resource = |pod: &str| {
            Arc::new(Resource {
                service: "cart".into(),
                namespace: "shop".into(),
                pod: pod.into(),
                pod_uid: format!("uid-{pod}"),
                container: "main".into(),
            })
        };
        let server = Span {
            resource: resource("cart-1"),
            kind: SpanKind::Server,
            hop: Hop { trace: 0xabc, span: 0xdef, sampled: true },
            parent: None,
            state: String::new(),
            began: Timestamp::from_second(1_795_454_400).expect("in range"),
            took: Duration::from_micros(1500),
            method: "GET".into(),
            path: "/cart".into(),
            peer: String::new(),
            status: Some(200),
        };
        let client = Span {
            kind: SpanKind::Client,
            parent: Some(0xdef),
            state: "a=1".into(),
            peer: "pay:8080".into(),
            status: None,
            ..server.clone()
        };
        let document: Value = serde_json::from_slice(&encode(&[server, client])).expect("JSON");
        let text = serde_json::to_string_pretty(&document).expect("JSON");
        expect![[r#"
            {
              "resourceSpans": [
                {
                  "resource": {
                    "attributes": [
                      {
                        "key": "service.name",
                        "value": {
                          "stringValue": "cart"
                        }
                      },
                      {
                        "key": "k8s.namespace.name",
                        "value": {
                          "stringValue": "shop"
                        }
                      },
                      {
                        "key": "k8s.pod.name",
                        "value": {
                          "stringValue": "cart-1"
                        }
                      },
                      {
                        "key": "k8s.pod.uid",
                        "value": {
                          "stringValue": "uid-cart-1"
                        }
                      },
                      {
                        "key": "k8s.container.name",
                        "value": {
                          "stringValue": "main"
                        }
                      }
                    ]
                  },
                  "scopeSpans": [
                    {
                      "scope": {
                        "name": "windlass"
                      },
                      "spans": [
                        {
                          "traceId": "00000000000000000000000000000abc",
                          "spanId": "0000000000000def",
                          "flags": 1,
                          "name": "GET",
                          "kind": 2,
                          "startTimeUnixNano": "1795454400000000000",
                          "endTimeUnixNano": "1795454400001500000",
                          "attributes": [
                            {
                              "key": "http.request.method",
                              "value": {
                                "stringValue": "GET"
                              }
                            },
                            {
                              "key": "url.path",
                              "value": {
                                "stringValue": "/cart"
                              }
                            },
                            {
                              "key": "http.response.status_code",
                              "value": {
                                "intValue": "200"
                              }
                            }
                          ]
                        },
                        {
                          "traceId": "00000000000000000000000000000abc",
                          "spanId": "0000000000000def",
                          "flags": 1,
                          "name": "GET",
                          "kind": 3,
                          "startTimeUnixNano": "1795454400000000000",
                          "endTimeUnixNano": "1795454400001500000",
                          "attributes": [
                            {
                              "key": "http.request.method",
                              "value": {
                                "stringValue": "GET"
                              }
                            },
                            {
                              "key": "url.path",
                              "value": {
                                "stringValue": "/cart"
                              }
                            },
                            {
                              "key": "server.address",
                              "value": {
                                "stringValue": "pay:8080"
                              }
                            }
                          ],
                          "parentSpanId": "0000000000000def",
                          "traceState": "a=1",
                          "status": {
                            "code": 2
                          }
                        }
                      ]
                    }
                  ]
                }
              ]
            }
        "#]]
        .assert_eq(&(text + "\n"));
    }
}
