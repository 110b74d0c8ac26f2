//! What a pod's containers are given and in which order they run: volumes that follow their
//! objects, init containers, last words, deadlines.

use anyhow::Context;
use windlass_tests_e2e::{Cluster, Kubectl, guest, http_get, wait_for};

use crate::shared;

fn import(cluster: &Cluster, guest_name: &str) -> anyhow::Result<String> {
    let image = format!("windlass.dev/test/{guest_name}:1");
    let file = guest(guest_name)?;
    cluster.windlass(&["image", "import", &image, file.to_str().context("a path in UTF-8")?])?;
    Ok(image)
}

/// Waits until the pod's path answers with the text.
fn until_served(kubectl: &Kubectl, pod: &str, path: &str, text: &str) -> anyhow::Result<()> {
    let address = kubectl.jsonpath(&format!("pod {pod}"), "{.status.podIP}")?;
    let url = format!("http://{address}:8080{path}");
    wait_for(&format!("{path} is {text:?}"), 30, || {
        http_get(&url).ok().filter(|(code, body)| *code == 200 && body == text)
    });
    Ok(())
}

#[test]
fn volumes_hold_what_they_name_and_follow_it() -> anyhow::Result<()> {
    let cluster = shared();
    let (files, writer) = (import(cluster, "http-files")?, import(cluster, "command-files")?);
    let kubectl = cluster.kubectl(37)?.in_new_namespace("volumes")?;
    kubectl.sh("create configmap settings --from-literal=colour=red")?;
    kubectl.sh("create secret generic keys --from-literal=password=hush")?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: reader, labels: {{app: reader}}}}
spec:
  initContainers:
  - name: writer
    image: {writer}
    args: [/data]
    volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
  - name: main
    image: {files}
    ports: [{{containerPort: 8080}}]
    resources: {{limits: {{memory: 64Mi}}}}
    volumeMounts:
    - {{name: settings, mountPath: /settings}}
    - {{name: keys, mountPath: /keys}}
    - {{name: self, mountPath: /self}}
    - {{name: data, mountPath: /shared, readOnly: true}}
  volumes:
  - name: settings
    configMap: {{name: settings}}
  - name: keys
    secret: {{secretName: keys, items: [{{key: password, path: deep/er}}]}}
  - name: self
    downwardAPI:
      items:
      - {{path: name, fieldRef: {{fieldPath: metadata.name}}}}
      - path: memory
        resourceFieldRef: {{containerName: main, resource: limits.memory, divisor: 1Mi}}
  - name: data
    emptyDir: {{sizeLimit: 10Mi}}
"
    ))?;
    kubectl.sh("wait --for=condition=Ready pod/reader --timeout=60s")?;
    let initialised = "{.status.initContainerStatuses[0].state.terminated.reason}";
    assert_eq!(kubectl.jsonpath("pod reader", initialised)?, "Completed");
    for (path, text) in [
        ("/settings/colour", "red"),
        ("/keys/deep/er", "hush"),
        ("/self/name", "reader"),
        ("/self/memory", "64"),
        ("/shared/linked", "0123"),
    ] {
        until_served(&kubectl, "reader", path, text)?;
    }
    kubectl.run(&[
        "patch",
        "configmap",
        "settings",
        "--type=merge",
        "--patch={\"data\":{\"colour\":\"blue\"}}",
    ])?;
    until_served(&kubectl, "reader", "/settings/colour", "blue")?;
    let uid = kubectl.jsonpath("pod reader", "{.metadata.uid}")?;
    kubectl.sh("delete pod reader --timeout=60s")?;
    let find = |dir: &std::path::Path| -> bool { dir.join("volumes").join(&uid).exists() };
    wait_for("the volumes go with the pod", 30, || {
        let nodes = std::fs::read_dir(cluster.data_dir()).ok()?;
        let mut dirs = nodes.flatten().map(|entry| entry.path());
        (!find(cluster.data_dir()) && !dirs.any(|dir| find(&dir))).then_some(())
    });
    Ok(())
}

#[test]
fn an_init_container_that_fails_holds_the_pod_and_is_tried_again() -> anyhow::Result<()> {
    let cluster = shared();
    let exit = import(cluster, "command-exit")?;
    let kubectl = cluster.kubectl(37)?.in_new_namespace("init")?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: held}}
spec:
  initContainers:
  - {{name: first, image: {exit}, args: [\"3\"]}}
  containers:
  - {{name: main, image: windlass.dev/hello:v1}}
"
    ))?;
    wait_for("it is tried again", 60, || {
        let restarts = kubectl
            .jsonpath("pod held", "{.status.initContainerStatuses[0].restartCount}")
            .unwrap_or_default();
        restarts.parse::<u32>().ok().filter(|restarts| *restarts >= 1)
    });
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    assert_eq!(kubectl.jsonpath("pod held", waiting)?, "PodInitializing");
    let shown = kubectl.sh("get pod held --no-headers")?;
    assert!(shown.contains("Init:"), "{shown}");
    kubectl.sh("delete pod held --timeout=60s")?;
    Ok(())
}

#[test]
fn last_words_and_deadlines_are_in_the_status() -> anyhow::Result<()> {
    let cluster = shared();
    let (exit, busy) = (import(cluster, "command-exit")?, import(cluster, "command-exec")?);
    let kubectl = cluster.kubectl(37)?.in_new_namespace("endings")?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: fails}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: {exit}, args: [\"3\"], terminationMessagePolicy: FallbackToLogsOnError}}
---
apiVersion: v1
kind: Pod
metadata: {{name: late}}
spec:
  activeDeadlineSeconds: 2
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: {busy}}}
"
    ))?;
    let of = |pod: &str, path: &str| kubectl.jsonpath(&format!("pod {pod}"), path);
    wait_for("both failed", 60, || {
        let phases = ["fails", "late"].map(|pod| of(pod, "{.status.phase}").unwrap_or_default());
        phases.iter().all(|phase| phase == "Failed").then_some(())
    });
    let ended = "{.status.containerStatuses[0].state.terminated.message}";
    let message = of("fails", ended)?;
    assert!(message.contains("about to end"), "{message}");
    assert_eq!(of("late", "{.status.reason}")?, "DeadlineExceeded");
    Ok(())
}
