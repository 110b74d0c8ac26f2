//! NodeName: a pod that names its node goes nowhere else.

use super::{Causes, Filter, Plugin, reason};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeName",
    filter: Some(Filter {
        concerns: |pod| !pod.node_name.is_empty(),
        refuses: |pod, node| (pod.node_name != node.name).then_some(1),
        reasons: |_, _| reason("node(s) didn't match the requested node name"),
        helped_by: Causes::NODE_ADDED,
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
    fn names() {
        check("{}", "{}", expect!["fits"]);
        check("nodeName: x", "{}", expect!["fits"]);
        check("nodeName: y", "{}", expect!["node(s) didn't match the requested node name"]);
    }
}
