//! A container's pod against `docker run` of the same image on the same engine, in turns.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use windlass_sdk_types::api::core::v1::Pod;
use windlass_tests_e2e::{
    Cluster,
    docker::{busybox, host},
    wait_for,
};

use crate::{
    client,
    pods::is_ready,
    report::{Figure, Report, percentile},
};

const WARM_UP: usize = 3;
const ROUNDS: usize = 20;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    busybox()?;
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    wait_for("the node has its engine", 30, || {
        let labels = kubectl.jsonpath("nodes", "{.items[0].metadata.labels}").ok()?;
        labels.contains("runtime.docker").then_some(())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut ours, mut theirs, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let own = runtime.block_on(async {
            let pods = client::pods(&cluster).await?;
            one_pod(&pods, &format!("bench-{round}")).await
        })?;
        let other = docker_run()?;
        if round >= WARM_UP {
            ours.push(own);
            theirs.push(other);
            over.push(own - other);
        }
    }
    let how = "from before the POST of a pod with one busybox container (image in the engine's store) to the watch event with Ready=True, by one client over TLS; the peer: `docker run -d` of the same image and command until it returns; 20 in turns, medians";
    let (own, other) = (percentile(&mut ours, 50), percentile(&mut theirs, 50));
    report.add(&Figure {
        bench: "containers",
        metric: "container_ready_p50_ms",
        value: own,
        unit: "ms",
        peer: Some(("docker run", other)),
        how,
    })?;
    report.add(&Figure {
        bench: "containers",
        metric: "container_overhead_p50_ms",
        value: percentile(&mut over, 50),
        unit: "ms",
        peer: None,
        how: "the median of the differences of the turns",
    })
}

/// Milliseconds; the container is removed afterwards.
fn docker_run() -> anyhow::Result<f64> {
    let docker = |arguments: &[&str]| -> anyhow::Result<String> {
        let output =
            Command::new("/usr/bin/docker").args(arguments).env("DOCKER_HOST", host()?).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let start = Instant::now();
    let id = docker(&["run", "-d", busybox()?, "sleep", "1000"])?;
    let elapsed = start.elapsed();
    docker(&["rm", "-f", id.trim()])?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}

/// Milliseconds from the POST to Ready; the pod is gone afterwards.
async fn one_pod(pods: &Api<Pod>, name: &str) -> anyhow::Result<f64> {
    let selected = WatchParams::default().fields(&format!("metadata.name={name}"));
    let newest = pods.list_metadata(&Default::default()).await?.metadata.resource_version;
    let mut events = pods.watch(&selected, &newest.context("a list has a version")?).await?.boxed();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": busybox()?, "command": ["sleep", "1000"]}]},
    }))?;
    let start = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    let mut elapsed = None;
    let watching = async {
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod)
                    if elapsed.is_none() && is_ready(&pod) =>
                {
                    elapsed = Some(start.elapsed());
                    let now = DeleteParams::default().grace_period(0);
                    pods.delete(name, &now).await?;
                }
                WatchEvent::Deleted(_) => return anyhow::Ok(()),
                _ => {}
            }
        }
        bail!("the watch ended before {name} was gone")
    };
    tokio::time::timeout(Duration::from_secs(60), watching).await??;
    let elapsed = elapsed.context("it was never Ready")?;
    Ok(elapsed.as_secs_f64() * 1000.0)
}
