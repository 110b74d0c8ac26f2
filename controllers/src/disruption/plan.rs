//! What a budget's status has to say, from its pods and from how many there should be.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::{
    Kind as _, Pod, PodDisruptionBudget, Time,
    api::policy::v1::PodDisruptionBudgetStatus,
    apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString},
};

use crate::kit::object::{is_ready, time};

/// How long a pod that was evicted may take until it is seen to go.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// What was found out about a budget.
#[derive(Debug)]
pub struct Observed<'a> {
    pub budget: &'a PodDisruptionBudget,
    /// Those that its selector matches.
    pub pods: &'a [Arc<Pod>],
    /// How many there should be by their controllers; why that isn't known.
    pub scale: Result<i32, String>,
}

/// The status that the budget should have, and when to look again for a pod that should have gone.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    pub recheck: Option<Duration>,
}

/// Whether the number of pods that there should be matters.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let least = spec.and_then(|spec| spec.min_available.as_ref());
    spec.is_some_and(|spec| spec.max_unavailable.is_some())
        || matches!(least, Some(IntOrString::String(_)))
}

pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let before = observed.budget.status.clone().unwrap_or_default();
    let scale = match &observed.scale {
        Ok(scale) => *scale,
        Err(why) => return unknown(before, why, now),
    };
    let (expected, desired) = expected(observed, scale);
    let (disrupted, recheck) = still_disrupted(observed.pods, &before, now);
    let healthy = |pod: &&Arc<Pod>| {
        !pod.is_deleting() && !disrupted.contains_key(pod.name()) && is_ready(pod)
    };
    let current = count(observed.pods.iter().filter(healthy).count());
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    let generation = observed.budget.metadata.generation;
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(current),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: before.conditions,
    };
    let (state, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    set_condition(&mut status, (state, reason, ""), generation, now);
    Plan { status, recheck }
}

/// How many pods there should be, and how many of them healthy.
fn expected(observed: &Observed<'_>, scale: i32) -> (i32, i32) {
    let Some(spec) = &observed.budget.spec else { return (0, 0) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - share(most, scale)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count(observed.pods.len()), *least),
        (None, Some(least)) => (scale, share(least, scale)),
        (None, None) => (0, 0),
    }
}

/// A number, or a percentage of all, rounded up.
fn share(of: &IntOrString, all: i32) -> i32 {
    match of {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let share = (percent * i64::from(all) + 99).div_euclid(100);
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Evicted pods that are still there and may still be on their way.
fn still_disrupted(
    pods: &[Arc<Pod>],
    before: &PodDisruptionBudgetStatus,
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut recheck = None;
    for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
        let known = before.disrupted_pods.as_ref().and_then(|all| all.get(pod.name()));
        let Some(since) = known else { continue };
        let waited = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
        let Some(left) = DELETION_TIMEOUT.checked_sub(waited) else { continue };
        kept.insert(pod.name().to_owned(), since.clone());
        recheck = Some(recheck.map_or(left, |known: Duration| known.min(left)));
    }
    (kept, recheck)
}

/// Nothing may be disrupted while it isn't known how many pods there should be.
fn unknown(mut status: PodDisruptionBudgetStatus, why: &str, now: Timestamp) -> Plan {
    status.disruptions_allowed = Some(0);
    let generation = status.observed_generation;
    set_condition(&mut status, ("False", "SyncFailed", why), generation, now);
    Plan { status, recheck: None }
}

/// The condition's time moves only when its state does.
fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    (state, reason, message): (&str, &str, &str),
    generation: Option<i64>,
    now: Timestamp,
) {
    let all = status.conditions.get_or_insert_default();
    let known = all.iter().position(|one| one.type_ == ALLOWED);
    let since = known.map(|at| &all[at]).filter(|one| one.status == state);
    let since = since.map_or_else(|| time(now), |one| one.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match known {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, time as text};

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let state = if ready { "True" } else { "False" };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": state}]}});
        Arc::new(Pod::decode(pod.to_string().as_bytes()).expect("a pod"))
    }

    fn check(
        spec: Value,
        status: Value,
        scale: Result<i32, String>,
        ready: &[bool],
        expected: Expect,
    ) {
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status});
        let budget = PodDisruptionBudget::decode(budget.to_string().as_bytes()).expect("a budget");
        let pods: Vec<_> =
            ready.iter().enumerate().map(|(at, ready)| pod(&format!("p{at}"), *ready)).collect();
        let observed = Observed { budget: &budget, pods: &pods, scale };
        let Plan { status, recheck } = plan(&observed, at(60));
        let condition = &status.conditions.as_ref().expect("conditions")[0];
        expected.assert_eq(&format!(
            "{} of {} healthy, {} expected: {} allowed; {} {} {:?}; evicted {:?} {recheck:?}",
            status.current_healthy.unwrap_or(-1),
            status.desired_healthy.unwrap_or(-1),
            status.expected_pods.unwrap_or(-1),
            status.disruptions_allowed.unwrap_or(-1),
            condition.status,
            condition.reason,
            condition.message,
            status.disrupted_pods.unwrap_or_default().keys().collect::<Vec<_>>(),
        ));
    }

    #[test]
    fn how_many_may_go() {
        let zero = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        check(
            json!({"minAvailable": 2}),
            zero.clone(),
            Ok(0),
            &[true, true, true],
            expect![[
                r#"3 of 2 healthy, 3 expected: 1 allowed; True SufficientPods ""; evicted [] None"#
            ]],
        );
        check(
            json!({"minAvailable": 2}),
            zero.clone(),
            Ok(0),
            &[true, true, false],
            expect![[
                r#"2 of 2 healthy, 3 expected: 0 allowed; False InsufficientPods ""; evicted [] None"#
            ]],
        );
        check(
            json!({"minAvailable": "50%"}),
            zero.clone(),
            Ok(5),
            &[true, true, true, true],
            expect![[
                r#"4 of 3 healthy, 5 expected: 1 allowed; True SufficientPods ""; evicted [] None"#
            ]],
        );
        check(
            json!({"maxUnavailable": 1}),
            zero.clone(),
            Ok(3),
            &[true, true, true],
            expect![[
                r#"3 of 2 healthy, 3 expected: 1 allowed; True SufficientPods ""; evicted [] None"#
            ]],
        );
        check(
            json!({"maxUnavailable": "30%"}),
            zero.clone(),
            Ok(0),
            &[],
            expect![[
                r#"0 of 0 healthy, 0 expected: 0 allowed; False InsufficientPods ""; evicted [] None"#
            ]],
        );
        check(
            json!({"maxUnavailable": 1}),
            zero.clone(),
            Err("no controller".into()),
            &[true],
            expect![[
                r#"0 of 0 healthy, 0 expected: 0 allowed; False SyncFailed "no controller"; evicted [] None"#
            ]],
        );
        let mut evicted = zero;
        evicted["disruptedPods"] = json!({"p0": text(0), "p1": text(-100), "gone": text(0)});
        check(
            json!({"minAvailable": 1}),
            evicted,
            Ok(0),
            &[true, true, true],
            expect![[
                r#"2 of 1 healthy, 3 expected: 1 allowed; True SufficientPods ""; evicted ["p0"] Some(60s)"#
            ]],
        );
    }
}
