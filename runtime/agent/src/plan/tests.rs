//! Every transition of a pod: what is known in, what is done and shown out.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::state::{ContainerRecord, Record, Trouble};

/// A pod on its way through life: `check` plans, and the fields say what happened meanwhile.
struct Case {
    spec: Value,
    deleting_in: Option<i64>,
    state: PodState,
    status: Value,
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-23T10:00:00Z".parse().expect("time");
    start + jiff::SignedDuration::from_secs(seconds)
}

fn case(spec: Value) -> Case {
    let mut state = PodState { started_at: Some(at(0)), ..PodState::default() };
    let mut full = json!({"containers": [{"name": "c", "image": "hello"}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let all = lists.iter().filter_map(|list| full[list].as_array()).flatten();
    for container in all {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        state.containers.insert(name, ContainerMemory::default());
    }
    Case { spec: full, deleting_in: None, state, status: Value::Null }
}

impl Case {
    fn pod(&self, now: Timestamp) -> Pod {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": self.spec,
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1}});
        if let Some(seconds) = self.deleting_in {
            let by = now + jiff::SignedDuration::from_secs(seconds);
            pod["metadata"]["deletionTimestamp"] = windlass_sdk_meta::format_time(by).into();
        }
        serde_json::from_value(pod).expect("pod")
    }

    fn sandbox(mut self) -> Self {
        self.state.sandbox = SandboxState::Ready;
        self.state.address = Some("127.64.0.1".parse().expect("address"));
        self
    }

    fn with(mut self, change: impl Fn(&mut ContainerMemory)) -> Self {
        self.state.containers.values_mut().for_each(change);
        self
    }

    fn running(self) -> Self {
        self.sandbox().with(|memory| {
            memory.started(0, "id0".into(), at(0));
            memory.image = "hello".into();
            memory.image_digest = "sha256:1".into();
            memory.given = Some(Default::default());
        })
    }

    fn ended(self, exit_code: i32, crashes: u32) -> Self {
        self.running().with(|memory| {
            memory.crashes = crashes;
            memory.state = Attempt::Ended(ended(exit_code));
        })
    }

    fn deleting(mut self, seconds: i64) -> Self {
        self.deleting_in = Some(seconds);
        self
    }

    /// Plans at 10 s; the status is shown in short.
    fn check(&self, expected: Expect) -> Plan {
        let now = at(10);
        let pod = self.pod(now);
        let plan = plan_pod(Some(&pod), &self.state, &self.status, &node(), now);
        expected.assert_eq(&show(&plan));
        plan
    }
}

fn node() -> NodeView {
    NodeView {
        host_ip: "127.0.0.1".into(),
        runtime: "wasm",
        containers: false,
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
    }
}

fn ended(exit_code: i32) -> Terminated {
    Terminated {
        id: "id0".into(),
        exit_code,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        started_at: at(0),
        finished_at: at(9),
    }
}

fn trouble(reason: &str, since: i64, retry_at: i64) -> Trouble {
    Trouble {
        reason: reason.into(),
        message: "it is so".into(),
        since: at(since),
        retry_at: at(retry_at),
        failures: 1,
    }
}

fn ephemeral_of(status: &Value) -> &[Value] {
    status["ephemeralContainerStatuses"].as_array().map_or(&[], Vec::as_slice)
}

fn show(plan: &Plan) -> String {
    let mut out = format!("{}: {:?}", plan.why, plan.actions);
    if let Some(wake) = plan.wake_at {
        out += &format!(" wake at {} s", wake.duration_since(at(0)).as_secs());
    }
    out.push('\n');
    if let Some(status) = &plan.status {
        let conditions = status["conditions"].as_array().expect("conditions");
        let ready =
            conditions.iter().find(|condition| condition["type"] == "Ready").expect("Ready");
        out += &format!("{} Ready={}", status["phase"], ready["status"]);
        if let Some(reason) = ready["reason"].as_str() {
            out += &format!(" ({reason})");
        }
        out.push('\n');
        for container in status["initContainerStatuses"].as_array().into_iter().flatten() {
            let (name, ready) = (&container["name"], &container["ready"]);
            out += &format!("init {name} {} ready={ready}\n", container["state"]);
        }
        if let Some(reason) = status["reason"].as_str() {
            out += &format!("{reason}: {}\n", status["message"]);
        }
        for container in status["containerStatuses"].as_array().expect("containers") {
            let last = &container["lastState"]["terminated"]["reason"];
            let count = &container["restartCount"];
            out += &format!("{} restarts={count} last={last}\n", container["state"]);
        }
    }
    for container in plan.status.iter().flat_map(ephemeral_of) {
        out += &format!("ephemeral {} {}\n", container["name"], container["state"]);
    }
    for say in &plan.says {
        out += &format!("{:?} {}: {}\n", say.sort, say.reason, say.message);
    }
    out
}

#[test]
fn a_new_pod_gets_a_sandbox_then_its_containers() {
    case(json!({})).check(expect![[r#"
        running: [RunSandbox]
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
    let mut making = case(json!({}));
    making.state.sandbox = SandboxState::Making;
    making.check(expect![[r#"
        running: []
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
    let made = case(json!({})).sandbox();
    made.check(expect![[r#"
        running: [Start { container: "c", attempt: 0 }]
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
    made.with(|memory| memory.starting = Some(0)).check(expect![[r#"
        running: []
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
    case(json!({})).running().check(expect![[r#"
        running: []
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
}

#[test]
fn a_readiness_probe_decides() {
    let probed = json!({"containers": [{"name": "c", "image": "hello",
        "readinessProbe": {"httpGet": {"port": 8080}}}]});
    case(probed.clone()).running().check(expect![[r#"
        running: []
        "Running" Ready="False" (ContainersNotReady)
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
    case(probed).running().with(|memory| memory.readiness = crate::probe::Tally::told(true)).check(
        expect![[r#"
        running: []
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]],
    );
    case(json!({"readinessGates": [{"conditionType": "x/y"}]})).running().check(expect![[r#"
        running: []
        "Running" Ready="False" (ReadinessGatesNotReady)
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
}

#[test]
fn the_restart_policy_holds() {
    // The first restart is at once, the next after upstream's delays.
    case(json!({})).ended(1, 0).check(expect![[r#"
        running: [Start { container: "c", attempt: 1 }]
        "Running" Ready="False" (ContainersNotReady)
        {"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    case(json!({})).ended(1, 1).check(expect![[r#"
        running: [] wake at 19 s
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"CrashLoopBackOff","message":"back-off 10s restarting failed container=c pod=p_n(u)"}} restarts=0 last="Error"
        Warning BackOff: Back-off restarting failed container c in pod p_n(u)
    "#]]);
    case(json!({"restartPolicy": "OnFailure"})).ended(1, 9).check(expect![[r#"
        running: [] wake at 309 s
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container=c pod=p_n(u)"}} restarts=0 last="Error"
        Warning BackOff: Back-off restarting failed container c in pod p_n(u)
    "#]]);
    case(json!({"restartPolicy": "OnFailure"})).ended(0, 0).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Succeeded" Ready="False" (PodCompleted)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    case(json!({"restartPolicy": "Never"})).ended(3, 0).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":3,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    let mut over = case(json!({"restartPolicy": "Never"})).ended(3, 0);
    over.state.sandbox = SandboxState::Absent;
    over.status = json!({"phase": "Failed"});
    over.check(expect![[r#"
        all containers have ended: []
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":3,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
}

#[test]
fn one_of_two_containers_waits_alone() {
    let two = json!({"restartPolicy": "Never",
        "containers": [{"name": "b", "image": "hello"}, {"name": "a", "image": "hello"}]});
    let mut one_ended = case(two).running();
    one_ended.state.containers.get_mut("a").expect("a").state = Attempt::Ended(ended(0));
    one_ended.check(expect![[r#"
        running: []
        "Running" Ready="False" (ContainersNotReady)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
}

#[test]
fn a_changed_image_restarts_whatever_the_policy() {
    let changed = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "new"}]});
    case(changed.clone()).running().check(expect![[r#"
        running: [Stop { container: "c", grace: 30s }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        Normal Killing: Container c definition changed, will be restarted
    "#]]);
    case(changed).ended(0, 5).check(expect![[r#"
        running: [Start { container: "c", attempt: 1 }]
        "Running" Ready="False" (ContainersNotReady)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
}

#[test]
fn deletion_ends_containers_then_sandbox_then_object() {
    case(json!({})).running().deleting(30).check(expect![[r#"
        object is being deleted: [Stop { container: "c", grace: 30s }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        Normal Killing: Stopping container c
    "#]]);
    let stopping = case(json!({})).running().with(|memory| memory.stopping = Some(at(40)));
    stopping.deleting(30).check(expect![[r#"
        object is being deleted: []
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
    // A second delete with a shorter grace.
    let stopping = case(json!({})).running().with(|memory| memory.stopping = Some(at(40)));
    stopping.deleting(1).check(expect![[r#"
        object is being deleted: [Stop { container: "c", grace: 1s }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
    case(json!({})).ended(137, 0).deleting(0).check(expect![[r#"
        object is being deleted: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":137,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    let mut removed = case(json!({})).ended(0, 0).deleting(0);
    removed.state.sandbox = SandboxState::Absent;
    removed.check(expect![[r#"
        object is being deleted: [Delete]
        "Succeeded" Ready="False" (PodCompleted)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    removed.state.deleted = true;
    removed.check(expect![[r#"
        object is being deleted: []
        "Succeeded" Ready="False" (PodCompleted)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    // Deleted while its container is being started: that comes to its end first.
    let starting = case(json!({})).sandbox().with(|memory| memory.starting = Some(0));
    starting.deleting(30).check(expect![[r#"
        object is being deleted: []
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
}

#[test]
fn a_pod_without_its_object_leaves_nothing() {
    let check = |state: &PodState, expected: Expect| {
        expected.assert_eq(&show(&plan_pod(None, state, &Value::Null, &node(), at(10))));
    };
    let running = case(json!({})).running();
    check(
        &running.state,
        expect![[r#"
            object is gone: [Stop { container: "c", grace: 1s }]
            Normal Killing: Stopping container c
        "#]],
    );
    let mut ended = case(json!({})).ended(0, 0);
    check(
        &ended.state,
        expect![[r#"
            object is gone: [RemoveSandbox]
        "#]],
    );
    ended.state.sandbox = SandboxState::Absent;
    ended.state.deleted = true;
    check(
        &ended.state,
        expect![[r#"
            object is gone: [Forget]
        "#]],
    );
}

/// The API's status and the agent's record in, what is known after a restart out.
fn restored(policy: &str, status: Value, record: Option<ContainerRecord>) -> Case {
    let mut case = case(json!({"restartPolicy": policy}));
    let mut pod = serde_json::to_value(case.pod(at(10))).expect("json");
    pod["status"] = status.clone();
    let pod: Pod = serde_json::from_value(pod).expect("pod");
    let record = record.map(|record| Record {
        namespace: "n".into(),
        name: "p".into(),
        containers: [("c".to_owned(), record)].into(),
    });
    case.state = PodState::restore(&pod, record.as_ref());
    case.state.observe(Default::default(), at(10));
    case.status = status;
    case
}

fn was_running(restarts: u32) -> Value {
    json!({"phase": "Running", "podIP": "127.64.0.7", "startTime": "2026-11-23T09:00:00Z",
        "containerStatuses": [{"name": "c", "image": "hello", "imageID": "sha256:1", "ready": true,
            "restartCount": restarts, "containerID": "wasm://id0",
            "state": {"running": {"startedAt": "2026-11-23T09:00:01Z"}}, "lastState": {}}]})
}

#[test]
fn a_dead_process_is_a_node_reboot() {
    let back = restored("Always", was_running(2), None);
    assert_eq!(back.state.address, Some("127.64.0.7".parse().expect("address")));
    back.check(expect![[r#"
        running: [RunSandbox]
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=2 last="NodeRestart"
    "#]]);
    let mut back = back.sandbox().with(|memory| memory.crashes = 7);
    back.check(expect![[r#"
        running: [Start { container: "c", attempt: 3 }]
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=2 last="NodeRestart"
    "#]]);
    let memory = back.state.containers.get_mut("c").expect("c");
    memory.started(3, "id3".into(), at(10));
    assert_eq!(memory.crashes, 7, "a reboot is no crash");
    back.check(expect![[r#"
        running: [Resize { container: "c" }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:10Z"}} restarts=3 last="NodeRestart"
    "#]]);
    restored("Never", was_running(0), None).check(expect![[r#"
        all containers have ended: []
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":137,"reason":"NodeRestart","message":"The process that ran the container ended","startedAt":"2026-11-23T09:00:01Z","finishedAt":"2026-11-23T10:00:10Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
}

#[test]
fn records_win_where_they_are_newer() {
    let record = |attempt, ended| ContainerRecord { attempt, ended, last: None, crashes: 1 };
    // It ended, and the API hadn't heard of it.
    restored("Never", was_running(0), Some(record(0, Some(ended(4))))).check(expect![[r#"
        all containers have ended: []
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":4,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    // It was restarted, and the API hadn't heard of it.
    let back = restored("Always", was_running(0), Some(record(1, None))).sandbox();
    back.check(expect![[r#"
        running: [Start { container: "c", attempt: 2 }]
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=1 last="NodeRestart"
    "#]]);
    // The API is newer than the record.
    let back = restored("Always", was_running(5), Some(record(1, Some(ended(4))))).sandbox();
    back.check(expect![[r#"
        running: [Start { container: "c", attempt: 6 }]
        "Running" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating"}} restarts=5 last="NodeRestart"
    "#]]);
    let kept = back.state.record("n", "p").expect("has restarts");
    assert_eq!(kept.containers["c"].attempt, 5);
    assert_eq!(case(json!({})).running().state.record("n", "p"), None, "nothing to keep");
}

#[test]
fn the_whole_status() {
    let plan = plan_pod(
        Some(&case(json!({})).running().pod(at(10))),
        &case(json!({})).running().state,
        &Value::Null,
        &node(),
        at(10),
    );
    let status = serde_json::to_string_pretty(&plan.status.expect("status")).expect("json");
    expect![[r#"
        {
          "observedGeneration": 1,
          "phase": "Running",
          "conditions": [
            {
              "type": "PodReadyToStartContainers",
              "observedGeneration": 1,
              "status": "True",
              "lastProbeTime": null,
              "lastTransitionTime": "2026-11-23T10:00:10Z"
            },
            {
              "type": "Initialized",
              "observedGeneration": 1,
              "status": "True",
              "lastProbeTime": null,
              "lastTransitionTime": "2026-11-23T10:00:10Z"
            },
            {
              "type": "Ready",
              "observedGeneration": 1,
              "status": "True",
              "lastProbeTime": null,
              "lastTransitionTime": "2026-11-23T10:00:10Z"
            },
            {
              "type": "ContainersReady",
              "observedGeneration": 1,
              "status": "True",
              "lastProbeTime": null,
              "lastTransitionTime": "2026-11-23T10:00:10Z"
            },
            {
              "type": "PodScheduled",
              "observedGeneration": 1,
              "status": "True",
              "lastProbeTime": null,
              "lastTransitionTime": "2026-11-23T10:00:10Z"
            }
          ],
          "hostIP": "127.0.0.1",
          "hostIPs": [
            {
              "ip": "127.0.0.1"
            }
          ],
          "podIP": "127.64.0.1",
          "podIPs": [
            {
              "ip": "127.64.0.1"
            }
          ],
          "startTime": "2026-11-23T10:00:00Z",
          "containerStatuses": [
            {
              "name": "c",
              "state": {
                "running": {
                  "startedAt": "2026-11-23T10:00:00Z"
                }
              },
              "lastState": {},
              "ready": true,
              "restartCount": 0,
              "image": "hello",
              "imageID": "sha256:1",
              "containerID": "wasm://id0",
              "started": true,
              "resources": {}
            }
          ]
        }"#]]
    .assert_eq(&status);
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let running = case(json!({})).running();
    let first = running.check_status(&Value::Null, 10);
    let second = running.check_status(&first, 20);
    assert_eq!(first["conditions"], second["conditions"]);
    let mut ended = case(json!({})).ended(1, 1);
    ended.status = first;
    let third = ended.check_status(&second, 30);
    let time = |status: &Value, at: usize| status["conditions"][at]["lastTransitionTime"].clone();
    assert_eq!(time(&third, 0), "2026-11-23T10:00:10Z");
    assert_eq!(time(&third, 2), "2026-11-23T10:00:30Z");
}

impl Case {
    fn check_status(&self, previous: &Value, seconds: i64) -> Value {
        let now = at(seconds);
        let plan = plan_pod(Some(&self.pod(now)), &self.state, previous, &node(), now);
        plan.status.expect("status")
    }
}

mod ephemeral;
mod order;
mod resize;
mod waits;
