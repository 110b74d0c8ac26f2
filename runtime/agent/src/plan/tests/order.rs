//! Pods of several containers: init containers, sidecars, deadlines, policies of their own.

use super::*;

fn with_init(policy: &str) -> Case {
    case(json!({"restartPolicy": policy, "initContainers": [
        {"name": "a", "image": "hello"},
        {"name": "s", "image": "hello", "restartPolicy": "Always"},
        {"name": "b", "image": "hello"}]}))
    .sandbox()
}

impl Case {
    fn of(mut self, name: &str, change: impl Fn(&mut ContainerMemory)) -> Self {
        self.state.containers.get_mut(name).into_iter().for_each(change);
        self
    }

    fn runs(self, name: &str) -> Self {
        self.of(name, |memory| {
            memory.started(0, "id0".into(), at(0));
            memory.image = "hello".into();
            memory.given = Some(Default::default());
        })
    }

    fn ends(self, name: &str, exit_code: i32) -> Self {
        self.runs(name).of(name, |memory| memory.state = Attempt::Ended(ended(exit_code)))
    }
}

#[test]
fn init_containers_run_one_after_the_other() {
    with_init("Always").check(expect![[r#"
        running: [Start { container: "a", attempt: 0 }]
        "Pending" Ready="False" (ContainersNotReady)
        init "a" {"waiting":{"reason":"ContainerCreating"}} ready=false
        init "s" {"waiting":{"reason":"PodInitializing"}} ready=false
        init "b" {"waiting":{"reason":"PodInitializing"}} ready=false
        {"waiting":{"reason":"PodInitializing"}} restarts=0 last=null
    "#]]);
    with_init("Always").ends("a", 0).check(expect![[r#"
        running: [Start { container: "s", attempt: 0 }]
        "Pending" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"waiting":{"reason":"ContainerCreating"}} ready=false
        init "b" {"waiting":{"reason":"PodInitializing"}} ready=false
        {"waiting":{"reason":"PodInitializing"}} restarts=0 last=null
    "#]]);
    with_init("Always").ends("a", 0).runs("s").runs("b").check(expect![[r#"
        running: []
        "Pending" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=true
        init "b" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=false
        {"waiting":{"reason":"PodInitializing"}} restarts=0 last=null
    "#]]);
    with_init("Always").ends("a", 0).runs("s").ends("b", 0).check(expect![[r#"
        running: [Start { container: "c", attempt: 0 }]
        "Pending" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=true
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"waiting":{"reason":"ContainerCreating"}} restarts=0 last=null
    "#]]);
}

#[test]
fn an_init_container_that_fails_is_tried_again_or_ends_the_pod() {
    with_init("Always").ends("a", 1).check(expect![[r#"
        running: [Start { container: "a", attempt: 1 }]
        "Pending" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=false
        init "s" {"waiting":{"reason":"PodInitializing"}} ready=false
        init "b" {"waiting":{"reason":"PodInitializing"}} ready=false
        {"waiting":{"reason":"PodInitializing"}} restarts=0 last=null
    "#]]);
    with_init("Never").ends("a", 1).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        init "a" {"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=false
        init "s" {"waiting":{"reason":"PodInitializing"}} ready=false
        init "b" {"waiting":{"reason":"PodInitializing"}} ready=false
        {"waiting":{"reason":"PodInitializing"}} restarts=0 last=null
    "#]]);
}

#[test]
fn sidecars_end_last() {
    let done = |pod: Case| pod.ends("a", 0).ends("b", 0);
    done(with_init("Never")).runs("s").runs("c").deleting(20).check(expect![[r#"
        object is being deleted: [Stop { container: "c", grace: 20s }]
        "Running" Ready="True"
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=true
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        Normal Killing: Stopping container c
    "#]]);
    done(with_init("Never")).runs("s").ends("c", 0).deleting(20).check(expect![[r#"
        object is being deleted: [Stop { container: "s", grace: 20s }]
        "Running" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=true
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
        Normal Killing: Stopping container s
    "#]]);
    done(with_init("Never")).runs("s").ends("c", 0).check(expect![[r#"
        all containers have ended: [Stop { container: "s", grace: 30s }]
        "Running" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"running":{"startedAt":"2026-11-23T10:00:00Z"}} ready=true
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
        Normal Killing: Stopping container s
    "#]]);
    done(with_init("Never")).ends("s", 137).ends("c", 0).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Succeeded" Ready="False" (PodCompleted)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"terminated":{"exitCode":137,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=false
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    // One that crashes is started again while the main container goes on.
    done(with_init("Never")).ends("s", 1).runs("c").check(expect![[r#"
        running: [Start { container: "s", attempt: 1 }]
        "Running" Ready="False" (ContainersNotReady)
        init "a" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        init "s" {"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=false
        init "b" {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} ready=true
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
}

#[test]
fn a_deadline_ends_the_pod() {
    case(json!({"activeDeadlineSeconds": 30})).running().check(expect![[r#"
        running: [] wake at 30 s
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
    "#]]);
    case(json!({"activeDeadlineSeconds": 5})).running().check(expect![[r#"
        deadline is over: [Stop { container: "c", grace: 30s }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline
        Normal Killing: Stopping container c
    "#]]);
    case(json!({"activeDeadlineSeconds": 5})).ended(0, 0).check(expect![[r#"
        deadline is over: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        DeadlineExceeded: "Pod was active on the node longer than the specified deadline"
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
        Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline
    "#]]);
}

#[test]
fn a_container_may_have_a_policy_of_its_own() {
    let pod = |of: Value| {
        let mut container = json!({"name": "c", "image": "hello"});
        container.as_object_mut().expect("map").extend(of.as_object().expect("map").clone());
        case(json!({"containers": [container]})).ended(3, 0)
    };
    pod(json!({"restartPolicy": "Never"})).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":3,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    let rule = |operator: &str| {
        json!({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": operator, "values": [3]}}]})
    };
    pod(rule("In")).check(expect![[r#"
        running: [Start { container: "c", attempt: 1 }]
        "Running" Ready="False" (ContainersNotReady)
        {"terminated":{"exitCode":3,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
    pod(rule("NotIn")).check(expect![[r#"
        all containers have ended: [RemoveSandbox]
        "Failed" Ready="False" (PodFailed)
        {"terminated":{"exitCode":3,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
    "#]]);
}
