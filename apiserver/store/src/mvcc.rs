//! The index that every embedded store answers from: keys with their versions, and the log of
//! commits since the last compaction. Pure: a change is planned against it, made durable by
//! whoever owns it, then applied; so the memory store and the sled store differ in durability only.
//! Values are shared with readers (`Arc`), so keeping the history costs what the readers keep anyway.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    ops::Bound,
    sync::Arc,
};

use crate::{
    Event, KeyValue, Op, RangeRequest, RangeResponse, Revision, StoreError, Txn, TxnOutcome,
};

/// The revision of a store that nobody has written to, as etcd's: 0 would mean "any" to clients.
const FIRST_REVISION: Revision = 1;
/// More than the largest request that the API server takes, with its claims.
const MAX_TXN_BYTES: usize = 16 << 20;

/// Keys, their versions, and what changed when.
#[derive(Debug)]
pub(crate) struct Index {
    keys: BTreeMap<Arc<str>, History>,
    /// Commits after `compacted`, ascending.
    log: VecDeque<Commit>,
    revision: Revision,
    compacted: Revision,
}

/// All changes of one revision; the position of an event is its [`RecordId::sub`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub revision: Revision,
    pub events: Vec<Event>,
}

/// Names one version of one key, in every store on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordId {
    pub revision: Revision,
    pub sub: u32,
}

/// A version that compaction forgot: the owner removes it from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub id: RecordId,
    pub value_bytes: usize,
}

/// One version of a key; without a value it says that the key was deleted.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub id: RecordId,
    pub create_revision: Revision,
    pub version: u64,
    pub value: Option<Arc<[u8]>>,
}

/// The newest version stands beside the others, because most keys have no others.
#[derive(Debug)]
struct History {
    newest: Version,
    /// Ascending.
    older: Vec<Version>,
}

/// Transactions evaluated one after the other against an index that doesn't change meanwhile.
pub(crate) struct Plan<'a> {
    index: &'a Index,
    revision: Revision,
    changed: BTreeMap<Arc<str>, Option<KeyValue>>,
    pub commits: Vec<Commit>,
}

impl Default for Index {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), log: VecDeque::new(), revision: FIRST_REVISION, compacted: 0 }
    }
}

impl Index {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The key as it is now, if it exists.
    pub fn get(&self, key: &str) -> Option<KeyValue> {
        let (key, history) = self.keys.get_key_value(key)?;
        history.newest.key_value(key)
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let at = match request.revision {
            0 => self.revision,
            at if at > self.revision => {
                return Err(StoreError::Future { requested: at, newest: self.revision });
            }
            at => self.not_compacted(at)?,
        };
        let first = request.start.as_str().max(request.prefix.as_str());
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut found = self
            .keys
            .range::<str, _>((Bound::Included(first), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&request.prefix))
            .filter_map(|(key, history)| history.at(at)?.key_value(key));
        let items: Vec<KeyValue> = found.by_ref().take(limit).collect();
        Ok(RangeResponse { more: found.next().is_some(), items, revision: self.revision })
    }

    /// What was committed under `prefix` after revision `after`.
    pub fn since(&self, prefix: &str, after: Revision) -> Result<Vec<Event>, StoreError> {
        if after > self.revision {
            return Err(StoreError::Future { requested: after, newest: self.revision });
        }
        self.not_compacted(after)?;
        let first = self.log.partition_point(|commit| commit.revision <= after);
        let events = self.log.range(first..).flat_map(|commit| &commit.events);
        Ok(events.filter(|event| event.key().starts_with(prefix)).cloned().collect())
    }

    /// Takes over a planned commit, once it is durable.
    pub fn apply(&mut self, commit: Commit) {
        for (sub, event) in (0..).zip(&commit.events) {
            self.insert(event, RecordId { revision: commit.revision, sub });
        }
        self.revision = commit.revision;
        self.log.push_back(commit);
    }

    /// Takes over one version as it was found on disk; they must come in ascending order.
    pub fn load(&mut self, key: &str, version: Version) {
        let known = self.keys.get_key_value(key);
        let before = known.and_then(|(key, history)| history.newest.key_value(key));
        let key = known.map_or_else(|| key.into(), |(key, _)| key.clone());
        let id = version.id;
        let event = match version.key_value(&key) {
            Some(now) => Event::Put { now, before },
            None => Event::Delete { key, revision: id.revision, before },
        };
        self.insert(&event, id);
        self.revision = self.revision.max(id.revision);
        match self.log.back_mut().filter(|last| last.revision == id.revision) {
            Some(last) => last.events.push(event),
            None => self.log.push_back(Commit { revision: id.revision, events: vec![event] }),
        }
    }

    /// Raises the revision to what the database says, where its newest records are compacted away.
    pub fn raise_revision(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Forgets what was overwritten or deleted at or before `to`. Compacting again to an older
    /// revision does nothing.
    pub fn compact(&mut self, to: Revision) -> Result<Vec<Forgotten>, StoreError> {
        if to > self.revision {
            return Err(StoreError::Future { requested: to, newest: self.revision });
        }
        self.compacted = self.compacted.max(to);
        let mut forgotten = Vec::new();
        while let Some(commit) = self.log.pop_front_if(|commit| commit.revision <= to) {
            for event in &commit.events {
                self.trim(event.key(), to, &mut forgotten);
            }
        }
        Ok(forgotten)
    }

    fn trim(&mut self, key: &Arc<str>, to: Revision, forgotten: &mut Vec<Forgotten>) {
        let Some(history) = self.keys.get_mut(key) else { return };
        let gone = if history.newest.id.revision <= to {
            let mut gone = mem::take(&mut history.older);
            if history.newest.value.is_none() {
                gone.extend(self.keys.remove(key).map(|history| history.newest));
            }
            gone
        } else {
            let passed = history.older.partition_point(|version| version.id.revision <= to);
            let keeps_last = passed > 0 && history.older[passed - 1].value.is_some();
            let gone = history.older.drain(..passed - usize::from(keeps_last)).collect();
            history.older.shrink_to_fit();
            gone
        };
        forgotten.extend(gone.iter().map(|version| Forgotten {
            id: version.id,
            value_bytes: version.value.as_ref().map_or(0, |value| value.len()),
        }));
    }

    fn insert(&mut self, event: &Event, id: RecordId) {
        let newest = Version::of(event, id);
        match self.keys.get_mut(event.key()) {
            Some(history) => history.older.push(mem::replace(&mut history.newest, newest)),
            None => {
                let history = History { newest, older: Vec::new() };
                self.keys.insert(event.key().clone(), history);
            }
        }
    }

    fn not_compacted(&self, revision: Revision) -> Result<Revision, StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Compacted { requested: revision, oldest: self.compacted });
        }
        Ok(revision)
    }
}

impl<'a> Plan<'a> {
    pub fn new(index: &'a Index) -> Self {
        let revision = index.revision;
        Self { index, revision, changed: BTreeMap::new(), commits: Vec::new() }
    }

    /// The revision once all commits are applied.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Evaluates one transaction after those added before; the answer holds once `commits` are
    /// durable. A transaction that changes nothing takes no revision.
    pub fn add(&mut self, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        check_shape(txn)?;
        let current: Vec<_> =
            txn.compare.iter().map(|compare| self.current(&compare.key)).collect();
        let holds = txn.compare.iter().zip(&current).all(|(compare, current)| {
            compare.mod_revision == current.as_ref().map_or(0, |current| current.mod_revision)
        });
        if !holds {
            return Ok(TxnOutcome::Failed { revision: self.revision, current });
        }
        let revision = self.revision + 1;
        let mut events: Vec<Event> =
            txn.ops.iter().filter_map(|op| self.event(op, revision)).collect();
        // The log keeps them for minutes, and most commits have one.
        events.shrink_to_fit();
        if events.is_empty() {
            return Ok(TxnOutcome::Committed(self.revision));
        }
        for event in &events {
            self.changed.insert(event.key().clone(), event.now().cloned());
        }
        self.revision = revision;
        self.commits.push(Commit { revision, events });
        Ok(TxnOutcome::Committed(revision))
    }

    fn event(&self, op: &Op, revision: Revision) -> Option<Event> {
        let before = self.current(op.key());
        match op {
            Op::Put { key, value } => {
                let now = KeyValue {
                    // One copy of a key serves all its versions.
                    key: before.as_ref().map_or(key, |before| &before.key).clone(),
                    value: value.clone(),
                    create_revision: before.as_ref().map_or(revision, |b| b.create_revision),
                    mod_revision: revision,
                    version: before.as_ref().map_or(1, |before| before.version + 1),
                };
                Some(Event::Put { now, before })
            }
            Op::Delete { .. } => {
                let before = before?;
                Some(Event::Delete { key: before.key.clone(), revision, before: Some(before) })
            }
        }
    }

    fn current(&self, key: &str) -> Option<KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.index.get(key),
        }
    }
}

impl History {
    /// The version that was the newest at `revision`.
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.newest.id.revision <= revision {
            return Some(&self.newest);
        }
        let passed = self.older.partition_point(|version| version.id.revision <= revision);
        self.older[..passed].last()
    }
}

impl Version {
    pub fn of(event: &Event, id: RecordId) -> Self {
        match event.now() {
            Some(now) => Self {
                id,
                create_revision: now.create_revision,
                version: now.version,
                value: Some(now.value.clone()),
            },
            None => Self { id, create_revision: 0, version: 0, value: None },
        }
    }

    fn key_value(&self, key: &Arc<str>) -> Option<KeyValue> {
        Some(KeyValue {
            key: key.clone(),
            value: self.value.clone()?,
            create_revision: self.create_revision,
            mod_revision: self.id.revision,
            version: self.version,
        })
    }
}

impl Txn {
    /// What the transaction adds to the store, for the bounds on batches.
    pub(crate) fn bytes(&self) -> usize {
        let op_bytes = |op: &Op| match op {
            Op::Put { key, value } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
        };
        self.ops.iter().map(op_bytes).sum()
    }
}

fn check_shape(txn: &Txn) -> Result<(), StoreError> {
    let distinct: BTreeSet<&str> = txn.ops.iter().map(|op| &**op.key()).collect();
    if distinct.len() < txn.ops.len() {
        return Err(StoreError::Invalid("a key appears twice in a transaction".into()));
    }
    if distinct.contains("") {
        return Err(StoreError::Invalid("a key is empty".into()));
    }
    let bytes = txn.bytes();
    if bytes > MAX_TXN_BYTES {
        let why = format!("a transaction of {bytes} bytes; the limit is {MAX_TXN_BYTES}");
        return Err(StoreError::Invalid(why));
    }
    Ok(())
}
