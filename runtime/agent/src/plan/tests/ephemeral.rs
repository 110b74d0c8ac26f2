//! Ephemeral containers: they come late, run once, and the pod's life doesn't depend on them.

use super::*;
use crate::order;

fn debugged() -> Case {
    case(json!({"ephemeralContainers": [
        {"name": "tool", "image": "t", "targetContainerName": "c"}]}))
}

impl Case {
    fn tool(mut self, change: impl Fn(&mut ContainerMemory)) -> Self {
        self.state.containers.get_mut("tool").into_iter().for_each(change);
        self
    }

    fn main(mut self, change: impl Fn(&mut ContainerMemory)) -> Self {
        self.state.containers.get_mut("c").into_iter().for_each(change);
        self
    }
}

fn begun(memory: &mut ContainerMemory) {
    memory.started(0, "id0".into(), at(0));
    memory.given = Some(Default::default());
    memory.image = if memory.image.is_empty() { "hello".into() } else { memory.image.clone() };
}

#[test]
fn it_starts_beside_the_others_and_is_not_restarted() {
    debugged().sandbox().main(begun).check(expect![[r#"
        running: [Start { container: "tool", attempt: 0 }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        ephemeral "tool" {"waiting":{"reason":"ContainerCreating"}}
    "#]]);
    let ended = |memory: &mut ContainerMemory| {
        begun(memory);
        memory.image = "t".into();
        memory.state = Attempt::Ended(ended(1));
    };
    debugged().sandbox().main(begun).tool(ended).check(expect![[r#"
        running: []
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        ephemeral "tool" {"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}}
    "#]]);
}

#[test]
fn it_does_not_keep_the_pod_alive() {
    let done = |memory: &mut ContainerMemory| {
        begun(memory);
        memory.state = Attempt::Ended(ended(0));
    };
    let mut case = debugged().sandbox().main(done).tool(begun);
    case.spec["restartPolicy"] = "Never".into();
    case.check(expect![[r#"
        all containers have ended: [Stop { container: "tool", grace: 30s }]
        "Running" Ready="False" (ContainersNotReady)
        {"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:00:09Z","containerID":"wasm://id0"}} restarts=0 last=null
        ephemeral "tool" {"running":{"startedAt":"2026-11-23T10:00:00Z"}}
        Normal Killing: Stopping container tool
    "#]]);
    debugged().sandbox().main(begun).tool(begun).deleting(30).check(expect![[r#"
        object is being deleted: [Stop { container: "c", grace: 30s }, Stop { container: "tool", grace: 30s }]
        "Running" Ready="True"
        {"running":{"startedAt":"2026-11-23T10:00:00Z"}} restarts=0 last=null
        ephemeral "tool" {"running":{"startedAt":"2026-11-23T10:00:00Z"}}
        Normal Killing: Stopping container c
        Normal Killing: Stopping container tool
    "#]]);
}

#[test]
fn it_sees_the_volumes_where_its_target_has_them() {
    let pod = |own: Value| -> Pod {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {
            "containers": [
                {"name": "a", "volumeMounts": [{"name": "x", "mountPath": "/x"}]},
                {"name": "b", "volumeMounts": [{"name": "x", "mountPath": "/b/x", "readOnly": true},
                    {"name": "y", "mountPath": "/y"}]},
            ],
            "ephemeralContainers": [own]}});
        serde_json::from_value(pod).expect("pod")
    };
    let check = |own: Value, expected: Expect| {
        let containers = order::ephemeral(&pod(own));
        let mounts = containers[0].volume_mounts.iter().flatten();
        let text: Vec<String> =
            mounts.map(|mount| format!("{} at {}", mount.name, mount.mount_path)).collect();
        expected.assert_eq(&text.join(", "));
    };
    check(json!({"name": "t"}), expect!["x at /x, y at /y"]);
    check(json!({"name": "t", "targetContainerName": "b"}), expect!["x at /b/x, y at /y"]);
    let own = json!({"name": "t", "volumeMounts": [{"name": "y", "mountPath": "/mine"}]});
    check(own, expect!["y at /mine"]);
}
