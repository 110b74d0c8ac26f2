//! Watches: where they start, what they tell, and how they end.

use std::time::Duration;

use axum::body::Body;
use expect_test::expect;
use http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A watch that is read event by event.
pub struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    pub async fn open(cluster: &Cluster, query: &str) -> Self {
        Self::open_as(cluster, query, "application/json").await
    }

    async fn open_as(cluster: &Cluster, query: &str, accept: &str) -> Self {
        let request = Request::builder()
            .uri(format!("{MAPS}?watch=1{query}"))
            .header(header::ACCEPT, accept)
            .body(Body::empty());
        let response = cluster.send(request.expect("a request")).await;
        assert_eq!(response.status().as_u16(), 200);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; None where the stream ends or nothing comes within a virtual second.
    async fn next(&mut self) -> Option<Value> {
        self.next_within(Duration::from_secs(1)).await
    }

    pub async fn next_within(&mut self, wait: Duration) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let frame = tokio::time::timeout(wait, self.body.frame()).await.ok()??;
            self.rest.extend_from_slice(&frame.expect("a frame").into_data().expect("data"));
        }
    }

    /// All events that are there, a line each.
    pub async fn drain(&mut self) -> String {
        let mut out = String::new();
        while let Some(event) = self.next().await {
            out += &line(&event);
        }
        out
    }
}

fn line(event: &Value) -> String {
    let object = &event["object"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let mut line = text(&event["type"]);
    match line.as_str() {
        "ERROR" => line += &format!(" {} {}", object["code"], text(&object["message"])),
        "BOOKMARK" => {
            line += &format!(" rv={}", text(&metadata["resourceVersion"]));
            if !metadata["annotations"].is_null() {
                line += &format!(" {}", metadata["annotations"]);
            }
        }
        _ => {
            let (name, version) = (text(&metadata["name"]), text(&metadata["resourceVersion"]));
            line += &format!(" {name} rv={version} {}", metadata["labels"]);
        }
    }
    line + "\n"
}

async fn create(cluster: &Cluster, name: &str, label: &str) -> u64 {
    let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"x":"{label}"}}}}}}"#);
    revision(&cluster.run(&format!("POST {MAPS} {body}")).await.json())
}

async fn relabel(cluster: &Cluster, name: &str, label: &str) -> u64 {
    let body = format!(r#"{{"metadata":{{"labels":{{"x":"{label}"}}}}}}"#);
    revision(&cluster.run(&format!("PATCH {MAPS}/{name} merge {body}")).await.json())
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a revision");
    text.parse().expect("a number")
}

/// Revisions in golden texts count from the first object of the test.
fn relative(text: &str, base: u64) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(' ') {
        match part.trim().strip_prefix("rv=").and_then(|n| n.trim().parse::<u64>().ok()) {
            Some(number) => {
                let shown = number as i64 - base as i64;
                out += &part.replace(&format!("rv={number}"), &format!("rv=+{shown}"));
            }
            None => out += part,
        }
    }
    out
}

#[tokio::test(start_paused = true)]
async fn from_the_beginning_and_from_a_revision() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    create(&cluster, "b", "1").await;
    let mut from_start = Watch::open(&cluster, "").await;
    let mut from_base = Watch::open(&cluster, &format!("&resourceVersion={base}")).await;
    relabel(&cluster, "a", "2").await;
    cluster.run(&format!("DELETE {MAPS}/b")).await;
    let both = format!("{}---\n{}", from_start.drain().await, from_base.drain().await);
    expect![[r#"
        ADDED a rv=+0 {"x":"1"} 
        ADDED b rv=+1 {"x":"1"} 
        MODIFIED a rv=+2 {"x":"2"} 
        DELETED b rv=+3 {"x":"1"} 
        --- 
        ADDED b rv=+1 {"x":"1"} 
        MODIFIED a rv=+2 {"x":"2"} 
        DELETED b rv=+3 {"x":"1"} 
    "#]]
    .assert_eq(&relative(&both.replace('\n', " \n"), base));
}

#[tokio::test(start_paused = true)]
async fn selectors_turn_changes_into_arrivals_and_departures() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    let mut watch =
        Watch::open(&cluster, &format!("&labelSelector=x%3D2&resourceVersion={base}")).await;
    relabel(&cluster, "a", "2").await;
    relabel(&cluster, "a", "3").await;
    relabel(&cluster, "a", "2").await;
    cluster.run(&format!("DELETE {MAPS}/a")).await;
    expect![[r#"
        ADDED a rv=+1 {"x":"2"} 
        DELETED a rv=+2 {"x":"2"} 
        ADDED a rv=+3 {"x":"2"} 
        DELETED a rv=+4 {"x":"2"} 
    "#]]
    .assert_eq(&relative(&watch.drain().await.replace('\n', " \n"), base));
}

#[tokio::test(start_paused = true)]
async fn streaming_lists_end_with_a_bookmark() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    let query =
        "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&cluster, query).await;
    let mut empty = Watch::open(&cluster, &format!("{query}&labelSelector=no%3Dsuch")).await;
    let both = format!("{}---\n{}", watch.drain().await, empty.drain().await);
    expect![[r#"
        ADDED a rv=+0 {"x":"1"} 
        BOOKMARK rv=+0 {"k8s.io/initial-events-end":"true"} 
        --- 
        BOOKMARK rv=+0 {"k8s.io/initial-events-end":"true"} 
    "#]]
    .assert_eq(&relative(&both.replace('\n', " \n"), base));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_at_the_end() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    let query = format!("&resourceVersion={base}&allowWatchBookmarks=true&timeoutSeconds=90");
    let mut watch = Watch::open(&cluster, &query).await;
    // A change elsewhere: the bookmark still moves on.
    cluster.run(r#"POST /api/v1/namespaces {"metadata":{"name":"other"}}"#).await;
    let mut out = String::new();
    while let Some(event) = watch.next_within(Duration::from_secs(120)).await {
        out += &line(&event);
    }
    expect![[r#"
        BOOKMARK rv=+1 
        BOOKMARK rv=+1 
    "#]]
    .assert_eq(&relative(&out.replace('\n', " \n"), base));
}

#[tokio::test(start_paused = true)]
async fn a_revision_from_long_ago_is_an_error_event() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    for minute in 0..10 {
        relabel(&cluster, "a", &format!("m{minute}")).await;
        cluster.clock.advance(60);
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    let mut watch = Watch::open(&cluster, &format!("&resourceVersion={base}")).await;
    let event = watch.next().await.expect("an event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    assert_eq!(event["object"]["reason"], "Expired");
}

#[tokio::test(start_paused = true)]
async fn tables_carry_their_columns_once() {
    let cluster = Cluster::new().await;
    let base = create(&cluster, "a", "1").await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let query = format!("&resourceVersion={base}");
    let mut tables = Watch::open_as(&cluster, &query, accept).await;
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut metadata = Watch::open_as(&cluster, &query, accept).await;
    relabel(&cluster, "a", "2").await;
    relabel(&cluster, "a", "3").await;
    let columns = |event: &Value| event["object"]["columnDefinitions"].as_array().map(Vec::len);
    let first = tables.next().await.expect("an event");
    assert_eq!((columns(&first), &first["object"]["rows"][0]["cells"][0]), (Some(3), &"a".into()));
    assert_eq!(columns(&tables.next().await.expect("another")), Some(0));
    let event = metadata.next().await.expect("an event");
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"]["metadata"]["name"], "a");
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_reach_only_its_watcher() {
    let cluster = Cluster::new().await;
    cluster
        .run(r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#)
        .await;
    let open = |node: &str| {
        let url = format!("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{node}");
        let request = Request::builder().uri(url).body(Body::empty()).expect("a request");
        let cluster = &cluster;
        async move { Watch { body: cluster.send(request).await.into_body(), rest: Vec::new() } }
    };
    let (mut one, mut two) = (open("n1").await, open("n2").await);
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    cluster.run(&format!("POST /api/v1/namespaces/default/pods {pod}")).await;
    let binding = r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}"#;
    let bound =
        cluster.run(&format!("POST /api/v1/namespaces/default/pods/p/binding {binding}")).await;
    assert_eq!(bound.code, 201);
    cluster.run(r#"DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0}"#).await;
    let types = |text: String| {
        text.lines().map(|l| l.split(' ').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(types(one.drain().await), ["ADDED", "DELETED"]);
    assert_eq!(types(two.drain().await), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_watches() {
    let cluster = Cluster::new().await;
    let mut watch = Watch::open(&cluster, "&resourceVersion=0").await;
    cluster.server.stop();
    watch.drain().await;
    assert!(watch.body.frame().await.is_none());
}

/// On real threads: writers race, and what each watcher was told adds up to what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_of_racing_writers_agree_with_the_list() {
    let cluster = std::sync::Arc::new(Cluster::new().await);
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(Watch::open(&cluster, "").await);
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6u64 {
        let cluster = cluster.clone();
        writers.spawn(async move {
            let rng = windlass_sdk_meta::Rng::seeded(writer);
            for _ in 0..80 {
                let (name, label) = (format!("m{}", rng.below(12)), rng.below(1000));
                let line = match rng.below(3) {
                    0 => format!(r#"POST {MAPS} {{"metadata":{{"name":"{name}"}}}}"#),
                    1 => format!("DELETE {MAPS}/{name}"),
                    _ => format!(
                        r#"PATCH {MAPS}/{name} merge {{"metadata":{{"labels":{{"x":"{label}"}}}}}}"#
                    ),
                };
                let code = cluster.run(&line).await.code;
                assert!([200, 201, 404, 409].contains(&code), "{line}: {code}");
            }
        });
    }
    writers.join_all().await;
    let list = cluster.get(MAPS).await;
    let state = |objects: Vec<Value>| -> std::collections::BTreeMap<String, u64> {
        let pair =
            |o: &Value| (o["metadata"]["name"].as_str().unwrap_or("").to_owned(), revision(o));
        objects.iter().map(pair).collect()
    };
    let wanted = state(list["items"].as_array().cloned().unwrap_or_default());
    for watch in &mut watches {
        let (mut seen, mut last) = (std::collections::BTreeMap::new(), 0);
        while let Some(event) = watch.next_within(Duration::from_millis(300)).await {
            let object = &event["object"];
            let now = revision(object);
            assert!(now > last, "{event} after {last}");
            last = now;
            let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
            let before = seen.remove(&name);
            assert_eq!(before.is_none(), event["type"] == "ADDED", "{event}");
            if event["type"] != "DELETED" {
                seen.insert(name, now);
            }
        }
        assert_eq!(seen, wanted);
    }
}
