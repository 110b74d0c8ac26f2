//! Pods from binding to removal, in virtual time.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass_runtime_agent::{AgentConfig, NodeFacts, Records};
use windlass_runtime_api::{ContainerState, RuntimeEvent};
use windlass_sdk_client::{Cluster, Informers};
use windlass_sdk_meta::{Clock, Rng, Timestamp};

use crate::{
    fake_api::FakeApi,
    fake_runtime::{FakeImages, FakeRuntime},
};

pub const POD: &str = "api/v1/namespaces/default/pods/p";

/// Tokio's paused time as wall time.
#[derive(Debug)]
pub struct VirtualClock;

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        thread_local! {
            static START: tokio::time::Instant = tokio::time::Instant::now();
        }
        let start: Timestamp = "2026-11-23T10:00:00Z".parse().expect("time");
        start + START.with(|start| start.elapsed())
    }
}

/// A node under test.
pub struct World {
    pub api: FakeApi,
    pub runtime: FakeRuntime,
    pub images: Arc<FakeImages>,
    records: Records,
    agent: Option<(JoinHandle<()>, CancellationToken)>,
}

impl World {
    pub async fn new() -> Self {
        let mut world = Self {
            api: FakeApi::default(),
            runtime: FakeRuntime::new(),
            images: Arc::default(),
            records: Records::Memory(Arc::default()),
            agent: None,
        };
        world.start();
        world
    }

    /// Starts an agent as after a boot.
    fn start(&mut self) {
        let config = AgentConfig {
            images: self.images.clone(),
            records: self.records.clone(),
            ..config(&self.api, &self.runtime)
        };
        let stop = CancellationToken::new();
        let running = windlass_runtime_agent::run(config, stop.clone());
        let task = tokio::spawn(async move { running.await.expect("agent") });
        self.agent = Some((task, stop));
    }

    async fn stop(&mut self) {
        let (task, stop) = self.agent.take().expect("runs");
        stop.cancel();
        task.await.expect("stopped");
    }

    pub fn create(&self, spec: Value) {
        let mut pod = bound_pod();
        for (key, value) in spec.as_object().into_iter().flatten() {
            pod["spec"][key] = value.clone();
        }
        self.api.put(POD, pod);
    }

    /// Waits until the pod's status is as it should be.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1_000_000 {
            let pod = self.api.get(POD).unwrap_or_default();
            if holds(&pod["status"]) {
                return pod["status"].clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what}: {:#}", self.api.get(POD).unwrap_or_default());
    }

    async fn until_ready(&self) -> Value {
        self.until("ready", is_ready).await
    }
}

/// An agent with nothing on disk and no kubelet API.
pub fn config(api: &FakeApi, runtime: &FakeRuntime) -> AgentConfig {
    let (client, rng) = (api.client(), Rng::seeded(1));
    AgentConfig {
        node: facts(),
        cluster: Cluster {
            informers: Informers::new(client.clone(), rng.clone()),
            client,
            clock: Arc::new(VirtualClock),
            rng,
        },
        runtimes: vec![Arc::new(runtime.clone())],
        images: Arc::new(FakeImages::default()),
        cluster_dns: None,
        pod_block: "127.64.0.0/18".parse().expect("block"),
        records: Records::Memory(Arc::default()),
        log_dir: "/nowhere".into(),
        volume_dir: None,
        kubelet: None,
        drain: Duration::from_secs(4),
    }
}

/// A pod as the scheduler bound it to the node.
pub fn bound_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "hello"}]},
        "status": {"phase": "Pending", "qosClass": "BestEffort"}})
}

fn facts() -> NodeFacts {
    let address = "127.0.0.1".parse().expect("address");
    let mut facts = NodeFacts::of_machine("node", address, "v1.37.0+windlass", "wasm://1");
    (facts.cpu_millis, facts.memory_bytes) = (2000, 1 << 30);
    facts
}

pub fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn container(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_ready_at_once_with_one_status_write() {
    let world = World::new().await;
    let node = "api/v1/nodes/node";
    let lease = "apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node";
    world.until("registered", |_| world.api.get(lease).is_some()).await;
    let status = &world.api.get(node).expect("node")["status"];
    assert_eq!(status["capacity"], json!({"cpu": "2", "memory": "1Gi", "pods": "10k"}));
    world.create(json!({}));
    let before = VirtualClock.now();
    let status = world.until_ready().await;
    let took = VirtualClock.now().duration_since(before);
    // Starting takes a millisecond, and this test looks once a millisecond.
    assert!(took.as_millis() <= 3, "{took:?}");
    assert_eq!(world.api.writes("pods/p/status"), 1);
    assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("127.64.0.1")));
    assert_eq!(status["qosClass"], "BestEffort", "kept");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = world.api.events();
    assert_eq!(
        events,
        [
            "Created: Container created",
            "Pulled: Container image \"hello\" already present on machine and can be accessed by the pod",
            "Started: Container started",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_restarts_at_once_then_backs_off() {
    let world = World::new().await;
    world.create(json!({}));
    world.until_ready().await;
    world.runtime.exit("u", "c", 1);
    let restarted =
        |n: u32| move |status: &Value| is_ready(status) && container(status)["restartCount"] == n;
    let status = world.until("restarted", restarted(1)).await;
    assert_eq!(container(&status)["lastState"]["terminated"]["exitCode"], 1);
    world.runtime.exit("u", "c", 1);
    let status = world
        .until("back-off", |status| {
            container(status)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    assert_eq!(status["phase"], "Running");
    let before = VirtualClock.now();
    world.until("restarted again", restarted(2)).await;
    let waited = VirtualClock.now().duration_since(before).as_secs();
    assert!((9..=10).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_command_ends_its_pod() {
    let world = World::new().await;
    world.create(json!({"restartPolicy": "Never"}));
    world.until_ready().await;
    world.runtime.exit("u", "c", 3);
    let status = world.until("failed", |status| status["phase"] == "Failed").await;
    assert_eq!(container(&status)["state"]["terminated"]["exitCode"], 3);
    let gone = || world.runtime.state.lock().expect("lock").sandboxes.is_empty();
    world.until("sandbox removed", |_| gone()).await;
}

#[tokio::test(start_paused = true)]
async fn deletion_is_graceful() {
    let world = World::new().await;
    world.create(json!({}));
    world.until_ready().await;
    world.api.change(POD, |pod| {
        let by = VirtualClock.now() + Duration::from_secs(30);
        pod["metadata"]["deletionTimestamp"] = windlass_sdk_meta::format_time(by).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    });
    world.until("removed", |_| world.api.get(POD).is_none()).await;
    let state = world.runtime.state.lock().expect("lock");
    assert!(state.sandboxes.is_empty());
    assert_eq!(state.stops.len(), 1);
    assert!(state.stops[0].1 > Duration::from_secs(28), "{:?}", state.stops);
}

#[tokio::test(start_paused = true)]
async fn a_pod_removed_by_force_leaves_nothing_and_its_name_is_free() {
    let world = World::new().await;
    world.create(json!({}));
    world.until_ready().await;
    world.api.remove(POD);
    world.create(json!({}));
    world.api.change(POD, |pod| pod["metadata"]["uid"] = "u2".into());
    let sandboxes = || -> Vec<String> {
        world.runtime.state.lock().expect("lock").sandboxes.keys().cloned().collect()
    };
    world.until("only the new one", |_| sandboxes() == ["u2"]).await;
    let status = world.until_ready().await;
    assert_eq!(status["podIP"], "127.64.0.2", "not the old one's address");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_keeps_the_pod_and_its_address() {
    let mut world = World::new().await;
    world.create(json!({}));
    world.until_ready().await;
    world.stop().await;
    // Another process: the runtime knows nothing any more, and something else was created since.
    world.runtime = FakeRuntime::new();
    let other = "api/v1/namespaces/default/pods/a";
    let mut pod = world.api.get(POD).expect("pod");
    pod["metadata"]["name"] = "a".into();
    pod["metadata"]["uid"] = "other".into();
    pod["status"] = json!({"phase": "Pending"});
    world.api.put(other, pod);
    world.start();
    let back = |status: &Value| is_ready(status) && container(status)["restartCount"] == 1;
    let status = world.until("back", back).await;
    assert_eq!(status["podIP"], "127.64.0.1");
    assert_eq!(container(&status)["lastState"]["terminated"]["reason"], "NodeRestart");
    let address = || world.api.get(other).expect("pod")["status"]["podIP"].clone();
    world.until("the other runs", |_| address() == "127.64.0.2").await;
    // An agent that comes back while the runtime went on changes nothing.
    let writes = world.api.writes("pods/");
    world.agent.take().expect("runs").0.abort();
    world.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.api.writes("pods/"), writes);
    assert_eq!(world.runtime.state.lock().expect("lock").started.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_started_after_a_list_was_asked_for_is_not_lost() {
    let changed = RuntimeEvent::Changed { pod_uid: "u".into() };
    for hint in [changed, RuntimeEvent::Lagged] {
        let world = World::new().await;
        {
            let mut state = world.runtime.state.lock().expect("lock");
            state.start_takes = Duration::from_millis(100);
            state.list_takes = Duration::from_millis(100);
        }
        // The agent's own first list.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.create(json!({}));
        // It runs after 100 ms, and the list that doesn't have it yet comes after 150.
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.runtime.tell(hint);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.runtime.state.lock().expect("lock").started.len(), 1);
        let status = world.until_ready().await;
        assert_eq!(container(&status)["restartCount"], 0, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_takes_over_what_runs() {
    let mut world = World::new().await;
    world.create(json!({"containers": [{"name": "c", "image": "hello",
        "readinessProbe": {"periodSeconds": 1, "httpGet": {"port": 8080}}}]}));
    world.until_ready().await;
    let writes = world.api.writes("pods/");
    world.agent.take().expect("runs").0.abort();
    world.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.api.writes("pods/"), writes, "it was ready all the time");
    world.runtime.state.lock().expect("lock").probe_code = 500;
    world.until("probed again", |status| !is_ready(status)).await;
    world.runtime.state.lock().expect("lock").probe_code = 200;
    // Killed before it could tell the address of what it started: the next keeps it nevertheless.
    world.agent.take().expect("runs").0.abort();
    let mut pod = world.api.get(POD).expect("pod");
    pod["status"] = json!({"phase": "Pending"});
    world.api.put(POD, pod.clone());
    pod["metadata"]["name"] = "a".into();
    pod["metadata"]["uid"] = "other".into();
    let other = "api/v1/namespaces/default/pods/a";
    world.api.put(other, pod);
    world.start();
    assert_eq!(world.until_ready().await["podIP"], "127.64.0.1");
    let address = || world.api.get(other).expect("pod")["status"]["podIP"].clone();
    world.until("the other runs", |_| address() == "127.64.0.2").await;
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_probe() {
    let world = World::new().await;
    world.runtime.state.lock().expect("lock").probe_code = 503;
    world.create(json!({"containers": [{"name": "c", "image": "hello",
        "readinessProbe": {"httpGet": {"port": 8080}}}]}));
    world.until("running", |status| status["phase"] == "Running").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let unhealthy = "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503";
    assert!(world.api.events().iter().any(|event| event == unhealthy), "{:?}", world.api.events());
    assert!(!is_ready(&world.api.get(POD).expect("pod")["status"]));
    world.runtime.state.lock().expect("lock").probe_code = 200;
    world.until_ready().await;
    world.runtime.state.lock().expect("lock").probe_code = 500;
    world.until("unready", |status| !is_ready(status)).await;
    assert!(matches!(world.runtime.list_state("u", "c"), Some(ContainerState::Running { .. })));
}

impl FakeRuntime {
    fn list_state(&self, uid: &str, container: &str) -> Option<ContainerState> {
        let state = self.state.lock().expect("lock");
        Some(state.sandboxes.get(uid)?.1.get(container)?.state.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_told_and_waited_for() {
    let world = World::new().await;
    let waiting = |reason: &'static str| {
        move |status: &Value| container(status)["state"]["waiting"]["reason"] == reason
    };
    world.create(json!({"containers": [{"name": "c", "image": "missing", "env": [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}]}));
    let status = world.until("not pulled", waiting("ErrImagePull")).await;
    let message = container(&status)["state"]["waiting"]["message"].as_str().expect("message");
    assert!(message.contains("windlass image import missing FILE"), "{message}");
    world.until("backing off", waiting("ImagePullBackOff")).await;
    world.images.0.lock().expect("lock").push("missing".into());
    let status = world.until("no map", waiting("CreateContainerConfigError")).await;
    let message = &container(&status)["state"]["waiting"]["message"];
    assert_eq!(message, "configmap \"cm\" not found");
    world.api.put(
        "api/v1/namespaces/default/configmaps/cm",
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "v"}}),
    );
    world.until_ready().await;
    let env = world.runtime.state.lock().expect("lock").started[0].env.clone();
    let expected = [("HOSTNAME", "p"), ("A", "v")];
    assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_broken_component_is_told() {
    let world = World::new().await;
    world.create(json!({"containers": [{"name": "c", "image": "broken"}]}));
    let refused = |status: &Value| {
        container(status)["state"]["waiting"]
            == json!({"reason": "CreateContainerError", "message": "no such import"})
    };
    world.until("refused", refused).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let events = world.api.events();
    assert_eq!(events[0], "Failed: Error: no such import");
    assert!(events[1..].iter().all(|event| event.starts_with("Pulled: ")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn traps_are_told_as_an_event() {
    let world = World::new().await;
    world.create(json!({}));
    world.until_ready().await;
    world.runtime.tell(RuntimeEvent::Trapped {
        pod_uid: "u".into(),
        container: "c".into(),
        count: 3,
        message: "unreachable".into(),
    });
    let told = || {
        let said = "TrappedRequests: A request ended in a trap: unreachable";
        world.api.events().iter().any(|event| event == said)
    };
    world.until("told", |_| told()).await;
    assert!(is_ready(&world.api.get(POD).expect("pod")["status"]), "the container goes on");
}

#[tokio::test(start_paused = true)]
async fn a_pods_annotation_tells_that_its_image_is_wasm() {
    let world = World::new().await;
    let mut pod = bound_pod();
    pod["spec"]["containers"][0]["image"] = json!("wasm-by-word");
    world.api.put(POD, pod.clone());
    let reason = |status: &Value| container(status)["state"]["waiting"]["reason"].clone();
    world.until("it is no wasm", |status| reason(status) == "ErrImagePull").await;
    world.api.remove(POD);
    pod["metadata"]["uid"] = json!("annotated");
    pod["metadata"]["annotations"] = json!({"module.wasm.image/variant": "compat-smart"});
    world.api.put(POD, pod);
    world.until_ready().await;
}
