//! The pods that wait for a node: those to try now (by priority, then by age), those that wait out a
//! back-off, and those that nothing known would help.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    plugins::{Causes, refuser},
    pod::PodInfo,
    snapshot::Snapshot,
};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod is tried again after this long even if nothing happened that should help.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Pods by uid, each in exactly one state.
#[derive(Default)]
pub struct Queue {
    pods: BTreeMap<Arc<str>, Entry>,
    /// Counts arrivals, so that order within a priority is by age.
    arrivals: u64,
    active: BTreeMap<(Reverse<i32>, u64), Arc<str>>,
    backoff: BTreeSet<(Duration, Arc<str>)>,
    /// By when they were refused.
    refused: BTreeSet<(Duration, Arc<str>)>,
    /// What happened on which node since refused pods were last looked at.
    happened: BTreeMap<Arc<str>, Causes>,
}

struct Entry {
    pod: Arc<PodInfo>,
    attempts: u32,
    arrival: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// To be tried now.
    Active,
    /// To be tried from then on; earlier where nothing else is to do and the API isn't at fault.
    Backoff { until: Duration, early: bool },
    /// No node fitted at `since`.
    Refused { since: Duration, helped_by: Causes },
    /// A decision is being carried out.
    Decided,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Adds a pod, or takes its change. A change that could matter puts a refused pod back.
    pub fn add(&mut self, pod: PodInfo, now: Duration) {
        let uid = pod.uid.clone();
        let Some(mut entry) = self.pods.remove(&uid) else {
            self.arrivals += 1;
            let arrival = self.arrivals;
            let entry = Entry { pod: pod.into(), attempts: 0, arrival, state: State::Decided };
            return self.put(entry, State::Active);
        };
        if *entry.pod == pod {
            self.pods.insert(uid, entry);
            return;
        }
        self.take_out(&entry);
        entry.pod = Arc::new(pod);
        let state = match entry.state {
            State::Refused { since, .. } => backoff(entry.attempts, since, now, true),
            other => other,
        };
        self.put(entry, state);
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.pods.remove(uid) {
            self.take_out(&entry);
        }
    }

    /// Something happened on a node.
    pub fn note(&mut self, node: Arc<str>, causes: Causes) {
        if !causes.is_none() && !self.refused.is_empty() {
            let known = self.happened.entry(node).or_default();
            *known = *known | causes;
        }
    }

    /// Puts back the refused pods that something helped: one that fits a node now on which something
    /// happened. Every node that doesn't fit is refused by a plugin whose helpful causes the pod
    /// waits for; where the plugin that refuses a node is another one now, those are added.
    pub fn wake(&mut self, now: Duration, snapshot: &Snapshot) {
        let happened = std::mem::take(&mut self.happened);
        let waited = now.checked_sub(LONGEST_WAIT);
        let mut back = Vec::new();
        for (since, uid) in &self.refused {
            let Some(entry) = self.pods.get_mut(uid) else { continue };
            if waited.is_some_and(|waited| *since <= waited) || entry.is_helped(&happened, snapshot)
            {
                back.push(uid.clone());
            } else if happened.is_empty() {
                // The oldest come first: no other has waited long enough.
                break;
            }
        }
        for uid in back {
            self.move_to(&uid, |entry| match entry.state {
                State::Refused { since, .. } => backoff(entry.attempts, since, now, true),
                other => other,
            });
        }
        self.end_backoffs(now);
    }

    /// The next pod to try; it stays known until it is removed, refused or failed.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.end_backoffs(now);
        let uid = match self.active.first_key_value() {
            Some((_, uid)) => uid.clone(),
            None => self.early()?,
        };
        let mut entry = self.pods.remove(&uid)?;
        self.take_out(&entry);
        entry.attempts += 1;
        let pod = entry.pod.clone();
        self.put(entry, State::Decided);
        Some(pod)
    }

    /// No node fitted; `helped_by` is what could change that.
    pub fn reject(&mut self, uid: &str, helped_by: Causes, now: Duration) {
        self.move_to(uid, |_| State::Refused { since: now, helped_by });
    }

    /// The decision couldn't be carried out.
    pub fn failed(&mut self, uid: &str, now: Duration) {
        self.move_to(uid, |entry| backoff(entry.attempts, now, now, false));
    }

    /// When a back-off or the longest wait ends.
    pub fn wake_at(&self) -> Option<Duration> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let refused = self.refused.first().map(|(since, _)| *since + LONGEST_WAIT);
        backoff.into_iter().chain(refused).min()
    }

    fn end_backoffs(&mut self, now: Duration) {
        while let Some((until, uid)) = self.backoff.first()
            && *until <= now
        {
            let uid = uid.clone();
            self.move_to(&uid, |_| State::Active);
        }
    }

    /// A pod that only waits out a back-off although nothing else is to do.
    fn early(&self) -> Option<Arc<str>> {
        let early = |uid: &&Arc<str>| {
            let entry = self.pods.get(*uid);
            entry.is_some_and(|entry| matches!(entry.state, State::Backoff { early: true, .. }))
        };
        self.backoff.iter().map(|(_, uid)| uid).find(early).cloned()
    }

    fn move_to(&mut self, uid: &str, state: impl FnOnce(&Entry) -> State) {
        if let Some(entry) = self.pods.remove(uid) {
            self.take_out(&entry);
            let state = state(&entry);
            self.put(entry, state);
        }
    }

    fn put(&mut self, mut entry: Entry, state: State) {
        let uid = entry.pod.uid.clone();
        match state {
            State::Active => {
                self.active.insert((Reverse(entry.pod.priority), entry.arrival), uid.clone());
            }
            State::Backoff { until, .. } => {
                self.backoff.insert((until, uid.clone()));
            }
            State::Refused { since, .. } => {
                self.refused.insert((since, uid.clone()));
            }
            State::Decided => {}
        }
        entry.state = state;
        self.pods.insert(uid, entry);
    }

    fn take_out(&mut self, entry: &Entry) {
        let uid = entry.pod.uid.clone();
        match entry.state {
            State::Active => {
                self.active.remove(&(Reverse(entry.pod.priority), entry.arrival));
            }
            State::Backoff { until, .. } => {
                self.backoff.remove(&(until, uid));
            }
            State::Refused { since, .. } => {
                self.refused.remove(&(since, uid));
            }
            State::Decided => {}
        }
    }
}

impl Entry {
    fn is_helped(&mut self, happened: &BTreeMap<Arc<str>, Causes>, snapshot: &Snapshot) -> bool {
        let State::Refused { helped_by, .. } = &mut self.state else { return false };
        for (name, causes) in happened {
            if causes.meets(*helped_by)
                && let Some(node) = snapshot.node(name)
            {
                match refuser(&self.pod, node) {
                    Some(filter) => *helped_by = *helped_by | filter.helped_by,
                    None => return true,
                }
            }
        }
        false
    }
}

/// Doubles from attempt to attempt, counted from the failure.
fn backoff(attempts: u32, since: Duration, now: Duration, early: bool) -> State {
    let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let until = since + FIRST_BACKOFF.saturating_mul(doubled).min(LAST_BACKOFF);
    if until <= now { State::Active } else { State::Backoff { until, early } }
}
