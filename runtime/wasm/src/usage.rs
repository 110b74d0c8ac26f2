//! What a container has used since its start, counted where it happens and read by whoever asks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the classes that requests are counted in, in milliseconds.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];

#[derive(Debug, Default)]
pub struct Usage {
    instances: AtomicU64,
    requests: AtomicU64,
    traps: AtomicU64,
    /// The last class has no bound.
    classes: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_micros: AtomicU64,
}

impl Usage {
    /// A request has the head of its answer, or ended without.
    pub fn answered(&self, took: Duration) {
        self.requests.fetch_add(1, Relaxed);
        let bound = |ms: &u64| took > Duration::from_millis(*ms);
        self.classes[BOUNDS_MS.partition_point(bound)].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    pub fn trapped(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub fn instance_made(&self) {
        self.instances.fetch_add(1, Relaxed);
    }

    pub fn instance_gone(&self) {
        self.instances.fetch_sub(1, Relaxed);
    }

    pub fn instances(&self) -> u64 {
        self.instances.load(Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub fn traps(&self) -> u64 {
        self.traps.load(Relaxed)
    }

    /// Cumulative, as `ContainerStats` has it.
    pub fn latency(&self) -> (Vec<(Duration, u64)>, Duration) {
        let mut sum = 0;
        let classes = BOUNDS_MS.iter().zip(&self.classes).map(|(ms, count)| {
            sum += count.load(Relaxed);
            (Duration::from_millis(*ms), sum)
        });
        (classes.collect(), Duration::from_micros(self.sum_micros.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_how_long_they_took() {
        let usage = Usage::default();
        for micros in [300, 1_000, 1_001, 40_000, 60_000_000] {
            usage.answered(Duration::from_micros(micros));
        }
        let (classes, sum) = usage.latency();
        let counts: Vec<_> = classes.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(sum.as_millis(), 60_042);
        assert_eq!(usage.requests(), 5);
    }
}
