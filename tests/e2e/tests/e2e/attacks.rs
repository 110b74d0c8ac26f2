//! Hostile guests in a real cluster: neighbours and the API server go on answering, and the
//! attacker can be deleted. What neighbours notice to the millisecond is measured by
//! `cargo xtask bench attacks`; here binaries are unoptimised and other tests run beside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{Cluster, Kubectl, first_answer, guest, http_get};

/// Requests to each neighbour while attacked.
const SAMPLES: usize = 60;
/// The slowest answer of a neighbour: without the limits they are not answered at all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const DELETED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn neighbours_and_the_api_server_answer_under_every_attack() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let file = guest("http-attacks")?;
    cluster.windlass(&[
        "image",
        "import",
        "windlass.dev/test/attacks:1",
        &file.to_string_lossy(),
    ])?;
    for name in ["one", "two"] {
        kubectl.sh(&format!("run {name} --image=windlass.dev/hello:v1 --port=8080"))?;
    }
    kubectl.sh("wait pod/one pod/two --for=condition=Ready --timeout=60s")?;
    let neighbours = [url_of(&kubectl, "one")?, url_of(&kubectl, "two")?];
    for (name, paths) in [
        ("spin", &["/spin"][..]),
        ("memory", &["/allocate", "/recurse", "/handles", "/head"]),
        ("log", &["/log"]),
        ("bodies", &["/never", "/hang", "/flood"]),
    ] {
        attack(&kubectl, name, paths, &neighbours)?;
    }
    Ok(())
}

fn attack(
    kubectl: &Kubectl,
    name: &str,
    paths: &'static [&'static str],
    neighbours: &[String],
) -> anyhow::Result<()> {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: windlass.dev/test/attacks:1, resources: {{limits: {{memory: 64Mi}}}}}}]
"
    ))?;
    kubectl.sh(&format!("wait pod/{name} --for=condition=Ready --timeout=60s"))?;
    let target = url_of(kubectl, name)?;
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..12)
        .map(|n| {
            let (stop, url) = (stop.clone(), format!("{target}{}", paths[n % paths.len()]));
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    // It is refused, fails, or never ends.
                    let _ = http_get(&url);
                }
            })
        })
        .collect();
    for n in 0..SAMPLES {
        let began = Instant::now();
        let answered = http_get(&neighbours[n % neighbours.len()]);
        let (status, _) = answered.with_context(|| format!("request {n} beside {name}"))?;
        let took = began.elapsed();
        ensure!(status == 200 && took < ANSWERED_WITHIN, "{name}: {status} after {took:?}");
    }
    kubectl.sh("get pods --request-timeout=5s")?;
    let began = Instant::now();
    kubectl.sh(&format!("delete pod {name} --timeout=30s"))?;
    stop.store(true, Relaxed);
    ensure!(began.elapsed() < DELETED_WITHIN, "{name} took {:?} to delete", began.elapsed());
    attackers.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn url_of(kubectl: &Kubectl, pod: &str) -> anyhow::Result<String> {
    let address = kubectl.jsonpath(&format!("pod {pod}"), "{.status.podIP}")?;
    let url = format!("http://{address}:8080");
    first_answer(&url);
    Ok(url)
}
