use std::{sync::Arc, time::Duration};

use expect_test::expect;
use windlass_sdk_client::{EventType, Recorder};
use windlass_sdk_meta::{Clock, Timestamp};
use windlass_sdk_types::ObjectReference;

use crate::fake::{Answer, Fake, stream};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some("n".into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_are_counted_and_failures_retried() {
    let fake = Fake::new([
        Answer::Json(503, "{}"),
        Answer::Json(201, "{}"),
        Answer::Json(200, "{}"),
        Answer::Json(409, r#"{"reason":"AlreadyExists"}"#),
        Answer::Json(201, "{}"),
        Answer::Json(404, r#"{"reason":"NotFound"}"#),
        Answer::Json(201, "{}"),
    ]);
    let recorder = Recorder::new(fake.client(), "test", Arc::new(Stopped));
    let quiet = Duration::from_secs(5);
    for _ in 0..3 {
        recorder.record(&pod("a"), EventType::Normal, "Pulled", "there");
    }
    tokio::time::sleep(quiet).await;
    recorder.record(&pod("b"), EventType::Warning, "Failed", "no");
    tokio::time::sleep(quiet).await;
    recorder.record(&pod("b"), EventType::Warning, "Failed", "no");
    tokio::time::sleep(quiet).await;
    expect![[r#"
        POST /api/v1/namespaces/n/events name=a.18fae27693b40000 count=1
        POST /api/v1/namespaces/n/events name=a.18fae27693b40000 count=1
        PATCH /api/v1/namespaces/n/events/a.18fae27693b40000 count=3
        POST /api/v1/namespaces/n/events name=b.18fae27693b40001 count=1
        POST /api/v1/namespaces/n/events name=b.18fae27693b40002 count=1
        PATCH /api/v1/namespaces/n/events/b.18fae27693b40002 count=2
        POST /api/v1/namespaces/n/events name=b.18fae27693b40003 count=2"#]]
    .assert_eq(&short(&fake.log()));
}

#[tokio::test(start_paused = true)]
async fn recording_never_waits() {
    let (held, answer) = stream();
    let fake = Fake::new([answer]);
    let recorder = Recorder::new(fake.client(), "test", Arc::new(Stopped));
    for n in 0..10_000 {
        recorder.record(&pod(&n.to_string()), EventType::Normal, "Pulled", "there");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fake.requests() <= 16 * 3);
    drop(held);
}

/// Method, path, name and count of each request.
fn short(log: &str) -> String {
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let body: serde_json::Value = serde_json::from_str(words.nth(1).unwrap()).unwrap();
        let name = body["metadata"]["name"].as_str();
        let name = name.map_or(String::new(), |name| format!(" name={name}"));
        format!("{method} {path}{name} count={}", body["count"])
    };
    log.lines().map(line).collect::<Vec<_>>().join("\n")
}
