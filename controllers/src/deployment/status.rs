//! The status of a Deployment: counts, and the conditions by which `kubectl rollout status` tells
//! done from under way from stuck. Reasons and messages are upstream's.

use std::time::Duration;

use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::{
    Deployment, Kind,
    api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus},
};

use super::plan::{Pass, Set};
use crate::kit::object;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
/// Also the reason of the Event when a ReplicaSet can't be created.
pub const CREATE_FAILED: &str = "ReplicaSetCreateError";

/// Counts of all sets and the Available condition.
pub(super) fn counted(pass: &Pass<'_>) -> DeploymentStatus {
    let sum = |of: &dyn Fn(&ReplicaSetStatus) -> i32| -> i32 {
        pass.sets.iter().filter_map(|set| set.seen.status.as_ref()).map(of).sum()
    };
    let available = sum(&|status| status.available_replicas.unwrap_or_default());
    let sizes: i32 = pass.sets.iter().map(|set| set.replicas).sum();
    let updated = pass.new.and_then(|new| pass.sets[new].seen.status.as_ref());
    let mut status = DeploymentStatus {
        observed_generation: pass.deployment.metadata.generation,
        replicas: some(sum(&|status| status.replicas)),
        updated_replicas: some(updated.map_or(0, |status| status.replicas)),
        ready_replicas: some(sum(&|status| status.ready_replicas.unwrap_or_default())),
        available_replicas: some(available),
        unavailable_replicas: some((sizes - available).max(0)),
        terminating_replicas: terminating(&pass.sets),
        collision_count: pass.status.collision_count,
        conditions: pass.status.conditions.clone(),
    };
    let (is_available, reason, message) = if available >= pass.limits.least_available() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        let message = "Deployment does not have minimum availability.";
        ("False", "MinimumReplicasUnavailable", message)
    };
    set(&mut status, condition(AVAILABLE, is_available, reason, message, pass.now));
    status
}

/// The status during a rollout: counts, progress against the deadline, failures of the sets; and
/// when to look again so that the deadline is noticed although nothing happens.
pub(super) fn rollout(pass: &Pass<'_>, now: Timestamp) -> (DeploymentStatus, Option<Duration>) {
    let deployment = pass.deployment;
    let mut status = counted(pass);
    let deadline = deadline(deployment);
    let current = get(&pass.status, PROGRESSING).cloned();
    if deadline.is_none() {
        remove(&mut status, PROGRESSING);
    }
    let reason = current.as_ref().and_then(|condition| condition.reason.as_deref());
    let was_complete =
        status.replicas == status.updated_replicas && reason == Some(NEW_SET_AVAILABLE);
    if let Some(deadline) = deadline.filter(|_| !was_complete) {
        note_progress(pass, &mut status, current.as_ref(), deadline, now);
    }
    match replica_failure(pass) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    let check_after = next_check(deployment, &status, now);
    (status, check_after)
}

/// All replicas are of the new template and available, and no old pod runs.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let all = [status.updated_replicas, status.replicas, status.available_replicas];
    all.iter().all(|count| count.unwrap_or_default() == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

/// Pausing and resuming reset the clock of the progress deadline.
pub fn note_pause(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    paused: bool,
    now: Timestamp,
) {
    let reason = get(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if deadline(deployment).is_none() || reason == Some(TIMED_OUT) {
        return;
    }
    let noted = reason == Some(PAUSED);
    if paused && !noted {
        set(status, condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now));
    } else if !paused && noted {
        let message = "Deployment is resumed";
        set(status, condition(PROGRESSING, "Unknown", "DeploymentResumed", message, now));
    }
}

/// A set with the template was there before anybody had noted progress.
pub fn note_found(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    name: &str,
    now: Timestamp,
) {
    if deadline(deployment).is_some() && get(status, PROGRESSING).is_none() {
        let message = format!("Found new replica set \"{name}\"");
        set(status, condition(PROGRESSING, "True", "FoundNewReplicaSet", &message, now));
    }
}

pub fn note_created(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    name: &str,
    now: Timestamp,
) {
    if deadline(deployment).is_some() {
        let message = format!("Created new replica set \"{name}\"");
        set(status, condition(PROGRESSING, "True", "NewReplicaSetCreated", &message, now));
    }
}

/// The status after the new set could not be created.
pub fn with_failed_creation(
    deployment: &Deployment,
    message: &str,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    if deadline(deployment).is_some() {
        set(&mut status, condition(PROGRESSING, "False", CREATE_FAILED, message, now));
    }
    status
}

fn note_progress(
    pass: &Pass<'_>,
    status: &mut DeploymentStatus,
    current: Option<&DeploymentCondition>,
    deadline: Duration,
    now: Timestamp,
) {
    let subject = match pass.new {
        Some(new) => format!("ReplicaSet \"{}\"", pass.sets[new].seen.name()),
        None => format!("Deployment \"{}\"", pass.deployment.name()),
    };
    if is_complete(pass.deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, &message, now));
    } else if progressed(&pass.status, status) {
        let message = format!("{subject} is progressing.");
        let mut next = condition(PROGRESSING, "True", "ReplicaSetUpdated", &message, now);
        // Progress with the same reason must still move the update time: the deadline counts from it.
        let before = current.filter(|current| current.status.as_deref() == Some("True"));
        if let Some(before) = before {
            next.last_transition_time = before.last_transition_time.clone();
        }
        remove(status, PROGRESSING);
        set(status, next);
    } else if timed_out(status, deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, &message, now));
    }
}

fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let of = |count: Option<i32>| count.unwrap_or_default();
    let outdated = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
    of(new.updated_replicas) > of(old.updated_replicas)
        || outdated(new) < outdated(old)
        || of(new.ready_replicas) > of(old.ready_replicas)
        || of(new.available_replicas) > of(old.available_replicas)
}

fn timed_out(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    let Some(condition) = get(status, PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => left(condition, deadline, now).is_some_and(|left| left < jiff::SignedDuration::ZERO),
    }
}

fn next_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let (deadline, condition) = (deadline(deployment)?, get(status, PROGRESSING)?);
    if is_complete(deployment, status) || condition.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    // One second more: times in conditions are whole seconds.
    let left = Duration::try_from(left(condition, deadline, now)?).unwrap_or_default();
    Some(left + Duration::from_secs(1))
}

/// What is left of the deadline since the condition's last update.
fn left(
    condition: &DeploymentCondition,
    deadline: Duration,
    now: Timestamp,
) -> Option<jiff::SignedDuration> {
    let passed = now.duration_since(condition.last_update_time.as_ref()?.0);
    Some(jiff::SignedDuration::try_from(deadline).ok()? - passed)
}

/// None where the Deployment asks for no deadline.
fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.progress_deadline_seconds.filter(|limit| *limit != i32::MAX)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

/// The failure of the new set, or of any.
fn replica_failure(pass: &Pass<'_>) -> Option<DeploymentCondition> {
    let new = pass.new.map(|new| &pass.sets[new]);
    new.into_iter().chain(&pass.sets).find_map(|set| {
        let conditions = set.seen.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions.iter().find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: failure.type_.clone(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time.clone(),
        })
    })
}

/// None unless every set tells: an older controller doesn't count them.
fn terminating(sets: &[Set]) -> Option<i32> {
    sets.iter()
        .map(|set| set.seen.status.as_ref().map_or(Some(0), |status| status.terminating_replicas))
        .sum()
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(object::time(now)),
        last_transition_time: Some(object::time(now)),
    }
}

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

/// Replaces the condition unless status and reason are as before.
fn set(status: &mut DeploymentStatus, mut next: DeploymentCondition) {
    let kind = next.type_.clone().unwrap_or_default();
    if let Some(current) = get(status, &kind) {
        if current.status == next.status && current.reason == next.reason {
            return;
        }
        if current.status == next.status {
            next.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(next);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
}

/// Zero is left out, as upstream's encoding leaves it out.
fn some(count: i32) -> Option<i32> {
    (count > 0).then_some(count)
}
