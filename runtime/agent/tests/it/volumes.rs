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
const ROOT: &str = "api/v1/namespaces/default/configmaps/kube-root-ca.crt";

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value},
        "metadata": {"name": name, "namespace": "default", "uid": "m"}})
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
    api.put(MAP, map("cm", "one"));
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
    api.put(MAP, map("cm", "two"));
    until("the file follows", || read(&file) == "two").await;
    assert_eq!(read(alone), "one", "a file mounted by itself stays");
    api.change(POD, |pod| pod["metadata"]["labels"]["app"] = "changed".into());
    until("labels follow", || read(&labels) == "app=\"changed\"").await;
    assert!(!spec.mounts[5].host_path.exists(), "nobody has used the container yet");
    spec.late_mounts.as_ref().expect("late").make().await.expect("made");
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
async fn a_token_is_asked_for_when_the_pod_is_used() {
    let dir = tempfile::tempdir().expect("dir");
    let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
    let config = AgentConfig { volume_dir: Some(dir.path().to_owned()), ..config(&api, &runtime) };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
    let mut pod = bound_pod();
    pod["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 100}},
        {"configMap": {"name": "kube-root-ca.crt"}}]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    api.put(POD, pod);
    until("ready", || is_ready(&api.get(POD).unwrap_or_default()["status"])).await;
    let asked = || api.writes("serviceaccounts/default/token");
    assert_eq!((asked(), dir.path().join("u").exists()), (0, false), "an idle pod has no files");
    let spec: ContainerSpec = runtime.state.lock().expect("lock").started[0].clone();
    let late = spec.late_mounts.as_ref().expect("late");
    let missing =
        "MountVolume.SetUp failed for volume \"t\" : configmap \"kube-root-ca.crt\" not found";
    assert_eq!(late.make().await.map_err(|error| error.message), Err(missing.to_owned()));
    let event = format!("FailedMount: {missing}");
    until("told", || api.events().contains(&event)).await;
    api.put(ROOT, map("kube-root-ca.crt", "one"));
    late.make().await.expect("made");
    late.make().await.expect("made once");
    let read = |name: &str| {
        std::fs::read_to_string(spec.mounts[0].host_path.join(name)).unwrap_or_default()
    };
    assert_eq!((read("token").as_str(), read("k").as_str()), ("token-2", "one"));
    // At 80 of 100 of its life it is replaced, and what it stands beside follows its object.
    until("a new token", || read("token") == "token-3").await;
    api.put(ROOT, map("kube-root-ca.crt", "two"));
    until("the file follows", || read("k") == "two").await;
    stop.cancel();
    agent.await.expect("task").expect("agent");
}

#[tokio::test(start_paused = true)]
async fn variables_come_from_a_file_of_an_init_container() {
    let dir = tempfile::tempdir().expect("dir");
    let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
    let config = AgentConfig { volume_dir: Some(dir.path().to_owned()), ..config(&api, &runtime) };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
    let mut pod = bound_pod();
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {"mode": 0o700}}]);
    pod["spec"]["initContainers"] = json!([{"name": "i", "image": "hello",
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"fileKeyRef":
        {"volumeName": "v", "path": "config.env", "key": "K"}}}]);
    api.put(POD, pod);
    let started = || runtime.state.lock().expect("lock").started.clone();
    until("the init container runs", || !started().is_empty()).await;
    std::fs::write(started()[0].mounts[0].host_path.join("config.env"), "K='v'\n")
        .expect("written");
    runtime.exit("u", "i", 0);
    until("ready", || is_ready(&api.get(POD).unwrap_or_default()["status"])).await;
    assert!(started()[1].env.contains(&("A".to_owned(), "v".to_owned())), "{:?}", started()[1].env);
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

#[tokio::test(start_paused = true)]
async fn a_pod_that_stores_more_than_its_limit_ends() {
    let dir = tempfile::tempdir().expect("dir");
    let (api, runtime) = (FakeApi::default(), FakeRuntime::new());
    let (volume_dir, log_dir) = (Some(dir.path().join("pods")), dir.path().join("logs"));
    let config = AgentConfig { volume_dir, log_dir, ..config(&api, &runtime) };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(windlass_runtime_agent::run(config, stop.clone()));
    let mut pod = bound_pod();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "64Ki"}});
    api.put(POD, pod);
    let status = || api.get(POD).unwrap_or_default()["status"].clone();
    until("ready", || is_ready(&status())).await;
    let log = runtime.state.lock().expect("lock").started[0].log_path.clone();
    let folder = log.parent().expect("a folder");
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(&log, vec![1; 32 * 1024]).expect("written");
    // It is looked at more than once.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(is_ready(&status()));
    std::fs::write(folder.join("0.log.1"), vec![1; 40 * 1024]).expect("written");
    until("evicted", || status()["phase"] == "Failed").await;
    assert_eq!(status()["reason"], "Evicted");
    let message = "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. ";
    assert_eq!(status()["message"], message);
    stop.cancel();
    agent.await.expect("task").expect("agent");
}
