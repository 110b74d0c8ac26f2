//! What a deletion does.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_apiserver_registry::{Context, Deletion};
use windlass_sdk_meta::Rng;

use crate::{kind_of, now, stored};

const POD: &str =
    "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}";

fn delete(object: &Value, options: Value) -> Result<Deletion, windlass_sdk_meta::Status> {
    let rng = Rng::seeded(1);
    let options = serde_json::from_value(options).expect("options");
    kind_of(object).delete(object, &options, &Context { now: now(), rng: &rng, user: "" })
}

fn check(object: &Value, options: Value, expected: Expect) -> Value {
    let (what, object) = match delete(object, options) {
        Ok(Deletion::Remove(object)) => ("remove", object),
        Ok(Deletion::Mark(object)) => ("mark", object),
        Ok(Deletion::Pending(object)) => ("pending", object),
        Err(status) => {
            expected.assert_eq(&format!("{} {}", status.code, status.message));
            return Value::Null;
        }
    };
    let metadata = &object["metadata"];
    expected.assert_eq(&format!(
        "{what} at {} grace {} generation {} finalizers {} phase {}",
        metadata["deletionTimestamp"],
        metadata["deletionGracePeriodSeconds"],
        metadata["generation"],
        metadata["finalizers"],
        object["status"]["phase"]
    ));
    object
}

#[test]
fn pods_wait_for_their_node() {
    let pending = stored(POD);
    check(
        &pending,
        json!({}),
        expect![[
            r#"remove at "2026-11-23T17:00:00Z" grace 0 generation 2 finalizers null phase "Pending""#
        ]],
    );
    let mut bound = pending.clone();
    bound["spec"]["nodeName"] = "n".into();
    let marked = check(
        &bound,
        json!({}),
        expect![[
            r#"mark at "2026-11-23T17:00:30Z" grace 30 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &bound,
        json!({"gracePeriodSeconds": 0}),
        expect![[
            r#"remove at "2026-11-23T17:00:00Z" grace 0 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &bound,
        json!({"gracePeriodSeconds": 5}),
        expect![[
            r#"mark at "2026-11-23T17:00:05Z" grace 5 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &marked,
        json!({}),
        expect![[
            r#"pending at "2026-11-23T17:00:30Z" grace 30 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &marked,
        json!({"gracePeriodSeconds": 60}),
        expect![[
            r#"pending at "2026-11-23T17:00:30Z" grace 30 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &marked,
        json!({"gracePeriodSeconds": 3}),
        expect![[
            r#"mark at "2026-11-23T17:00:03Z" grace 3 generation 2 finalizers null phase "Pending""#
        ]],
    );
    check(
        &marked,
        json!({"gracePeriodSeconds": 0}),
        expect![[
            r#"remove at "2026-11-23T17:00:00Z" grace 0 generation 2 finalizers null phase "Pending""#
        ]],
    );
    let mut done = bound.clone();
    done["status"]["phase"] = "Succeeded".into();
    check(
        &done,
        json!({}),
        expect![[
            r#"remove at "2026-11-23T17:00:00Z" grace 0 generation 2 finalizers null phase "Succeeded""#
        ]],
    );
    done["metadata"]["finalizers"] = json!(["example.com/x"]);
    check(
        &done,
        json!({}),
        expect![[
            r#"mark at "2026-11-23T17:00:00Z" grace 0 generation 2 finalizers ["example.com/x"] phase "Succeeded""#
        ]],
    );
}

#[test]
fn propagation_becomes_finalizers() {
    let map = stored("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
    check(
        &map,
        json!({}),
        expect!["remove at null grace null generation null finalizers null phase null"],
    );
    check(
        &map,
        json!({"propagationPolicy": "Background"}),
        expect!["remove at null grace null generation null finalizers null phase null"],
    );
    let marked = check(
        &map,
        json!({"propagationPolicy": "Foreground"}),
        expect![[
            r#"mark at "2026-11-23T17:00:00Z" grace 0 generation null finalizers ["foregroundDeletion"] phase null"#
        ]],
    );
    check(
        &map,
        json!({"propagationPolicy": "Orphan"}),
        expect![[
            r#"mark at "2026-11-23T17:00:00Z" grace 0 generation null finalizers ["orphan"] phase null"#
        ]],
    );
    check(
        &map,
        json!({"orphanDependents": true}),
        expect![[
            r#"mark at "2026-11-23T17:00:00Z" grace 0 generation null finalizers ["orphan"] phase null"#
        ]],
    );
    check(
        &marked,
        json!({}),
        expect![[
            r#"pending at "2026-11-23T17:00:00Z" grace 0 generation null finalizers ["foregroundDeletion"] phase null"#
        ]],
    );
    check(
        &map,
        json!({"propagationPolicy": "Sideways"}),
        expect![[
            r#"422 DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil""#
        ]],
    );
    let mut free = marked.clone();
    free["metadata"]["finalizers"] = json!([]);
    let kind = kind_of(&map);
    assert!(kind.removed_by_update(&free, &marked));
    assert!(!kind.removed_by_update(&marked, &marked) && !kind.removed_by_update(&free, &map));
}

#[test]
fn namespaces_terminate() {
    let namespace = stored("{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
    let marked = check(
        &namespace,
        json!({}),
        expect![[
            r#"mark at "2026-11-23T17:00:00Z" grace null generation null finalizers null phase "Terminating""#
        ]],
    );
    check(
        &marked,
        json!({}),
        expect![[
            r#"pending at "2026-11-23T17:00:00Z" grace null generation null finalizers null phase "Terminating""#
        ]],
    );
    let mut empty = marked.clone();
    empty["spec"]["finalizers"] = json!([]);
    check(
        &empty,
        json!({}),
        expect![[
            r#"remove at "2026-11-23T17:00:00Z" grace null generation null finalizers null phase "Terminating""#
        ]],
    );
    assert!(kind_of(&empty).removed_by_update(&empty, &marked));
}

#[test]
fn preconditions_hold() {
    let map = stored("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
    check(
        &map,
        json!({"preconditions": {"uid": "x"}}),
        expect![[
            r#"409 Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (x) does not match the UID in record (u). The object might have been deleted and then recreated"#
        ]],
    );
    check(
        &map,
        json!({"preconditions": {"resourceVersion": "1"}}),
        expect![[
            r#"409 Operation cannot be fulfilled on ConfigMap "a": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (5). The object might have been modified"#
        ]],
    );
    check(
        &map,
        json!({"preconditions": {"uid": "u", "resourceVersion": "5"}}),
        expect!["remove at null grace null generation null finalizers null phase null"],
    );
}
