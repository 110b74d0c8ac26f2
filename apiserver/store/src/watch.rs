//! Watchers of an embedded store. Each has a bounded queue: publishing never waits for a reader,
//! and one that lags is cut and resumes from the last revision it saw. Commits that hold nothing
//! for a watcher reach it as progress (a batch without events), merged while it doesn't look.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use parking_lot::Mutex;

use crate::{Batch, Event, Revision, StoreError, WatchStream, mvcc::Commit};

/// Batches that wait for one watcher; each holds at least one commit, a group commit up to 256.
pub(crate) const WATCH_BUFFER_BATCHES: usize = 1024;

/// Everybody who watches a store.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    prefix: String,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// Everything up to here is in `batches` or was delivered.
    revision: Revision,
    lagged: bool,
    store_closed: bool,
    reader_gone: bool,
}

/// The reading end.
struct Reader {
    queue: Arc<Queue>,
    delivered: Revision,
    ended: bool,
}

impl Watchers {
    /// Adds a watcher that first gets `backlog`: what happened before `revision` and it has not seen.
    pub fn add(
        &mut self,
        prefix: &str,
        after: Revision,
        backlog: Vec<Event>,
        revision: Revision,
    ) -> WatchStream {
        self.0.retain(|watcher| !watcher.queue.waiting.lock().reader_gone);
        let queue = Arc::new(Queue::default());
        let mut waiting = queue.waiting.lock();
        waiting.revision = revision;
        if !backlog.is_empty() {
            waiting.batches.push_back(Batch { revision, events: backlog });
        }
        drop(waiting);
        self.0.push(Watcher { prefix: prefix.into(), queue: queue.clone() });
        Box::pin(Reader { queue, delivered: after, ended: false })
    }

    /// Puts commits where watchers find them; [`Self::wake`] tells them to look.
    pub fn publish(&mut self, commits: &[Commit]) {
        let Some(revision) = commits.last().map(|commit| commit.revision) else { return };
        self.0.retain(|watcher| watcher.deliver(commits, revision));
    }

    /// In the order in which they came.
    pub fn wake(&self) {
        self.0.iter().for_each(|watcher| watcher.queue.waker.wake());
    }

    /// Ends every watch; what is queued is still delivered.
    pub fn close(&mut self) {
        for watcher in self.0.drain(..) {
            watcher.queue.waiting.lock().store_closed = true;
            watcher.queue.waker.wake();
        }
    }
}

impl Watcher {
    /// False when the watcher is of no more use.
    fn deliver(&self, commits: &[Commit], revision: Revision) -> bool {
        let mut waiting = self.queue.waiting.lock();
        if waiting.reader_gone {
            return false;
        }
        let all = commits.iter().flat_map(|commit| &commit.events);
        let events: Vec<Event> =
            all.filter(|event| event.key().starts_with(&self.prefix)).cloned().collect();
        if !events.is_empty() && waiting.batches.len() == WATCH_BUFFER_BATCHES {
            waiting.lagged = true;
        } else {
            waiting.revision = revision;
            if !events.is_empty() {
                waiting.batches.push_back(Batch { revision, events });
            }
        }
        let lagged = waiting.lagged;
        drop(waiting);
        if lagged {
            // It is no longer among those who are told to look.
            self.queue.waker.wake();
        }
        !lagged
    }
}

impl Stream for Reader {
    type Item = Result<Batch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Before looking: a wake-up in between is then not lost.
        self.queue.waker.register(cx.waker());
        let queue = self.queue.clone();
        let mut waiting = queue.waiting.lock();
        let next = if let Some(batch) = waiting.batches.pop_front() {
            Some(Ok(batch))
        } else if waiting.revision > self.delivered {
            Some(Ok(Batch { revision: waiting.revision, events: Vec::new() }))
        } else if waiting.lagged {
            Some(Err(StoreError::Lagged { bound: WATCH_BUFFER_BATCHES }))
        } else if waiting.store_closed {
            None
        } else {
            return Poll::Pending;
        };
        match &next {
            Some(Ok(batch)) => self.delivered = batch.revision,
            _ => self.ended = true,
        }
        Poll::Ready(next)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        waiting.reader_gone = true;
        waiting.batches.clear();
    }
}
