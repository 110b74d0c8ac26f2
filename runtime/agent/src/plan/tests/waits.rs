//! Containers that wait, and what they show meanwhile.

use super::*;

#[test]
fn what_cannot_start_waits_with_its_reason() {
    let held = case(json!({})).sandbox();
    let config = trouble("CreateContainerConfigError", 9, 11);
    held.with(|memory| memory.trouble = Some(config.clone())).check(expect![[r#"
        running: [] wake at 11 s
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"CreateContainerConfigError","message":"it is so"}} restarts=0 last=null
    "#]]);
    let due = trouble("CreateContainerConfigError", 9, 10);
    case(json!({})).sandbox().with(|memory| memory.trouble = Some(due.clone())).check(expect![[r#"
        running: [Start { container: "c", attempt: 0 }]
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"CreateContainerConfigError","message":"it is so"}} restarts=0 last=null
    "#]]);
    let pull = trouble("ErrImagePull", 10, 20);
    case(json!({})).sandbox().with(|memory| memory.trouble = Some(pull.clone())).check(expect![[
        r#"
        running: [] wake at 11 s
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ErrImagePull","message":"it is so"}} restarts=0 last=null
    "#
    ]]);
    let pull = trouble("ErrImagePull", 8, 18);
    case(json!({})).sandbox().with(|memory| memory.trouble = Some(pull.clone())).check(expect![[r#"
        running: [] wake at 18 s
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"hello\": ErrImagePull: it is so"}} restarts=0 last=null
        Normal BackOff: Back-off pulling image "hello"
        Warning Failed: Error: ImagePullBackOff
    "#]]);
    case(json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]})).check(expect![[r#"
        running: []
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"CreateContainerConfigError","message":"spec.volumes[0].nfs is not supported: this node has no such storage"}} restarts=0 last=null
        Warning Failed: Error: spec.volumes[0].nfs is not supported: this node has no such storage
    "#]]);
    let mut no_sandbox = case(json!({}));
    no_sandbox.state.trouble = Some(trouble("ContainerCreating", 9, 12));
    no_sandbox.check(expect![[r#"
        running: [] wake at 12 s
        "Pending" Ready="False" (ContainersNotReady)
        {"waiting":{"reason":"ContainerCreating","message":"it is so"}} restarts=0 last=null
    "#]]);
}
