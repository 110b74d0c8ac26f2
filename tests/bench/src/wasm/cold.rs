//! From `POST pod` to the first answer, for a component that the node has never seen and for one
//! that it has compiled before.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use windlass_sdk_types::Pod;
use windlass_tests_e2e::{Cluster, http_get, root};

use crate::{
    client,
    report::{Figure, Report, percentile},
};

const PATIENCE: Duration = Duration::from_secs(60);

const RUNS: usize = 9;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pods = runtime.block_on(client::pods(&cluster))?;
    let measured = |name: String, image: &str| runtime.block_on(first_answer(&pods, &name, image));
    let (mut new, mut known, mut after_restart) = (vec![], vec![], vec![]);
    for n in 0..RUNS {
        let image = format!("bench.test/cold-{n}:v1");
        let file = never_seen(folder.path(), n)?;
        cluster.windlass(&["image", "import", &image, &file.to_string_lossy()])?;
        new.push(measured(format!("new-{n}"), &image)?);
        known.push(measured(format!("known-{n}"), &image)?);
        // One more, whose pod is gone when the node comes back: what is linked then is linked anew.
        let image = format!("bench.test/gone-{n}:v1");
        let file = never_seen(folder.path(), RUNS + n)?;
        cluster.windlass(&["image", "import", &image, &file.to_string_lossy()])?;
        measured(format!("gone-{n}"), &image)?;
        runtime.block_on(
            pods.delete(&format!("gone-{n}"), &DeleteParams::default().grace_period(0)),
        )?;
    }
    cluster.kill()?;
    cluster.resume()?;
    for n in 0..RUNS {
        after_restart.push(measured(format!("again-{n}"), &format!("bench.test/gone-{n}:v1"))?);
    }
    let how = "from before the POST of a pod by a client over TLS to the first 200 of the pod's address, asked without pause; median of 9";
    for (metric, samples, what) in [
        ("cold_new_digest_ms", &mut new, "component of 60 KB never seen by the node"),
        ("cold_known_digest_ms", &mut known, "component linked in memory"),
        (
            "cold_after_restart_ms",
            &mut after_restart,
            "component linked after a SIGKILL of the node, from the compile cache on disk",
        ),
    ] {
        let value = percentile(samples, 50);
        let how = format!("{what}: {how}");
        report.add(&Figure { bench: "wasm", metric, value, unit: "ms", peer: None, how: &how })?;
    }
    Ok(())
}

/// The demo component with a custom section that makes its digest another.
pub fn never_seen(folder: &Path, n: usize) -> anyhow::Result<PathBuf> {
    let mut bytes = std::fs::read(root().join("examples/hello/hello-v1.wasm"))?;
    let content = format!("cold start {n}, {:?}", std::time::SystemTime::now());
    let mut section = vec![1, b'x'];
    section.extend(content.bytes());
    bytes.push(0);
    bytes.push(u8::try_from(section.len()).context("a short section")?);
    bytes.extend(section);
    let file = folder.join(format!("cold-{n}.wasm"));
    std::fs::write(&file, bytes)?;
    Ok(file)
}

/// Milliseconds from before the POST to the first 200.
async fn first_answer(pods: &Api<Pod>, name: &str, image: &str) -> anyhow::Result<f64> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }))?;
    let began = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    let address = loop {
        let status = pods.get(name).await?.status.unwrap_or_default();
        if let Some(address) = status.pod_ip {
            break address;
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{name} never had an address");
    };
    let url = format!("http://{address}:8080");
    loop {
        if http_get(&url).is_ok_and(|(status, _)| status == 200) {
            return Ok(began.elapsed().as_secs_f64() * 1000.0);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{name} never answered");
    }
}
