//! What every controller stands on: a trait of one small shape and the loop that drives it. A key
//! is only a hint to look; what is observed decides, so keys may be lost in a restart, repeated or
//! folded together without harm.

pub mod claim;
pub mod discovery;
pub mod error;
pub mod index;
pub mod object;
pub mod watch;
pub mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::oneshot, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use windlass_sdk_client::{Job, Key, Queue};

pub use error::Error;
pub use index::{Index, Writes};
pub use watch::Watch;

/// Keys that one controller works on at a time (upstream's `--concurrent-*-syncs` are 5 to 20).
const WORKERS: usize = 8;
/// The least time from the end of one reconcile of a key to the next. A thousand pods that become
/// ready at once are a few passes of their ReplicaSet and not a thousand; the first is not delayed.
const PACE: Duration = Duration::from_millis(10);
/// A pass that takes long (a Service of a thousand pods) is followed by a longer pause: at most
/// one part in five of the time goes into one key, and no pause is longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_FACTOR: u32 = 4;
/// When to look again for an own write that isn't observed yet. Its event usually comes first.
pub const RECHECK: Duration = Duration::from_millis(100);

/// Brings what one key names to where it should be.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// For logs.
    fn name(&self) -> &'static str;

    /// What tells the controller of keys to look at. Called once.
    fn watches(&self) -> Vec<Watch>;

    /// One pass over one key; never two at a time for the same key.
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error>;
}

/// What follows a pass that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing, until something changes.
    No,
    After(Duration),
}

impl From<Option<Duration>> for Requeue {
    fn from(after: Option<Duration>) -> Self {
        after.map_or(Requeue::No, Requeue::After)
    }
}

/// Runs a controller until `shutdown`.
pub async fn run(controller: impl Controller, shutdown: CancellationToken) {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = drive(Arc::new(controller)) => {}
    }
}

async fn drive(controller: Arc<dyn Controller>) {
    let queue = Queue::new();
    // Dropping the set ends its tasks, so nothing outlives this function.
    let mut tasks = JoinSet::new();
    let mut initial = Vec::new();
    for watch in controller.watches() {
        let (sender, ready) = oneshot::channel();
        tasks.spawn(watch.feed(queue.clone(), sender));
        initial.push(ready);
    }
    for ready in initial {
        // A feed that ended can't be waited for; the join below tells of it.
        let _ = ready.await;
    }
    tracing::debug!(controller = controller.name(), keys = queue.len(), "caches are synced");
    for _ in 0..WORKERS {
        tasks.spawn(work(controller.clone(), queue.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(controller = controller.name(), %error, "a task of the controller ended");
        }
    }
}

async fn work(controller: Arc<dyn Controller>, queue: Queue<Key>) {
    loop {
        let job = queue.next().await;
        let span = tracing::debug_span!(
            "reconcile",
            controller = controller.name(),
            namespace = &*job.namespace,
            name = &*job.name,
        );
        pass(&*controller, &queue, job).instrument(span).await;
    }
}

async fn pass(controller: &dyn Controller, queue: &Queue<Key>, job: Job<Key>) {
    let begun = Instant::now();
    match controller.reconcile(&job).await {
        Ok(next) => {
            queue.forget(&job);
            if let Requeue::After(delay) = next {
                queue.add_after(job.clone(), delay);
            }
        }
        Err(error) => {
            let controller = controller.name();
            let (namespace, name, failures) = (&*job.namespace, &*job.name, queue.failures(&job));
            if error.is_conflict() {
                tracing::debug!(controller, namespace, name, %error, "somebody else was first");
            } else {
                tracing::warn!(controller, namespace, name, failures, %error, "reconcile failed");
            }
            queue.retry(job.clone());
        }
    }
    // The key counts as being worked on until then, and this worker is free.
    let pause = (begun.elapsed() * PAUSE_FACTOR).clamp(PACE, LONGEST_PAUSE);
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        drop(job);
    });
}
