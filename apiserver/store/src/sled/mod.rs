//! The store of a single machine: the [`Index`] in memory, made durable by sled 0.34.7. sled is
//! used for what it holds up to, and its known weak spots are stepped around:
//!
//! - `flush()` alone doesn't survive a power cut on Linux (it is `sync_file_range`), so each group
//!   commit ends with `sync_data()` on a descriptor of our own (committer.rs).
//! - Large pages would become files of their own that are never synced, so values are cut into
//!   chunks (record.rs).
//! - A `snap.*.generating` left by a crash makes the next open fail, so it is removed first; a full
//!   disk must never reach sled, because it keeps its first I/O error, so the free space is looked
//!   at before each batch; a second process gets a clear refusal (files.rs).
//! - `transaction`, `watch_prefix` and `flush_async` block or deadlock: one tree, a `Batch` where
//!   writes belong together, one thread that writes. Several trees would need `transaction`; key
//!   prefixes do.
//! - A damaged end of the log is dropped silently by sled as if it had never been acknowledged, so
//!   we count and hash our records and note the newest revision beside the database (load.rs).
//! - Segments are collected by sled's periodic flush, which therefore stays on; the page cache would
//!   take 1 GiB, and the index holds every value anyway, so it is kept small.
//!
//! Reads never touch the disk.

mod committer;
mod files;
mod load;
mod record;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use self::{
    committer::{Committer, Request},
    files::Folder,
};
#[cfg(doc)]
use crate::mvcc::Index;
use crate::{
    RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnOutcome, WatchStream,
    memory::State,
};

/// Pages that sled keeps in memory: it writes to the newest few only.
const CACHE_BYTES: u64 = 8 << 20;
/// Writers that wait for the committer before further ones wait to be queued.
const QUEUE_REQUESTS: usize = 1024;

/// A store in a folder of this machine; one process at a time.
#[derive(Debug)]
pub struct SledStore {
    shared: Arc<Shared>,
    /// None only while dropping.
    queue: Option<mpsc::Sender<Request>>,
    committer: Option<JoinHandle<()>>,
}

/// What readers and the committer share.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Set once, by the first write that could not be made durable.
    failed: OnceLock<Arc<str>>,
    folder: PathBuf,
}

impl SledStore {
    /// Opens the database in `folder`, or makes one where the folder is new; blocks (about 2 us a
    /// record). `Damaged` names the file that can't be read; `Unavailable` says who holds the folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let files = Folder::claim(folder)?;
        let db = guarded(folder, || {
            ::sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()
        })?;
        files.sync_new(folder)?;
        let loaded = guarded(folder, || load::load(&db))?;
        let loaded = loaded.and_then(|loaded| {
            load::verify(&loaded, files.tip().acknowledged())?;
            Ok(loaded)
        });
        let loaded = loaded.map_err(|why| files::damaged(folder, why))?;

        let state = State::with_index(loaded.index);
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            failed: OnceLock::new(),
            folder: folder.to_owned(),
        });
        let committer = Committer::new(db, files, shared.clone(), loaded.totals, loaded.garbage)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || committer.run(requests))
            .map_err(|error| StoreError::Unavailable(format!("no thread to write: {error}")))?;
        Ok(Self { shared, queue: Some(queue), committer: Some(thread) })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("the store has stopped".into());
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Shared {
    /// Why nothing may be written now.
    fn check_writable(&self) -> Result<(), StoreError> {
        match self.failed.get() {
            Some(why) => Err(StoreError::ReadOnly { why: why.clone() }),
            None => files::check_free_space(&self.folder),
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.ask(|answer| Request::Txn { txn, answer }).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.shared.state.read().index.range(&request)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.shared.state.write().watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(|answer| Request::Compact { revision, answer }).await
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.state.read().index.revision())
    }

    fn degraded(&self) -> Option<StoreError> {
        self.shared.check_writable().err()
    }
}

impl Drop for SledStore {
    /// Waits for the batch that is being written (milliseconds), so that the folder can be opened
    /// again at once.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!(folder = %self.shared.folder.display(), "the store's writer panicked");
        }
        self.shared.state.write().close();
    }
}

/// Runs code of sled, which answers damage with an error in some places and with a panic in others.
fn guarded<T>(folder: &Path, run: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(::sled::Error::Io(error))) if !files::is_damage(&error) => {
            Err(StoreError::Unavailable(format!("{}: {error}", folder.display())))
        }
        Ok(Err(error)) => Err(files::damaged(folder, error.to_string())),
        Err(panic) => {
            let why = format!("it makes no sense to sled ({})", panic_text(&*panic));
            Err(files::damaged(folder, why))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("sled panicked").to_owned()
}
