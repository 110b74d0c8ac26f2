//! Many watchers at once, on real threads and in real time: nobody misses a change, and who doesn't
//! read is cut off and can go on.
#![allow(clippy::disallowed_methods, reason = "writes at a pace of real time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Cluster, watches::Watch};

const WATCHERS: usize = 1000;
const MAP: &str = "/api/v1/namespaces/default/configmaps/counter";

async fn counter(cluster: &Cluster) -> String {
    let body = r#"{"metadata":{"name":"counter"},"data":{"n":"0"}}"#;
    let path = MAP.trim_end_matches("/counter");
    let made = cluster.run(&format!("POST {path} {body}")).await;
    assert_eq!(made.code, 201);
    version(&made.json())
}

async fn count(cluster: &Cluster, n: usize) {
    let body = format!(r#"{{"data":{{"n":"{n}"}}}}"#);
    assert_eq!(cluster.run(&format!("PATCH {MAP} merge {body}")).await.code, 200);
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
}

/// What the next event counts to; the version of the object too.
async fn next(watch: &mut Watch) -> Option<(usize, String)> {
    let event = watch.next_within(Duration::from_secs(30)).await?;
    let object = &event["object"];
    let n = object["data"]["n"].as_str()?.parse().ok()?;
    Some((n, version(object)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_see_a_hundred_writes_a_second() {
    const WRITES: usize = 150;
    const EVERY: Duration = Duration::from_millis(10);
    let cluster = Arc::new(Cluster::new().await);
    let from = counter(&cluster).await;
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut watch = Watch::open(&cluster, &format!("&resourceVersion={from}")).await;
        watchers.spawn(async move {
            for wanted in 1..=WRITES {
                assert_eq!(next(&mut watch).await.map(|(n, _)| n), Some(wanted));
            }
        });
    }
    let began = Instant::now();
    for n in 1..=WRITES {
        count(&cluster, n).await;
        tokio::time::sleep((EVERY * n as u32).saturating_sub(began.elapsed())).await;
    }
    watchers.join_all().await;
    println!(
        "{WRITES} writes were seen by {WATCHERS} watchers {:?} after the first",
        began.elapsed()
    );
}

/// More changes than are kept for a watcher that doesn't read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off_and_goes_on() {
    const STALLED: usize = 20;
    const WRITES: usize = 12_000;
    let cluster = Arc::new(Cluster::new().await);
    let from = counter(&cluster).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(Watch::open(&cluster, &format!("&resourceVersion={from}")).await);
    }
    let mut reader = Watch::open(&cluster, &format!("&resourceVersion={from}")).await;
    let reading = tokio::spawn(async move {
        for wanted in 1..=WRITES {
            assert_eq!(next(&mut reader).await.map(|(n, _)| n), Some(wanted));
        }
    });
    for n in 1..=WRITES {
        count(&cluster, n).await;
    }
    reading.await.expect("the one who reads misses nothing");
    for mut watch in stalled {
        let (mut seen, mut at) = (0, from.clone());
        while let Some((n, version)) = next(&mut watch).await {
            assert_eq!(n, seen + 1, "no gap before the cut");
            (seen, at) = (n, version);
        }
        assert!(seen < WRITES, "the watch was cut off");
        // Its client goes on from where it was, or is told to list anew.
        let mut again = Watch::open(&cluster, &format!("&resourceVersion={at}")).await;
        match next(&mut again).await {
            Some((n, _)) => assert_eq!(n, seen + 1),
            None => {
                let list = cluster.get(MAP).await;
                assert_eq!(list["data"]["n"], WRITES.to_string());
            }
        }
    }
}
