//! Eviction for want of memory. When the guests of a node have nearly used up what they share, the
//! pod that the kubelet's order puts first is ended, and the next, until there is room again. The
//! runtime refuses memory beyond the budget, so it is pods that run out and never the process.
//!
//! `rank` is pure; `run` waits for the runtime's word and carries out.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{MemoryBudget, SandboxStats};
use windlass_sdk_client::EventType;
use windlass_sdk_meta::Quantity;
use windlass_sdk_types::{Kind, ObjectReference, api::core::v1::Pod};

use crate::{agent::Agent, order, state::Failure};

/// Pods of this priority and more are what the cluster needs to work; they are never evicted.
const SYSTEM_CRITICAL: i32 = 2_000_000_000;
/// How the message of such an eviction begins.
const LOW_ON: &str = "The node was low on resource: ";
/// How long the node's condition outlives the need, so that it doesn't flap (upstream's default).
const TRANSITION: Duration = Duration::from_mins(5);
/// How long a pod that was evicted may take to give its memory back before the next one goes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often memory is looked at while it is short.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A pod that could be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    uid: String,
    priority: i32,
    /// Name, bytes in use, bytes requested.
    containers: Vec<(String, u64, u64)>,
}

/// What a node remembers of evictions.
pub(crate) struct Evictions {
    count: AtomicU64,
    /// The node is short of memory, or was until a moment ago.
    pressure: watch::Sender<bool>,
}

impl Default for Evictions {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), pressure: watch::channel(false).0 }
    }
}

impl Evictions {
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Whether the node shows MemoryPressure.
    pub fn pressure(&self) -> watch::Receiver<bool> {
        self.pressure.subscribe()
    }
}

impl Candidate {
    /// None for pods that are not to be evicted, or that hold nothing that would come back.
    fn new(pod: &Pod, stats: &SandboxStats) -> Option<Self> {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        let requests: BTreeMap<&str, u64> =
            order::containers(pod).map(|of| (of.name.as_str(), requested(of))).collect();
        let containers: Vec<(String, u64, u64)> = stats
            .containers
            .iter()
            .map(|of| {
                let requested = requests.get(of.name.as_str()).copied().unwrap_or_default();
                (of.name.clone(), of.memory_bytes, requested)
            })
            .collect();
        let candidate = Self { uid: stats.pod_uid.clone(), priority, containers };
        (priority < SYSTEM_CRITICAL && candidate.used() > 0).then_some(candidate)
    }

    fn used(&self) -> u64 {
        self.containers.iter().map(|(_, used, _)| used).sum()
    }

    fn requested(&self) -> u64 {
        self.containers.iter().map(|(.., requested)| requested).sum()
    }

    /// In the words that upstream's kubelet uses, because dashboards look for them.
    fn message(&self, budget: &MemoryBudget) -> String {
        let quantity = Quantity::from_bytes;
        let mut message = format!(
            "{LOW_ON}memory. Threshold quantity: {}, available: {}. ",
            quantity(budget.reserve_bytes),
            quantity(budget.available_bytes())
        );
        for (name, used, requested) in &self.containers {
            if used > requested {
                message += &format!(
                    "Container {name} was using {}, request is {}, has larger consumption of memory. ",
                    quantity(*used),
                    quantity(*requested)
                );
            }
        }
        message
    }
}

fn requested(container: &windlass_sdk_types::api::core::v1::Container) -> u64 {
    let requests = container.resources.as_ref().and_then(|of| of.requests.as_ref());
    let memory = requests.and_then(|of| of.get("memory")?.0.parse::<Quantity>().ok());
    memory.map_or(0, |memory| memory.units().unsigned_abs())
}

/// Who goes first: pods that use more than they requested before those that don't, in each group
/// the lower priority first, then whoever is furthest above its request. So BestEffort pods go
/// before Burstable ones that keep to their requests, and Guaranteed ones come last.
fn rank(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|of| {
        let (used, requested) = (i128::from(of.used()), i128::from(of.requested()));
        (used <= requested, of.priority, Reverse(used - requested), of.uid.clone())
    });
}

/// Whether a pod was evicted for want of something on its node, and not for a limit of its own.
pub(crate) fn is_for_the_node(failure: &Failure) -> bool {
    failure.reason == "Evicted" && failure.message.starts_with(LOW_ON)
}

/// Evicts until told to stop.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(agent.keep_memory()).await;
}

impl Agent {
    async fn keep_memory(&self) {
        loop {
            self.runtimes.first().low_memory().await;
            self.evictions.pressure.send_replace(true);
            self.say_on_node("EvictionThresholdMet", "Attempting to reclaim memory");
            self.reclaim().await;
            // The condition goes once memory was there for a while.
            while tokio::time::timeout(TRANSITION, self.runtimes.first().low_memory()).await.is_ok()
            {
                self.reclaim().await;
            }
            self.evictions.pressure.send_replace(false);
        }
    }

    /// Ends one pod after the other while memory is short.
    async fn reclaim(&self) {
        while let Some(budget) = self.runtimes.first().memory_budget().filter(MemoryBudget::is_low)
        {
            let mut candidates = self.candidates().await;
            rank(&mut candidates);
            let Some(first) = candidates.first() else {
                tracing::warn!(available = budget.available_bytes(), "no pod to evict");
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            let message = first.message(&budget);
            tracing::info!(uid = first.uid, message, "pod evicted");
            self.evictions.count.fetch_add(1, Relaxed);
            self.update(&first.uid, |entry| {
                let reason = "Evicted".to_owned();
                entry.state.failure.get_or_insert(Failure { reason, message });
            });
            let _ = tokio::time::timeout(PATIENCE, self.until_ended(&first.uid)).await;
        }
        // Something was refused memory that has been freed since.
        tokio::time::sleep(LOOK_EVERY).await;
    }

    async fn candidates(&self) -> Vec<Candidate> {
        let stats = self.runtimes.first().stats().await;
        let entries = self.entries.lock();
        let candidate = |of: &SandboxStats| {
            let entry = entries.by_uid.get(&of.pod_uid)?;
            let pod = self.pods.find(&entry.key).filter(|pod| pod.uid() == of.pod_uid)?;
            let going = pod.is_deleting() || entry.state.failure.is_some();
            if going { None } else { Candidate::new(&pod, of) }
        };
        stats.iter().filter_map(candidate).collect()
    }

    async fn until_ended(&self, uid: &str) {
        let running = || {
            let entries = self.entries.lock();
            entries.by_uid.get(uid).is_some_and(|entry| entry.state.any_running())
        };
        while running() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn say_on_node(&self, reason: &str, message: &str) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.name.clone()),
            uid: Some(self.name.clone()),
            ..ObjectReference::default()
        };
        self.recorder.record(&about, EventType::Warning, reason, message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Name, priority, and of each container what it uses and requests, in MiB.
    type Case<'a> = (&'a str, i32, &'a [(u64, u64)]);

    fn check(pods: &[Case<'_>], expected: Expect) {
        let mut candidates: Vec<Candidate> = pods
            .iter()
            .map(|(uid, priority, containers)| Candidate {
                uid: (*uid).to_owned(),
                priority: *priority,
                containers: containers
                    .iter()
                    .map(|(used, requested)| ("c".to_owned(), used << 20, requested << 20))
                    .collect(),
            })
            .collect();
        rank(&mut candidates);
        let order: Vec<&str> = candidates.iter().map(|of| of.uid.as_str()).collect();
        expected.assert_eq(&order.join(" "));
    }

    #[test]
    fn who_goes_first() {
        check(&[], expect![""]);
        check(
            &[
                ("guaranteed", 0, &[(90, 100)]),
                ("burstable-below", 0, &[(20, 100)]),
                ("burstable-above", 0, &[(150, 100)]),
                ("best-effort-small", 0, &[(5, 0)]),
                ("best-effort-large", 0, &[(70, 0)]),
            ],
            expect![
                "best-effort-large burstable-above best-effort-small guaranteed burstable-below"
            ],
        );
        // Priority decides before use does, but not over who keeps to its request.
        check(
            &[
                ("important", 1000, &[(500, 0)]),
                ("plain", 0, &[(1, 0)]),
                ("modest", -5, &[(10, 20)]),
            ],
            expect!["plain important modest"],
        );
        // The sum over the containers counts.
        check(&[("two", 0, &[(60, 10), (60, 100)]), ("one", 0, &[(20, 0)])], expect!["one two"]);
    }

    #[test]
    fn what_is_told() {
        let budget =
            MemoryBudget { limit_bytes: 1 << 30, used_bytes: 950 << 20, reserve_bytes: 100 << 20 };
        assert!(budget.is_low());
        let candidate = Candidate {
            uid: "u".into(),
            priority: 0,
            containers: vec![("main".into(), 300 << 20, 0), ("small".into(), 1, 1 << 20)],
        };
        expect!["The node was low on resource: memory. Threshold quantity: 100Mi, available: 74Mi. Container main was using 300Mi, request is 0, has larger consumption of memory. "]
            .assert_eq(&candidate.message(&budget));
    }
}
