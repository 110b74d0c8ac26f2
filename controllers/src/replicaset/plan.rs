//! What a ReplicaSet needs next, from what is observed: which pods are its own, how many to create,
//! and which to delete first. Pure, so that every rule has a line in the table of tests.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use windlass_sdk_meta::{Selector, Timestamp};
use windlass_sdk_types::{
    Kind, Pod, ReplicaSet,
    api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus},
};

use crate::kit::object;

/// The most pods that one pass creates or deletes; the next pass does the rest.
pub const BURST_REPLICAS: usize = 500;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What the controller sees of one ReplicaSet.
pub struct Observed<'a> {
    pub set: &'a ReplicaSet,
    /// Pods that the set controls, and pods of its namespace that nothing controls.
    pub pods: &'a [Arc<Pod>],
    /// Uids of pods that this controller has deleted and still sees as active.
    pub deleted: &'a BTreeSet<String>,
    /// Active pods on each node of all ReplicaSets with the same owner.
    pub neighbours: &'a BTreeMap<String, usize>,
    /// Whether everything that this controller wrote for the set has been observed. Until then
    /// nothing is created or deleted: this is what keeps a late watch from doubling pods.
    pub is_current: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt(Arc<Pod>),
    Release(Arc<Pod>),
    Create { count: usize },
    Delete(Arc<Pod>),
}

/// What to do, and what the status counts.
#[derive(Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Active pods of the set, adopted ones included.
    pub claimed: Vec<Arc<Pod>>,
    /// Pods of the set that are on their way out.
    pub terminating: usize,
    pub why: String,
}

/// What went wrong while the actions were carried out; becomes the ReplicaFailure condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let set = observed.set;
    let (claimed, terminating, mut actions) = claim(observed);
    let wanted = desired(set);
    let why = if set.is_deleting() {
        "the set is being deleted".to_owned()
    } else if !observed.is_current {
        "own writes are not observed yet".to_owned()
    } else {
        match claimed.len().cmp(&wanted) {
            Ordering::Equal => format!("{wanted} of {wanted} replicas"),
            Ordering::Less => {
                let count = (wanted - claimed.len()).min(BURST_REPLICAS);
                actions.push(Action::Create { count });
                format!("{} of {wanted} replicas: {count} to create", claimed.len())
            }
            Ordering::Greater => {
                let count = (claimed.len() - wanted).min(BURST_REPLICAS);
                let ranked = ranked(&claimed, observed.neighbours, now);
                actions.extend(ranked.into_iter().take(count).map(Action::Delete));
                format!("{} of {wanted} replicas: {count} to delete", claimed.len())
            }
        }
    };
    Plan { actions, claimed, terminating, why }
}

/// The status that follows from the plan's pods. Conditions keep their transition time unless
/// status or reason changes.
pub fn status(
    set: &ReplicaSet,
    plan: &Plan,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let min_ready = set.spec.min_ready_seconds.unwrap_or_default();
    let template = set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let pairs = template.and_then(|metadata| metadata.labels.as_ref()).into_iter().flatten();
    let fully = Selector::from_pairs(pairs.map(|(key, value)| (&**key, &**value)));
    let count = |holds: &dyn Fn(&Pod) -> bool| plan.claimed.iter().filter(|pod| holds(pod)).count();
    ReplicaSetStatus {
        replicas: number(plan.claimed.len()),
        fully_labeled_replicas: some(count(&|pod| fully.matches_map(pod.metadata.labels.as_ref()))),
        ready_replicas: some(count(&object::is_ready)),
        available_replicas: some(count(&|pod| object::is_available(pod, min_ready, now))),
        terminating_replicas: Some(number(plan.terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
    }
}

/// When to look again although nothing changes: a ready pod becomes available by time alone.
pub fn next_check(set: &ReplicaSet, claimed: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.min_ready_seconds.unwrap_or_default();
    let left = claimed.iter().filter_map(|pod| object::until_available(pod, min_ready, now));
    left.filter(|left| !left.is_zero()).min()
}

/// `spec.replicas`; 1 where it is left out.
pub fn desired(set: &ReplicaSet) -> usize {
    usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default()
}

fn claim(observed: &Observed<'_>) -> (Vec<Arc<Pod>>, usize, Vec<Action>) {
    let set = observed.set;
    let (mut claimed, mut terminating, mut actions) = (Vec::new(), 0, Vec::new());
    // A selector that doesn't parse or is empty selects nothing: validation refuses both.
    let selector = object::selector(&set.spec.selector).ok();
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return (claimed, terminating, actions);
    };
    for pod in observed.pods {
        let matches = selector.matches_map(pod.metadata.labels.as_ref());
        let owner = object::controller_of(&pod.metadata);
        let own = owner.is_some_and(|owner| owner.uid == set.uid());
        let going = pod.is_deleting() || observed.deleted.contains(pod.uid());
        match (own, matches) {
            (true, true) if object::is_terminal(pod) => {}
            (true, true) if going => terminating += 1,
            (true, true) => claimed.push(pod.clone()),
            (true, false) if !set.is_deleting() && object::is_active(pod) => {
                actions.push(Action::Release(pod.clone()));
            }
            (false, true) if owner.is_none() && !set.is_deleting() && object::is_active(pod) => {
                actions.push(Action::Adopt(pod.clone()));
                claimed.push(pod.clone());
            }
            _ => {}
        }
    }
    (claimed, terminating, actions)
}

/// Pods in the order in which they should go: those that serve least first.
fn ranked(
    pods: &[Arc<Pod>],
    neighbours: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut keyed: Vec<(Rank<'_>, &Arc<Pod>)> =
        pods.iter().map(|pod| (Rank::of(pod, neighbours, now), pod)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    keyed.into_iter().map(|(_, pod)| pod.clone()).collect()
}

/// Upstream's order of deletion, field by field: the smaller goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    is_assigned: bool,
    phase: u8,
    is_ready: bool,
    deletion_cost: i32,
    neighbours: Reverse<usize>,
    /// Ages in powers of two, so that among pods of about one age the uid (chance) decides.
    ready_age: i32,
    restarts: Reverse<i32>,
    age: i32,
    uid: &'a str,
}

impl<'a> Rank<'a> {
    fn of(pod: &'a Pod, neighbours: &BTreeMap<String, usize>, now: Timestamp) -> Self {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let cost = pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok());
        Self {
            is_assigned: !node.is_empty(),
            phase: match object::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            is_ready: object::is_ready(pod),
            deletion_cost: cost.unwrap_or_default(),
            neighbours: Reverse(neighbours.get(node).copied().unwrap_or_default()),
            ready_age: object::ready_since(pod).map_or(-1, |since| magnitude(since, now)),
            restarts: Reverse(restarts(pod)),
            age: pod.created().map_or(-1, |created| magnitude(created.0, now)),
            uid: pod.uid(),
        }
    }
}

/// The power of two that is nearest below the time passed, in nanoseconds; -1 for none.
fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let passed = now.duration_since(since).as_nanos();
    u128::try_from(passed).ok().and_then(u128::checked_ilog2).map_or(-1, u32::cast_signed)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or_default()
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let known =
        conditions.iter().any(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE));
    match failure {
        None => conditions.retain(|condition| condition.type_.as_deref() != Some(REPLICA_FAILURE)),
        // The first failure stays: its time says since when.
        Some(_) if known => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: Some(REPLICA_FAILURE.into()),
            status: Some("True".into()),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(object::time(now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Zero is left out, as upstream's encoding leaves it out.
fn some(count: usize) -> Option<i32> {
    (count > 0).then(|| number(count))
}
