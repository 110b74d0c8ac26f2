//! NodeResourcesBalancedAllocation: likes nodes whose CPU and memory would be used more evenly with
//! the pod than without it.

use super::{Normalise, Plugin, Score};
use crate::{node::NodeInfo, pod::PodInfo};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeResourcesBalancedAllocation",
    filter: None,
    score: Some(Score {
        // A pod that asks for nothing changes no balance.
        concerns: |pod, _| !pod.best_effort,
        of: improvement,
        normalise: Normalise::No,
        weight: 1,
    }),
};

/// 75 where nothing changes, up to 100 where it gets better, down to 50 where it gets worse.
fn improvement(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (load, used, all) = (&*pod.load, &node.used, &node.allocatable);
    let before = balance((used.milli_cpu, all.milli_cpu), (used.memory_bytes, all.memory_bytes));
    let after = balance(
        (used.milli_cpu + load.milli_cpu, all.milli_cpu),
        (used.memory_bytes + load.memory_bytes, all.memory_bytes),
    );
    50 + (50 + after - before) / 2
}

/// 100 where both parts are used to the same fraction, 50 where one is full and the other empty.
fn balance(cpu: (i64, i64), memory: (i64, i64)) -> i64 {
    if cpu.1 == 0 || memory.1 == 0 {
        return 100;
    }
    let fraction = |(used, all): (i64, i64)| (used as f64 / all as f64).min(1.0);
    let deviation = ((fraction(cpu) - fraction(memory)) / 2.0).abs();
    ((1.0 - deviation) * 100.0) as i64
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        plugins::told,
        testing::{node_info, pod_info},
    };

    fn requests(text: &str) -> String {
        format!("containers: [{{name: c, resources: {{requests: {{{text}}}}}}}]")
    }

    fn check(pod: &str, used: &str, expected: Expect) {
        let mut node = node_info("allocatable: {cpu: '2', memory: 2Gi, pods: '10'}");
        node.used.add(&pod_info(&requests(used)).load);
        expected.assert_eq(&told(&super::PLUGIN, &pod_info(&requests(pod)), &node));
    }

    #[test]
    fn balance() {
        check("cpu: 1, memory: 1Gi", "", expect!["score 75"]);
        check("cpu: 1", "", expect!["score 62"]);
        check("cpu: 1", "memory: 1Gi", expect!["score 87"]);
        check("cpu: 2", "memory: 2Gi", expect!["score 100"]);
        check("cpu: 2", "", expect!["score 50"]);
    }
}
