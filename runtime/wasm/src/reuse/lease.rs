//! What an instance that answers several requests and the answers by it know of each other: who
//! still waits or reads, whether it is to take more, and why it ended.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use futures::task::AtomicWaker;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// What an instance and the answers by it know of each other.
#[derive(Default)]
pub struct Shared {
    /// Requests whose answers somebody still waits for or reads.
    pub leases: AtomicUsize,
    /// No more requests: one was given up before the guest answered it.
    pub doomed: AtomicBool,
    pub changed: AtomicWaker,
    pub failure: OnceLock<Failure>,
    pub ended: CancellationToken,
}

impl Shared {
    pub fn leases(&self) -> usize {
        self.leases.load(SeqCst)
    }

    pub fn is_doomed(&self) -> bool {
        self.doomed.load(SeqCst)
    }

    pub fn doom(&self) {
        self.doomed.store(true, SeqCst);
    }

    pub fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Why the instance ended. Waits until it has.
    pub async fn failure(&self) -> Failure {
        self.ended.cancelled().await;
        self.failure.get().cloned().unwrap_or_else(ended)
    }
}

pub fn ended() -> Failure {
    Failure::NoRoom("the instance was ended".into())
}

/// A request's hold on the instance that has it.
pub struct Lease {
    pub instance: Arc<Shared>,
    /// The guest has not answered yet.
    pub headless: bool,
}

impl Lease {
    pub fn new(instance: &Arc<Shared>) -> Self {
        instance.leases.fetch_add(1, SeqCst);
        Self { instance: instance.clone(), headless: true }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.headless {
            self.instance.doom();
        }
        self.instance.leases.fetch_sub(1, SeqCst);
        self.instance.changed.wake();
    }
}

/// Must be dropped before the store: whoever reads an answer's body then finds the failure before
/// its end.
pub struct Ending<'a>(pub &'a Shared);

impl Ending<'_> {
    pub fn by(&self, failure: Failure) {
        // The first one is the reason.
        let _ = self.0.failure.set(failure);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.0.leases() > 0 {
            self.by(ended());
        }
        self.0.ended.cancel();
    }
}
