//! What a Deployment needs next: a new ReplicaSet, other sizes for those it has, older ones removed,
//! and the status that tells `kubectl rollout` how far it is. One pass works on a copy of what was
//! observed; the difference to it is what gets written, so each ReplicaSet is written at most once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::{
    Deployment, Kind, ReplicaSet, api::apps::v1::DeploymentStatus,
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    revision,
    scale::{self, Limits},
    status,
};
use crate::kit::object;

/// A ReplicaSet of the Deployment: how it was seen, and how this pass leaves it.
#[derive(Clone, Debug)]
pub struct Set {
    /// As it was observed; for a set that this pass creates, as it is to be created.
    pub seen: Arc<ReplicaSet>,
    pub replicas: i32,
    pub min_ready_seconds: Option<i32>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    Create(Box<ReplicaSet>),
    /// Write the set's new size and annotations.
    Update(Set),
    /// Remove a revision beyond the history limit.
    Delete(Arc<ReplicaSet>),
}

#[derive(Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// ScalingReplicaSet events, in order: told after the actions succeeded.
    pub events: Vec<String>,
    pub status: DeploymentStatus,
    /// The Deployment's own revision annotation, where it is known.
    pub revision: Option<String>,
    /// Look again after this long although nothing changes: the progress deadline.
    pub check_after: Option<Duration>,
    pub why: String,
}

/// One pass over the sets that the Deployment controls or may adopt.
pub fn plan(deployment: &Deployment, candidates: &[Arc<ReplicaSet>], now: Timestamp) -> Plan {
    let (owned, claims) = claim(deployment, candidates);
    let mut pass = Pass::new(deployment, owned, now);
    pass.actions = claims;
    let why = pass.run();
    pass.finish(why)
}

/// The state of one pass.
pub(super) struct Pass<'a> {
    pub deployment: &'a Deployment,
    pub limits: Limits,
    /// Oldest first.
    pub sets: Vec<Set>,
    /// Which of `sets` has the Deployment's template.
    pub new: Option<usize>,
    pub status: DeploymentStatus,
    pub events: Vec<String>,
    pub actions: Vec<Action>,
    pub now: Timestamp,
    revision: Option<String>,
    check_after: Option<Duration>,
}

impl<'a> Pass<'a> {
    fn new(deployment: &'a Deployment, owned: Vec<Arc<ReplicaSet>>, now: Timestamp) -> Self {
        let mut sets: Vec<Set> = owned.into_iter().map(Set::observed).collect();
        sets.sort_by(|a, b| a.age().cmp(&b.age()));
        // The oldest of equals, so that every pass chooses the same.
        let template = &deployment.spec.template;
        let new = sets.iter().position(|set| {
            set.seen
                .spec
                .template
                .as_ref()
                .is_some_and(|own| revision::same_template(own, template))
        });
        Self {
            deployment,
            limits: Limits::of(deployment),
            sets,
            new,
            status: deployment.status.clone().unwrap_or_default(),
            events: Vec::new(),
            actions: Vec::new(),
            now,
            revision: None,
            check_after: None,
        }
    }

    fn run(&mut self) -> String {
        let deployment = self.deployment;
        if deployment.spec.selector == Default::default() {
            self.status.observed_generation = deployment.metadata.generation;
            return "the selector is empty: it would select every pod".into();
        }
        if deployment.is_deleting() {
            self.status = status::counted(self);
            return "the deployment is being deleted".into();
        }
        let paused = deployment.spec.paused == Some(true);
        status::note_pause(deployment, &mut self.status, paused, self.now);
        self.sync_revision();
        if paused || self.is_scaling_event() {
            scale::scale(self);
            if paused {
                self.clean_up();
            }
            self.status = status::counted(self);
            let what = if paused { "paused" } else { "scaled" };
            return format!("{what}: sizes kept in proportion");
        }
        if self.limits.rolling { self.roll() } else { self.recreate() }
    }

    fn roll(&mut self) -> String {
        let is_new = self.new.is_none();
        self.ensure_new();
        let why = if scale::grow_new(self) {
            "rolling: the new set grows"
        } else if scale::shrink_old(self) {
            "rolling: old sets shrink"
        } else {
            self.clean_up_if_complete();
            if is_new { "rolling: a new set" } else { "rolling: nothing to scale" }
        };
        self.sync_rollout_status();
        why.into()
    }

    fn recreate(&mut self) -> String {
        let old_sizes: i32 = self.old().map(|set| set.replicas).sum();
        if old_sizes > 0 {
            for at in self.old_positions() {
                self.resize(at, 0);
            }
            self.sync_rollout_status();
            return "recreate: old sets go first".into();
        }
        if self.old().any(Set::still_runs) {
            self.sync_rollout_status();
            return "recreate: pods of old sets still run".into();
        }
        self.ensure_new();
        if let Some(new) = self.new {
            self.resize(new, self.limits.replicas);
        }
        self.clean_up_if_complete();
        self.sync_rollout_status();
        "recreate: the new set has the whole size".into()
    }

    /// Gives the new set the Deployment's annotations and the highest revision.
    fn sync_revision(&mut self) {
        let Some(new) = self.new else { return };
        let next = self.next_revision();
        let set = &mut self.sets[new];
        revision::annotate(self.deployment, &mut set.annotations, next);
        set.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        self.revision = set.annotations.get(revision::REVISION).cloned();
        let name = set.seen.name().to_owned();
        status::note_found(self.deployment, &mut self.status, &name, self.now);
    }

    fn ensure_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let next = self.next_revision();
        let mut set = revision::new_set(self.deployment, next);
        let room = scale::room_for_new(&self.limits, &self.sets, 0);
        set.spec.replicas = Some(room);
        let annotations = set.metadata.annotations.get_or_insert_default();
        scale::annotate(annotations, &self.limits);
        if room > 0 {
            self.events.push(format!("Scaled up replica set {} from 0 to {room}", set.name()));
        }
        status::note_created(self.deployment, &mut self.status, set.name(), self.now);
        self.revision = Some(next.to_string());
        self.actions.push(Action::Create(Box::new(set.clone())));
        self.new = Some(self.sets.len());
        self.sets.push(Set::observed(Arc::new(set)));
    }

    fn next_revision(&self) -> i64 {
        self.old().map(|set| revision::number(&set.annotations)).max().unwrap_or_default() + 1
    }

    /// Somebody changed `spec.replicas` since the active sets were sized.
    fn is_scaling_event(&self) -> bool {
        let active = self.sets.iter().filter(|set| set.replicas > 0);
        active
            .filter_map(|set| scale::number_in(&set.annotations, scale::DESIRED_REPLICAS))
            .any(|desired| desired != self.limits.replicas)
    }

    /// Sets a size and notes the event; the annotations follow the size.
    pub fn resize(&mut self, at: usize, replicas: i32) {
        let set = &mut self.sets[at];
        let from = std::mem::replace(&mut set.replicas, replicas);
        if from == replicas {
            return;
        }
        scale::annotate(&mut set.annotations, &self.limits);
        let way = if from < replicas { "up" } else { "down" };
        let name = set.seen.name();
        self.events.push(format!("Scaled {way} replica set {name} from {from} to {replicas}"));
    }

    pub fn old(&self) -> impl Iterator<Item = &Set> {
        let new = self.new;
        self.sets.iter().enumerate().filter(move |(at, _)| Some(*at) != new).map(|(_, set)| set)
    }

    pub fn old_positions(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    fn clean_up_if_complete(&mut self) {
        let seen = self.deployment.status.clone().unwrap_or_default();
        if status::is_complete(self.deployment, &seen) {
            self.clean_up();
        }
    }

    /// Removes the oldest revisions beyond the limit, but never a set that has or wants pods.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.revision_history_limit;
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut old: Vec<&Set> = self.old().filter(|set| !set.seen.is_deleting()).collect();
        let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        old.sort_by_key(|set| (revision::number(&set.annotations), set.age()));
        let gone: Vec<Action> = old[..excess]
            .iter()
            .filter(|set| set.replicas == 0 && !set.still_runs() && set.is_observed())
            .map(|set| Action::Delete(set.seen.clone()))
            .collect();
        self.actions.extend(gone);
    }

    fn sync_rollout_status(&mut self) {
        let (next, check_after) = status::rollout(self, self.now);
        (self.status, self.check_after) = (next, check_after);
    }

    /// The actions are what differs from the observed sets.
    fn finish(mut self, why: String) -> Plan {
        let created = matches!(self.actions.last(), Some(Action::Create(_)));
        let deleted: Vec<String> = self
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Delete(set) => Some(set.uid().to_owned()),
                _ => None,
            })
            .collect();
        for (at, set) in self.sets.iter().enumerate() {
            let fresh = created && Some(at) == self.new;
            let gone = deleted.iter().any(|uid| uid == set.seen.uid());
            if !fresh && !gone && set.differs() {
                self.actions.push(Action::Update(set.clone()));
            }
        }
        Plan {
            actions: self.actions,
            events: self.events,
            status: self.status,
            revision: self.revision,
            check_after: self.check_after,
            why,
        }
    }
}

impl Set {
    fn observed(seen: Arc<ReplicaSet>) -> Self {
        Self {
            replicas: seen.spec.replicas.unwrap_or(1),
            min_ready_seconds: seen.spec.min_ready_seconds,
            annotations: seen.metadata.annotations.clone().unwrap_or_default(),
            seen,
        }
    }

    /// Oldest first; a set that isn't created yet is the newest.
    pub fn age(&self) -> (bool, Option<&Time>, &str) {
        (self.seen.created().is_none(), self.seen.created(), self.seen.name())
    }

    /// Pods that serve and will go on serving: a set that was just cut still tells of pods that are
    /// doomed, and counting these would let availability fall below the limit.
    pub fn available(&self) -> i32 {
        let status = self.seen.status.as_ref();
        let told = status.and_then(|status| status.available_replicas).unwrap_or_default();
        told.min(self.replicas)
    }

    /// Whether pods of the set exist as far as anybody knows: its status may be behind its size.
    pub fn still_runs(&self) -> bool {
        let status = self.seen.status.as_ref();
        let pods = status.map_or(0, |s| s.replicas + s.terminating_replicas.unwrap_or_default());
        pods > 0 || !self.is_observed()
    }

    fn is_observed(&self) -> bool {
        let observed = self.seen.status.as_ref().and_then(|status| status.observed_generation);
        observed.unwrap_or_default() >= self.seen.metadata.generation.unwrap_or_default()
    }

    fn differs(&self) -> bool {
        let seen = &self.seen;
        let none = BTreeMap::new();
        self.replicas != seen.spec.replicas.unwrap_or(1)
            || self.min_ready_seconds.unwrap_or(0) != seen.spec.min_ready_seconds.unwrap_or(0)
            || self.annotations != *seen.metadata.annotations.as_ref().unwrap_or(&none)
    }
}

/// Which of the candidates are the Deployment's, and what to do so that they say it.
fn claim(
    deployment: &Deployment,
    candidates: &[Arc<ReplicaSet>],
) -> (Vec<Arc<ReplicaSet>>, Vec<Action>) {
    let (mut owned, mut actions) = (Vec::new(), Vec::new());
    let selector = object::selector(&deployment.spec.selector).ok();
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return (owned, actions);
    };
    for set in candidates {
        let matches = selector.matches_map(set.metadata.labels.as_ref());
        let owner = object::controller_of(&set.metadata);
        let own = owner.is_some_and(|owner| owner.uid == deployment.uid());
        let may_change = !deployment.is_deleting() && !set.is_deleting();
        match (own, matches) {
            (true, true) => owned.push(set.clone()),
            (true, false) if may_change => actions.push(Action::Release(set.clone())),
            (false, true) if owner.is_none() && may_change => {
                actions.push(Action::Adopt(set.clone()));
                owned.push(set.clone());
            }
            _ => {}
        }
    }
    (owned, actions)
}
