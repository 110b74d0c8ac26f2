//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use super::{Causes, Filter, Plugin, reason};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeUnschedulable",
    filter: Some(Filter {
        concerns: |pod| !pod.tolerates_unschedulable,
        refuses: |_, node| node.unschedulable.then_some(1),
        reasons: |_, _| reason("node(s) were unschedulable"),
        helped_by: Causes::NODE_ADDED.and(Causes::TAINTS),
    }),
    score: None,
};

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
    fn cordoned_nodes() {
        check("{}", "{}", expect!["fits"]);
        check("{}", "unschedulable: true", expect!["node(s) were unschedulable"]);
        let tolerates = "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]";
        check(tolerates, "unschedulable: true", expect!["fits"]);
        let other = "tolerations: [{key: other, operator: Exists}]";
        check(other, "unschedulable: true", expect!["node(s) were unschedulable"]);
    }
}
