//! Pod create to Ready, as a client sees it over TLS.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use windlass_sdk_types::api::core::v1::Pod;
use windlass_tests_e2e::Cluster;

use crate::{
    client,
    report::{Figure, Report, percentile},
};

const WARM_UP: usize = 20;
const PODS: usize = 300;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut samples = runtime.block_on(latencies(&cluster))?;
    let how = "from before the POST of a pod with one handler container (image on the node, compiled) to the watch event with Ready=True, by one client over TLS, 300 pods one after the other";
    for (metric, percent) in [("pod_ready_p50_ms", 50), ("pod_ready_p99_ms", 99)] {
        let value = percentile(&mut samples, percent);
        report.add(&Figure { bench: "main", metric, value, unit: "ms", peer: None, how })?;
    }
    Ok(())
}

async fn latencies(cluster: &Cluster) -> anyhow::Result<Vec<f64>> {
    let pods = client::pods(cluster).await?;
    let mut samples = Vec::new();
    for n in 0..WARM_UP + PODS {
        let sample = one_pod(&pods, &format!("bench-{n}")).await?;
        if n >= WARM_UP {
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// Milliseconds from the POST to Ready; the pod is deleted afterwards.
async fn one_pod(pods: &Api<Pod>, name: &str) -> anyhow::Result<f64> {
    let selected = WatchParams::default().fields(&format!("metadata.name={name}"));
    let newest = pods.list_metadata(&Default::default()).await?.metadata.resource_version;
    let mut events = pods.watch(&selected, &newest.context("a list has a version")?).await?.boxed();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "windlass.dev/hello:v1"}]},
    }))?;
    let start = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    let ready = async {
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && is_ready(&pod)
            {
                return anyhow::Ok(start.elapsed());
            }
        }
        bail!("the watch ended before {name} was Ready")
    };
    let elapsed = tokio::time::timeout(Duration::from_secs(30), ready).await??;
    pods.delete(name, &DeleteParams::default()).await?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
