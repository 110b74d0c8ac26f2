use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_sdk_types::{Kind, Pod, ReplicaSet};

use super::plan::{Action, Failure, Observed, next_check, plan, status};
use crate::testing::{at, deleting, map, owner, pod, set, time, unready};

struct Case {
    set: ReplicaSet,
    pods: Vec<Arc<Pod>>,
    deleted: BTreeSet<String>,
    neighbours: BTreeMap<String, usize>,
    is_current: bool,
}

fn case(over: Value, pods: impl IntoIterator<Item = Arc<Pod>>) -> Case {
    let pods = pods.into_iter().collect();
    let (deleted, neighbours) = (BTreeSet::new(), BTreeMap::new());
    Case { set: set(over), pods, deleted, neighbours, is_current: true }
}

fn observed(case: &Case) -> Observed<'_> {
    let Case { set, pods, deleted, neighbours, is_current } = case;
    Observed { set, pods, deleted, neighbours, is_current: *is_current }
}

fn check(case: Case, expected: Expect) {
    let plan = plan(&observed(&case), at(0));
    let mut text = format!("{}\n", plan.why);
    for action in &plan.actions {
        let line = match action {
            Action::Adopt(pod) => format!("adopt {}", pod.name()),
            Action::Release(pod) => format!("release {}", pod.name()),
            Action::Create { count } => format!("create {count}"),
            Action::Delete(pod) => format!("delete {}", pod.name()),
        };
        writeln!(text, "{line}").unwrap();
    }
    expected.assert_eq(&text);
}

fn many(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|at| pod(&format!("p{at}"), json!({}))).collect()
}

#[test]
fn sizes() {
    check(
        case(json!({}), []),
        expect![[r#"
        0 of 3 replicas: 3 to create
        create 3
    "#]],
    );
    check(
        case(json!({}), many(3)),
        expect![[r#"
        3 of 3 replicas
    "#]],
    );
    check(
        case(json!({"spec": {"replicas": 1000}}), many(1)),
        expect![[r#"
        1 of 1000 replicas: 500 to create
        create 500
    "#]],
    );
    check(
        case(json!({"spec": {"replicas": null}}), []),
        expect![[r#"
        0 of 1 replicas: 1 to create
        create 1
    "#]],
    );
    check(
        case(json!({"spec": {"replicas": 1}}), many(2)),
        expect![[r#"
        2 of 1 replicas: 1 to delete
        delete p0
    "#]],
    );
}

#[test]
fn nothing_before_own_writes_are_observed() {
    check(
        Case { is_current: false, ..case(json!({}), []) },
        expect![[r#"
        own writes are not observed yet
    "#]],
    );
    // A pod that was deleted but is still seen as active is on its way out, and replaced at once.
    let deleted = BTreeSet::from(["p0".to_owned()]);
    check(
        Case { deleted, ..case(json!({}), many(3)) },
        expect![[r#"
        2 of 3 replicas: 1 to create
        create 1
    "#]],
    );
}

#[test]
fn which_pods_count() {
    let ended = json!({"status": {"phase": "Failed"}});
    let pods = [pod("a", json!({})), pod("going", deleting()), pod("ended", ended)];
    check(
        case(json!({}), pods),
        expect![[r#"
        1 of 3 replicas: 2 to create
        create 2
    "#]],
    );
    let orphan = |labels: Value| json!({"metadata": {"ownerReferences": null, "labels": labels}});
    let foreign =
        json!({"metadata": {"ownerReferences": [owner("apps/v1", "ReplicaSet", "x", "x")]}});
    let pods = [
        pod("adoptable", orphan(json!({"app": "web"}))),
        pod("unrelated", orphan(json!({"app": "db"}))),
        pod("foreign", foreign),
        pod("relabelled", json!({"metadata": {"labels": {"app": "debug"}}})),
    ];
    check(
        case(json!({}), pods.clone()),
        expect![[r#"
        1 of 3 replicas: 2 to create
        adopt adoptable
        release relabelled
        create 2
    "#]],
    );
    check(
        case(deleting(), pods),
        expect![[r#"
        the set is being deleted
    "#]],
    );
}

#[test]
fn deletion_order() {
    let none = json!({"spec": {"replicas": 0}});
    let cost =
        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}});
    let restarted = json!({"status": {"containerStatuses": [
        {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 4}]}});
    let newer = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": time(-1)}]}});
    let pods = [
        pod("old", json!({})),
        pod("newer-ready", newer),
        pod("restarted", restarted),
        pod("cheap", cost),
        pod("unready", unready()),
        pod("pending", json!({"status": {"phase": "Pending", "conditions": null}})),
        pod("unassigned", json!({"spec": {"nodeName": null}, "status": {"phase": "Pending"}})),
        pod("crowded", json!({"spec": {"nodeName": "n2"}})),
        pod("young", json!({"metadata": {"creationTimestamp": time(-2)}})),
    ];
    let neighbours = map(&[("n1", 1), ("n2", 5)]);
    check(
        Case { neighbours, ..case(none, pods) },
        expect![[r#"
        9 of 0 replicas: 9 to delete
        delete unassigned
        delete pending
        delete unready
        delete cheap
        delete crowded
        delete newer-ready
        delete restarted
        delete young
        delete old
    "#]],
    );
}

fn check_status(case: &Case, failure: Option<&Failure>, expected: Expect) {
    let plan = plan(&observed(case), at(0));
    let status = status(&case.set, &plan, failure, at(0));
    let again = next_check(&case.set, &plan.claimed, at(0));
    expected.assert_eq(&format!("{}\n{again:?}\n", serde_json::to_string(&status).unwrap()));
}

#[test]
fn statuses() {
    let pods = || {
        let extra = json!({"metadata": {"labels": {"tier": "x"}}});
        [pod("a", json!({})), pod("b", extra), pod("c", unready()), pod("d", deleting())]
    };
    check_status(
        &case(json!({}), pods()),
        None,
        expect![[r#"
        {"availableReplicas":2,"fullyLabeledReplicas":3,"observedGeneration":1,"readyReplicas":2,"replicas":3,"terminatingReplicas":1}
        None
    "#]],
    );
    let fresh = json!({"spec": {"minReadySeconds": 95}});
    check_status(
        &case(fresh, pods()),
        None,
        expect![[r#"
        {"fullyLabeledReplicas":3,"observedGeneration":1,"readyReplicas":2,"replicas":3,"terminatingReplicas":1}
        Some(5s)
    "#]],
    );
    let failure = Failure { reason: "FailedCreate", message: "no quota".into() };
    check_status(
        &case(json!({}), []),
        Some(&failure),
        expect![[r#"
        {"conditions":[{"lastTransitionTime":"2027-01-15T08:00:00Z","message":"no quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}],"observedGeneration":1,"replicas":0,"terminatingReplicas":0}
        None
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is there: carrying the plan out and planning again asks for nothing more.
    #[test]
    fn plans_converge(
        wanted in 0usize..8,
        pods in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..10),
    ) {
        let pods: Vec<Arc<Pod>> = pods.iter().enumerate().map(|(at, (own, ready, going))| {
            let mut over = if *ready { json!({}) } else { unready() };
            if !own {
                crate::testing::merge(&mut over, json!({"metadata": {"ownerReferences": []}}));
            }
            if *going {
                crate::testing::merge(&mut over, deleting());
            }
            pod(&format!("p{at}"), over)
        }).collect();
        let mut case = case(json!({"spec": {"replicas": wanted}}), pods);
        let first = plan(&observed(&case), at(0));
        for action in first.actions {
            match action {
                Action::Adopt(of) => {
                    let found = case.pods.iter_mut().find(|pod| pod.uid() == of.uid()).unwrap();
                    *found = pod(of.name(), json!({}));
                }
                Action::Release(_) => {}
                Action::Delete(of) => drop(case.deleted.insert(of.uid().to_owned())),
                Action::Create { count } => {
                    case.pods.extend((0..count).map(|at| pod(&format!("new{at}"), unready())));
                }
            }
        }
        let second = plan(&observed(&case), at(0));
        prop_assert_eq!(second.actions, vec![]);
        prop_assert_eq!(second.claimed.len(), wanted);
    }
}
