//! Ten thousand pods on one node: how long until all are Ready, what one costs, what they do to the
//! processor while nobody asks, and that each of them answers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use serde_json::json;
use windlass_sdk_types::{Deployment, Pod};
use windlass_tests_e2e::{Cluster, resident_mib};

use crate::{
    client,
    report::{Figure, Report},
};

const PODS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the idle cluster is watched, after a pause in which the work of the start ends.
const IDLE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(15);
/// Connections that ask at once.
const ASKING: usize = 32;
/// Objects in one page of a list.
const PAGE: u32 = 500;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let pid = cluster.pid().context("the cluster runs")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before_mib = resident_mib(pid)?;
    let (took, client) = runtime.block_on(all_ready(&cluster))?;
    std::thread::sleep(SETTLE);
    let resident = resident_mib(pid)?;
    let cpu = idle_cpu_percent(pid)?;
    let idle_mib = resident_mib(pid)?;
    let asked = Instant::now();
    let answered = runtime.block_on(ask_each(&client))?;
    ensure!(answered == PODS, "{answered} of {PODS} pods answered");
    let asked = asked.elapsed().as_secs_f64();
    let of_pods = "one Deployment of 10,000 replicas of examples/hello with a readiness probe (httpGet, otherwise defaults: every 10 s), one process with control plane and node";
    let each_kb = (idle_mib - before_mib) * 1024.0 / PODS as f64;
    for (metric, value, unit, how) in [
        (
            "idle_pods_ready",
            PODS as f64,
            "pods",
            format!("{of_pods}; counted by the Deployment's readyReplicas"),
        ),
        (
            "idle_pods_ready_s",
            took.as_secs_f64(),
            "s",
            format!(
                "{of_pods}; from before the POST of the Deployment to readyReplicas = 10,000, polled every 100 ms by one client"
            ),
        ),
        (
            "idle_pod_total_kb",
            each_kb,
            "KiB",
            format!(
                "growth of VmRSS of the process by all pods, their objects, events and caches, 45 s after the last was Ready ({before_mib:.0} MiB before, {resident:.0} MiB after 15 s, {idle_mib:.0} MiB after 45 s)"
            ),
        ),
        (
            "idle_10k_cpu_percent",
            cpu,
            "% of a core",
            format!(
                "user and system time of the process over {} s in which nobody asks; probes included",
                IDLE.as_secs()
            ),
        ),
        (
            "idle_10k_one_request_each_s",
            asked,
            "s",
            format!(
                "one GET to each pod's own address over a connection of its own, {ASKING} at once, all answered 200; includes listing the pods"
            ),
        ),
        (
            "idle_10k_rss_after_requests_mib",
            resident_mib(pid)?,
            "MiB",
            "VmRSS after those requests".to_owned(),
        ),
    ] {
        report.add(&Figure { bench: "wasm", metric, value, unit, peer: None, how: &how })?;
    }
    Ok(())
}

async fn all_ready(cluster: &Cluster) -> anyhow::Result<(Duration, Client)> {
    let client = client::client(cluster).await?;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "many"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {"containers": [{
                    "name": "main",
                    "image": "windlass.dev/hello:v1",
                    "ports": [{"containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
                }]},
            },
        },
    }))?;
    let began = Instant::now();
    deployments.create(&PostParams::default(), &deployment).await?;
    let mut told = 0;
    loop {
        let status = deployments.get("many").await?.status.unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        if usize::try_from(ready)? >= PODS {
            return Ok((began.elapsed(), client));
        }
        if ready >= told + 1000 {
            told = ready;
            println!("         {ready} Ready after {:.1} s", began.elapsed().as_secs_f64());
        }
        ensure!(began.elapsed() < PATIENCE, "{ready} of {PODS} pods are Ready: {status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// User and system time of a process while nobody asks, in percent of one core.
fn idle_cpu_percent(pid: u32) -> anyhow::Result<f64> {
    let (before, began) = (cpu_seconds(pid)?, Instant::now());
    std::thread::sleep(IDLE);
    Ok((cpu_seconds(pid)? - before) / began.elapsed().as_secs_f64() * 100.0)
}

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    /// Linux's USER_HZ, which is 100 on every architecture that Windlass runs on.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a process's name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(11).context("utime")? + ticks(12).context("stime")?) / TICKS_A_SECOND)
}

/// How many pods answered 200 to one request.
async fn ask_each(client: &Client) -> anyhow::Result<usize> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut addresses = Vec::new();
    let mut page = ListParams::default().labels("app=many").limit(PAGE);
    loop {
        let list = pods.list(&page).await?;
        let status = list.items.into_iter().filter_map(|pod| pod.status?.pod_ip);
        addresses.extend(status);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let answers = stream::iter(addresses).map(ask).buffer_unordered(ASKING);
    answers.try_fold(0, async |count, ok| Ok(count + usize::from(ok))).await
}

async fn ask(address: String) -> anyhow::Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((address.as_str(), 8080)).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
