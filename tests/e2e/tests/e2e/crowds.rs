//! Many objects at once: what they take of memory.

use anyhow::Context;
use windlass_tests_e2e::{Cluster, resident_mib, wait_for};

/// A few thousand tell as much as ten thousand, of which `cargo xtask bench density` makes them run.
const PODS: usize = 2_000;
const MOST_KIB_EACH: f64 = 100.0;

/// Stored, cached, watched by scheduler and controllers, with their Events.
#[test]
fn thousands_of_pods_take_little_memory_each() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let pid = cluster.pid().context("the cluster runs")?;
    let settings: String = (0..8)
        .map(|n| format!("        - {{name: SETTING_{n}, value: value-{n}-of-this-pod}}\n"))
        .collect();
    let set = |replicas: usize| {
        format!(
            "apiVersion: apps/v1
kind: ReplicaSet
metadata: {{name: many}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      nodeSelector: {{nowhere: here}}
      containers:
      - name: main
        image: example.com/app:v1
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: 64Mi}}}}
        env:
{settings}"
        )
    };
    let made = |replicas: usize| {
        let of = || kubectl.jsonpath("replicaset many", "{.status.replicas}").ok();
        let is_there = || (of()? == replicas.to_string()).then_some(());
        wait_for(&format!("{replicas} pods"), 120, is_there);
    };
    // One, so that what is read in and built once is not counted.
    kubectl.apply(&set(1))?;
    made(1);
    let before = resident_mib(pid)?;
    kubectl.apply(&set(1 + PODS))?;
    made(1 + PODS);
    let each = (resident_mib(pid)? - before) * 1024.0 / PODS as f64;
    println!("{each:.1} KiB a pod");
    assert!(each < MOST_KIB_EACH, "{each:.1} KiB a pod");
    Ok(())
}
