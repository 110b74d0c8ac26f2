//! Which node a pod goes to, as a function of what was observed. Knows no tokio, no HTTP and no
//! clock: the driver tells it of nodes and pods and asks for decisions, so that the same decisions
//! are measured, simulated and made.
//!
//! The hot path is a loop over compact nodes with integers that were computed when the pod or node
//! was observed; it allocates nothing for a pod that finds a node.

mod node;
mod plugins;
mod pod;
mod queue;
mod select;
mod snapshot;
#[cfg(test)]
mod testing;

use std::{sync::Arc, time::Duration};

use windlass_sdk_meta::Rng;
use windlass_sdk_types::{Kind, Node, Pod};

pub use node::{Load, NodeInfo, Taint, Usage};
pub use plugins::{Causes, PLUGINS, Plugin};
pub use pod::PodInfo;
pub use select::Why;

use queue::Queue;
use select::Selector;
use snapshot::Snapshot;

/// The scheduler's whole state. `now` is the time since any fixed moment.
pub struct Scheduler {
    snapshot: Snapshot,
    queue: Queue,
    selector: Selector,
}

/// What to do about one pod, and why.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind it; until that is confirmed or undone it counts as if it were there.
    Bind { pod: Arc<PodInfo>, node: Arc<str> },
    /// No node fits. It is tried again when something changes that may help.
    Unschedulable { pod: Arc<PodInfo>, why: Why },
}

impl Scheduler {
    /// `rng` breaks ties between nodes that are equally good.
    pub fn new(rng: Rng) -> Self {
        Self {
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            selector: Selector::new(rng),
        }
    }

    /// A node exists or changed.
    pub fn node(&mut self, node: &Node) {
        let causes = self.snapshot.set_node(node);
        self.queue.note(node.name().into(), causes);
    }

    pub fn node_gone(&mut self, name: &str) {
        self.snapshot.remove_node(name);
    }

    /// A pod of this scheduler without a node exists or changed.
    pub fn waiting(&mut self, pod: &Pod, now: Duration) {
        let pod = PodInfo::new(pod);
        // What was decided stands until the binding fails or the API shows another node.
        if !self.snapshot.holds(&pod.uid) {
            self.queue.add(pod, now);
        }
    }

    /// A pod runs (or will) on a node, whoever put it there.
    pub fn placed(&mut self, pod: &Pod, node: &str) {
        self.queue.remove(pod.uid());
        if let Some(freed) = self.snapshot.place(pod.uid(), node, pod::load_of(pod).into()) {
            self.queue.note(freed, Causes::POD_GONE);
        }
    }

    /// A pod is gone, has ended, or isn't to be scheduled: it needs nothing (any more).
    pub fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.free(uid);
    }

    /// A binding failed and the pod still waits: it is tried again after its back-off.
    pub fn unbind(&mut self, uid: &str, now: Duration) {
        self.free(uid);
        self.queue.failed(uid, now);
    }

    /// The pod counts as being on a node, but the API hasn't shown it there.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.snapshot.is_assumed(uid)
    }

    /// The next decision; None where no pod is to be tried now.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        self.queue.wake(now, &self.snapshot);
        let pod = self.queue.pop(now)?;
        match self.selector.select(&pod, &self.snapshot) {
            Some(at) => {
                let node = self.snapshot.nodes()[at].name.clone();
                self.snapshot.assume(&pod, at);
                Some(Decision::Bind { pod, node })
            }
            None => {
                let why = select::explain(&pod, &self.snapshot);
                self.queue.reject(&pod.uid, why.causes(), now);
                Some(Decision::Unschedulable { pod, why })
            }
        }
    }

    /// When `next` is worth calling again although nothing is told before.
    pub fn wake_at(&self) -> Option<Duration> {
        self.queue.wake_at()
    }

    /// Pods that wait for a node, tried or not.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    pub fn nodes(&self) -> &[NodeInfo] {
        self.snapshot.nodes()
    }

    fn free(&mut self, uid: &str) {
        if let Some(freed) = self.snapshot.remove(uid) {
            self.queue.note(freed, Causes::POD_GONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{node, pod};

    const SECOND: Duration = Duration::from_secs(1);

    fn decide(scheduler: &mut Scheduler, now: Duration) -> String {
        match scheduler.next(now) {
            None => "nothing".into(),
            Some(Decision::Bind { pod, node }) => format!("{} -> {node}", pod.name),
            Some(Decision::Unschedulable { pod, why }) => format!("{}: {why}", pod.name),
        }
    }

    fn check(scheduler: &mut Scheduler, seconds: u32, expected: Expect) {
        expected.assert_eq(&decide(scheduler, SECOND * seconds));
    }

    fn scheduler() -> Scheduler {
        Scheduler::new(Rng::seeded(1))
    }

    #[test]
    fn pods_fill_nodes_and_wait_for_room() {
        let mut all = scheduler();
        all.waiting(&pod("a", "cpu: 600m"), SECOND);
        check(&mut all, 1, expect!["a: no nodes available to schedule pods"]);
        check(&mut all, 1, expect!["nothing"]);
        all.node(&node("x", "cpu: 1"));
        check(&mut all, 1, expect!["a -> x"]);
        all.waiting(&pod("b", "cpu: 600m"), SECOND);
        check(&mut all, 1, expect!["b: 0/1 nodes are available: 1 Insufficient cpu."]);
        all.placed(&pod("a", "cpu: 600m"), "x");
        check(&mut all, 1, expect!["nothing"]);
        // Room for a smaller pod isn't a reason to try b again.
        all.waiting(&pod("c", "cpu: 100m"), SECOND);
        check(&mut all, 1, expect!["c -> x"]);
        all.gone("c");
        check(&mut all, 1, expect!["nothing"]);
        all.gone("a");
        check(&mut all, 1, expect!["b -> x"]);
        assert_eq!(all.pending(), 1, "b waits for its confirmation");
        all.placed(&pod("b", "cpu: 600m"), "x");
        assert_eq!(all.pending(), 0);
        assert!(!all.is_assumed("b"));
    }

    #[test]
    fn what_helps_may_come_in_steps() {
        let mut all = scheduler();
        all.waiting(&pod("a", "cpu: 1"), SECOND);
        check(&mut all, 1, expect!["a: no nodes available to schedule pods"]);
        // A node comes without resources and cordoned; each is cured by itself.
        let mut x = node("x", "{}");
        x.spec.get_or_insert_default().unschedulable = Some(true);
        all.node(&x);
        check(&mut all, 1, expect!["nothing"]);
        x.status = node("x", "cpu: 1").status;
        all.node(&x);
        check(&mut all, 1, expect!["nothing"]);
        x.spec = None;
        all.node(&x);
        check(&mut all, 1, expect!["a -> x"]);
    }

    #[test]
    fn priority_then_order() {
        let mut all = scheduler();
        all.node(&node("x", "cpu: 8"));
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            let mut pod = pod(name, "cpu: 1");
            pod.spec.as_mut().unwrap().priority = Some(priority);
            all.waiting(&pod, SECOND);
        }
        let order: Vec<String> = (0..4).map(|_| decide(&mut all, SECOND)).collect();
        assert_eq!(order, ["b -> x", "d -> x", "a -> x", "c -> x"]);
    }

    #[test]
    fn a_failed_binding_backs_off() {
        let mut all = scheduler();
        all.node(&node("x", "cpu: 1"));
        all.waiting(&pod("a", "cpu: 600m"), Duration::ZERO);
        check(&mut all, 0, expect!["a -> x"]);
        all.unbind("a", Duration::ZERO);
        assert_eq!(all.wake_at(), Some(SECOND));
        check(&mut all, 0, expect!["nothing"]);
        check(&mut all, 1, expect!["a -> x"]);
        all.unbind("a", SECOND);
        assert_eq!(all.wake_at(), Some(SECOND * 3));
        all.gone("a");
        assert_eq!((all.wake_at(), all.pending()), (None, 0));
        assert_eq!(all.nodes()[0].used.pods, 0);
    }

    #[test]
    fn what_the_api_shows_counts() {
        let mut all = scheduler();
        // The pod is seen before its node.
        all.placed(&pod("a", "cpu: 1"), "x");
        all.node(&node("x", "cpu: 1"));
        all.waiting(&pod("b", "cpu: 1"), SECOND);
        check(&mut all, 1, expect!["b: 0/1 nodes are available: 1 Insufficient cpu."]);
        // Somebody else bound it elsewhere meanwhile.
        all.node(&node("y", "cpu: 1"));
        check(&mut all, 1, expect!["b -> y"]);
        all.placed(&pod("b", "cpu: 1"), "x");
        assert_eq!(
            all.nodes().iter().map(|node| node.used.milli_cpu).collect::<Vec<_>>(),
            [2000, 0]
        );
        all.node_gone("x");
        all.node(&node("x", "cpu: 4"));
        let used: Vec<_> =
            all.nodes().iter().map(|node| (&*node.name, node.used.milli_cpu)).collect();
        assert_eq!(used, [("y", 0), ("x", 2000)]);
    }

    #[test]
    fn a_changed_pod_is_tried_again() {
        let mut all = scheduler();
        let mut tainted = node("x", "cpu: 1");
        tainted.spec.get_or_insert_default().taints =
            Some(vec![windlass_sdk_types::api::core::v1::Taint {
                key: "gpu".into(),
                effect: "NoSchedule".into(),
                ..Default::default()
            }]);
        all.node(&tainted);
        let mut pod = pod("a", "cpu: 1");
        all.waiting(&pod, SECOND);
        check(
            &mut all,
            1,
            expect!["a: 0/1 nodes are available: 1 node(s) had untolerated taint(s)."],
        );
        pod.metadata.resource_version = Some("9".into());
        all.waiting(&pod, SECOND);
        check(&mut all, 1, expect!["nothing"]);
        pod.spec.as_mut().unwrap().tolerations =
            Some(vec![windlass_sdk_types::api::core::v1::Toleration {
                operator: Some("Exists".into()),
                ..Default::default()
            }]);
        all.waiting(&pod, SECOND);
        check(&mut all, 1, expect!["a -> x"]);
    }

    #[test]
    fn waiting_pods_are_looked_at_every_five_minutes() {
        let mut all = scheduler();
        all.node(&node("x", "cpu: 1"));
        all.waiting(&pod("a", "cpu: 2"), Duration::ZERO);
        check(&mut all, 0, expect!["a: 0/1 nodes are available: 1 Insufficient cpu."]);
        assert_eq!(all.wake_at(), Some(SECOND * 300));
        check(&mut all, 299, expect!["nothing"]);
        check(&mut all, 300, expect!["a: 0/1 nodes are available: 1 Insufficient cpu."]);
    }
}
