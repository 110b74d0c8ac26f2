//! What a node and its containers use, in the three forms that upstream's tools ask a kubelet for:
//! `/metrics/resource`, `/stats/summary` and `/metrics`. Nothing is sampled while nobody asks; a
//! rate is the difference between this answer's sample and one that was taken for an earlier
//! answer, or a second ago where there is none.

mod machine;
mod metrics;
mod resource;
mod summary;

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use windlass_runtime_api::{ContainerStats, SandboxStats};
use windlass_sdk_meta::Timestamp;

use crate::agent::Agent;
use machine::Machine;

/// A rate is over at least this long.
const WINDOW: Duration = Duration::from_secs(1);
/// An older sample says little about what is used now.
const OLDEST: Duration = Duration::from_secs(60);
/// A sample serves as the base of several answers, for this long.
const RENEW: Duration = Duration::from_secs(10);

/// The use of everything on a node at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub at: Timestamp,
    pub machine: Machine,
    /// What runs, in the order of the pods' uids.
    pub pods: Vec<SandboxStats>,
}

/// Cumulative CPU time of a node and its containers at an earlier moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    at: Timestamp,
    machine_nanos: u64,
    /// By pod uid, container and attempt.
    containers: BTreeMap<(String, String, u32), u64>,
}

/// Remembers the sample that rates are counted from.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Option<Base>>);

impl Sample {
    fn base(&self) -> Base {
        let of_pod = |pod: &SandboxStats| {
            let uid = pod.pod_uid.clone();
            let key = move |of: &ContainerStats| (uid.clone(), of.name.clone(), of.attempt);
            pod.containers.iter().map(|of| (key(of), of.cpu_nanos)).collect::<Vec<_>>()
        };
        Base {
            at: self.at,
            machine_nanos: self.machine.cpu_nanos,
            containers: self.pods.iter().flat_map(of_pod).collect(),
        }
    }
}

impl Base {
    /// Nanoseconds of CPU a second: of the machine.
    fn machine_rate(&self, now: &Sample) -> u64 {
        self.rate(now, now.machine.cpu_nanos.saturating_sub(self.machine_nanos))
    }

    /// Of a container; one that began since counts from its beginning.
    fn container_rate(&self, now: &Sample, pod_uid: &str, of: &ContainerStats) -> u64 {
        let key = (pod_uid.to_owned(), of.name.clone(), of.attempt);
        let before = self.containers.get(&key).copied().unwrap_or_default();
        self.rate(now, of.cpu_nanos.saturating_sub(before))
    }

    fn rate(&self, now: &Sample, nanos: u64) -> u64 {
        let elapsed = u128::try_from(now.at.duration_since(self.at).as_nanos()).unwrap_or(0);
        let a_second = u128::from(nanos) * 1_000_000_000 / elapsed.max(1);
        u64::try_from(a_second).unwrap_or(u64::MAX)
    }
}

/// How long to wait before a sample taken then can be compared with the base, if it can at all.
fn comparable_in(base: Option<&Base>, now: Timestamp) -> Option<Duration> {
    let age = Duration::try_from(now.duration_since(base?.at)).ok()?;
    (age <= OLDEST).then(|| WINDOW.saturating_sub(age))
}

impl Meter {
    /// A sample of now and what its rates are counted from. Takes a second where nobody has asked
    /// for a while.
    async fn measure(&self, agent: &Agent) -> (Sample, Base) {
        let mut now = agent.sample().await;
        let base = self.0.lock().clone();
        let wait = comparable_in(base.as_ref(), now.at);
        let base = base.filter(|_| wait.is_some()).unwrap_or_else(|| now.base());
        let wait = wait.unwrap_or(WINDOW);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            now = agent.sample().await;
        }
        let age = Duration::try_from(now.at.duration_since(base.at)).unwrap_or_default();
        let next = if age >= RENEW { now.base() } else { base.clone() };
        *self.0.lock() = Some(next);
        (now, base)
    }
}

impl Agent {
    async fn sample(&self) -> Sample {
        let pods = self.runtimes.stats().await;
        Sample { at: self.clock.now(), machine: Machine::of_this(), pods }
    }

    /// The page `/metrics/resource`.
    pub(crate) async fn resource_metrics(&self) -> String {
        resource::text(&self.sample().await)
    }

    /// `/stats/summary`.
    pub(crate) async fn stats_summary(&self) -> serde_json::Value {
        let (now, base) = self.meter.measure(self).await;
        let facts = {
            let entries = self.entries.lock();
            let started = entries
                .by_uid
                .iter()
                .filter_map(|(uid, entry)| Some((uid.clone(), entry.state.started_at?)));
            summary::Facts { node: self.name.clone(), pods_started: started.collect() }
        };
        summary::summary(&now, &base, &facts)
    }

    /// The page `/metrics`.
    pub(crate) async fn kubelet_metrics(&self) -> String {
        let budget = self.runtimes.first().memory_budget();
        metrics::text(&self.name, self.sample().await, budget, self.evictions.count())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Two pods, one of them with a name that needs care.
    pub fn sample() -> Sample {
        let container = |name: &str, cpu_nanos, memory_bytes| ContainerStats {
            name: name.to_owned(),
            started_at: Some(time("2026-11-23T10:00:00.25Z")),
            cpu_nanos,
            memory_bytes,
            memory_limit_bytes: (name == "main").then_some(64 << 20),
            instances: 2,
            requests: 7,
            traps: 1,
            latency: vec![(Duration::from_millis(1), 4), (Duration::from_millis(5), 6)],
            latency_sum: Duration::from_millis(250),
            log_dropped_lines: 3,
            ..ContainerStats::default()
        };
        let pod = |name: &str, containers| SandboxStats {
            pod_uid: format!("uid-{name}"),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            containers,
        };
        Sample {
            at: time("2026-11-23T10:00:10Z"),
            machine: Machine {
                cpu_nanos: 90_500_000_000,
                total_bytes: 1 << 30,
                free_bytes: 1 << 28,
                available_bytes: 1 << 29,
                anonymous_bytes: 1 << 27,
                booted_at: Some(time("2026-11-23T09:00:00Z")),
            },
            pods: vec![
                pod(
                    "cart",
                    vec![container("main", 1_500_000_000, 20 << 20), container("log", 0, 0)],
                ),
                pod("pay", vec![container("main", 4_710_169, 1 << 20)]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let before = sample();
        let mut now = before.clone();
        now.at += Duration::from_secs(4);
        now.machine.cpu_nanos += 6_000_000_000;
        now.pods[0].containers[0].cpu_nanos += 2_000_000_000;
        now.pods[1].containers[0].attempt = 1;
        let base = before.base();
        assert_eq!(base.machine_rate(&now), 1_500_000_000);
        let rate = |pod: usize| {
            let pod = &now.pods[pod];
            base.container_rate(&now, &pod.pod_uid, &pod.containers[0])
        };
        assert_eq!(rate(0), 500_000_000);
        // Another attempt: what it used it used since.
        assert_eq!(rate(1), 4_710_169 / 4);
    }

    #[test]
    fn a_base_serves_while_it_is_young() {
        let base = sample().base();
        let at = |millis: u64| base.at + Duration::from_millis(millis);
        assert_eq!(comparable_in(None, at(0)), None);
        assert_eq!(comparable_in(Some(&base), at(0)), Some(WINDOW));
        assert_eq!(comparable_in(Some(&base), at(400)), Some(Duration::from_millis(600)));
        assert_eq!(comparable_in(Some(&base), at(30_000)), Some(Duration::ZERO));
        assert_eq!(comparable_in(Some(&base), at(61_000)), None);
    }
}
