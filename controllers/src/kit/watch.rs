//! Where a controller's keys come from: each change of a watched kind names the keys to look at.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use windlass_sdk_client::{Change, Informer, Key, Queue};
use windlass_sdk_types::Kind;

use super::index::Index;

/// How long an index goes without a look at how far its informer is.
const IDLE: Duration = Duration::from_secs(5);

/// Feeds a queue for as long as it is polled. It reports once when it has taken in all that existed
/// at its start: no decision is made before.
pub struct Watch(Feed);

type Feed = Box<dyn FnOnce(Queue<Key>, Ready) -> BoxFuture<'static, ()> + Send>;

/// Told once when all that existed at the start is taken in.
type Ready = oneshot::Sender<()>;

impl Watch {
    pub(crate) fn new<F>(feed: impl FnOnce(Queue<Key>, Ready) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(|queue, ready| Box::pin(feed(queue, ready))))
    }

    pub(super) fn feed(self, queue: Queue<Key>, ready: Ready) -> BoxFuture<'static, ()> {
        self.0(queue, ready)
    }
}

/// Every change of the kind is a key of its own.
pub fn own<K: Kind>(informer: &Informer<K>) -> Watch {
    mapped(informer, |change| vec![change.key.clone()])
}

/// Each change names the keys that it concerns.
pub fn mapped<K: Kind>(
    informer: &Informer<K>,
    keys: impl Fn(&Change<K>) -> Vec<Key> + Send + Sync + 'static,
) -> Watch {
    let informer = informer.clone();
    Watch::new(move |queue, ready| async move {
        informer.synced().await;
        let mut changes = informer.changes();
        let add = |change: &Change<K>| keys(change).into_iter().for_each(|key| queue.add(key));
        while let Some(change) = changes.try_next() {
            add(&change);
        }
        // The receiver is gone only if the controller stops.
        let _ = ready.send(());
        loop {
            add(&changes.next_change().await);
        }
    })
}

/// Each change goes into the index, and then names the keys that it concerns.
pub fn indexed<K: Kind, S: Ord + Send + 'static>(
    index: &Arc<Index<K, S>>,
    keys: impl Fn(&Change<K>) -> Vec<Key> + Send + Sync + 'static,
) -> Watch {
    let index = index.clone();
    Watch::new(move |queue, ready| async move {
        index.informer().synced().await;
        let mut changes = index.informer().changes();
        // Keys are added when the index has taken everything: whoever is woken finds it whole.
        let take = |first: Option<Change<K>>, changes: &mut _| {
            let mut found = Vec::new();
            index.catch_up(first, changes, |change| found.extend(keys(change)));
            found.into_iter().for_each(|key| queue.add(key));
        };
        take(None, &mut changes);
        let _ = ready.send(());
        loop {
            // A list taken anew can move the informer on without a change to tell of: the index
            // still has to say that it is complete up to there.
            let first = tokio::time::timeout(IDLE, changes.next_change()).await.ok();
            take(first, &mut changes);
        }
    })
}
