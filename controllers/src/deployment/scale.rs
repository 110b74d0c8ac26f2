//! Sizes of a Deployment's ReplicaSets: how far a rolling update may go over or under the wanted
//! size, and how a change of that size is shared out in the middle of a rollout.

use std::collections::BTreeMap;

use windlass_sdk_types::{Deployment, apimachinery::pkg::util::intstr::IntOrString};

use super::plan::{Pass, Set};

pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// The sizes that a Deployment's strategy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub rolling: bool,
    pub replicas: i32,
    pub max_surge: i32,
    pub max_unavailable: i32,
}

impl Limits {
    /// Percentages round up for surge and down for unavailable; if both become zero, one pod may be
    /// unavailable, since otherwise nothing could move.
    pub fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1);
        let strategy = deployment.spec.strategy.as_ref();
        let kind = strategy.and_then(|strategy| strategy.type_.as_deref());
        if kind == Some("Recreate") {
            return Self { rolling: false, replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let part = |of: Option<Option<&IntOrString>>, up| match of {
            None => resolve(&quarter, replicas, up),
            Some(value) => value.map_or(0, |value| resolve(value, replicas, up)),
        };
        let max_surge = part(rolling.map(|rolling| rolling.max_surge.as_ref()), true);
        let unavailable = part(rolling.map(|rolling| rolling.max_unavailable.as_ref()), false);
        let unavailable = if max_surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { rolling: true, replicas, max_surge, max_unavailable: unavailable.min(replicas) }
    }

    pub fn most(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    pub fn least_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

/// The size that the new set may have now, given its present one.
pub fn room_for_new(limits: &Limits, sets: &[Set], present: i32) -> i32 {
    if !limits.rolling {
        return limits.replicas;
    }
    let total: i32 = sets.iter().map(|set| set.replicas).sum();
    let room = (limits.most() - total).max(0);
    present + room.min((limits.replicas - present).max(0))
}

/// Grows (or cuts) the new set; says whether anything changed.
pub(super) fn grow_new(pass: &mut Pass<'_>) -> bool {
    let Some(new) = pass.new else { return false };
    let present = pass.sets[new].replicas;
    let wanted = pass.limits.replicas;
    let next =
        if present > wanted { wanted } else { room_for_new(&pass.limits, &pass.sets, present) };
    pass.resize(new, next);
    next != present
}

/// Shrinks old sets as far as availability allows, unhealthy pods first; says whether it did.
pub(super) fn shrink_old(pass: &mut Pass<'_>) -> bool {
    let Some(new) = pass.new else { return false };
    let old: Vec<usize> =
        pass.old_positions().into_iter().filter(|at| pass.sets[*at].replicas > 0).collect();
    if old.is_empty() {
        return false;
    }
    let total: i32 = pass.sets.iter().map(|set| set.replicas).sum();
    let unavailable_new = pass.sets[new].replicas - pass.sets[new].available();
    let mut unhealthy = total - pass.limits.least_available() - unavailable_new;
    if unhealthy <= 0 {
        return false;
    }
    let mut changed = false;
    for at in &old {
        let set = &pass.sets[*at];
        let cut = unhealthy.min(set.replicas - set.available()).max(0);
        let next = set.replicas - cut;
        unhealthy -= cut;
        changed |= cut > 0;
        pass.resize(*at, next);
    }
    let available: i32 = pass.sets.iter().map(Set::available).sum();
    let mut spare = available - pass.limits.least_available();
    for at in &old {
        let cut = spare.min(pass.sets[*at].replicas).max(0);
        let next = pass.sets[*at].replicas - cut;
        spare -= cut;
        changed |= cut > 0;
        pass.resize(*at, next);
    }
    changed
}

/// Follows a change of the wanted size outside of the normal course of a rollout: one active set
/// takes it whole, several share it in proportion.
pub(super) fn scale(pass: &mut Pass<'_>) {
    if let Some(only) = active_or_latest(pass) {
        pass.resize(only, pass.limits.replicas);
        // Also where the size happens to be right: else each pass would see the change of size again
        // and none would go on with the rollout.
        let limits = pass.limits;
        return annotate(&mut pass.sets[only].annotations, &limits);
    }
    if pass.new.is_some_and(|new| is_saturated(&pass.sets[new], pass.limits.replicas)) {
        for at in pass.old_positions() {
            pass.resize(at, 0);
        }
    } else if pass.limits.rolling {
        share_out(pass);
    }
}

/// Writes down for which size the set was sized; the next scaling is measured from it.
pub fn annotate(annotations: &mut BTreeMap<String, String>, limits: &Limits) {
    annotations.insert(DESIRED_REPLICAS.into(), limits.replicas.to_string());
    annotations.insert(MAX_REPLICAS.into(), limits.most().to_string());
}

/// A size in an annotation; None where it is missing, negative or not a number.
pub fn number_in(annotations: &BTreeMap<String, String>, key: &str) -> Option<i32> {
    annotations.get(key)?.parse().ok().filter(|number| *number >= 0)
}

/// The one active set, or the latest where none is active; None where several are.
fn active_or_latest(pass: &Pass<'_>) -> Option<usize> {
    let active: Vec<usize> =
        (0..pass.sets.len()).filter(|at| pass.sets[*at].replicas > 0).collect();
    match active.as_slice() {
        [] => pass.new.or_else(|| pass.sets.len().checked_sub(1)),
        [one] => Some(*one),
        _ => None,
    }
}

fn is_saturated(set: &Set, wanted: i32) -> bool {
    set.replicas == wanted
        && number_in(&set.annotations, DESIRED_REPLICAS) == Some(wanted)
        && set.available() == wanted
}

/// Shares what is missing (or too much) among the active sets by their sizes; what rounding leaves
/// goes to the largest.
fn share_out(pass: &mut Pass<'_>) {
    let limits = pass.limits;
    let mut active: Vec<usize> =
        (0..pass.sets.len()).filter(|at| pass.sets[*at].replicas > 0).collect();
    let total: i32 = active.iter().map(|at| pass.sets[*at].replicas).sum();
    let allowed = if limits.replicas > 0 { limits.most() } else { 0 };
    let change = allowed - total;
    // Largest first; of equals the newer grows first and the older shrinks first. Sets are in
    // order of age.
    active.sort_by_key(|at| {
        let age = i64::try_from(*at).unwrap_or(i64::MAX);
        (-pass.sets[*at].replicas, if change > 0 { -age } else { age })
    });
    let mut given = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for at in &active {
        let part = proportion(pass, *at, change, given);
        given += part;
        sizes.push(pass.sets[*at].replicas + part);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + change - given).max(0);
    }
    for (at, size) in active.iter().zip(sizes) {
        pass.resize(*at, size);
        annotate(&mut pass.sets[*at].annotations, &limits);
    }
}

fn proportion(pass: &Pass<'_>, at: usize, change: i32, given: i32) -> i32 {
    let left = change - given;
    if change == 0 || left == 0 {
        return 0;
    }
    let part = fraction(pass, &pass.sets[at]);
    if change > 0 { part.min(left) } else { part.max(left) }
}

/// How much the set would change if it kept its share of the whole.
fn fraction(pass: &Pass<'_>, set: &Set) -> i32 {
    if pass.limits.replicas == 0 {
        return -set.replicas;
    }
    let seen = pass.deployment.status.as_ref().and_then(|status| status.replicas);
    let before = number_in(&set.annotations, MAX_REPLICAS).filter(|most| *most > 0);
    let Some(before) = before.or(seen).filter(|most| *most > 0) else { return 0 };
    let (size, most) = (i64::from(set.replicas), i64::from(pass.limits.most()));
    let (product, before) = (size * most, i64::from(before));
    // Rounded half up: all numbers are positive here.
    let share = (2 * product + before) / (2 * before);
    i32::try_from(share).unwrap_or(i32::MAX) - set.replicas
}

/// A number of pods, or a percentage of `total`; what doesn't parse is none.
fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok());
            let hundredths = percent.unwrap_or_default() * i64::from(total);
            let whole = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}
