//! What must hold at every change of the store, whatever fails and whoever meddles.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use crate::{faults::Faults, history::Objects};

/// How old a controller's view may be: late frames, a cut watch and its back-off. Within it a
/// ReplicaSet may make as many pods as were wanted at its beginning.
const STALE: Duration = Duration::from_secs(10);

/// What the rules remember beside the objects.
pub struct Rules {
    faults: Faults,
    /// ReplicaSet's uid -> what it wanted, since when.
    wanted: BTreeMap<String, Vec<(Instant, i64)>>,
}

type Rule = fn(&Value, &Value) -> Option<String>;

/// Rules over an object before and after a change.
const CHANGES: [(&str, Rule); 5] = [
    ("", same_uid),
    ("", generation_grows),
    ("/core/pods/", bound_once),
    ("/core/pods/", ended_stays_ended),
    ("/core/pods/", restarts_grow),
];

impl Rules {
    pub fn new(faults: Faults) -> Self {
        Self { faults, wanted: BTreeMap::new() }
    }

    /// What the change breaks. `objects` are as they are after it.
    pub fn check(
        &mut self,
        key: &str,
        before: Option<&Value>,
        now: Option<&Value>,
        objects: &Objects,
    ) -> Vec<String> {
        let Some(now) = now else { return Vec::new() };
        if key.starts_with("/apps/replicasets/") {
            self.note_wanted(now);
        }
        match before {
            Some(before) => {
                let rules = CHANGES.iter().filter(|(prefix, _)| key.starts_with(prefix));
                rules.filter_map(|(_, rule)| rule(before, now)).collect()
            }
            None if key.starts_with("/core/pods/") => {
                self.not_too_many(now, objects).into_iter().collect()
            }
            None => Vec::new(),
        }
    }

    fn note_wanted(&mut self, set: &Value) {
        let replicas = set["spec"]["replicas"].as_i64().unwrap_or_default();
        let known = self.wanted.entry(text(&set["metadata"]["uid"]).to_owned()).or_default();
        if known.last().is_none_or(|(_, last)| *last != replicas) {
            known.push((Instant::now(), replicas));
        }
    }

    /// A ReplicaSet makes no pod beyond what it wanted a moment ago, except in place of one whose
    /// creation it wasn't told of: upstream's does the same when an answer is lost.
    fn not_too_many(&self, pod: &Value, objects: &Objects) -> Option<String> {
        let owner = controller(pod)?;
        let since = Instant::now().checked_sub(STALE).unwrap_or_else(Instant::now);
        let wanted = self.wanted.get(owner)?;
        let last_before = wanted.iter().rposition(|(at, _)| *at <= since).unwrap_or_default();
        let most = wanted[last_before..].iter().map(|(_, replicas)| *replicas).max()?;
        let namespace = text(&pod["metadata"]["namespace"]);
        let mine = objects.of("core/pods", namespace).filter(|pod| controller(pod) == Some(owner));
        let active = mine.filter(|pod| is_active(pod)).count();
        let surplus = self.faults.lost_pods(owner, since);
        let bound = usize::try_from(most).unwrap_or_default() + surplus;
        (active > bound).then(|| format!("{active} active pods, where {most} + {surplus} may be"))
    }
}

/// Neither ended nor being deleted: what a ReplicaSet counts.
pub fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !is_over(pod)
}

pub fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// The uid of the managing owner.
pub fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn same_uid(before: &Value, now: &Value) -> Option<String> {
    let (before, now) = (&before["metadata"]["uid"], &now["metadata"]["uid"]);
    (before != now).then(|| format!("uid {before} became {now} without a deletion"))
}

fn generation_grows(before: &Value, now: &Value) -> Option<String> {
    let generation = |of: &Value| of["metadata"]["generation"].as_i64().unwrap_or_default();
    let observed = now["status"]["observedGeneration"].as_i64().unwrap_or_default();
    if generation(now) < generation(before) {
        return Some(format!("generation {} became {}", generation(before), generation(now)));
    }
    (observed > generation(now)).then(|| format!("generation {observed} observed before it is"))
}

fn bound_once(before: &Value, now: &Value) -> Option<String> {
    let (before, now) = (&before["spec"]["nodeName"], &now["spec"]["nodeName"]);
    (!before.is_null() && before != now).then(|| format!("moved from {before} to {now}"))
}

fn ended_stays_ended(before: &Value, now: &Value) -> Option<String> {
    let (was, is) = (&before["status"]["phase"], &now["status"]["phase"]);
    (is_over(before) && was != is).then(|| format!("{was} became {is}"))
}

fn restarts_grow(before: &Value, now: &Value) -> Option<String> {
    let of = |pod: &Value, name: &Value| -> i64 {
        let containers = pod["status"]["containerStatuses"].as_array();
        let mut containers = containers.into_iter().flatten();
        let known = containers.find(|container| container["name"] == *name);
        known.and_then(|known| known["restartCount"].as_i64()).unwrap_or_default()
    };
    let containers = now["spec"]["containers"].as_array();
    containers.into_iter().flatten().map(|container| &container["name"]).find_map(|name| {
        let (was, is) = (of(before, name), of(now, name));
        (is < was).then(|| format!("restartCount of {name} went from {was} to {is}"))
    })
}
