//! How fast a cluster is there, and how much memory it then holds.

use std::time::Instant;

use anyhow::Context;
use windlass_tests_e2e::{Cluster, resident_mib};

use crate::report::{Figure, Report, percentile};

const RUNS: usize = 5;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let cluster = Cluster::start()?;
        samples.push(start.elapsed().as_secs_f64() * 1000.0);
        drop(cluster);
    }
    report.add(&Figure {
        bench: "main",
        metric: "start_ready_ms",
        value: percentile(&mut samples, 50),
        unit: "ms",
        peer: None,
        how: "from the start of the process `windlass up` on an empty data folder to its line `ready` (/readyz ok, node Ready), seen by its parent; median of 5",
    })?;
    idle_memory(report)
}

fn idle_memory(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    kubectl.sh("explain deployment.spec")?;
    report.add(&Figure {
        bench: "main",
        metric: "idle_rss_mib",
        value: resident_mib(cluster.pid().context("the cluster runs")?)?,
        unit: "MiB",
        peer: None,
        how: "VmRSS of the one process after `kubectl apply -f examples/hello`, its rollout and `kubectl explain deployment.spec` (kubectl 1.37)",
    })
}
