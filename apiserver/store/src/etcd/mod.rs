//! A store in an etcd cluster, for several API servers over one state, or for who runs etcd already.
//!
//! etcd's revisions are the cluster's, and others may write to it. So each of our transactions also
//! puts one key of ours, the marker: its revision is that of our newest change, and as watches see it
//! with the change, a reader learns how far it has come though nothing under its prefix changed.
//! (etcd's own progress notifications may overtake events in the versions that distributions carry.)
//! All keys begin with [`PREFIX`]; compaction is etcd's and concerns all who use it.

mod grpc;
mod watch;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use self::{
    grpc::{CALL_TIMEOUT, Channel, Code, Failure, Shared},
    wire::{Message, Range, TxnAnswer},
};
use crate::{
    Compare, KeyValue, Op, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn,
    TxnOutcome, WatchStream,
};

/// What every key in etcd begins with; the keys of the store begin with `/`.
pub const PREFIX: &str = "/windlass";
/// How often a transaction that only deletes is tried while others change its keys.
const ATTEMPTS: usize = 10;
/// A page may hold thousands of objects.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to an etcd cluster.
pub struct EtcdStore {
    channel: Shared,
    prefix: String,
    shared: Arc<Known>,
}

/// What store and watches tell each other.
struct Known {
    /// The newest revision that a write of this store was answered with.
    written: AtomicU64,
    closed: CancellationToken,
}

impl EtcdStore {
    /// Connects to the members of a cluster (`host:port` each), with TLS where it is configured, and
    /// asks one of them for the state.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn connect(
        members: Vec<String>,
        tls: Option<ClientConfig>,
    ) -> Result<Self, StoreError> {
        Self::connect_under(members, tls, PREFIX).await
    }

    /// As [`EtcdStore::connect`], with another prefix of all keys.
    ///
    /// # Errors
    /// When no member answers, or none is named.
    pub async fn connect_under(
        members: Vec<String>,
        tls: Option<ClientConfig>,
        prefix: &str,
    ) -> Result<Self, StoreError> {
        if members.is_empty() {
            return Err(StoreError::Invalid("no member of the etcd cluster is named".into()));
        }
        let shared = Known { written: AtomicU64::new(0), closed: CancellationToken::new() };
        let store = Self {
            channel: Arc::new(Channel::new(members, tls)),
            prefix: prefix.to_owned(),
            shared: Arc::new(shared),
        };
        // The first to come makes the marker.
        let absent = wire::compare(prefix.as_bytes(), 0);
        let request = Message::default().message(1, absent).message(2, store.put_marker());
        store.channel.call(TXN, request.finish(), CALL_TIMEOUT).await?;
        Ok(store)
    }

    fn key(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    fn put_marker(&self) -> Message {
        let put = Message::default().bytes(1, self.prefix.as_bytes());
        Message::default().message(2, put)
    }

    fn get_marker(&self) -> Message {
        Message::default().message(1, wire::range(self.prefix.as_bytes(), b"", 0, 0))
    }

    async fn transact(&self, request: Message, patience: Duration) -> Result<TxnAnswer, Failure> {
        let answer = self.channel.call(TXN, request.finish(), patience).await?;
        TxnAnswer::read(&answer).map_err(|_| garbled())
    }

    /// The operations of a transaction, with those that tell how it failed.
    async fn attempt(&self, compare: &[Compare], ops: &[Op]) -> Result<TxnAnswer, Failure> {
        let mut request = Message::default();
        for Compare { key, mod_revision } in compare {
            request = request.message(1, wire::compare(&self.key(key), *mod_revision));
        }
        for op in ops {
            request = request.message(
                2,
                match op {
                    Op::Put { key, value } => {
                        let put = Message::default().bytes(1, &self.key(key)).bytes(2, value);
                        Message::default().message(2, put)
                    }
                    Op::Delete { key } => {
                        Message::default().message(3, Message::default().bytes(1, &self.key(key)))
                    }
                },
            );
        }
        request = request.message(
            2,
            match ops.is_empty() {
                true => self.get_marker(),
                false => self.put_marker(),
            },
        );
        for Compare { key, .. } in compare {
            let get = wire::range(&self.key(key), b"", 0, 0);
            request = request.message(3, Message::default().message(1, get));
        }
        self.transact(request.message(3, self.get_marker()), CALL_TIMEOUT).await
    }

    /// The revisions of keys that are to be deleted and exist.
    async fn present(&self, ops: &[Op]) -> Result<(Vec<Compare>, Revision), StoreError> {
        let mut request = Message::default();
        for op in ops {
            let get = wire::range(&self.key(op.key()), b"", 0, 0);
            request = request.message(2, Message::default().message(1, get));
        }
        let answer = self.transact(request.message(2, self.get_marker()), CALL_TIMEOUT).await?;
        let revision = marker_revision(&answer)?;
        let found = ops.iter().zip(answer.ranges).filter_map(|(op, range)| {
            let item = range.items.into_iter().next()?;
            Some(Compare { key: op.key().clone(), mod_revision: item.mod_revision })
        });
        Ok((found.collect(), revision))
    }

    fn committed(&self, revision: Revision) -> TxnOutcome {
        self.shared.written.fetch_max(revision, Ordering::AcqRel);
        TxnOutcome::Committed(revision)
    }

    fn failed(&self, compares: usize, answer: TxnAnswer) -> Result<TxnOutcome, StoreError> {
        let revision = marker_revision(&answer)?;
        let first = |range: Range| range.items.into_iter().next();
        let current = answer.ranges.into_iter().take(compares);
        let current = current.map(|range| first(range)?.under(&self.prefix)).collect();
        Ok(TxnOutcome::Failed { revision, current })
    }

    /// A transaction that deletes and puts nothing: whether it changes anything depends on what is
    /// there, and where it doesn't, the marker must not move either.
    async fn delete_only(&self, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        for _ in 0..ATTEMPTS {
            let (present, revision) = self.present(&txn.ops).await?;
            let named = |key: &str| txn.compare.iter().any(|compare| &*compare.key == key);
            if present.is_empty() {
                let answer = self.attempt(&txn.compare, &[]).await?;
                return match answer.succeeded {
                    true => Ok(TxnOutcome::Committed(revision)),
                    false => self.failed(txn.compare.len(), answer),
                };
            }
            let added = present.into_iter().filter(|compare| !named(&compare.key));
            let compares: Vec<Compare> = txn.compare.iter().cloned().chain(added).collect();
            let answer = self.attempt(&compares, &txn.ops).await?;
            if answer.succeeded {
                return Ok(self.committed(answer.revision));
            }
            let asked = answer.ranges.iter().zip(&txn.compare).all(|(range, compare)| {
                range.items.first().map_or(0, |item| item.mod_revision) == compare.mod_revision
            });
            if !asked {
                return self.failed(
                    txn.compare.len(),
                    TxnAnswer {
                        // The marker stands behind the comparisons that were added.
                        ranges: without_added(answer.ranges, txn.compare.len()),
                        ..answer
                    },
                );
            }
        }
        Err(StoreError::Unavailable(format!("keys were changed by others {ATTEMPTS} times")))
    }
}

const TXN: &str = "KV/Txn";
const RANGE: &str = "KV/Range";
const COMPACT: &str = "KV/Compact";

fn without_added(mut ranges: Vec<Range>, asked: usize) -> Vec<Range> {
    let marker = ranges.pop();
    ranges.truncate(asked);
    ranges.extend(marker);
    ranges
}

/// The marker is read last.
fn marker_revision(answer: &TxnAnswer) -> Result<Revision, StoreError> {
    let marker = answer.ranges.last().and_then(|range| range.items.first());
    marker.map(|item| item.mod_revision).ok_or_else(|| {
        StoreError::Unavailable("etcd: the key that counts revisions is gone".into())
    })
}

fn garbled() -> Failure {
    Failure { code: Code::Other(13), message: "the answer is no message of etcd's".into() }
}

/// The first key behind those with a prefix; empty: there is none.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    end
}

/// A key twice or without a name can't be meant.
fn check(txn: &Txn) -> Result<(), StoreError> {
    let mut keys: Vec<&str> = txn.ops.iter().map(|op| &**op.key()).collect();
    keys.sort_unstable();
    if let Some(key) = keys.windows(2).find(|two| two[0] == two[1]).map(|two| two[0]) {
        return Err(StoreError::Invalid(format!("the key {key} stands twice in a transaction")));
    }
    match keys.first().is_some_and(|key| key.is_empty()) {
        true => Err(StoreError::Invalid("a key is empty".into())),
        false => Ok(()),
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check(&txn)?;
        let deletes_only = txn.ops.iter().all(|op| matches!(op, Op::Delete { .. }));
        // What is compared with a revision exists, so deleting it changes something.
        let certain = txn.ops.iter().any(|op| {
            txn.compare.iter().any(|compare| compare.key == *op.key() && compare.mod_revision > 0)
        });
        if !txn.ops.is_empty() && deletes_only && !certain {
            return self.delete_only(&txn).await;
        }
        let answer = self.attempt(&txn.compare, &txn.ops).await?;
        match (answer.succeeded, txn.ops.is_empty()) {
            (true, true) => Ok(TxnOutcome::Committed(marker_revision(&answer)?)),
            (true, false) => Ok(self.committed(answer.revision)),
            (false, _) => self.failed(txn.compare.len(), answer),
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let prefix = self.key(if request.prefix.is_empty() { "/" } else { &request.prefix });
        let start = self.key(&request.start).max(prefix.clone());
        let end = end_of(&prefix);
        if start >= end {
            let revision = self.current_revision().await?;
            return Ok(RangeResponse { items: Vec::new(), more: false, revision });
        }
        let range = wire::range(&start, &end, request.limit as u64, request.revision);
        let ask = Message::default().message(2, Message::default().message(1, range));
        let answer = match self.transact(ask.message(2, self.get_marker()), PAGE_TIMEOUT).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.out_of_range(request.revision, failure).await),
        };
        let revision = marker_revision(&answer)?;
        if request.revision > revision {
            return Err(StoreError::Future { requested: request.revision, newest: revision });
        }
        let found = answer.ranges.into_iter().next().unwrap_or_default();
        let items = found.items.into_iter();
        let items: Vec<KeyValue> = items.filter_map(|item| item.under(&self.prefix)).collect();
        Ok(RangeResponse { items, more: found.more, revision })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let newest = self.current_revision().await?;
        if after > newest {
            return Err(StoreError::Future { requested: after, newest });
        }
        // etcd tells later, in the stream, that a revision is compacted; a read tells it now.
        let at = wire::range(self.prefix.as_bytes(), b"", 0, after);
        if let Err(failure) = self.channel.call(RANGE, at.finish(), CALL_TIMEOUT).await {
            return Err(self.out_of_range(after, failure).await);
        }
        watch::start(&self.channel, &self.prefix, prefix, after, self.shared.clone()).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let newest = self.current_revision().await?;
        if revision > newest {
            return Err(StoreError::Future { requested: revision, newest });
        }
        let request = Message::default().number(1, revision).finish();
        match self.channel.call(COMPACT, request, CALL_TIMEOUT).await {
            // Somebody has compacted later revisions already.
            Err(failure) if failure.code == Code::OutOfRange => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        let get = wire::range(self.prefix.as_bytes(), b"", 0, 0);
        let answer = self.channel.call(RANGE, get.finish(), CALL_TIMEOUT).await?;
        let range = Range::read(&answer).map_err(|_| StoreError::from(garbled()))?;
        marker_revision(&TxnAnswer { ranges: vec![range], ..TxnAnswer::default() })
    }

    fn degraded(&self) -> Option<StoreError> {
        self.channel.failing().map(|why| StoreError::Unavailable(format!("etcd: {why}")))
    }
}

impl EtcdStore {
    /// etcd has one code for revisions that are too old and too new.
    async fn out_of_range(&self, requested: Revision, failure: Failure) -> StoreError {
        if failure.code != Code::OutOfRange {
            return failure.into();
        }
        match self.current_revision().await {
            Ok(newest) if requested > newest => StoreError::Future { requested, newest },
            // etcd doesn't say what the oldest is: the next may be.
            Ok(_) => StoreError::Compacted { requested, oldest: requested + 1 },
            Err(error) => error,
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}
