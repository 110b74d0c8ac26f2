//! Our API server beside upstream's kube-apiserver with its etcd: the same requests by the same
//! clients, in turns. Ours is the whole cluster in one process; nothing in it acts on the objects
//! that are used here.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper::{Method, Request};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle};
use windlass_apiserver_access::pki::{Authority, kubeconfig};
use windlass_sdk_meta::SystemClock;
use windlass_tests_e2e::{Cluster, resident_mib};
use windlass_tests_oracle::upstream::{Durability, Upstream};

use crate::report::{Figure, Report, percentile};

/// Pods that are there in the end, made in `ROUNDS` rounds in turns.
const PODS: usize = 10_000;
const ROUNDS: usize = 5;
/// Of every other measurement.
const ROUND: Duration = Duration::from_secs(2);
const CLIENTS: usize = 32;
const WATCHERS: usize = 100;
/// Clients whose writes all watchers see, at once; and writes one after the other.
const WRITERS: usize = 8;
const WRITES: usize = 100;
const NAMESPACE: &str = "/api/v1/namespaces/bench";

/// One of the two that are compared.
struct Side {
    clients: Vec<Client>,
    pids: Vec<u32>,
}

/// What a kind of request came to: per second with all clients, and one client's times in ms.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    times: Vec<f64>,
}

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let program = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.with_context(|| format!("{name} names no file: run this by `cargo xtask bench api`"))
    };
    let (apiserver, etcd) =
        (program("WINDLASS_ORACLE_APISERVER")?, program("WINDLASS_ORACLE_ETCD")?);
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = Cluster::start()?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(async {
        let at = folder.path();
        let authority = Authority::open_or_create(&at.join("pki"), Arc::new(SystemClock))?;
        let upstream =
            Upstream::start(&apiserver, &etcd, at, &authority, Durability::Synced).await?;
        let admin = authority.issue_client("admin", &["system:masters"])?;
        let theirs = Kubeconfig::from_yaml(&kubeconfig(
            &upstream.url(),
            authority.certificate_pem(),
            &admin,
        ))?;
        let own = Kubeconfig::read_from(cluster.kubeconfig())?;
        let pid = cluster.pid().context("the cluster runs")?;
        let sides = [
            Side::new(&own, vec![pid]).await?,
            Side::new(&theirs, upstream.pids().to_vec()).await?,
        ];
        compare(report, &sides).await
    })
}

async fn compare(report: &mut Report, sides: &[Side; 2]) -> anyhow::Result<()> {
    memory(report, sides, "idle_rss_mib", "before the first request of this bench")?;
    for side in sides {
        side.prepare().await?;
    }
    let created = create_pods(sides).await?;
    say(report, "create", &created, "creates of pods that no scheduler takes, of 1 KB as sent")?;
    memory(report, sides, "10k_pods_rss_mib", "with the 10,000 pods, right after their creation")?;
    let gets = in_turns(sides, CLIENTS, async |side, n| {
        side.clients[n % CLIENTS].ask(Method::GET, &pod_path(pick(n)), "", None).await
    });
    say(report, "get", &gets.await?, "gets of one of the 10,000 pods")?;
    let lists = in_turns(sides, 2, async |side, n| {
        let path = format!("{NAMESPACE}/pods?resourceVersion=0");
        side.clients[n % CLIENTS].ask(Method::GET, &path, "", None).await
    });
    say(
        report,
        "list_10k",
        &lists.await?,
        "lists of all 10,000 pods as JSON, from memory (resourceVersion=0), read to the end and not parsed",
    )?;
    let pages = in_turns(sides, 4, async |side, n| {
        let path = format!("{NAMESPACE}/pods?limit=500");
        side.clients[n % CLIENTS].ask(Method::GET, &path, "", None).await
    });
    say(report, "list_page_500", &pages.await?, "the first 500 of the 10,000 pods (limit=500)")?;
    let patches = in_turns(sides, CLIENTS, async |side, n| {
        let patch = json!({"metadata": {"labels": {"turn": n.to_string()}}});
        let (path, media) = (pod_path(pick(n)), "application/merge-patch+json");
        side.clients[n % CLIENTS].ask(Method::PATCH, &path, media, Some(&patch)).await
    });
    say(report, "patch", &patches.await?, "merge patches of a label of one of the 10,000 pods")?;
    let applies = in_turns(sides, CLIENTS, async |side, n| {
        let name = format!("applied-{}", n % 1000);
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"turn": n.to_string(), "rest": "x".repeat(500)}});
        let path = format!("{NAMESPACE}/configmaps/{name}?fieldManager=bench");
        let media = "application/apply-patch+yaml";
        side.clients[n % CLIENTS].ask(Method::PATCH, &path, media, Some(&config)).await
    });
    say(
        report,
        "apply",
        &applies.await?,
        "server-side applies that change one of 1,000 ConfigMaps",
    )?;
    memory(report, sides, "after_rss_mib", "after all requests above")?;
    fan_out(report, sides).await
}

impl Side {
    async fn new(kubeconfig: &Kubeconfig, pids: Vec<u32>) -> anyhow::Result<Self> {
        let clients = try_join_all((0..CLIENTS).map(|_| async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
            anyhow::Ok(Client::try_from(config)?)
        }));
        Ok(Self { clients: clients.await?, pids })
    }

    /// The namespace, with the account that its pods run as: no controller makes it upstream.
    async fn prepare(&self) -> anyhow::Result<()> {
        let client = &self.clients[0];
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}});
        client
            .ask(Method::POST, "/api/v1/namespaces", "application/json", Some(&namespace))
            .await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "bench"}});
        let path = format!("{NAMESPACE}/serviceaccounts");
        client.ask(Method::POST, &path, "application/json", Some(&account)).await
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| resident_mib(*pid)).sum()
    }
}

/// A request whose answer is read to its end and has to be a success.
pub(crate) trait Ask {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<()>;
}

impl Ask for Client {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<()> {
        let mut request = Request::builder().method(&method).uri(path);
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let response = self.send(request.body(Body::from(bytes))?).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut start = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data()
                && !status.is_success()
            {
                start.extend_from_slice(&data);
            }
        }
        let text = String::from_utf8_lossy(&start);
        ensure!(status.is_success(), "{method} {path}: {status}: {text}");
        Ok(())
    }
}

fn pod_path(n: usize) -> String {
    format!("{NAMESPACE}/pods/pod-{n}")
}

/// Spreads consecutive numbers over all pods.
fn pick(n: usize) -> usize {
    n.wrapping_mul(7919) % PODS
}

fn pod(n: usize) -> Value {
    let env: Vec<Value> = (0..8)
        .map(|k| json!({"name": format!("SETTING_{k}"), "value": format!("value-{k}-of-pod-{n}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{n}"), "labels": {"app": "bench", "shard": (n % 50).to_string()}},
        "spec": {"schedulerName": "nobody", "serviceAccountName": "bench",
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "bench.test/app:v1", "env": env,
                "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}}]}})
}

/// All pods on both sides, a share a round: first by one client, to see the time of each, then the
/// rest by all.
async fn create_pods(sides: &[Side; 2]) -> anyhow::Result<[Measured; 2]> {
    const ALONE: usize = 100;
    let mut all = [Measured::default(), Measured::default()];
    for round in 0..ROUNDS {
        let numbers = round * PODS / ROUNDS..(round + 1) * PODS / ROUNDS;
        for (side, measured) in sides.iter().zip(&mut all) {
            for n in numbers.clone().take(ALONE) {
                let began = Instant::now();
                create(&side.clients[0], n).await?;
                measured.times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            let (next, began) = (AtomicUsize::new(numbers.start + ALONE), Instant::now());
            try_join_all(side.clients.iter().map(|client| async {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= numbers.end {
                        return anyhow::Ok(());
                    }
                    create(client, n).await?;
                }
            }))
            .await?;
            let count = numbers.len() - ALONE;
            measured.rates.push(count as f64 / began.elapsed().as_secs_f64());
        }
    }
    Ok(all)
}

async fn create(client: &Client, n: usize) -> anyhow::Result<()> {
    let path = format!("{NAMESPACE}/pods");
    client.ask(Method::POST, &path, "application/json", Some(&pod(n))).await
}

/// The same by both sides, one after the other, several times: `at_once` under way for a round, and
/// then one at a time for half of one. `once` is told which request it is.
async fn in_turns(
    sides: &[Side; 2],
    at_once: usize,
    once: impl AsyncFn(&Side, usize) -> anyhow::Result<()>,
) -> anyhow::Result<[Measured; 2]> {
    let mut all = [Measured::default(), Measured::default()];
    let numbers = AtomicUsize::new(0);
    for _ in 0..ROUNDS {
        for (side, measured) in sides.iter().zip(&mut all) {
            let (began, count) = (Instant::now(), AtomicUsize::new(0));
            try_join_all((0..at_once).map(|_| async {
                while began.elapsed() < ROUND {
                    once(side, numbers.fetch_add(1, Relaxed)).await?;
                    count.fetch_add(1, Relaxed);
                }
                anyhow::Ok(())
            }))
            .await?;
            measured.rates.push(count.into_inner() as f64 / began.elapsed().as_secs_f64());
            let began = Instant::now();
            while began.elapsed() < ROUND / 2 {
                let start = Instant::now();
                once(side, numbers.fetch_add(1, Relaxed)).await?;
                measured.times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    Ok(all)
}

fn say(
    report: &mut Report,
    name: &str,
    measured: &[Measured; 2],
    what: &str,
) -> anyhow::Result<()> {
    let [ours, theirs] = measured;
    let median = |of: &Measured| percentile(&mut of.rates.clone(), 50);
    let how = format!(
        "{what}: seen by clients over TLS that share this machine's cores with the servers; medians of {ROUNDS} rounds in turns"
    );
    report.add(&Figure {
        bench: "api",
        metric: &format!("api_{name}_per_s"),
        value: median(ours),
        unit: "/s",
        peer: Some(("kube-apiserver with etcd", median(theirs))),
        how: &how,
    })?;
    for percent in [50, 99] {
        let time = |of: &Measured| percentile(&mut of.times.clone(), percent);
        report.add(&Figure {
            bench: "api",
            metric: &format!("api_{name}_p{percent}_ms"),
            value: time(ours),
            unit: "ms",
            peer: Some(("kube-apiserver with etcd", time(theirs))),
            how: "the same by one client, one at a time",
        })?;
    }
    Ok(())
}

fn memory(report: &mut Report, sides: &[Side; 2], name: &str, when: &str) -> anyhow::Result<()> {
    report.add(&Figure {
        bench: "api",
        metric: &format!("api_{name}"),
        value: sides[0].resident_mib()?,
        unit: "MiB",
        peer: Some(("kube-apiserver and etcd", sides[1].resident_mib()?)),
        how: &format!(
            "VmRSS of the whole cluster in one process, and of the two processes together, {when}"
        ),
    })
}

/// Clients change a ConfigMap each; all changes are seen by all watchers.
async fn fan_out(report: &mut Report, sides: &[Side; 2]) -> anyhow::Result<()> {
    let mut all = [Measured::default(), Measured::default()];
    for _ in 0..ROUNDS {
        for (side, measured) in sides.iter().zip(&mut all) {
            watched(side, measured).await?;
        }
    }
    say(
        report,
        "watch_events",
        &all,
        &format!(
            "events that {WATCHERS} watchers have read while {WRITERS} clients change a ConfigMap of 500 bytes each as fast as they are answered, until the last watcher has the last; times: from the begin of a change by one client until the last watcher has it"
        ),
    )
}

async fn watched(side: &Side, measured: &mut Measured) -> anyhow::Result<()> {
    let path = format!("{NAMESPACE}/configmaps");
    let write = async |writer: usize, n: usize| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("watched-{writer}"), "labels": {"watched": "true"}},
            "data": {"turn": format!("turn {n} of {:?}", Instant::now()), "rest": "x".repeat(500)}});
        let one = format!("{path}/watched-{writer}?fieldManager=bench");
        let media = "application/apply-patch+yaml";
        side.clients[writer].ask(Method::PATCH, &one, media, Some(&map)).await
    };
    for writer in 0..WRITERS {
        write(writer, 0).await?;
    }
    let (seen, tasks) = watch(side, &format!("{path}?watch=true&labelSelector=watched%3Dtrue"));
    // The objects as they are come first.
    let mut expected = WRITERS;
    seen.all_have(expected).await?;
    let (began, writes) = (Instant::now(), AtomicUsize::new(0));
    let (write, count) = (&write, &writes);
    try_join_all((0..WRITERS).map(|writer| async move {
        while began.elapsed() < ROUND {
            write(writer, count.fetch_add(1, Relaxed)).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let writes = writes.into_inner();
    expected += writes;
    seen.all_have(expected).await?;
    measured.rates.push((writes * WATCHERS) as f64 / began.elapsed().as_secs_f64());
    for n in 0..WRITES {
        let start = Instant::now();
        write(0, n).await?;
        expected += 1;
        seen.all_have(expected).await?;
        measured.times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    tasks.iter().for_each(JoinHandle::abort);
    Ok(())
}

fn watch(side: &Side, uri: &str) -> (Arc<Seen>, Vec<JoinHandle<anyhow::Result<()>>>) {
    let seen = Seen::new();
    let tasks = (0..WATCHERS).map(|at| {
        let client = side.clients[at % CLIENTS].clone();
        let (uri, seen) = (uri.to_owned(), seen.clone());
        tokio::spawn(async move {
            let response = client.send(Request::get(uri).body(Body::empty())?).await?;
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let lines = frame?.into_data().unwrap_or_default();
                seen.add(at, lines.iter().filter(|byte| **byte == b'\n').count());
            }
            Ok(())
        })
    });
    let tasks = tasks.collect();
    (seen, tasks)
}

/// Events that each watcher has read. Who waits for all is woken once and not by each of them: the
/// client shares its cores with what it measures.
struct Seen {
    each: Vec<AtomicUsize>,
    all: AtomicUsize,
    awaited: AtomicUsize,
    complete: Notify,
}

impl Seen {
    fn new() -> Arc<Self> {
        let each = (0..WATCHERS).map(|_| AtomicUsize::new(0)).collect();
        let [all, awaited] = [0, 0].map(AtomicUsize::new);
        Arc::new(Self { each, all, awaited, complete: Notify::new() })
    }

    fn add(&self, watcher: usize, events: usize) {
        self.each[watcher].fetch_add(events, SeqCst);
        if self.all.fetch_add(events, SeqCst) + events >= self.awaited.load(SeqCst) {
            self.complete.notify_one();
        }
    }

    /// Returns once every watcher has read so many, which are all that there are.
    async fn all_have(&self, count: usize) -> anyhow::Result<()> {
        self.awaited.store(count * WATCHERS, SeqCst);
        let complete = async {
            while self.all.load(SeqCst) < count * WATCHERS {
                self.complete.notified().await;
            }
        };
        let deadline = Duration::from_secs(30);
        tokio::time::timeout(deadline, complete).await.context("a watcher didn't see a change")?;
        let exact = self.each.iter().all(|seen| seen.load(SeqCst) == count);
        ensure!(exact, "a watcher saw a change twice");
        Ok(())
    }
}
