//! Picks a node for a pod: asks nodes in turn until enough would do, scores those, takes the best.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use windlass_sdk_meta::Rng;

use crate::{
    node::NodeInfo,
    plugins::{COUNT, Causes, Filter, Normalise, PLUGINS, Score},
    pod::PodInfo,
    snapshot::Snapshot,
};

/// Upstream's percentageOfNodesToScore: all of up to 100 nodes, then a part that falls from 50 % to
/// 5 % as the cluster grows.
const MIN_NODES: usize = 100;
const MIN_PERCENT: usize = 5;

/// Remembers where it stopped asking, and keeps its lists from pod to pod.
pub struct Selector {
    rng: Rng,
    next: usize,
    feasible: Vec<usize>,
    totals: Vec<i64>,
    raw: Vec<i64>,
}

/// Why no node would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// How many nodes each plugin refused.
    pub plugins: BTreeMap<&'static str, usize>,
    helped_by: Causes,
}

impl Selector {
    pub fn new(rng: Rng) -> Self {
        Self { rng, next: 0, feasible: Vec::new(), totals: Vec::new(), raw: Vec::new() }
    }

    /// The index of the best node; None where none would do.
    pub fn select(&mut self, pod: &PodInfo, snapshot: &Snapshot) -> Option<usize> {
        self.find(pod, snapshot.nodes());
        match self.feasible[..] {
            [] => None,
            [one] => Some(one),
            _ => {
                self.score(pod, snapshot);
                self.best()
            }
        }
    }

    fn find(&mut self, pod: &PodInfo, nodes: &[NodeInfo]) {
        self.feasible.clear();
        if nodes.is_empty() {
            return;
        }
        let concerned = concerned(pod);
        let admits = |node: &NodeInfo| {
            concerned.iter().flatten().all(|filter| (filter.refuses)(pod, node).is_none())
        };
        let enough = enough(nodes.len());
        let start = self.next % nodes.len();
        let mut asked = 0;
        for at in (start..nodes.len()).chain(0..start) {
            asked += 1;
            if admits(&nodes[at]) {
                self.feasible.push(at);
                if self.feasible.len() == enough {
                    break;
                }
            }
        }
        self.next = (start + asked) % nodes.len();
    }

    fn score(&mut self, pod: &PodInfo, snapshot: &Snapshot) {
        let nodes = snapshot.nodes();
        self.totals.clear();
        self.totals.resize(self.feasible.len(), 0);
        let scores = PLUGINS.iter().filter_map(|plugin| plugin.score.as_ref());
        for score in scores.filter(|score| (score.concerns)(pod, snapshot)) {
            self.raw.clear();
            self.raw.extend(self.feasible.iter().map(|at| (score.of)(pod, &nodes[*at])));
            self.add(score);
        }
    }

    /// Adds the raw scores to the totals, normalised and weighted.
    fn add(&mut self, score: &Score) {
        let highest = self.raw.iter().copied().max().unwrap_or_default().max(0);
        let normal = |raw: i64| match score.normalise {
            Normalise::No => raw,
            Normalise::UpToHighest if highest == 0 => raw,
            Normalise::UpToHighest => raw * 100 / highest,
            Normalise::LowestIsBest if highest == 0 => 100,
            Normalise::LowestIsBest => 100 - raw * 100 / highest,
        };
        for (total, raw) in self.totals.iter_mut().zip(&self.raw) {
            *total += score.weight * normal(*raw);
        }
    }

    fn best(&self) -> Option<usize> {
        let highest = self.totals.iter().max()?;
        let ties = self.totals.iter().filter(|total| *total == highest).count();
        let chosen = if ties == 1 { 0 } else { self.rng.below(ties) };
        let best = self.feasible.iter().zip(&self.totals);
        best.filter(|(_, total)| *total == highest).nth(chosen).map(|(at, _)| *at)
    }
}

/// Asks every node for its reasons. Only for pods that no node took, so it may take its time.
pub fn explain(pod: &PodInfo, snapshot: &Snapshot) -> Why {
    let mut why = Why {
        nodes: snapshot.nodes().len(),
        reasons: BTreeMap::new(),
        plugins: BTreeMap::new(),
        helped_by: Causes::NODE_ADDED,
    };
    for node in snapshot.nodes() {
        let refused = PLUGINS.iter().find_map(|plugin| {
            let filter = plugin.filter.as_ref().filter(|filter| (filter.concerns)(pod))?;
            Some((plugin, filter, (filter.refuses)(pod, node)?))
        });
        let Some((plugin, filter, refusal)) = refused else { continue };
        *why.plugins.entry(plugin.name).or_default() += 1;
        why.helped_by = why.helped_by | filter.helped_by;
        for reason in (filter.reasons)(refusal, pod) {
            *why.reasons.entry(reason).or_default() += 1;
        }
    }
    why
}

impl Why {
    /// What may help.
    pub fn causes(&self) -> Causes {
        self.helped_by
    }
}

/// Upstream's words: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

/// The filters that could refuse this pod anything.
fn concerned(pod: &PodInfo) -> [Option<&'static Filter>; COUNT] {
    std::array::from_fn(|at| PLUGINS[at].filter.as_ref().filter(|filter| (filter.concerns)(pod)))
}

/// How many nodes that would do are enough to choose from.
fn enough(nodes: usize) -> usize {
    if nodes <= MIN_NODES {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(MIN_PERCENT);
    (nodes * percent / 100).max(MIN_NODES)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        snapshot::Snapshot,
        testing::{node_of, pod_info},
    };

    #[test]
    fn part_of_the_nodes() {
        let table: Vec<(usize, usize)> =
            [1, 100, 101, 500, 1000, 5000, 6000].into_iter().map(|n| (n, enough(n))).collect();
        expect![
            "[(1, 1), (100, 100), (101, 100), (500, 230), (1000, 420), (5000, 500), (6000, 300)]"
        ]
        .assert_eq(&format!("{table:?}"));
    }

    fn snapshot(nodes: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (at, text) in nodes.iter().enumerate() {
            snapshot.set_node(&node_of(&format!("n{at}"), text));
        }
        snapshot
    }

    fn check(pod: &str, nodes: &[&str], expected: Expect) {
        let snapshot = snapshot(nodes);
        let mut selector = Selector::new(Rng::seeded(3));
        let pod = pod_info(pod);
        let told = match selector.select(&pod, &snapshot) {
            Some(at) => format!("{} of {:?}", snapshot.nodes()[at].name, selector.totals),
            None => explain(&pod, &snapshot).to_string(),
        };
        expected.assert_eq(&told);
    }

    const ROOM: &str = "allocatable: {cpu: '4', memory: 4Gi, pods: '110'}";

    #[test]
    fn messages() {
        check("{}", &[], expect!["no nodes available to schedule pods"]);
        let full = "allocatable: {cpu: '1', memory: 1Gi, pods: '110'}";
        let tainted = "{taints: [{key: a, effect: NoSchedule}], allocatable: {cpu: '4', memory: 4Gi, pods: '110'}}";
        let asks = "containers: [{name: c, resources: {requests: {cpu: '2', memory: 2Gi}}}]";
        check(
            asks,
            &[full, tainted, full],
            expect![
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu, 2 Insufficient memory."
            ],
        );
        check(
            "nodeSelector: {a: b}",
            &["unschedulable: true", ROOM],
            expect![
                "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable."
            ],
        );
    }

    #[test]
    fn choices() {
        let asks = "containers: [{name: c, resources: {requests: {cpu: '2', memory: 2Gi}}}]";
        check(asks, &[ROOM, "{}"], expect!["n0 of []"]);
        // More left is better; ties are broken by chance.
        let large = "allocatable: {cpu: '8', memory: 8Gi, pods: '110'}";
        check(asks, &[ROOM, large, ROOM], expect!["n1 of [125, 150, 125]"]);
        check(asks, &[ROOM, ROOM, ROOM], expect!["n0 of [125, 125, 125]"]);
        // A soft taint weighs more than room.
        let soft = "{taints: [{key: a, effect: PreferNoSchedule}], allocatable: {cpu: '8', memory: 8Gi, pods: '110'}}";
        check(asks, &[soft, ROOM], expect!["n1 of [150, 425]"]);
        let prefers = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchFields: [{key: metadata.name, operator: In, values: [n0]}]}}]}}";
        check(prefers, &[ROOM, large], expect!["n0 of [300, 100]"]);
    }

    #[test]
    fn ties_are_shared_out() {
        let snapshot = snapshot(&[ROOM; 4]);
        let mut selector = Selector::new(Rng::seeded(7));
        let mut chosen = [0; 4];
        for _ in 0..400 {
            if let Some(at) = selector.select(&pod_info("{}"), &snapshot) {
                chosen[at] += 1;
            }
        }
        assert!(chosen.iter().all(|count| (60..140).contains(count)), "{chosen:?}");
    }
}
