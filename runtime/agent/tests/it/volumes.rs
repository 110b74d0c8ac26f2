//! Volumes of pods on a real folder, in virtual time.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_runtime_agent::AgentConfig;
use windlass_runtime_api::ContainerSpec;

use crate::{
    fake_api::FakeApi,
    fake_runtime::FakeRuntime,
    lifecycle::{POD, bound_pod, config, is_ready},
};

const MAP: &str = "api/v1/namespaces/default/configmaps/cm";

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value},
        "metadata": {"name": "cm", "namespace": "default", "uid": "m"}})
}

/// Waits for a condition in virtual time.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn files_come_with_the_pod_follow_their_objects_and_go_with_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
    let config = AgentConfig { volume_dir: Some(dir.path().to_owned()), ..config(&api, &runtime) };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
    let mut pod = bound_pod();
    pod["metadata"]["labels"] = json!({"app": "hello"});
    pod["spec"]["volumes"] = json!([
        {"name": "config", "configMap": {"name": "cm"}},
        {"name": "self", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "config", "mountPath": "/etc/config"},
        {"name": "config", "mountPath": "/etc/one", "subPath": "k"},
        {"name": "self", "mountPath": "/etc/self"},
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "scratch", "mountPath": "/cache", "subPath": "deep/er", "readOnly": true},
    ]);
    api.put(POD, pod);
    let missing = "FailedMount: MountVolume.SetUp failed for volume \"config\" : \
        configmap \"cm\" not found";
    until("told", || api.events().iter().any(|event| event == missing)).await;
    api.put(MAP, map("one"));
    until("ready", || is_ready(&api.get(POD).unwrap_or_default()["status"])).await;
    let spec: ContainerSpec = runtime.state.lock().expect("lock").started[0].clone();
    let mounts: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| format!("{} {}", mount.container_path, mount.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            "/etc/config true",
            "/etc/one true",
            "/etc/self true",
            "/tmp false",
            "/cache true",
            "/dev/termination-log false",
        ]
    );
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (file, alone) = (spec.mounts[0].host_path.join("k"), &spec.mounts[1].host_path);
    let labels = spec.mounts[2].host_path.join("labels");
    assert_eq!((read(&file).as_str(), read(alone).as_str()), ("one", "one"));
    assert_eq!(read(&labels), "app=\"hello\"");
    assert!(spec.mounts[4].host_path.ends_with("scratch/deep/er"));
    api.put(MAP, map("two"));
    until("the file follows", || read(&file) == "two").await;
    assert_eq!(read(alone), "one", "a file mounted by itself stays");
    api.change(POD, |pod| pod["metadata"]["labels"]["app"] = "changed".into());
    until("labels follow", || read(&labels) == "app=\"changed\"").await;
    std::fs::write(&spec.mounts[5].host_path, "last words").expect("written");
    runtime.exit("u", "c", 1);
    let last = || api.get(POD).unwrap_or_default()["status"]["containerStatuses"][0].clone();
    until("told", || last()["lastState"]["terminated"]["message"] == "last words").await;
    api.remove(POD);
    until("removed", || !dir.path().join("u").exists()).await;
    stop.cancel();
    agent.await.expect("task").expect("agent");
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_outgrows_its_limit_ends_the_pod() {
    let dir = tempfile::tempdir().expect("dir");
    let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
    let config = AgentConfig { volume_dir: Some(dir.path().to_owned()), ..config(&api, &runtime) };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
    let mut pod = bound_pod();
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    api.put(POD, pod);
    let status = || api.get(POD).unwrap_or_default()["status"].clone();
    until("ready", || is_ready(&status())).await;
    let folder = runtime.state.lock().expect("lock").started[0].mounts[0].host_path.clone();
    std::fs::write(folder.join("big"), vec![1; 100 * 1024]).expect("written");
    until("evicted", || status()["phase"] == "Failed").await;
    assert_eq!(status()["reason"], "Evicted");
    let message = "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ";
    assert_eq!(status()["message"], message);
    stop.cancel();
    agent.await.expect("task").expect("agent");
}
