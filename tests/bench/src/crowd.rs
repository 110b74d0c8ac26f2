//! A thousand watchers of objects that change a hundred and a thousand times a second. Who falls behind
//! is cut off and goes on from the last version it has, as client libraries do: every change has to
//! reach everybody, in order, unless a watcher is told (410) to look at the whole anew.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http_body_util::BodyExt as _;
use hyper::{Method, Request, StatusCode};
use kube::{Client, client::Body};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use windlass_tests_e2e::{Cluster, resident_mib};

use crate::{
    api::Ask as _,
    client::client,
    report::{Figure, Report},
};

const WATCHERS: usize = 1000;
/// Writes a second, and for how many seconds: more than a watcher's buffer holds, the second time.
const PACES: [(usize, usize); 2] = [(100, 20), (1000, 15)];
/// Each changes an object of its own.
const WRITERS: usize = 8;
/// For all watchers to have the last change, after it.
const CATCHING_UP: Duration = Duration::from_secs(600);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What happened to all watchers together.
#[derive(Default)]
struct Tally {
    events: AtomicU64,
    /// Watches that the server ended.
    cut: AtomicU64,
    /// Of these, those whose client had to look at the whole anew.
    anew: AtomicU64,
}

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let runtime = tokio::runtime::Runtime::new()?;
    for pace in PACES {
        let cluster = Cluster::start()?;
        runtime.block_on(at_pace(report, &cluster, pace))?;
    }
    Ok(())
}

async fn at_pace(
    report: &mut Report,
    cluster: &Cluster,
    (pace, seconds): (usize, usize),
) -> anyhow::Result<()> {
    let (client, pid) = (client(cluster).await?, cluster.pid().context("the cluster runs")?);
    for writer in 0..WRITERS {
        client.ask(Method::POST, MAPS, "application/json", Some(&counter(writer, 0))).await?;
    }
    let (tally, writes) = (Arc::new(Tally::default()), pace * seconds);
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (seen, at) = whole(&client).await?;
        let watcher = Watcher { client: client.clone(), tally: tally.clone(), seen, at };
        watchers.spawn(watcher.until(writes / WRITERS));
    }
    let before = resident_mib(pid)?;
    let over = Arc::new(AtomicBool::new(false));
    let most = tokio::spawn(most_resident(pid, over.clone()));
    let began = Instant::now();
    let writers = (0..WRITERS).map(|writer| write(&client, writer, pace, writes / WRITERS));
    futures::future::try_join_all(writers).await?;
    let wrote = began.elapsed().as_secs_f64();
    tokio::time::timeout(CATCHING_UP, async {
        while let Some(ended) = watchers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })
    .await
    .context("a watcher has not seen the last change")??;
    let seen = began.elapsed().as_secs_f64();
    over.store(true, Relaxed);
    let events = tally.events.load(Relaxed) as f64;
    let how = format!(
        "{WATCHERS} watchers over TLS that share the cores with the server, {WRITERS} writers of {pace} patches a second together for {seconds} s: {writes} changes written in {wrote:.1} s; nobody missed one"
    );
    let mut add = |metric: &str, value: f64, unit: &str, how: &str| {
        let metric = format!("crowd_{pace}_{metric}");
        report.add(&Figure { bench: "crowd", metric: &metric, value, unit, peer: None, how })
    };
    add("events_per_s", events / seen, "/s", &how)?;
    add("behind_s", seen - wrote, "s", "from the last write until every watcher has it")?;
    add("cut", tally.cut.load(Relaxed) as f64, "", "watches that the server ended; all went on")?;
    add("anew", tally.anew.load(Relaxed) as f64, "", "of these, those that were told 410")?;
    add("rss_before_mib", before, "MiB", "VmRSS with all watchers, before the first write")?;
    add("rss_most_mib", most.await??, "MiB", "the most VmRSS, read ten times a second")
}

fn counter(writer: usize, n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("counter-{writer}"), "labels": {"crowd": ""}},
        "data": {"n": n.to_string(), "rest": "x".repeat(200)}})
}

async fn write(client: &Client, writer: usize, pace: usize, times: usize) -> anyhow::Result<()> {
    let (path, began) = (format!("{MAPS}/counter-{writer}"), Instant::now());
    let every = Duration::from_secs_f64(WRITERS as f64 / pace as f64);
    for n in 1..=times {
        let patch = json!({"data": {"n": n.to_string()}});
        client.ask(Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await?;
        tokio::time::sleep((every * n as u32).saturating_sub(began.elapsed())).await;
    }
    Ok(())
}

async fn most_resident(pid: u32, over: Arc<AtomicBool>) -> anyhow::Result<f64> {
    let mut most: f64 = 0.0;
    while !over.load(Relaxed) {
        most = most.max(resident_mib(pid)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(most)
}

/// What each counter is at, and the version of that state.
async fn whole(client: &Client) -> anyhow::Result<(BTreeMap<String, usize>, String)> {
    let request = Request::get(format!("{MAPS}?labelSelector=crowd")).body(Vec::new())?;
    let list: Value = client.request(request).await?;
    let items = list["items"].as_array().context("a list")?;
    let seen = items.iter().filter_map(count_of).collect();
    let at = list["metadata"]["resourceVersion"].as_str().context("its version")?;
    Ok((seen, at.to_owned()))
}

fn count_of(object: &Value) -> Option<(String, usize)> {
    let name = object["metadata"]["name"].as_str()?.to_owned();
    Some((name, object["data"]["n"].as_str()?.parse().ok()?))
}

struct Watcher {
    client: Client,
    tally: Arc<Tally>,
    seen: BTreeMap<String, usize>,
    /// The version of the last event.
    at: String,
}

impl Watcher {
    /// Watches until every counter is at `last`. Errors: a change is missing.
    async fn until(mut self, last: usize) -> anyhow::Result<()> {
        while self.seen.values().any(|n| *n < last) {
            let goes_on = self.watch(last).await?;
            if self.seen.values().all(|n| *n >= last) {
                break;
            }
            self.tally.cut.fetch_add(1, Relaxed);
            if !goes_on {
                self.tally.anew.fetch_add(1, Relaxed);
                (self.seen, self.at) = whole(&self.client).await?;
            }
        }
        Ok(())
    }

    /// One watch to its end. False: what it missed is not kept any more.
    async fn watch(&mut self, last: usize) -> anyhow::Result<bool> {
        let uri = format!("{MAPS}?watch=true&labelSelector=crowd&resourceVersion={}", self.at);
        let response = self.client.send(Request::get(uri).body(Body::empty())?).await?;
        if response.status() == StatusCode::GONE {
            return Ok(false);
        }
        ensure!(response.status().is_success(), "watch: {}", response.status());
        let (mut body, mut line) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            // A watch that is cut off may end in the middle of a line.
            let Ok(frame) = frame else { return Ok(true) };
            for part in frame.into_data().unwrap_or_default().split_inclusive(|byte| *byte == b'\n')
            {
                line.extend_from_slice(part);
                if !line.ends_with(b"\n") {
                    continue;
                }
                let event: Value = serde_json::from_slice(&line)?;
                line.clear();
                if event["type"] == "ERROR" {
                    ensure!(event["object"]["code"] == 410, "{event}");
                    return Ok(false);
                }
                self.take(&event["object"])?;
            }
            if self.seen.values().all(|n| *n >= last) {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn take(&mut self, object: &Value) -> anyhow::Result<()> {
        let (name, n) = count_of(object).context("a counter")?;
        let before = self.seen.insert(name.clone(), n);
        ensure!(before == n.checked_sub(1), "{name}: {n} came after {before:?}");
        let version = object["metadata"]["resourceVersion"].as_str().context("a version")?;
        version.clone_into(&mut self.at);
        self.tally.events.fetch_add(1, Relaxed);
        Ok(())
    }
}
