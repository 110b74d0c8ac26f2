//! Tells the core what an object means for scheduling.

use std::time::Duration;

use windlass_scheduler_core::Scheduler;
use windlass_sdk_client::Change;
use windlass_sdk_types::{Kind, Node, Pod};

use crate::NAME;

/// What a pod is to the scheduler.
#[derive(Debug, PartialEq, Eq)]
enum Role<'a> {
    Waits,
    Placed(&'a str),
    /// Ended, somebody else's, gated, or being deleted before it had a node.
    None,
}

pub fn node(scheduler: &mut Scheduler, change: Change<Node>) {
    match change.now {
        Some(node) => scheduler.node(&node),
        None => scheduler.node_gone(&change.key.name),
    }
}

pub fn pod(scheduler: &mut Scheduler, change: Change<Pod>, now: Duration) {
    if let Some(before) = &change.before
        && change.now.as_ref().is_none_or(|pod| pod.uid() != before.uid())
    {
        scheduler.gone(before.uid());
    }
    if let Some(pod) = &change.now {
        is(scheduler, pod, now);
    }
}

/// The pod is as it is here.
pub fn is(scheduler: &mut Scheduler, pod: &Pod, now: Duration) {
    match role(pod) {
        Role::Waits => scheduler.waiting(pod, now),
        Role::Placed(node) => scheduler.placed(pod, node),
        Role::None => scheduler.gone(pod.uid()),
    }
}

fn role(pod: &Pod) -> Role<'_> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let Some(spec) = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
    else {
        return Role::None;
    };
    let node = spec.node_name.as_deref().unwrap_or_default();
    if !node.is_empty() {
        return Role::Placed(node);
    }
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == NAME);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if ours && !gated && !pod.is_deleting() { Role::Waits } else { Role::None }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(spec: &str, more: &str, expected: Expect) {
        let json = format!(r#"{{"spec":{{"containers":[]{spec}}}{more}}}"#);
        let pod = Pod::decode(json.as_bytes()).unwrap();
        expected.assert_eq(&format!("{:?}", role(&pod)));
    }

    #[test]
    fn roles() {
        check("", "", expect!["Waits"]);
        check(r#","schedulerName":"default-scheduler""#, "", expect!["Waits"]);
        check(r#","schedulerName":"mine""#, "", expect!["None"]);
        check(r#","schedulingGates":[{"name":"a"}]"#, "", expect!["None"]);
        check("", r#","metadata":{"deletionTimestamp":"2026-11-23T17:20:00Z"}"#, expect!["None"]);
        check(r#","nodeName":"x","schedulerName":"mine""#, "", expect![[r#"Placed("x")"#]]);
        check(
            r#","nodeName":"x""#,
            r#","status":{"phase":"Running"}"#,
            expect![[r#"Placed("x")"#]],
        );
        check(r#","nodeName":"x""#, r#","status":{"phase":"Succeeded"}"#, expect!["None"]);
        check("", r#","status":{"phase":"Failed"}"#, expect!["None"]);
    }
}
