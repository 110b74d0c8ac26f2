//! Containers that are to have other amounts of CPU and memory while they run.

use windlass_sdk_meta::quota;

use super::*;

/// A container that has one core and 64 MiB; its pod wants `cpu` and 64 MiB.
fn wants(cpu: &str) -> Case {
    let resources = |cpu: &str| {
        let amounts = json!({"cpu": cpu, "memory": "64Mi"});
        json!({"requests": amounts, "limits": amounts})
    };
    let container = json!({"name": "c", "image": "hello", "resources": resources(cpu),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]});
    let given = resources("1");
    case(json!({"containers": [container]})).running().with(|memory| {
        memory.given = Some(serde_json::from_value(given.clone()).expect("resources"));
    })
}

fn check(case: &Case, expected: Expect) {
    let now = at(10);
    let plan = plan_pod(Some(&case.pod(now)), &case.state, &case.status, &node(), now);
    let status = plan.status.expect("a status");
    let conditions = status["conditions"].as_array().expect("conditions").iter();
    let resizes =
        conditions.filter(|one| one["type"].as_str().is_some_and(|t| t.contains("Resize")));
    let mut out = format!("{:?}", plan.actions);
    if let Some(wake) = plan.wake_at {
        out += &format!(" wake at {} s", wake.duration_since(at(0)).as_secs());
    }
    for one in resizes {
        out += &format!("\n{} {} {}", one["type"], one["reason"], one["message"]);
    }
    let container = &status["containerStatuses"][0];
    out += &format!("\n{} {}\n", container["allocatedResources"], container["resources"]);
    expected.assert_eq(&out);
}

#[test]
fn a_container_gets_what_its_pod_wants_if_the_node_has_it() {
    check(
        &wants("1"),
        expect![[r#"
        []
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
    check(
        &wants("2"),
        expect![[r#"
        [Resize { container: "c" }]
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
    check(
        &wants("2").with(|memory| memory.resizing = true),
        expect![[r#"
        []
        "PodResizeInProgress" null null
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
    let mut crowded = wants("2");
    crowded.state.others_ask = quota::amounts(&json!({"cpu": "500m"}));
    check(
        &crowded,
        expect![[r#"
        [] wake at 15 s
        "PodResizePending" "Deferred" "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000"
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
    // Who wants less than before is never held up.
    let mut crowded = wants("900m");
    crowded.state.others_ask = quota::amounts(&json!({"cpu": "1500m"}));
    check(
        &crowded,
        expect![[r#"
        [Resize { container: "c" }]
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
    let refused = wants("2").with(|memory| memory.resize_trouble = Some(trouble("Error", 9, 12)));
    check(
        &refused,
        expect![[r#"
        [] wake at 12 s
        "PodResizeInProgress" "Error" "it is so"
        {"cpu":"1","memory":"64Mi"} {"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}
    "#]],
    );
}

#[test]
fn what_a_container_has_is_not_known_after_a_restart_of_the_agent() {
    check(
        &wants("1").with(|memory| memory.given = None),
        expect![[r#"
        [Resize { container: "c" }]
        null null
    "#]],
    );
}

#[test]
fn a_restart_for_a_resize_is_no_crash() {
    let resized = Doom { by: DoomedBy::Resize, grace: None };
    let mut memory = ContainerMemory { doom: Some(resized), ..ContainerMemory::default() };
    memory.state = Attempt::Ended(ended(0));
    memory.crashes = 3;
    assert_eq!(memory.restart_delay(), Duration::ZERO);
    memory.started(1, "id1".into(), at(10));
    assert_eq!((memory.crashes, memory.doom), (3, None));
}
