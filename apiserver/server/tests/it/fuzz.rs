//! Everything that is parsed and comes from the network, damaged in many ways: bodies of every media
//! type, patches, apply, selectors, continue tokens, schemas and rules of custom resources, through
//! the same door as every request. The seeds are here and in `tests/corpus` (and the protobuf bodies that
//! the schema's tests compare); the damage is
//! drawn from a fixed seed, so a failure comes again. Nothing may panic, and memory stays bounded.

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};
use windlass_sdk_meta::Rng;

use crate::{
    Cluster,
    widgets::{CRDS, WIDGETS, define, widget, widgets, widgets_named},
};

const REQUESTS: usize = 6_000;
/// How much the whole run may add to the peak of the test process, its other tests included.
const MEMORY_KIB: u64 = 768 * 1024;

/// What is put into bodies: what parsers stumble over.
const PIECES: [&[u8]; 22] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"\\u0000",
    b"18446744073709551616",
    b"\xff\xfe",
    b"$patch",
    b"~1",
    b"/-",
    b"&a *a",
    b"!!binary x",
    b"\n  - ",
    b"\xf0\x9f\x92\xa9",
    b"\0",
];

/// One or two damages.
fn damage(rng: &Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(2) {
        let at = rng.below(bytes.len().max(1));
        let end = (at + 1 + rng.below(12)).min(bytes.len());
        match rng.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            1 if !bytes.is_empty() => drop(bytes.drain(at..end)),
            2 if !bytes.is_empty() => bytes.truncate(at),
            3 if !bytes.is_empty() => {
                let copy = bytes[at..end].repeat(1 + rng.below(40));
                bytes.splice(at..at, copy);
            }
            4 => {
                let from = rng.below(other.len().max(1)).min(other.len());
                let to = (from + rng.below(60)).min(other.len());
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), other[from..to].to_vec());
            }
            5 => {
                // Deep nesting, which must not use the stack up.
                let open: &[u8] = if rng.below(2) == 0 { b"[" } else { b"{\"a\":" };
                let deep = open.repeat(1 + rng.below(3_000));
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), deep);
            }
            _ => {
                let piece = PIECES[rng.below(PIECES.len())].to_vec();
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), piece);
            }
        }
    }
    bytes
}

/// A request of the corpus.
struct Seed {
    method: String,
    url: String,
    media: String,
    /// What is damaged: the body, or the value of the query parameter that `query` names.
    bytes: Vec<u8>,
    query: Option<String>,
}

impl Seed {
    fn request(&self, bytes: Vec<u8>) -> Request<Body> {
        let (url, body) = match &self.query {
            Some(name) => {
                // A URI holds 64 KiB, and each byte is three here.
                let bytes = &bytes[..bytes.len().min(20_000)];
                let value: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
                (format!("{}?{name}={value}", self.url), Vec::new())
            }
            None => (self.url.clone(), bytes),
        };
        let request = Request::builder().method(self.method.as_str()).uri(url);
        let request = request.header(header::CONTENT_TYPE, &self.media);
        request.body(Body::from(body)).expect("a request")
    }
}

async fn seeds(cluster: &Cluster) -> Vec<Seed> {
    let list = cluster.get("/api/v1/namespaces/default/configmaps?limit=1").await;
    let token = list["metadata"]["continue"].as_str().expect("a token").to_owned();
    let mut seeds = Vec::new();
    for line in include_str!("../corpus/requests.jsonl").lines() {
        let seed: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| seed[name].as_str().unwrap_or_default().to_owned();
        let query = seed["query"].as_str().map(str::to_owned);
        let bytes = if query.is_some() { text("value") } else { text("body") };
        let bytes = if bytes == "CONTINUE" { token.clone() } else { bytes };
        let (method, url, media) = (text("method"), text("url"), text("media"));
        seeds.push(Seed { method, url, media, bytes: bytes.into_bytes(), query });
    }
    for line in include_str!("../../../schema/tests/corpus/protobuf.jsonl").lines() {
        use base64::Engine as _;
        let case: Value = serde_json::from_str(line).expect("JSON");
        let url = match case["kind"][2].as_str() {
            Some("Pod") => "/api/v1/namespaces/default/pods?dryRun=All",
            Some("Service") => "/api/v1/namespaces/default/services?dryRun=All",
            Some("Deployment") => "/apis/apps/v1/namespaces/default/deployments?dryRun=All",
            Some("DeleteOptions") => "/api/v1/namespaces/default/configmaps/none",
            _ => continue,
        };
        let wire = case["proto"].as_str().expect("base64");
        let bytes = base64::engine::general_purpose::STANDARD.decode(wire).expect("base64");
        let method = if url.ends_with("none") { "DELETE" } else { "POST" };
        seeds.push(Seed {
            method: method.into(),
            url: url.into(),
            media: "application/vnd.kubernetes.protobuf".into(),
            bytes,
            query: None,
        });
    }
    seeds.extend(custom_seeds());
    seeds
}

/// Definitions, whose schemas and rules are parsed, and what is held to them.
fn custom_seeds() -> Vec<Seed> {
    let definitions = format!("{CRDS}?dryRun=All");
    let (all, one) = (format!("{WIDGETS}?dryRun=All"), format!("{WIDGETS}/target"));
    let apply = format!("{one}?fieldManager=f&force=true&dryRun=All");
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "target"},
        "spec": {"size": 3, "port": "http", "when": "2026-01-01T00:00:00Z", "tags": ["a", "b"],
            "parts": [{"id": "x", "count": 2}], "free": {"any": [1, {"deep": null}]},
            "inner": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}}});
    let rules = json!({"metadata": {"name": "rules.example.com"}, "spec": {"group": "example.com",
        "scope": "Cluster", "names": {"plural": "rules", "kind": "Rule"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": {"type": "object", "maxProperties": 9,
                "additionalProperties": {"type": "string", "maxLength": 40},
                "x-kubernetes-validations": [{"rule":
                    "self.all(k, self[k].matches('^[a-z]+$') || cidr('10.0.0.0/8').containsIP(self[k])) && self.map(k, size(k)).sum() < 40 && quantity('1Gi').isGreaterThan(quantity('5M'))"}]}}}}}]}});
    let of = |method: &str, url: &str, media: &str, body: &Value| Seed {
        method: method.into(),
        url: url.into(),
        media: media.into(),
        bytes: body.to_string().into_bytes(),
        query: None,
    };
    vec![
        of("POST", &definitions, "application/json", &widgets_named("gadgets")),
        of("POST", &definitions, "application/yaml", &rules),
        of("POST", &definitions, "application/json", &rules),
        of("POST", &all, "application/json", &object),
        of("PATCH", &apply, "application/apply-patch+yaml", &object),
        of(
            "PATCH",
            &one,
            "application/merge-patch+json",
            &json!({"spec": {"size": 4, "min": null}}),
        ),
    ]
}

/// The most memory that this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test(start_paused = true)]
async fn damaged_requests_are_refused_and_nothing_else() {
    let cluster = Cluster::new().await;
    for map in ["target", "other"] {
        let body = format!(r#"{{"metadata":{{"name":"{map}"}},"data":{{"k":"v"}}}}"#);
        let url = "/api/v1/namespaces/default/configmaps";
        assert_eq!(cluster.run(&format!("POST {url} {body}")).await.code, 201);
    }
    let deployment = r#"{"metadata":{"name":"target","finalizers":["a/f"]},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"},{"name":"e","image":"i"}]}}}}"#;
    let url = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(cluster.run(&format!("POST {url} {deployment}")).await.code, 201);
    define(&cluster, &widgets()).await;
    assert_eq!(cluster.run(&widget("target", json!({"size": 2}))).await.code, 201);
    let seeds = seeds(&cluster).await;
    assert!(seeds.len() > 20, "{}", seeds.len());
    let (rng, before) = (Rng::seeded(2026), peak_kib());
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for at in 0..REQUESTS {
        let seed = &seeds[at % seeds.len()];
        let other = &seeds[rng.below(seeds.len())];
        let bytes = damage(&rng, &seed.bytes, &other.bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
        let answer = cluster.read(seed.request(bytes)).await;
        let text = String::from_utf8_lossy(&answer.bytes);
        let at = format!("request {at}: {} {} {shown}: {text}", seed.method, seed.url);
        assert!(answer.code < 500 || answer.code == 504, "{at}");
        *codes.entry(answer.code).or_default() += 1;
    }
    // Most are refused, some still say something sensible: the damage is neither too much nor nothing.
    let good: usize = codes.range(..300).map(|(_, count)| count).sum();
    assert!(good > REQUESTS / 100 && good < REQUESTS / 2, "{codes:?}");
    let grown = peak_kib() - before;
    assert!(grown < MEMORY_KIB, "{grown} KiB more");
}
