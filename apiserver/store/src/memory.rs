//! A store that forgets everything when it is dropped: for tests and the simulation. It has no
//! threads and never waits, so under one seed everything happens in the same order again. It is
//! also the oracle that the durable stores are compared with.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnOutcome, WatchStream,
    mvcc::{Commit, Forgotten, Index, Plan},
    watch::Watchers,
};

/// The index alone.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

/// What an embedded store keeps in memory: the index, and who is told of its changes.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub index: Index,
    watchers: Watchers,
}

impl State {
    pub fn with_index(index: Index) -> Self {
        Self { index, watchers: Watchers::default() }
    }

    /// Makes durable commits visible to readers and watchers, who are told by [`Self::wake`].
    pub fn apply(&mut self, commits: Vec<Commit>) {
        self.watchers.publish(&commits);
        commits.into_iter().for_each(|commit| self.index.apply(commit));
    }

    pub fn wake(&self) {
        self.watchers.wake();
    }

    pub fn watch(&mut self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let backlog = self.index.since(prefix, after)?;
        Ok(self.watchers.add(prefix, after, backlog, self.index.revision()))
    }

    pub fn compact(&mut self, revision: Revision) -> Result<Vec<Forgotten>, StoreError> {
        self.index.compact(revision)
    }

    pub fn close(&mut self) {
        self.watchers.close();
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let mut state = self.0.lock();
        let mut plan = Plan::new(&state.index);
        let outcome = plan.add(&txn)?;
        let commits = plan.commits;
        state.apply(commits);
        state.wake();
        Ok(outcome)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.0.lock().index.range(&request)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.0.lock().watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.lock().compact(revision).map(drop)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.0.lock().index.revision())
    }

    fn degraded(&self) -> Option<StoreError> {
        None
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.0.lock().close();
    }
}
