//! `kubectl patch --subresource=resize`: other amounts for containers that run.

use serde_json::json;
use windlass_tests_e2e::{
    Kubectl,
    docker::{docker, host},
    first_answer, http_get, wait_for,
};

use crate::{
    containers::{namespace, pod, ready, until},
    pods::import,
    shared,
};

const STATUS: &str = "{.status.containerStatuses[0].restartCount} \
                      {.status.containerStatuses[0].resources.limits.memory}";

fn resize(kubectl: &Kubectl, name: &str, memory: &str) -> anyhow::Result<()> {
    let amounts = json!({"memory": memory});
    let container = json!({"name": "main", "resources": {"requests": amounts, "limits": amounts}});
    let patch = json!({"spec": {"containers": [container]}}).to_string();
    kubectl.run(&["patch", "pod", name, "--subresource=resize", "-p", &patch])?;
    Ok(())
}

#[test]
fn a_handler_gets_more_memory_while_it_serves() -> anyhow::Result<()> {
    let (cluster, name) = (shared(), "grows");
    let kubectl = cluster.kubectl(37)?.in_new_namespace("resize-wasm")?;
    import(cluster, "windlass.dev/test/http-memory:1", "http-memory")?;
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: grows}
spec:
  containers:
  - name: main
    image: windlass.dev/test/http-memory:1
    ports: [{containerPort: 8080}]
    resources: {limits: {memory: 48Mi}}
",
    )?;
    ready(&kubectl, name)?;
    until(&kubectl, "pod grows", STATUS, "0 48Mi");
    let url = format!("http://{}:8080", kubectl.jsonpath("pod grows", "{.status.podIP}")?);
    first_answer(&url);
    let grow = format!("{url}/grow?mib=100");
    assert_eq!(http_get(&grow)?.0, 503, "100 MiB are more than 48");
    resize(&kubectl, name, "256Mi")?;
    until(&kubectl, "pod grows", STATUS, "0 256Mi");
    assert_eq!(http_get(&grow)?, (200, format!("held {} bytes\n", 100 << 20)));
    // More than the node has is refused at once.
    let refused = resize(&kubectl, name, "900Gi").expect_err("no node has that much");
    assert!(format!("{refused}").contains("node didn't have enough allocatable resources: memory"));
    Ok(())
}

#[test]
fn a_container_is_resized_in_place_or_by_a_restart() -> anyhow::Result<()> {
    let kubectl = namespace("resize-docker")?;
    for (name, policy, restarts) in [("live", "NotRequired", 0), ("anew", "RestartContainer", 1)] {
        let more = format!(
            "    resources: {{limits: {{memory: 32Mi}}}}
    resizePolicy: [{{resourceName: memory, restartPolicy: {policy}}}]
"
        );
        kubectl.apply(&pod(name, "sleep 1000", &more))?;
        ready(&kubectl, name)?;
        resize(&kubectl, name, "48Mi")?;
        until(&kubectl, &format!("pod {name}"), STATUS, &format!("{restarts} 48Mi"));
        let id = kubectl
            .jsonpath(&format!("pod {name}"), "{.status.containerStatuses[0].containerID}")?;
        let id = id.trim_start_matches("docker://");
        let inspected = ["inspect", "--format", "{{.HostConfig.Memory}}", id];
        let limit = docker(&host()?, &inspected)?;
        assert_eq!(limit.trim(), (48 << 20).to_string(), "{name}");
    }
    wait_for("the pod is ready again", 20, || ready(&kubectl, "anew").ok());
    Ok(())
}
