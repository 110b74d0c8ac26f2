//! TaintToleration: taints keep pods away unless tolerated; soft ones only make a node less liked.

use super::{Causes, Filter, Normalise, Plugin, Refusal, Score, always, reason};
use crate::{
    node::{Effect, NodeInfo},
    pod::PodInfo,
};

pub const PLUGIN: Plugin = Plugin {
    name: "TaintToleration",
    filter: Some(Filter {
        concerns: always,
        refuses,
        reasons: |_, _| reason("node(s) had untolerated taint(s)"),
        helped_by: Causes::NODE_ADDED.and(Causes::TAINTS),
    }),
    score: Some(Score {
        concerns: |_, snapshot| snapshot.has_soft_taints(),
        of: intolerable,
        normalise: Normalise::LowestIsBest,
        weight: 3,
    }),
};

fn refuses(pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    if !node.has_hard_taints {
        return None;
    }
    let mut hard =
        node.details.taints.iter().filter(|taint| taint.effect != Effect::PreferNoSchedule);
    hard.any(|taint| !pod.tolerates(taint)).then_some(1)
}

/// How many soft taints the pod doesn't tolerate.
fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    if !node.has_soft_taints {
        return 0;
    }
    let soft = node.details.taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule);
    let tolerated = |taint: &&crate::node::Taint| {
        pod.tolerations.iter().any(|one| one.is_soft() && one.tolerates(taint))
    };
    soft.filter(|taint| !tolerated(taint)).fold(0, |count, _| count + 1)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        plugins::told,
        testing::{node_info, pod_info},
    };

    fn check(pod: &str, node: &str, expected: Expect) {
        expected.assert_eq(&told(&super::PLUGIN, &pod_info(pod), &node_info(node)));
    }

    #[test]
    fn tolerations() {
        let gpu = "taints: [{key: gpu, value: a100, effect: NoSchedule}]";
        let refused = || expect!["node(s) had untolerated taint(s)"];
        check("{}", "{}", expect!["score 0"]);
        check("{}", gpu, refused());
        check("tolerations: [{operator: Exists}]", gpu, expect!["score 0"]);
        check("tolerations: [{key: gpu, operator: Exists}]", gpu, expect!["score 0"]);
        check("tolerations: [{key: gpu, value: a100}]", gpu, expect!["score 0"]);
        check("tolerations: [{key: gpu, operator: Equal, value: h100}]", gpu, refused());
        check(
            "tolerations: [{key: gpu, value: a100, effect: NoSchedule}]",
            gpu,
            expect!["score 0"],
        );
        check("tolerations: [{key: gpu, value: a100, effect: NoExecute}]", gpu, refused());
        check("tolerations: [{key: gpu, operator: Sometimes}]", gpu, refused());
        let two = "taints: [{key: gpu, effect: NoSchedule}, {key: dead, effect: NoExecute}]";
        check("tolerations: [{key: gpu, operator: Exists}]", two, refused());
    }

    #[test]
    fn soft_taints() {
        let two =
            "taints: [{key: a, effect: PreferNoSchedule}, {key: b, effect: PreferNoSchedule}]";
        check("{}", two, expect!["score 2"]);
        check("tolerations: [{key: a, operator: Exists}]", two, expect!["score 1"]);
        check(
            "tolerations: [{key: a, operator: Exists, effect: NoSchedule}]",
            two,
            expect!["score 2"],
        );
        check("tolerations: [{operator: Exists}]", two, expect!["score 0"]);
    }
}
