//! Watches of etcd. A task reads etcd's stream and hands batches to a bounded queue: a reader that
//! doesn't keep up is cut, as every store does it, and never holds up the connection that all share.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    Known, end_of,
    grpc::{Shared, Stream},
    wire::{self, Change, Watched},
};
use crate::{Batch, Event, Revision, StoreError, WatchStream, watch::WATCH_BUFFER_BATCHES};

/// How long a store that is closed waits for the events of its own last writes.
const CLOSING: Duration = Duration::from_secs(2);

/// Opens a watch of everything under `ours`, of which the reader gets what is under `prefix`.
pub(super) async fn start(
    channel: &Shared,
    ours: &str,
    prefix: &str,
    after: Revision,
    known: Arc<Known>,
) -> Result<WatchStream, StoreError> {
    let request = wire::watch(ours.as_bytes(), &watched_end(ours), after + 1).finish();
    let mut stream = channel.stream("Watch/Watch", request).await?;
    let created = Watched::read(&stream.next().await?).map_err(|_| lost("no message"))?;
    if !created.created || created.canceled {
        return Err(lost(&format!("the watch is refused: {}", created.cancel_reason)));
    }
    let (sender, mut receiver) = mpsc::channel(WATCH_BUFFER_BATCHES);
    // The error that ends a watch comes behind what waits in the queue.
    let (end, ended) = tokio::sync::oneshot::channel();
    let reading = Reading {
        stream,
        ours: ours.to_owned(),
        prefix: prefix.to_owned(),
        reached: after,
        known,
        sender,
    };
    tokio::spawn(async move {
        if let Some(error) = reading.run().await {
            let _ = end.send(error);
        }
    });
    let batches = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let batches = batches.map(Ok);
    let error = futures::stream::once(async move { ended.await.ok() });
    Ok(batches.chain(error.filter_map(async |error| error.map(Err))).boxed())
}

/// The marker and every key of ours, and no more than these.
fn watched_end(ours: &str) -> Vec<u8> {
    end_of(format!("{ours}/").as_bytes())
}

struct Reading {
    stream: Stream,
    ours: String,
    prefix: String,
    reached: Revision,
    known: Arc<Known>,
    sender: mpsc::Sender<Batch>,
}

impl Reading {
    /// Reads until the stream or its reader ends; what the reader is told last.
    async fn run(mut self) -> Option<StoreError> {
        let known = self.known.clone();
        loop {
            tokio::select! {
                message = self.stream.next() => {
                    let message = match message {
                        Ok(message) => message,
                        Err(failure) => return Some(failure.into()),
                    };
                    if let Err(error) = self.take(&message) {
                        return Some(error);
                    }
                }
                () = self.sender.closed() => return None,
                () = known.closed.cancelled() => break,
            }
        }
        let rest = async {
            while self.reached < known.written.load(Ordering::Acquire) {
                let Ok(message) = self.stream.next().await else { break };
                if self.take(&message).is_err() {
                    break;
                }
            }
        };
        // Nobody is told: the reader of a closed store is told by the end alone.
        let _ = tokio::time::timeout(CLOSING, rest).await;
        None
    }

    /// Hands on what one message holds; an error ends the watch.
    fn take(&mut self, message: &[u8]) -> Result<(), StoreError> {
        let watched = Watched::read(message).map_err(|_| lost("no message"))?;
        if watched.compact_revision > 0 {
            let (requested, oldest) = (self.reached, watched.compact_revision);
            return Err(StoreError::Compacted { requested, oldest });
        }
        if watched.canceled {
            return Err(lost(&format!("the watch is cancelled: {}", watched.cancel_reason)));
        }
        let Some(revision) = watched.changes.last().map(|change| change.now.mod_revision) else {
            return Ok(());
        };
        let changes = watched.changes.into_iter();
        let events = changes.filter_map(|change| self.event(change)).collect();
        self.reached = revision;
        match self.sender.try_send(Batch { revision, events }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(StoreError::Lagged { bound: WATCH_BUFFER_BATCHES })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(lost("nobody reads")),
        }
    }

    /// A change as the store tells it; None for the marker and for what isn't asked for.
    fn event(&self, change: Change) -> Option<Event> {
        let revision = change.now.mod_revision;
        let now = change.now.under(&self.ours)?;
        if !now.key.starts_with('/') || !now.key.starts_with(&self.prefix) {
            return None;
        }
        let before = change.before.and_then(|before| before.under(&self.ours));
        Some(match change.deleted {
            true => Event::Delete { key: now.key, revision, before },
            false => Event::Put { now, before },
        })
    }
}

fn lost(why: &str) -> StoreError {
    StoreError::Unavailable(format!("etcd: {why}"))
}
