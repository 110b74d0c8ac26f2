//! When history may be forgotten. The policy is pure; whoever owns the store asks it now and then
//! and compacts to what it says.

use std::{collections::VecDeque, time::Duration};

use windlass_sdk_meta::Timestamp;

use crate::Revision;

/// History kept: the shorter of this many revisions ...
pub const KEEP_REVISIONS: u64 = 10_000;
/// ... and this long.
pub const KEEP: Duration = Duration::from_secs(5 * 60);
/// How often to ask; also the precision of `KEEP`.
pub const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Asked more often than planned, the oldest observations are merged.
const MAX_OBSERVATIONS: usize = 64;

/// Remembers which revision was current when.
#[derive(Clone, Debug, Default)]
pub struct CompactionPolicy {
    observed: VecDeque<(Timestamp, Revision)>,
    compacted: Revision,
}

impl CompactionPolicy {
    pub fn new() -> Self {
        Self::default()
    }

    /// Given the current revision, the revision to compact to; None where there is nothing to do.
    pub fn observe(&mut self, now: Timestamp, current: Revision) -> Option<Revision> {
        self.observed.push_back((now, current));
        if self.observed.len() > MAX_OBSERVATIONS {
            self.observed.remove(1);
        }
        let is_old = |at: &(Timestamp, Revision)| {
            now.duration_since(at.0).unsigned_abs() >= KEEP && at.0 <= now
        };
        let mut by_age = 0;
        while let Some((_, revision)) = self.observed.pop_front_if(|at| is_old(at)) {
            by_age = revision;
        }
        let target = by_age.max(current.saturating_sub(KEEP_REVISIONS));
        if target <= self.compacted {
            return None;
        }
        self.compacted = target;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_age_and_count_is_kept() {
        let mut policy = CompactionPolicy::new();
        let mut at = |seconds, revision| {
            policy.observe(Timestamp::from_second(seconds).expect("small"), revision)
        };
        assert_eq!(at(0, 50), None);
        assert_eq!(at(10, 60), None);
        assert_eq!(at(299, 70), None);
        assert_eq!(at(300, 80), Some(50));
        assert_eq!(at(305, 81), None);
        assert_eq!(at(310, 20_000), Some(10_000));
        assert_eq!(at(311, 20_000), None);
        assert_eq!(at(700, 20_000), Some(20_000));
        assert_eq!(at(1100, 20_000), None);
    }
}
