//! How many requests are served at once. Reads, writes and streams are counted apart, so that a
//! flood of one doesn't starve the others; what doesn't fit waits a moment in a bounded queue and
//! is then told to come again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_sdk_meta::{Reason, Status};

use crate::request::RequestInfo;

/// Requests at once, as upstream's defaults; long-running ones are watches, logs and proxies.
const READING: usize = 400;
const MUTATING: usize = 200;
const LONG_RUNNING: usize = 50_000;
/// How many wait for their turn, and how long.
const WAITING: usize = 4_000;
const WAIT: Duration = Duration::from_secs(10);

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Health, version, discovery and metrics answer also when the server is busy.
    Free,
    Reading,
    Mutating,
    LongRunning,
}

#[derive(Debug)]
pub(crate) struct Limits {
    reading: Lane,
    mutating: Lane,
    long_running: Lane,
}

#[derive(Debug)]
struct Lane {
    size: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Class {
    pub fn of(info: &RequestInfo) -> Self {
        match (info.is_resource, info.verb, info.subresource.as_str()) {
            (false, ..) => Self::Free,
            (_, "watch", _) | (_, _, "proxy" | "log" | "exec" | "attach" | "portforward") => {
                Self::LongRunning
            }
            (_, "get" | "list", _) => Self::Reading,
            _ => Self::Mutating,
        }
    }
}

impl Limits {
    pub fn new() -> Self {
        Self {
            reading: Lane::new(READING),
            mutating: Lane::new(MUTATING),
            long_running: Lane::new(LONG_RUNNING),
        }
    }

    /// A permit to go on; 429 with Retry-After where too many wait already or it takes too long.
    pub async fn admit(&self, class: Class) -> Result<Option<OwnedSemaphorePermit>, Status> {
        match class {
            Class::Free => Ok(None),
            Class::Reading => self.reading.admit().await.map(Some),
            Class::Mutating => self.mutating.admit().await.map(Some),
            Class::LongRunning => self.long_running.admit().await.map(Some),
        }
    }

    /// (name, requests being served)
    pub fn in_flight(&self) -> [(&'static str, usize); 3] {
        let busy = |lane: &Lane| lane.size - lane.free.available_permits().min(lane.size);
        [
            ("mutating", busy(&self.mutating)),
            ("readOnly", busy(&self.reading)),
            ("longRunning", busy(&self.long_running)),
        ]
    }
}

impl Lane {
    fn new(size: usize) -> Self {
        Self { size, free: Arc::new(Semaphore::new(size)), waiting: AtomicUsize::new(0) }
    }

    async fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting).ok_or_else(too_many)?;
        match tokio::time::timeout(WAIT, self.free.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(too_many()),
        }
    }
}

/// A place in a queue; given back when the request goes on or its client goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many() -> Status {
    let why = "too many requests, please try again later";
    let mut status = Status::new(Reason::TooManyRequests, why);
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_to_come_again() {
        let lane = Lane::new(1);
        let held = lane.admit().await.expect("there is room");
        let refused = lane.admit().await.expect_err("there is none");
        let retry = refused.details.map(|details| details.retry_after_seconds);
        assert_eq!((refused.code, retry), (429, Some(1)));
        let (admitted, ()) = tokio::join!(lane.admit(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        });
        assert!(admitted.is_ok());
        assert_eq!(lane.waiting.load(Ordering::Relaxed), 0);
    }
}
