//! What a namespace that is being deleted needs next, after one round of deleting its content: the
//! conditions that tell people what holds it up, and whether it may go.

use std::{collections::BTreeMap, time::Duration};

use windlass_sdk_meta::{GroupResource, Timestamp};
use windlass_sdk_types::{
    Kind, Namespace,
    api::core::v1::{NamespaceCondition, NamespaceStatus},
};

use crate::kit::object;

/// The finalizer in `spec.finalizers` that this controller answers for.
pub const FINALIZER: &str = "kubernetes";
/// Finalizers are other programs' work: how long they are given before the next look.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);
/// Content that goes by itself (pods that end) is looked at again after this long at first.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// What is left of one resource after its content was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    pub count: usize,
    /// How many of these carry each finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How long the slowest may still take by its own word (a pod's grace period).
    pub estimate: Duration,
}

/// What one round over all resources found.
#[derive(Debug, Default)]
pub struct Round {
    pub remaining: BTreeMap<GroupResourceKey, Remaining>,
    /// Why the list of resources isn't whole.
    pub discovery_error: Option<String>,
    /// Why content couldn't be deleted.
    pub errors: Vec<String>,
}

/// A resource in the order in which messages list it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupResourceKey {
    pub resource: String,
    pub group: String,
}

#[derive(Debug, PartialEq)]
pub struct Conclusion {
    /// The status to write; None where it is as it was.
    pub status: Option<NamespaceStatus>,
    pub next: Next,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is left: take the finalizer off.
    Finalize,
    /// Look again after this long.
    After(Duration),
}

impl From<&GroupResource> for GroupResourceKey {
    fn from(of: &GroupResource) -> Self {
        Self { resource: of.resource.clone(), group: of.group.clone() }
    }
}

/// Whether there is anything for this controller to do.
pub fn is_concerned(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.is_deleting() && finalizers.into_iter().flatten().any(|own| own == FINALIZER)
}

pub fn conclude(namespace: &Namespace, round: &Round, now: Timestamp) -> Conclusion {
    let mut status = namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let old = status.conditions.take().unwrap_or_default();
    let mut next = old.clone();
    for (kind, ok_reason, ok_message) in CONDITIONS {
        let found = trouble(kind, round);
        let (word, reason, message) = match &found {
            Some((reason, message)) => ("True", *reason, message.as_str()),
            None => ("False", ok_reason, ok_message),
        };
        put(&mut next, condition(kind, word, reason, message, now));
    }
    status.conditions = Some(next);
    let changed = namespace.status.as_ref() != Some(&status);
    Conclusion { status: changed.then_some(status), next: after(namespace, round, now) }
}

/// Each condition with what it says when all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

fn trouble(kind: &str, round: &Round) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => {
            Some(("DiscoveryFailed", round.discovery_error.clone()?))
        }
        "NamespaceDeletionContentFailure" if !round.errors.is_empty() => {
            let (count, list) = (round.errors.len(), round.errors.join(", "));
            let message = format!("Failed to delete all resource types, {count} remaining: {list}");
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" => {
            let left = round.remaining.iter().filter(|(_, left)| left.count > 0);
            let parts = left.map(|(of, left)| {
                format!("{}.{} has {} resource instances", of.resource, of.group, left.count)
            });
            listed("SomeResourcesRemain", "Some resources are remaining", parts)
        }
        "NamespaceFinalizersRemaining" => {
            let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
            for (finalizer, count) in round.remaining.values().flat_map(|left| &left.finalizers) {
                *finalizers.entry(finalizer).or_default() += count;
            }
            let parts = finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances"));
            let title = "Some content in the namespace has finalizers remaining";
            listed("SomeFinalizersRemain", title, parts)
        }
        _ => None,
    }
}

fn listed(
    reason: &'static str,
    title: &str,
    parts: impl Iterator<Item = String>,
) -> Option<(&'static str, String)> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| (reason, format!("{title}: {}", parts.join(", "))))
}

fn after(namespace: &Namespace, round: &Round, now: Timestamp) -> Next {
    let left: usize = round.remaining.values().map(|left| left.count).sum();
    if left == 0 && round.errors.is_empty() && round.discovery_error.is_none() {
        return Next::Finalize;
    }
    if round.remaining.values().any(|left| !left.finalizers.is_empty()) {
        return Next::After(FINALIZER_ESTIMATE / 2);
    }
    // The longer it has taken, the less often it is looked at, and never later than what is left
    // says that it takes.
    let begun = namespace.metadata.deletion_timestamp.as_ref().map(|at| now.duration_since(at.0));
    let passed = begun.and_then(|passed| Duration::try_from(passed).ok()).unwrap_or_default();
    let estimate = round.remaining.values().map(|left| left.estimate).max().unwrap_or_default();
    Next::After((passed / 4).clamp(FIRST_LOOK, estimate.clamp(FIRST_LOOK, FINALIZER_ESTIMATE)))
}

fn put(conditions: &mut Vec<NamespaceCondition>, next: NamespaceCondition) {
    match conditions.iter_mut().find(|known| known.type_ == next.type_) {
        Some(known) if known.status == next.status => {
            (known.reason, known.message) = (next.reason, next.message);
        }
        Some(known) => *known = next,
        None => conditions.push(next),
    }
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> NamespaceCondition {
    NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(object::time(now)),
    }
}
