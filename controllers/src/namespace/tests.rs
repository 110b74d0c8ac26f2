use std::{collections::BTreeMap, time::Duration};

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_sdk_meta::GroupResource;
use windlass_sdk_types::Namespace;

use super::plan::{Remaining, Round, conclude, is_concerned};
use crate::testing::{at, deleting, map, merge, namespace};

fn going(over: Value) -> Namespace {
    let mut all = deleting();
    merge(&mut all, over);
    namespace(all)
}

/// Resource, group, how many are left, their finalizers, and the seconds they may take.
type Left<'a> = (&'a str, &'a str, usize, &'a [(&'a str, usize)], u64);

fn left(parts: &[Left<'_>]) -> Round {
    let remaining: BTreeMap<_, _> = parts
        .iter()
        .map(|(resource, group, count, finalizers, seconds)| {
            let estimate = Duration::from_secs(*seconds);
            let left = Remaining { count: *count, finalizers: map(finalizers), estimate };
            ((&GroupResource::new(group, resource)).into(), left)
        })
        .collect();
    Round { remaining, ..Round::default() }
}

fn check(namespace: &Namespace, round: &Round, seconds: i64, expected: Expect) {
    let conclusion = conclude(namespace, round, at(seconds));
    let mut text = format!("{:?}\n", conclusion.next);
    for condition in conclusion.status.iter().flat_map(|status| status.conditions.iter().flatten())
    {
        let (kind, status) = (&condition.type_, &condition.status);
        let (reason, message) =
            (condition.reason.as_ref().unwrap(), condition.message.as_ref().unwrap());
        text.push_str(&format!("{kind}={status} {reason}: {message}\n"));
    }
    expected.assert_eq(&text);
}

#[test]
fn conclusions() {
    let fresh = going(json!({}));
    check(
        &fresh,
        &Round::default(),
        0,
        expect![[r#"
        Finalize
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=False ContentRemoved: All content successfully removed
        NamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished
    "#]],
    );
    check(
        &fresh,
        &left(&[("pods", "", 2, &[], 30)]),
        0,
        expect![[r#"
        After(100ms)
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances
        NamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished
    "#]],
    );
    check(
        &fresh,
        &left(&[("pods", "", 2, &[], 30)]),
        20,
        expect![[r#"
        After(5s)
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances
        NamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished
    "#]],
    );
    let held = left(&[
        ("configmaps", "", 1, &[("a.io/x", 1)], 0),
        ("deployments", "apps", 2, &[("a.io/x", 1), ("b.io/y", 2)], 0),
    ]);
    check(
        &fresh,
        &held,
        0,
        expect![[r#"
        After(7.5s)
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances, deployments.apps has 2 resource instances
        NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a.io/x in 2 resource instances, b.io/y in 2 resource instances
    "#]],
    );
    let failed = Round {
        discovery_error: Some("no answer".into()),
        errors: vec!["pods: forbidden".into()],
        ..Round::default()
    };
    check(
        &fresh,
        &failed,
        0,
        expect![[r#"
        After(100ms)
        NamespaceDeletionDiscoveryFailure=True DiscoveryFailed: no answer
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: pods: forbidden
        NamespaceContentRemaining=False ContentRemoved: All content successfully removed
        NamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished
    "#]],
    );
}

#[test]
fn a_second_look_writes_nothing() {
    let round = left(&[("pods", "", 2, &[], 30)]);
    let first = conclude(&going(json!({})), &round, at(0)).status.unwrap();
    let again = going(json!({"status": serde_json::to_value(first).unwrap()}));
    assert_eq!(conclude(&again, &round, at(9)).status, None);
}

#[test]
fn who_is_concerned() {
    assert!(!is_concerned(&namespace(json!({}))));
    assert!(is_concerned(&going(json!({}))));
    assert!(!is_concerned(&going(json!({"spec": {"finalizers": ["other"]}}))));
}
