//! How far the cache has got, for those who wait for it. Not `tokio::sync::watch`: that one wakes
//! its waiters in random order, and in the simulation one seed must be one history.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A revision that only grows, except when everything is loaded anew.
#[derive(Default)]
pub(super) struct Progress {
    at: AtomicU64,
    moved: Notify,
}

impl Progress {
    pub fn get(&self) -> u64 {
        self.at.load(Ordering::Acquire)
    }

    /// Moves on to `revision`, where that is further.
    pub fn advance(&self, revision: u64) {
        if self.at.fetch_max(revision, Ordering::AcqRel) < revision {
            self.moved.notify_waiters();
        }
    }

    /// Starts from `revision`, wherever it was.
    pub fn reset(&self, revision: u64) {
        self.at.store(revision, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Returns once `revision` is reached.
    pub async fn reach(&self, revision: u64) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the look, so that no move is missed.
            moved.as_mut().enable();
            if self.get() >= revision {
                return;
            }
            moved.await;
        }
    }
}
