//! The one thread that writes. It takes what waits in the queue (up to a bound), evaluates it in
//! order, writes one batch, syncs once, publishes, answers. While it syncs, the next batch gathers;
//! a lone write finds the queue empty and waits for nothing.

use std::{collections::VecDeque, fs::File, io, mem, sync::Arc};

use ::sled::{Batch, Db};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    files::Folder,
    guarded,
    record::{self, HEAD_KEY, Head, Totals, Writes},
};
use crate::{
    Revision, StoreError, Txn, TxnOutcome,
    mvcc::{Commit, Forgotten, Plan, RecordId, Version},
};

const BATCH_REQUESTS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// Forgotten versions that one batch takes off the disk.
const GARBAGE_A_BATCH: usize = 256;

/// What others ask of the thread.
#[derive(Debug)]
pub(super) enum Request {
    Txn { txn: Txn, answer: Answer<TxnOutcome> },
    Compact { revision: Revision, answer: Answer<()> },
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One group commit, evaluated and not yet durable.
#[derive(Default)]
struct Group {
    commits: Vec<Commit>,
    compact_to: Option<Revision>,
    /// The answers to give once it is durable.
    txns: Vec<(Answer<TxnOutcome>, Result<TxnOutcome, StoreError>)>,
    compactions: Vec<(Answer<()>, Result<(), StoreError>)>,
}

/// The thread's own state: nobody else touches the database.
pub(super) struct Committer {
    db: Db,
    files: Folder,
    shared: Arc<Shared>,
    totals: Totals,
    /// Compacted versions that are still on disk; removed beside other writes, or when idle.
    garbage: VecDeque<Forgotten>,
    /// Our own descriptor of sled's log, for syncing it.
    log: File,
}

impl Committer {
    pub fn new(
        db: Db,
        files: Folder,
        shared: Arc<Shared>,
        totals: Totals,
        garbage: Vec<Forgotten>,
    ) -> io::Result<Self> {
        let log = File::open(shared.folder.join("db"))?;
        Ok(Self { db, files, shared, totals, garbage: garbage.into(), log })
    }

    /// Serves until the queue is closed and empty.
    pub fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        loop {
            let first = match queue.try_recv() {
                Ok(request) => request,
                Err(_) if self.remove_garbage() => continue,
                Err(_) => match queue.blocking_recv() {
                    Some(request) => request,
                    None => return,
                },
            };
            let requests = gather(first, &mut queue);
            self.serve(requests);
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        if let Err(error) = self.shared.check_writable() {
            return requests.into_iter().for_each(|request| request.refuse(&error));
        }
        let mut group = self.plan(requests);
        let written = self.persist(&group);
        if written.is_ok() {
            self.publish(&mut group);
        }
        // First those who wait for an answer: watchers are many, and share the processors with them.
        group.answer(&written);
        self.shared.state.read().wake();
    }

    fn plan(&self, requests: Vec<Request>) -> Group {
        let state = self.shared.state.read();
        let mut plan = Plan::new(&state.index);
        let mut group = Group::default();
        let mut compactions = Vec::new();
        for request in requests {
            match request {
                Request::Txn { txn, answer } => group.txns.push((answer, plan.add(&txn))),
                Request::Compact { revision, answer } => compactions.push((revision, answer)),
            }
        }
        let newest = plan.revision();
        for (revision, answer) in compactions {
            let outcome = if revision > newest {
                Err(StoreError::Future { requested: revision, newest })
            } else {
                group.compact_to = group.compact_to.max(Some(revision));
                Ok(())
            };
            group.compactions.push((answer, outcome));
        }
        group.commits = plan.commits;
        group
    }

    /// Writes the group and waits until it is on disk. The first failure is the last write.
    fn persist(&mut self, group: &Group) -> Result<(), StoreError> {
        if group.commits.is_empty() && group.compact_to.is_none() {
            return Ok(());
        }
        let mut batch = Writes::new();
        self.take_garbage(&mut batch);
        self.add_commits(&mut batch, &group.commits);
        if let Some(to) = group.compact_to {
            let newest = group.commits.last().map(|commit| commit.revision);
            self.add_head(&mut batch, newest, to);
        }
        let apart = batch.len() == group.commits.len();
        self.write(batch, apart, true)?;
        if let Some(commit) = group.commits.last()
            && let Err(error) = self.files.tip().write(commit.revision)
        {
            return Err(self.fail(&format!("noting the newest revision: {error}")));
        }
        Ok(())
    }

    fn publish(&mut self, group: &mut Group) {
        let mut state = self.shared.state.write();
        state.apply(mem::take(&mut group.commits));
        // `plan` has checked that the revision is not in the future.
        if let Some(Ok(forgotten)) = group.compact_to.map(|to| state.compact(to)) {
            self.garbage.extend(forgotten);
        }
    }

    fn add_commits(&mut self, batch: &mut Writes, commits: &[Commit]) {
        for commit in commits {
            for (sub, event) in (0..).zip(&commit.events) {
                let id = RecordId { revision: commit.revision, sub };
                self.totals.add(id);
                let is_last = sub as usize + 1 == commit.events.len();
                let totals = is_last.then_some(self.totals);
                record::put(batch, event.key(), &Version::of(event, id), totals);
            }
        }
    }

    /// Moves some garbage from the list into the batch; tells whether there was any.
    fn take_garbage(&mut self, batch: &mut Writes) -> bool {
        let some = self.garbage.len().min(GARBAGE_A_BATCH);
        for gone in self.garbage.drain(..some) {
            record::remove(batch, &gone);
            self.totals.remove(gone.id);
        }
        some > 0
    }

    fn add_head(&self, batch: &mut Writes, newest: Option<Revision>, compacted: Revision) {
        let state = self.shared.state.read();
        let head = Head {
            revision: newest.unwrap_or_else(|| state.index.revision()),
            compacted: compacted.max(state.index.compacted()),
            totals: self.totals,
        };
        batch.push((HEAD_KEY.into(), Some(head.encode())));
    }

    /// With nothing else to do: one batch of removals, not synced, because doing it again after a
    /// crash is harmless. Tells whether there was something to remove, and room to do it.
    fn remove_garbage(&mut self) -> bool {
        if self.garbage.is_empty() || self.shared.check_writable().is_err() {
            return false;
        }
        let mut batch = Writes::new();
        self.take_garbage(&mut batch);
        self.add_head(&mut batch, None, 0);
        self.write(batch, false, false).is_ok()
    }

    /// `apart`: each write is a transaction of its own.
    fn write(&self, batch: Writes, apart: bool, durable: bool) -> Result<(), StoreError> {
        let written = guarded(&self.shared.folder, || {
            if apart {
                one_by_one(&self.db, batch)?;
            } else {
                at_once(&self.db, batch)?;
            }
            if durable {
                self.db.flush()?;
                self.log.sync_data()?;
            }
            Ok(())
        });
        written.map_err(|error| self.fail(&error.to_string()))
    }

    /// From now on nothing is written: what the kernel dropped after a failed sync can't be known.
    fn fail(&self, why: &str) -> StoreError {
        let why = self.shared.failed.get_or_init(|| why.into()).clone();
        tracing::error!(folder = %self.shared.folder.display(), %why, "the store is read-only now");
        StoreError::ReadOnly { why }
    }
}

/// After a crash the first few may be there and the rest not; none of them was acknowledged.
fn one_by_one(db: &Db, batch: Writes) -> ::sled::Result<()> {
    for (key, value) in batch {
        match value {
            Some(value) => db.insert(key, value)?,
            None => db.remove(key)?,
        };
    }
    Ok(())
}

/// All or nothing. sled begins a batch with a record of its own, which it has on disk before it
/// writes the rest: a lone create takes about 0.1 ms longer so.
fn at_once(db: &Db, batch: Writes) -> ::sled::Result<()> {
    let mut whole = Batch::default();
    for (key, value) in batch {
        match value {
            Some(value) => whole.insert(key, value),
            None => whole.remove(key),
        }
    }
    db.apply_batch(whole)
}

impl Group {
    fn answer(self, written: &Result<(), StoreError>) {
        // Whoever no longer waits has dropped the other end: nothing to tell.
        for (answer, outcome) in self.txns {
            let _ = answer.send(written.clone().and(outcome));
        }
        for (answer, outcome) in self.compactions {
            let _ = answer.send(written.clone().and(outcome));
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Txn { txn, .. } => txn.bytes(),
            Self::Compact { .. } => 0,
        }
    }

    fn refuse(self, error: &StoreError) {
        match self {
            Self::Txn { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Compact { answer, .. } => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// Takes what waits behind the first request, within the bounds of a batch.
fn gather(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut requests = vec![first];
    while requests.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
        let Ok(request) = queue.try_recv() else { break };
        bytes += request.bytes();
        requests.push(request);
    }
    requests
}
