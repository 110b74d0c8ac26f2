use std::{fmt::Write as _, sync::Arc};

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_sdk_types::{Deployment, Kind, ReplicaSet};

use super::{
    plan::{Action, Plan, plan},
    revision,
    scale::{DESIRED_REPLICAS, Limits, MAX_REPLICAS},
};
use crate::testing::{at, deleting, deployment, merge, owned_set, owner, template, time};

fn check(deployment: &Deployment, sets: &[Arc<ReplicaSet>], expected: Expect) {
    expected.assert_eq(&show(&plan(deployment, sets, at(0))));
}

fn show(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.why);
    for action in &plan.actions {
        let line = match action {
            Action::Adopt(set) => format!("adopt {}", set.name()),
            Action::Release(set) => format!("release {}", set.name()),
            Action::Create(set) => {
                format!("create {} of {}", set.name(), set.spec.replicas.unwrap())
            }
            Action::Update(set) => {
                let revision = revision::number(&set.annotations);
                format!("update {} to {} (revision {revision})", set.seen.name(), set.replicas)
            }
            Action::Delete(set) => format!("delete {}", set.name()),
        };
        writeln!(text, "{line}").unwrap();
    }
    for event in &plan.events {
        writeln!(text, "event {event}").unwrap();
    }
    let status = &plan.status;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.unavailable_replicas,
    ];
    let counts: Vec<String> = counts.iter().map(|n| n.unwrap_or(0).to_string()).collect();
    writeln!(text, "status {} (replicas updated ready available unavailable)", counts.join(" "))
        .unwrap();
    for condition in status.conditions.iter().flatten() {
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        let (kind, is, reason) = (&condition.type_, &condition.status, &condition.reason);
        let (kind, is, reason) = (word(kind), word(is), word(reason));
        writeln!(text, "{kind}={is} {reason}: {}", word(&condition.message)).unwrap();
    }
    let revision = plan.revision.as_deref().unwrap_or("-");
    let again = plan.check_after.map_or("-".to_owned(), |after| format!("{after:?}"));
    writeln!(text, "revision {revision}, again {again}").unwrap();
    text
}

/// A status that says that the rollout of the present template is done.
fn complete(replicas: i32) -> Value {
    json!({"status": {
        "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
        "readyReplicas": replicas, "availableReplicas": replicas, "terminatingReplicas": 0,
        "conditions": [
            {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
             "message": "Deployment has minimum availability.",
             "lastUpdateTime": time(-50), "lastTransitionTime": time(-50)},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
             "message": "ReplicaSet \"web-v1\" has successfully progressed.",
             "lastUpdateTime": time(-50), "lastTransitionTime": time(-60)},
        ],
    }})
}

fn with(mut base: Value, over: Value) -> Value {
    merge(&mut base, over);
    base
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": template(image)}})
}

/// Pods of the set that are there, of which so many are available.
fn pods(replicas: i32, available: i32) -> Value {
    json!({"status": {"replicas": replicas, "readyReplicas": available,
        "availableReplicas": available}})
}

#[test]
fn a_new_deployment() {
    check(
        &deployment(json!({})),
        &[],
        expect![[r#"
            rolling: a new set
            create web-64cff46d7c of 3
            event Scaled up replica set web-64cff46d7c from 0 to 3
            status 0 0 0 0 3 (replicas updated ready available unavailable)
            Progressing=True NewReplicaSetCreated: Created new replica set "web-64cff46d7c"
            Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
            revision 1, again 601s
        "#]],
    );
    let created = plan(&deployment(json!({})), &[], at(0));
    let Action::Create(set) = &created.actions[0] else { panic!() };
    expect![[r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4","deployment.kubernetes.io/revision":"1"},"labels":{"app":"web","pod-template-hash":"64cff46d7c"},"name":"web-64cff46d7c","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"d"}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web","pod-template-hash":"64cff46d7c"}},"template":{"metadata":{"labels":{"app":"web","pod-template-hash":"64cff46d7c"}},"spec":{"containers":[{"image":"v1","name":"web"}]}}}}"#]]
    .assert_eq(&serde_json::to_string(&serde_json::to_value(&**set).unwrap()).unwrap());
    // The set exists, its pods start, and are available.
    let over = with(
        pods(3, 0),
        json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}),
    );
    let status = serde_json::to_value(&created.status).unwrap();
    let begun = deployment(json!({"status": status}));
    check(
        &begun,
        &[owned_set("v1", 0, 1, 3, over)],
        expect![[r#"
        rolling: nothing to scale
        status 3 3 0 0 3 (replicas updated ready available unavailable)
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        Progressing=True ReplicaSetUpdated: ReplicaSet "web-v1" is progressing.
        revision 1, again 601s
    "#]],
    );
    check(
        &begun,
        &[owned_set("v1", 0, 1, 3, json!({}))],
        expect![[r#"
        rolling: nothing to scale
        status 3 3 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 1, again -
    "#]],
    );
    check(
        &deployment(complete(3)),
        &[owned_set("v1", 0, 1, 3, json!({}))],
        expect![[r#"
        rolling: nothing to scale
        status 3 3 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 1, again -
    "#]],
    );
}

#[test]
fn rolling() {
    let next =
        deployment(with(complete(3), with(image("v2"), json!({"metadata": {"generation": 2}}))));
    check(
        &next,
        &[owned_set("v1", 100, 1, 3, json!({}))],
        expect![[r#"
            rolling: a new set
            create web-c78dccc6d of 1
            event Scaled up replica set web-c78dccc6d from 0 to 1
            status 3 0 3 3 1 (replicas updated ready available unavailable)
            Available=True MinimumReplicasAvailable: Deployment has minimum availability.
            Progressing=True NewReplicaSetCreated: Created new replica set "web-c78dccc6d"
            revision 2, again 601s
        "#]],
    );
    // The new pod isn't available yet: nothing may go.
    let old = owned_set("v1", 100, 1, 3, json!({}));
    check(
        &next,
        &[old.clone(), owned_set("v2", 0, 2, 1, pods(1, 0))],
        expect![[r#"
        rolling: nothing to scale
        status 4 1 3 3 1 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 2, again 551s
    "#]],
    );
    // It is: one old pod goes.
    check(
        &next,
        &[old, owned_set("v2", 0, 2, 1, json!({}))],
        expect![[r#"
        rolling: old sets shrink
        update web-v1 to 2 (revision 1)
        event Scaled down replica set web-v1 from 3 to 2
        status 4 1 4 4 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True ReplicaSetUpdated: ReplicaSet "web-v2" is progressing.
        revision 2, again 601s
    "#]],
    );
    // Room for another new one.
    let old = owned_set("v1", 100, 1, 2, json!({}));
    check(
        &next,
        &[old, owned_set("v2", 0, 2, 1, json!({}))],
        expect![[r#"
        rolling: the new set grows
        update web-v2 to 2 (revision 2)
        event Scaled up replica set web-v2 from 1 to 2
        status 3 1 3 3 1 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 2, again 551s
    "#]],
    );
    // Unhealthy old pods go first, as they serve nobody.
    let broken = owned_set("v1", 100, 1, 3, pods(3, 1));
    check(
        &next,
        &[broken, owned_set("v2", 0, 2, 1, json!({}))],
        expect![[r#"
        rolling: old sets shrink
        update web-v1 to 2 (revision 1)
        event Scaled down replica set web-v1 from 3 to 2
        status 4 1 2 2 1 (replicas updated ready available unavailable)
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        revision 2, again 551s
    "#]],
    );
    // Done.
    let old = owned_set("v1", 100, 1, 0, json!({}));
    check(
        &next,
        &[old, owned_set("v2", 0, 2, 3, json!({}))],
        expect![[r#"
        rolling: nothing to scale
        status 3 3 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 2, again -
    "#]],
    );
}

#[test]
fn rollback_raises_the_revision() {
    let sets = [owned_set("v1", 100, 1, 0, json!({})), owned_set("v2", 50, 2, 3, json!({}))];
    let back = deployment(complete(3));
    check(
        &back,
        &sets,
        expect![[r#"
        rolling: the new set grows
        update web-v1 to 1 (revision 3)
        event Scaled up replica set web-v1 from 0 to 1
        status 3 0 3 3 1 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 3, again 551s
    "#]],
    );
    let back = plan(&back, &sets, at(0));
    let Some(Action::Update(set)) = back.actions.first() else { panic!() };
    expect![[r#"
        {
            "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4",
            "deployment.kubernetes.io/revision": "3",
            "deployment.kubernetes.io/revision-history": "1",
        }"#]]
    .assert_eq(&format!("{:#?}", set.annotations));
    // Once more, later: the history grows.
    let history =
        json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision-history": "1"}}});
    let sets = [owned_set("v1", 100, 3, 0, history), owned_set("v2", 50, 4, 3, json!({}))];
    let again = plan(&deployment(complete(3)), &sets, at(0));
    let Some(Action::Update(set)) = again.actions.first() else { panic!() };
    assert_eq!(set.annotations["deployment.kubernetes.io/revision-history"], "1,3");
}

#[test]
fn recreate() {
    let over = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let next = deployment(with(complete(3), with(image("v2"), over)));
    check(
        &next,
        &[owned_set("v1", 100, 1, 3, json!({}))],
        expect![[r#"
        recreate: old sets go first
        update web-v1 to 0 (revision 1)
        event Scaled down replica set web-v1 from 3 to 0
        status 3 0 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision -, again 551s
    "#]],
    );
    let ending =
        json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "terminatingReplicas": 2}});
    check(
        &next,
        &[owned_set("v1", 100, 1, 3, ending)],
        expect![[r#"
        recreate: pods of old sets still run
        status 0 0 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision -, again 551s
    "#]],
    );
    check(
        &next,
        &[owned_set("v1", 100, 1, 0, json!({}))],
        expect![[r#"
        recreate: the new set has the whole size
        create web-c78dccc6d of 3
        event Scaled up replica set web-c78dccc6d from 0 to 3
        status 0 0 0 0 3 (replicas updated ready available unavailable)
        Progressing=True NewReplicaSetCreated: Created new replica set "web-c78dccc6d"
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        revision 2, again 601s
    "#]],
    );
}

#[test]
fn scaling() {
    let more = json!({"spec": {"replicas": 10}, "metadata": {"generation": 2}});
    check(
        &deployment(with(complete(3), more)),
        &[owned_set("v1", 100, 1, 3, json!({}))],
        expect![[r#"
        scaled: sizes kept in proportion
        update web-v1 to 10 (revision 1)
        event Scaled up replica set web-v1 from 3 to 10
        status 3 3 3 3 7 (replicas updated ready available unavailable)
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        revision 1, again -
    "#]],
    );
    let sizes = |desired: i32, most: i32| {
        json!({"metadata": {"annotations": {
            DESIRED_REPLICAS: desired.to_string(), MAX_REPLICAS: most.to_string()}}})
    };
    // The size is right already: what is written down with it must become so too.
    check(
        &deployment(with(image("v2"), json!({}))),
        &[owned_set("v1", 100, 1, 3, sizes(5, 7)), owned_set("v2", 50, 2, 0, sizes(5, 7))],
        expect![[r#"
            scaled: sizes kept in proportion
            update web-v1 to 3 (revision 1)
            status 3 0 3 3 0 (replicas updated ready available unavailable)
            Progressing=True FoundNewReplicaSet: Found new replica set "web-v2"
            Available=True MinimumReplicasAvailable: Deployment has minimum availability.
            revision 2, again -
        "#]],
    );
    // In the middle of a rollout: in proportion.
    let sets =
        [owned_set("v1", 100, 1, 8, sizes(10, 13)), owned_set("v2", 50, 2, 5, sizes(10, 13))];
    let to = |replicas: i32| deployment(with(image("v2"), json!({"spec": {"replicas": replicas}})));
    check(
        &to(15),
        &sets,
        expect![[r#"
        scaled: sizes kept in proportion
        update web-v1 to 12 (revision 1)
        update web-v2 to 7 (revision 2)
        event Scaled up replica set web-v1 from 8 to 12
        event Scaled up replica set web-v2 from 5 to 7
        status 13 5 13 13 6 (replicas updated ready available unavailable)
        Progressing=True FoundNewReplicaSet: Found new replica set "web-v2"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        revision 2, again -
    "#]],
    );
    check(
        &to(5),
        &sets,
        expect![[r#"
        scaled: sizes kept in proportion
        update web-v1 to 4 (revision 1)
        update web-v2 to 3 (revision 2)
        event Scaled down replica set web-v1 from 8 to 4
        event Scaled down replica set web-v2 from 5 to 3
        status 13 5 13 13 0 (replicas updated ready available unavailable)
        Progressing=True FoundNewReplicaSet: Found new replica set "web-v2"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        revision 2, again -
    "#]],
    );
    check(
        &to(0),
        &sets,
        expect![[r#"
        scaled: sizes kept in proportion
        update web-v1 to 0 (revision 1)
        update web-v2 to 0 (revision 2)
        event Scaled down replica set web-v1 from 8 to 0
        event Scaled down replica set web-v2 from 5 to 0
        status 13 5 13 13 0 (replicas updated ready available unavailable)
        Progressing=True FoundNewReplicaSet: Found new replica set "web-v2"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        revision 2, again -
    "#]],
    );
}

#[test]
fn pausing() {
    let paused = json!({"spec": {"paused": true, "replicas": 4}});
    let next = deployment(with(complete(3), with(image("v2"), paused)));
    let sets = [owned_set("v1", 100, 1, 3, json!({}))];
    check(
        &next,
        &sets,
        expect![[r#"
        paused: sizes kept in proportion
        update web-v1 to 4 (revision 1)
        event Scaled up replica set web-v1 from 3 to 4
        status 3 0 3 3 1 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=Unknown DeploymentPaused: Deployment is paused
        revision -, again -
    "#]],
    );
    let status = serde_json::to_value(&plan(&next, &sets, at(0)).status).unwrap();
    let resumed = deployment(with(image("v2"), json!({"status": status})));
    check(
        &resumed,
        &sets,
        expect![[r#"
            rolling: a new set
            create web-c78dccc6d of 1
            event Scaled up replica set web-c78dccc6d from 0 to 1
            status 3 0 3 3 1 (replicas updated ready available unavailable)
            Available=True MinimumReplicasAvailable: Deployment has minimum availability.
            Progressing=True NewReplicaSetCreated: Created new replica set "web-c78dccc6d"
            revision 2, again 601s
        "#]],
    );
}

#[test]
fn deadline() {
    let stuck = |condition: i64| {
        deployment(with(
            image("v2"),
            json!({"status": {
                "observedGeneration": 1, "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3,
                "availableReplicas": 3, "unavailableReplicas": 1, "terminatingReplicas": 0,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
                    "message": "", "lastUpdateTime": time(condition), "lastTransitionTime": time(condition)}],
            }}),
        ))
    };
    let sets = [owned_set("v1", 100, 1, 3, json!({})), owned_set("v2", 50, 2, 1, pods(1, 0))];
    check(
        &stuck(-100),
        &sets,
        expect![[r#"
        rolling: nothing to scale
        status 4 1 3 3 1 (replicas updated ready available unavailable)
        Progressing=True ReplicaSetUpdated: 
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        revision 2, again 501s
    "#]],
    );
    check(
        &stuck(-700),
        &sets,
        expect![[r#"
        rolling: nothing to scale
        status 4 1 3 3 1 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=False ProgressDeadlineExceeded: ReplicaSet "web-v2" has timed out progressing.
        revision 2, again -
    "#]],
    );
}

#[test]
fn failures_of_sets_show() {
    let failed = with(
        pods(0, 0),
        json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": "no quota", "lastTransitionTime": time(-1)}]}}),
    );
    check(
        &deployment(json!({})),
        &[owned_set("v1", 0, 1, 3, failed)],
        expect![[r#"
        rolling: nothing to scale
        status 0 0 0 0 3 (replicas updated ready available unavailable)
        Progressing=True FoundNewReplicaSet: Found new replica set "web-v1"
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        ReplicaFailure=True FailedCreate: no quota
        revision 1, again 601s
    "#]],
    );
}

#[test]
fn history() {
    let limit = json!({"spec": {"revisionHistoryLimit": 1}});
    let next = deployment(with(complete(3), limit));
    let sets = [
        owned_set("v8", 400, 1, 0, json!({})),
        owned_set("v9", 300, 2, 0, pods(1, 0)),
        owned_set("v0", 200, 3, 0, json!({})),
        owned_set("v1", 100, 4, 3, json!({})),
    ];
    check(
        &next,
        &sets,
        expect![[r#"
        rolling: nothing to scale
        delete web-v8
        status 4 3 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 4, again 551s
    "#]],
    );
}

#[test]
fn claims() {
    let orphan = json!({"metadata": {"ownerReferences": []}});
    let foreign =
        json!({"metadata": {"ownerReferences": [owner("apps/v1", "Deployment", "x", "x")]}});
    let relabelled = json!({"metadata": {"labels": {"app": "other"}}});
    let sets = [
        owned_set("v1", 100, 1, 3, orphan),
        owned_set("v2", 90, 2, 1, foreign),
        owned_set("v3", 80, 3, 1, relabelled),
    ];
    check(
        &deployment(complete(3)),
        &sets,
        expect![[r#"
        rolling: nothing to scale
        adopt web-v1
        release web-v3
        status 3 3 3 3 0 (replicas updated ready available unavailable)
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        revision 1, again -
    "#]],
    );
    check(
        &deployment(with(complete(3), deleting())),
        &sets,
        expect![[r#"
        the deployment is being deleted
        status 0 0 0 0 0 (replicas updated ready available unavailable)
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-v1" has successfully progressed.
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        revision -, again -
    "#]],
    );
    let everything = json!({"spec": {"selector": {"matchLabels": null}}});
    check(
        &deployment(everything),
        &sets,
        expect![[r#"
        the selector is empty: it would select every pod
        status 0 0 0 0 0 (replicas updated ready available unavailable)
        revision -, again -
    "#]],
    );
}

#[test]
fn limits() {
    let of = |replicas: i32, surge: Value, unavailable: Value| {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let over = json!({"spec": {"replicas": replicas, "strategy": {"rollingUpdate": rolling}}});
        let limits = Limits::of(&deployment(over));
        (limits.max_surge, limits.max_unavailable)
    };
    assert_eq!(of(10, json!("25%"), json!("25%")), (3, 2));
    assert_eq!(of(1, json!("25%"), json!("25%")), (1, 0));
    assert_eq!(of(2, json!(0), json!("1%")), (0, 1));
    assert_eq!(of(4, json!(2), json!(9)), (2, 4));
    assert_eq!(of(0, json!("25%"), json!("25%")), (0, 0));
}
