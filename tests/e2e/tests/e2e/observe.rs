//! What people look at when something is slow, full or broken: `kubectl top`, metrics, logs,
//! evictions.

use anyhow::Context;
use windlass_tests_e2e::{Cluster, Kubectl, Options, http_get, wait_for};

use crate::{
    pods::{deploy, import},
    shared,
};

fn node_name(kubectl: &Kubectl) -> anyhow::Result<String> {
    kubectl.jsonpath("nodes", "{.items[0].metadata.name}")
}

#[test]
fn top_shows_nodes_pods_and_containers() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("top")?;
    let url = deploy(cluster, &kubectl, "busy", "http-traps", "", "memory: 64Mi")?;
    let node = node_name(&kubectl)?;
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_namespace("top");
        let printed = kubectl.run(&["top", "nodes"])?;
        let line = printed.lines().find(|line| line.starts_with(&node)).context("the node")?;
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert!(columns[1].ends_with('m') && columns[2].ends_with('%'), "{printed}");
        assert!(columns[3].ends_with("Mi") && columns[3] != "0Mi", "{printed}");
        let printed = kubectl.run(&["top", "pods"])?;
        assert!(printed.contains("busy-"), "{printed}");
        let printed = kubectl.run(&["top", "pods", "--containers", "-l", "app=busy"])?;
        let line = printed.lines().find(|line| line.starts_with("busy-")).context("the pod")?;
        assert_eq!(line.split_whitespace().nth(1), Some("main"), "{printed}");
    }
    // What it used for this shows up.
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let used = || -> anyhow::Result<f64> {
        let page = kubectl.run(&["get", "--raw", &path])?;
        let own = |line: &&str| {
            line.starts_with("container_cpu_usage_seconds_total") && line.contains("pod=\"busy-")
        };
        let line = page.lines().find(own).context("the container")?;
        Ok(line.split_whitespace().nth(1).context("a value")?.parse()?)
    };
    let before = used()?;
    assert_eq!(http_get(&format!("{url}/spin?ms=300"))?.0, 200);
    assert!(used()? - before > 0.1, "{} after {before}", used()?);
    let page = kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics")])?;
    let own = |line: &&str| line.starts_with("windlass_requests_total") && line.contains("busy-");
    assert!(page.lines().any(|line| own(&line)), "{page}");
    let summary =
        kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")])?;
    assert!(summary.contains("\"usageNanoCores\""), "{summary}");
    let table = kubectl.run(&["get", "nodes.metrics.k8s.io"])?;
    assert!(table.starts_with("NAME") && table.contains(&node), "{table}");
    Ok(())
}

#[test]
fn logs_take_every_option() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("log-options")?;
    import(cluster, "windlass.dev/test/command-exit:1", "command-exit")?;
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  restartPolicy: OnFailure
  containers:
  - name: main
    image: windlass.dev/test/command-exit:1
    args: [\"trap\"]
    env: [{name: LONG, value: xxxxxxxxxxxxxxxxxxxx}]
",
    )?;
    wait_for("it is started again", 30, || {
        let count = kubectl.jsonpath("pod fails", "{.status.containerStatuses[0].restartCount}");
        count.ok().filter(|count| count != "0" && !count.is_empty())
    });
    let previous = kubectl.sh("logs fails --previous")?;
    let lines: Vec<&str> = previous.lines().collect();
    assert!(lines[0].starts_with("arguments: "), "{previous}");
    // The names of functions are in a trap's backtrace.
    assert!(previous.contains("trapped: ") && previous.contains("::process::abort"), "{previous}");
    // The host's stack is none of the guest's business.
    assert!(!previous.contains("wasmtime"), "{previous}");
    let tail = kubectl.sh("logs fails --previous --tail=2")?;
    assert_eq!(tail.lines().collect::<Vec<_>>(), lines[lines.len() - 2..]);
    let limited = kubectl.sh("logs fails --previous --limit-bytes=9")?;
    assert_eq!(limited, "arguments");
    let stamped = kubectl.sh("logs fails --previous --timestamps --tail=1")?;
    let (time, text) = stamped.trim_end().split_once(' ').context("a time")?;
    assert!(time.ends_with('Z') && time.contains('T'), "{stamped}");
    assert_eq!(text, lines[lines.len() - 1].trim_end());
    assert_eq!(kubectl.sh("logs fails --previous --since=1h")?, previous);
    assert_eq!(kubectl.sh("logs fails --previous --since-time=2100-01-01T00:00:00Z")?, "");
    Ok(())
}

#[test]
fn a_node_short_of_memory_evicts_who_takes_most() -> anyhow::Result<()> {
    let arguments = vec!["--guest-memory".to_owned(), "96Mi".to_owned()];
    let cluster = Cluster::start_with(Options { arguments, ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    let node = node_name(&kubectl)?;
    let allocatable = kubectl.jsonpath("nodes", "{.items[0].status.allocatable.memory}")?;
    assert!(allocatable != "96Mi" && !allocatable.is_empty(), "{allocatable}");
    let greedy = deploy(&cluster, &kubectl, "greedy", "http-memory", "", "")?;
    let modest = deploy(&cluster, &kubectl, "modest", "http-memory", "", "memory: 32Mi")?;
    // It holds that for longer than the test takes, but for the eviction.
    let held = std::thread::spawn(move || http_get(&format!("{greedy}/?mib=88&ms=14000")));
    let path = "{range .items[*]}{.metadata.name} {.status.reason}{\"\\n\"}{end}";
    wait_for("the greedy pod is evicted", 12, || {
        let pods = kubectl.jsonpath("pods", path).ok()?;
        let evicted: Vec<&str> = pods.lines().filter(|line| line.ends_with(" Evicted")).collect();
        assert!(evicted.iter().all(|line| line.starts_with("greedy-")), "{pods}");
        (!evicted.is_empty()).then_some(())
    });
    let _ = held.join();
    let condition = "{.status.conditions[?(@.type==\"MemoryPressure\")].status}";
    wait_for("the node says so", 10, || {
        let status = kubectl.jsonpath(&format!("node {node}"), condition).ok()?;
        (status == "True").then_some(())
    });
    wait_for("the node is tainted", 10, || {
        let taints = kubectl.jsonpath(&format!("node {node}"), "{.spec.taints[*].key}").ok()?;
        taints.contains("node.kubernetes.io/memory-pressure").then_some(())
    });
    let message = kubectl.jsonpath("pods -l app=greedy", "{.items[*].status.message}")?;
    assert!(message.contains("The node was low on resource: memory."), "{message}");
    assert_eq!(http_get(&format!("{modest}/?mib=8"))?.0, 200, "others go on");
    Ok(())
}
