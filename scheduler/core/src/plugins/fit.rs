//! NodeResourcesFit: what a pod asks for must be there, and nodes with more left are liked better
//! (upstream's LeastAllocated, CPU and memory weighing the same).

use std::borrow::Cow;

use super::{Causes, Filter, Normalise, Plugin, Refusal, Score, always};
use crate::{
    node::{NodeInfo, amount},
    pod::PodInfo,
};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeResourcesFit",
    filter: Some(Filter {
        concerns: always,
        refuses,
        reasons,
        helped_by: Causes::NODE_ADDED.and(Causes::ALLOCATABLE).and(Causes::POD_GONE),
    }),
    score: Some(Score {
        concerns: |_, _| true,
        of: least_allocated,
        normalise: Normalise::No,
        weight: 1,
    }),
};

const PODS: u32 = 1;
const CPU: u32 = 2;
const MEMORY: u32 = 4;
const EPHEMERAL: u32 = 8;
/// The first of the pod's extended resources; those past the 28th share the last bit.
const EXTENDED: u32 = 16;

fn refuses(pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    let (load, used, all) = (&*pod.load, &node.used, &node.allocatable);
    // A resource that isn't asked for is never short, even where a node is overcommitted.
    let short = |asked: i64, used: i64, all: i64| asked > 0 && asked > all - used;
    let mut refusal = 0;
    if used.pods + 1 > all.pods {
        refusal |= PODS;
    }
    if short(load.milli_cpu, used.milli_cpu, all.milli_cpu) {
        refusal |= CPU;
    }
    if short(load.memory_bytes, used.memory_bytes, all.memory_bytes) {
        refusal |= MEMORY;
    }
    if short(load.ephemeral_bytes, used.ephemeral_bytes, all.ephemeral_bytes) {
        refusal |= EPHEMERAL;
    }
    for (at, (name, asked)) in load.extended.iter().enumerate() {
        if short(*asked, amount(&used.extended, name), amount(&node.details.extended, name)) {
            refusal |= EXTENDED << at.min(27);
        }
    }
    (refusal != 0).then_some(refusal)
}

fn reasons(refusal: Refusal, pod: &PodInfo) -> Vec<Cow<'static, str>> {
    let known = [
        (PODS, "Too many pods"),
        (CPU, "Insufficient cpu"),
        (MEMORY, "Insufficient memory"),
        (EPHEMERAL, "Insufficient ephemeral-storage"),
    ];
    let extended = pod.load.extended.iter().take(28).enumerate();
    known
        .into_iter()
        .filter(|(bit, _)| refusal & bit != 0)
        .map(|(_, reason)| Cow::Borrowed(reason))
        .chain(
            extended
                .filter(|(at, _)| refusal & (EXTENDED << at) != 0)
                .map(|(_, (name, _))| Cow::Owned(format!("Insufficient {name}"))),
        )
        .collect()
}

fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (load, used, all) = (&*pod.load, &node.used, &node.allocatable);
    let cpu = (all.milli_cpu, used.scored_milli_cpu + load.scored_milli_cpu);
    let memory = (all.memory_bytes, used.scored_memory_bytes + load.scored_memory_bytes);
    let (mut sum, mut weights) = (0, 0);
    for (all, used) in [cpu, memory].into_iter().filter(|(all, _)| *all > 0) {
        weights += 1;
        sum += left(all, used);
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// The part that is left, in hundredths. Memory times 100 stays far within 63 bits.
fn left(all: i64, used: i64) -> i64 {
    if used > all { 0 } else { (all - used).saturating_mul(100) / all }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        plugins::told,
        testing::{node_info, pod_info},
    };

    fn check(pod: &str, used: &str, node: &str, expected: Expect) {
        let mut node = node_info(node);
        node.used.add(&pod_info(used).load);
        expected.assert_eq(&told(&super::PLUGIN, &pod_info(pod), &node));
    }

    fn requests(text: &str) -> String {
        format!("containers: [{{name: c, resources: {{requests: {{{text}}}}}}}]")
    }

    #[test]
    fn room() {
        let node = "allocatable: {cpu: '2', memory: 1Gi, ephemeral-storage: 10Gi, pods: '10', example.com/gpu: '2'}";
        let table = [
            ("", "", expect!["score 75"]),
            ("cpu: 1", "cpu: 1", expect!["score 30"]),
            ("cpu: 1001m", "cpu: 1", expect!["Insufficient cpu"]),
            ("cpu: '1.0001'", "cpu: 1", expect!["Insufficient cpu"]),
            ("memory: 600Mi", "memory: 500Mi", expect!["Insufficient memory"]),
            ("memory: 524Mi", "memory: 500Mi", expect!["score 45"]),
            ("ephemeral-storage: 11Gi", "", expect!["Insufficient ephemeral-storage"]),
            ("example.com/gpu: 1", "example.com/gpu: 1", expect!["score 75"]),
            ("example.com/gpu: 2", "example.com/gpu: 1", expect!["Insufficient example.com/gpu"]),
            ("example.com/other: 1", "", expect!["Insufficient example.com/other"]),
            // An overcommitted node still takes what asks for nothing of it.
            ("memory: 1Mi", "cpu: 5", expect!["score 40"]),
            ("cpu: 5, memory: 5Gi", "", expect!["Insufficient cpu, Insufficient memory"]),
        ];
        for (pod, used, expected) in table {
            check(&requests(pod), &requests(used), node, expected);
        }
        check("{}", "{}", "allocatable: {cpu: '2', pods: '1'}", expect!["Too many pods"]);
    }

    #[test]
    fn whole_pods() {
        let node = "allocatable: {cpu: '2', memory: 1Gi, pods: '10'}";
        let one = |name: &str, cpu: &str, more: &str| {
            format!("{{name: {name}, resources: {{requests: {{cpu: {cpu}}}}}{more}}}")
        };
        let pod = |init: &str, main: &str, more: &str| {
            format!("{{initContainers: [{init}], containers: [{main}]{more}}}")
        };
        let sidecar = ", restartPolicy: Always";
        let table = [
            // Containers together; the largest init container where it is more.
            (pod("", &(one("a", "1500m", "") + "," + &one("b", "600m", "")), ""), false),
            (pod(&one("i", "2", ""), &one("a", "1", ""), ""), true),
            (pod(&one("i", "2100m", ""), &one("a", "1", ""), ""), false),
            // Sidecars run beside the containers and beside later init containers.
            (pod(&one("s", "1500m", sidecar), &one("a", "600m", ""), ""), false),
            (
                pod(
                    &(one("s", "500m", sidecar) + "," + &one("i", "1600m", "")),
                    &one("a", "1", ""),
                    "",
                ),
                false,
            ),
            (
                pod(
                    &(one("i", "1600m", "") + "," + &one("s", "500m", sidecar)),
                    &one("a", "1", ""),
                    "",
                ),
                true,
            ),
            // Overhead comes on top; requests of the whole pod replace the sum.
            (pod("", &one("a", "1900m", ""), ", overhead: {cpu: 200m}"), false),
            (pod("", &one("a", "1900m", ""), ", resources: {requests: {cpu: '3'}}"), false),
            (pod("", &one("a", "100m", ""), ", resources: {requests: {cpu: '2'}}"), true),
        ];
        for (pod, fits) in table {
            let told = told(&super::PLUGIN, &pod_info(&pod), &node_info(node));
            assert_eq!(told != "Insufficient cpu", fits, "{pod}");
        }
    }
}
