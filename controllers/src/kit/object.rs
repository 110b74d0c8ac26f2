//! What controllers ask of objects: whether a pod is ready, who owns what, what a selector means.
//! Each answer is upstream's, in one place, so that two controllers never disagree about a pod.

use std::time::Duration;

use windlass_sdk_meta::{Requirement, Selector, SelectorError, Timestamp};
use windlass_sdk_types::{
    Kind, LabelSelector, Namespace, ObjectMeta, Pod, Time, api::core::v1::PodCondition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

/// Reads a `metav1.LabelSelector`. An empty one matches everything: callers that must not select
/// everything ask `is_empty`.
pub fn selector(of: &LabelSelector) -> Result<Selector, SelectorError> {
    let pairs = of.match_labels.iter().flatten();
    let mut all: Vec<Requirement> =
        pairs.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()])).collect();
    for expression in of.match_expressions.iter().flatten() {
        let values = expression.values.clone().unwrap_or_default();
        all.push(Requirement::new(&expression.key, &expression.operator, values)?);
    }
    Ok(Selector(all))
}

/// The managing owner, where there is one.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The time as conditions hold it: whole seconds.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Ended for good: no container of it will run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts as a replica: neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.is_deleting()
}

/// New objects may be made in the namespace.
pub fn takes_objects(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    !namespace.is_deleting() && phase != Some("Terminating")
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod has been Ready; None where it isn't, or doesn't say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// How long a ready pod still has to stay so to count as available; None where it isn't ready.
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let needed = jiff::SignedDuration::from_secs(i64::from(min_ready_seconds));
    let left = needed - now.duration_since(ready_since(pod)?);
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    until_available(pod, min_ready_seconds, now).is_some_and(|left| left.is_zero())
}
