//! The server over the memory store, driven through its in-process door. Sessions are short scripts
//! of requests; what comes back is one line each.

mod content;
mod crowds;
mod customs;
mod discovery;
mod events;
mod evictions;
mod expressions;
mod faults;
mod fuzz;
mod lists;
mod metrics;
mod network;
mod quotas;
mod reviews;
mod scales;
mod stages;
mod tokens;
mod tunnels;
mod watches;
mod widgets;
mod writes;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use expect_test::Expect;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::Service as _;
use windlass_apiserver_access::{
    Admission, AdmissionOptions, Authenticator, Authorizer, Tokens, User, pki::Authority,
};
use windlass_apiserver_server::{ApiServer, Config, LocalService, Stages};
use windlass_apiserver_store::{MemoryStore, Store};
use windlass_sdk_meta::{Clock, Rng, SystemClock, Timestamp};

/// A clock that tests move.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().expect("not poisoned");
        *now += jiff::SignedDuration::from_secs(seconds);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("not poisoned")
    }
}

pub struct Cluster {
    pub server: Arc<ApiServer>,
    pub clock: Arc<TestClock>,
    user: User,
    /// The revision of the cluster before the test began.
    base: u64,
}

/// An answer, read to its end.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub stages: Option<Stages>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// An answer in protobuf, which is of that kind of the core group.
    pub fn protobuf(&self, kind: &str) -> Value {
        let target = windlass_apiserver_schema::Target::new("", "v1", kind);
        windlass_apiserver_schema::decode_protobuf(&self.bytes, &target)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// The events of a watch in protobuf; bookmarks and errors with their type alone.
    pub fn frames(&self, kind: &str) -> Vec<(String, Value)> {
        let (mut rest, mut events) = (self.bytes.as_slice(), Vec::new());
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (frame, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
            rest = tail;
            // WatchEvent: field 1 is the type, field 2 a RawExtension whose field 1 is the object.
            let (event, frame) = field(frame, 0x0a);
            let (extension, frame) = field(frame, 0x12);
            assert!(frame.is_empty());
            let (object, extension) = field(extension, 0x0a);
            assert!(extension.is_empty());
            let group = if kind == "PartialObjectMetadata" { "meta.k8s.io" } else { "" };
            let target = windlass_apiserver_schema::Target::new(group, "v1", kind);
            let object = windlass_apiserver_schema::decode_protobuf(object, &target);
            events.push((String::from_utf8_lossy(event).into_owned(), object.expect("an object")));
        }
        events
    }

    /// One line: what kind of thing it is and which.
    pub fn summary(&self) -> String {
        self.summary_from(0)
    }

    /// With the revision, counted from that of the empty cluster.
    fn summary_from(&self, base: u64) -> String {
        let json = self.json();
        let code = self.code;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &json["metadata"];
        let version = match text(&metadata["resourceVersion"]).parse::<u64>() {
            Ok(version) if base > 0 && version > base => format!(" +{}", version - base),
            _ => String::new(),
        };
        let mut line = match json["kind"].as_str() {
            None => format!("{code} {}", String::from_utf8_lossy(&self.bytes).trim()),
            Some("Status") if json["status"] == "Success" => format!("{code} Success"),
            Some("Status") => {
                format!("{code} {}: {}", text(&json["reason"]), text(&json["message"]))
            }
            Some(kind) if json["items"].is_array() => {
                let items = json["items"].as_array().into_iter().flatten();
                let names: Vec<String> = items.map(|i| text(&i["metadata"]["name"])).collect();
                let mut line = format!("{code} {kind} [{}]", names.join(" "));
                if !metadata["remainingItemCount"].is_null() {
                    line += &format!(" remaining={}", metadata["remainingItemCount"]);
                }
                if metadata["continue"].is_string() {
                    line += " continues";
                }
                line
            }
            Some(kind) => format!("{code} {kind} {}{version}", text(&metadata["name"])),
        };
        for warning in self.headers.get_all(header::WARNING) {
            line += &format!(" | {}", warning.to_str().unwrap_or_default());
        }
        mask_uids(&line)
    }
}

/// A length-delimited field of a protobuf message, and what stands behind it.
fn field(message: &[u8], tag: u8) -> (&[u8], &[u8]) {
    assert_eq!(message[0], tag);
    let (mut at, mut length, mut shift) = (1, 0, 0);
    loop {
        length |= usize::from(message[at] & 0x7f) << shift;
        at += 1;
        if message[at - 1] & 0x80 == 0 {
            return message[at..].split_at(length);
        }
        shift += 7;
    }
}

/// Uids are drawn at random: golden texts show that there is one.
fn mask_uids(line: &str) -> String {
    let is_uid = |word: &str| word.len() == 36 && word.split('-').count() == 5;
    let clean = |word: &str| word.trim_matches(|c: char| "().,".contains(c)).to_owned();
    let words = line.split(' ').map(|word| match is_uid(&clean(word)) {
        true => word.replace(&clean(word), "UID"),
        false => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Cluster {
    pub async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new())).await
    }

    pub async fn on(store: Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Authority::open_or_create(folder.path(), Arc::new(SystemClock)).expect("a CA");
        let start = "2026-11-23T17:20:00Z".parse().expect("a time");
        Self::with(store, &ca, None, start).await
    }

    pub async fn with(
        store: Arc<dyn Store>,
        ca: &Authority,
        kubelet_client: Option<Arc<rustls::ClientConfig>>,
        start: Timestamp,
    ) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(start)));
        let server = start_server(store, clock.clone(), ca, kubelet_client).await;
        let user = User::authenticated("admin", &["system:masters"]);
        let mut cluster = Self { server, clock, user, base: 0 };
        let list = cluster.get("/api/v1/namespaces").await;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        cluster.base = version.parse().expect("a revision");
        cluster
    }

    pub fn as_user(&self, user: User) -> Self {
        Self { server: self.server.clone(), clock: self.clock.clone(), user, base: self.base }
    }

    pub fn service(&self) -> LocalService {
        self.server.local(self.user.clone())
    }

    pub async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        let Ok(response) = self.service().call(request).await;
        response
    }

    pub async fn read(&self, request: Request<Body>) -> Answer {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes().to_vec();
        let stages = parts.extensions.get::<Stages>().cloned();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes, stages }
    }

    /// `METHOD /path [body]`; PATCH takes `merge`, `json`, `strategic` or `apply` before the body.
    pub async fn run(&self, line: &str) -> Answer {
        let mut parts = line.trim().splitn(3, ' ');
        let (method, url) = (parts.next().unwrap_or("GET"), parts.next().unwrap_or("/"));
        let mut body = parts.next().unwrap_or_default().to_owned();
        let mut media = "application/json";
        if method == "PATCH" {
            let (kind, rest) = body.split_once(' ').expect("a patch type");
            media = match kind {
                "json" => "application/json-patch+json",
                "strategic" => "application/strategic-merge-patch+json",
                "apply" => "application/apply-patch+yaml",
                _ => "application/merge-patch+json",
            };
            body = rest.to_owned();
        }
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, media)
            .header(header::USER_AGENT, "tester/1.0");
        self.read(request.body(Body::from(body)).expect("a request")).await
    }

    pub async fn get(&self, url: &str) -> Value {
        self.run(&format!("GET {url}")).await.json()
    }

    /// Runs a script and compares what came back, a line a request.
    pub async fn session(&self, script: &[&str], expected: Expect) {
        let mut out = String::new();
        for line in script {
            let answer = self.run(line).await;
            let shown: String = line.chars().take(90).collect();
            out += &format!("{shown}\n    {}\n", answer.summary_from(self.base));
        }
        expected.assert_eq(&out);
    }
}

async fn start_server(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ca: &Authority,
    kubelet_client: Option<Arc<rustls::ClientConfig>>,
) -> Arc<ApiServer> {
    let authorizer = Arc::new(Authorizer::new());
    let options = AdmissionOptions { authorizer: authorizer.clone(), ..Default::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = Tokens::open_or_create(folder.path(), clock.clone(), Rng::seeded(8));
    let tokens = tokens.expect("a signing key");
    ApiServer::start(Config {
        store,
        authenticator: Authenticator::new(ca.certificate_der().clone(), clock.clone())
            .with_tokens(Arc::new(tokens)),
        clock,
        rng: Rng::seeded(7),
        authorizer,
        admission: Admission::new(options),
        service_range: (Ipv4Addr::new(127, 96, 0, 0), 24),
        service_endpoint: "127.96.0.254:6443".parse().ok(),
        kubelet_client,
        descriptions: Arc::new(windlass_apiserver_schema::NoDescriptions),
        mounts: Vec::new(),
    })
    .await
    .expect("the server starts")
}
