//! Where the cluster's state lives: revisions, transactions, ranges and watches, after etcd's
//! contract, so that memory, sled and etcd are interchangeable. One suite ([`conformance`]) holds
//! every implementation to it. Knows bytes only: no kinds, no JSON, no HTTP.

mod compaction;
pub mod conformance;
mod etcd;
mod memory;
mod mvcc;
mod sled;
mod watch;

use std::sync::Arc;

pub use self::{etcd::EtcdStore, sled::SledStore};
use async_trait::async_trait;
pub use compaction::{CHECK_EVERY, CompactionPolicy, KEEP, KEEP_REVISIONS};
use futures::stream::BoxStream;
pub use memory::MemoryStore;

/// One global counter; every committed transaction has one, and they only grow. 0 is "before all".
pub type Revision = u64;

/// A key with its value at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Arc<str>,
    pub value: Arc<[u8]>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 1 when created, one more at each put since.
    pub version: u64,
}

/// Holds where the key was last modified at `mod_revision`; 0 means that it must not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Arc<str>,
    pub mod_revision: Revision,
}

/// A change; a key may appear once in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put { key: Arc<str>, value: Arc<[u8]> },
    Delete { key: Arc<str> },
}

/// All operations, if all comparisons hold; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub ops: Vec<Op>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// On disk at this revision.
    Committed(Revision),
    /// Nothing was changed; the compared keys as they are, in the order of `compare`.
    Failed { revision: Revision, current: Vec<Option<KeyValue>> },
}

/// Keys from `start` on (inclusive) that begin with `prefix`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub prefix: String,
    /// Empty: from the first key of the prefix.
    pub start: String,
    /// 0: the newest.
    pub revision: Revision,
    /// 0: all.
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    pub items: Vec<KeyValue>,
    /// There are further keys behind the limit.
    pub more: bool,
    /// The store's revision when it answered.
    pub revision: Revision,
}

/// One change as a watcher sees it. All events of a revision come together, in one batch. `before`
/// is None where the key is new, or where compaction has forgotten what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Put {
        now: KeyValue,
        before: Option<KeyValue>,
    },
    /// The key is gone at `revision`; `before` is what it was.
    Delete {
        key: Arc<str>,
        revision: Revision,
        before: Option<KeyValue>,
    },
}

/// The events of one or more whole revisions, in order; none where the store only tells that it
/// has moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Everything up to here has been delivered.
    pub revision: Revision,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("required revision {requested} has been compacted; the oldest is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("required revision {requested} is in the future; the newest is {newest}")]
    Future { requested: Revision, newest: Revision },
    /// The watcher did not keep up and was cut; it resumes from the last revision it saw.
    #[error("the watcher lags behind by more than {bound} batches")]
    Lagged { bound: usize },
    /// Less free space than the store needs to stay sound; nothing was written.
    #[error("the disk of {path} has {free_mib} MiB left; writes are refused below {need_mib} MiB")]
    DiskFull { path: String, free_mib: u64, need_mib: u64 },
    /// A write could not be made durable: read-only until the process is started again.
    #[error("the store is read-only since a write failed: {why}")]
    ReadOnly { why: Arc<str> },
    #[error("the database {path} is damaged: {why}")]
    Damaged { path: String, why: String },
    /// The request can never succeed: a key twice in a transaction, too many bytes.
    #[error("the store refuses the request: {0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
}

/// A watch: batches in order of revision; ends after an error, and when the store is closed.
pub type WatchStream = BoxStream<'static, Result<Batch, StoreError>>;

/// The contract of all stores (etcd's KV, Watch and compaction).
#[async_trait]
pub trait Store: Send + Sync {
    /// Commits durably, or tells which comparison failed. The answer and the watch event of a
    /// commit may arrive in either order. A transaction that changes nothing (no operations, or
    /// deletes of absent keys) answers with the current revision. Dropping the future doesn't undo it.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Everything under `prefix` that is committed after revision `after`; progress of other keys
    /// comes as batches without events, so a reader can wait for [`Store::current_revision`].
    /// `Compacted` where `after` is older than the last compaction, `Future` where it is not yet.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// Forgets what was overwritten or deleted at or before `revision`: ranges and watches from
    /// older revisions then answer `Compacted`. Going back to an older one changes nothing.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The newest revision; may cost a quorum read.
    async fn current_revision(&self) -> Result<Revision, StoreError>;

    /// Why writes are refused, if they are: for `/readyz`.
    fn degraded(&self) -> Option<StoreError>;
}

impl Op {
    pub fn key(&self) -> &Arc<str> {
        let (Self::Put { key, .. } | Self::Delete { key }) = self;
        key
    }
}

impl Event {
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { now, .. } => &now.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision at which it happened.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { now, .. } => now.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// What the key is after the event; None where it is gone.
    pub fn now(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { now, .. } => Some(now),
            Self::Delete { .. } => None,
        }
    }

    /// What the key was before the event.
    pub fn before(&self) -> Option<&KeyValue> {
        let (Self::Put { before, .. } | Self::Delete { before, .. }) = self;
        before.as_ref()
    }
}
