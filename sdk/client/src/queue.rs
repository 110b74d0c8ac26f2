//! A work queue of keys: a key waits at most once, is worked on by one worker at a time, and a key
//! that is added while it is worked on is worked on once more afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use windlass_sdk_meta::Backoff;

/// Upstream's delays for a key that fails again and again.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// The queue; clones share it. It holds as many entries as there are keys.
pub struct Queue<K: Ord>(Arc<Shared<K>>);

/// A key being worked on. Dropping it lets the key be worked on again.
pub struct Job<K: Ord + Clone> {
    key: K,
    queue: Queue<K>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// What stands in `ready`, or must go there when its worker is done.
    wanted: BTreeSet<K>,
    working: BTreeSet<K>,
    due: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
    failures: BTreeMap<K, Backoff>,
}

impl<K: Ord> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            wanted: BTreeSet::new(),
            working: BTreeSet::new(),
            due: BTreeMap::new(),
            by_time: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }))
    }
}

impl<K: Ord + Clone> Queue<K> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the key be worked on soon.
    pub fn add(&self, key: K) {
        self.0.state.lock().add(key);
        self.0.wake.notify_one();
    }

    /// Lets the key be worked on after a delay; the earlier of two delays counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.0.state.lock().add_at(key, Instant::now() + delay);
        self.0.wake.notify_one();
    }

    /// Lets a key that failed be worked on later: each time after twice the delay.
    pub fn retry(&self, key: K) {
        let delay = self
            .0
            .state
            .lock()
            .failures
            .entry(key.clone())
            .or_insert_with(|| Backoff::new(FIRST_RETRY, LAST_RETRY))
            .next_delay();
        self.add_after(key, delay);
    }

    /// The key succeeded: its next failure starts with the shortest delay again.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// How often in a row the key failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.0.state.lock().failures.get(key).map_or(0, Backoff::attempts)
    }

    /// How many keys could be worked on now.
    pub fn len(&self) -> usize {
        self.0.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key; it is worked on until the job is dropped. Safe to cancel.
    pub async fn next(&self) -> Job<K> {
        loop {
            let (job, until) = {
                let mut state = self.0.state.lock();
                let key = state.take(Instant::now());
                // A permit wakes one worker only: pass on what it leaves.
                if key.is_some() && (!state.ready.is_empty() || !state.by_time.is_empty()) {
                    self.0.wake.notify_one();
                }
                (key, state.by_time.first().map(|(at, _)| *at))
            };
            if let Some(key) = job {
                return Job { key, queue: self.clone() };
            }
            match until {
                None => self.0.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.0.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }
}

impl<K: Ord + Clone> State<K> {
    fn add(&mut self, key: K) {
        if self.wanted.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(known) = self.due.get(&key).copied() {
            if known <= at {
                return;
            }
            self.by_time.remove(&(known, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    fn take(&mut self, now: Instant) -> Option<K> {
        while self.by_time.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        self.wanted.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    /// True where the key is ready again.
    fn done(&mut self, key: &K) -> bool {
        self.working.remove(key);
        let again = self.wanted.contains(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }
}

impl<K: Ord + Clone> Deref for Job<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Ord + Clone> Drop for Job<K> {
    fn drop(&mut self) {
        if self.queue.0.state.lock().done(&self.key) {
            self.queue.0.wake.notify_one();
        }
    }
}
