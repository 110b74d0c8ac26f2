//! NodePorts: two pods of a node can't take the same port of the host.

use super::{Causes, Filter, Plugin, Refusal, reason};
use crate::{node::NodeInfo, pod::PodInfo};

pub const PLUGIN: Plugin = Plugin {
    name: "NodePorts",
    filter: Some(Filter {
        concerns: |pod| !pod.load.ports.is_empty(),
        refuses,
        reasons: |_, _| reason("node(s) didn't have free ports for the requested pod ports"),
        helped_by: Causes::NODE_ADDED.and(Causes::POD_GONE),
    }),
    score: None,
};

fn refuses(pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    let taken = |wanted| node.used.ports.iter().any(|taken| taken.conflicts(wanted));
    pod.load.ports.iter().any(taken).then_some(1)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        plugins::told,
        testing::{node_info, pod_info},
    };

    fn spec(ports: &str) -> String {
        format!("containers: [{{name: c, ports: {ports}}}]")
    }

    fn check(wanted: &str, taken: &str, expected: Expect) {
        let mut node = node_info("{}");
        node.used.add(&pod_info(&spec(taken)).load);
        expected.assert_eq(&told(&super::PLUGIN, &pod_info(&spec(wanted)), &node));
    }

    #[test]
    fn host_ports() {
        let refused = || expect!["node(s) didn't have free ports for the requested pod ports"];
        let p80 = "[{containerPort: 80, hostPort: 80}]";
        check("[{containerPort: 80}]", "[{containerPort: 80}]", expect!["fits"]);
        check(p80, "[]", expect!["fits"]);
        check(p80, p80, refused());
        check(p80, "[{containerPort: 80, hostPort: 81}]", expect!["fits"]);
        check(p80, "[{containerPort: 80, hostPort: 80, protocol: UDP}]", expect!["fits"]);
        check(p80, "[{containerPort: 80, hostPort: 80, hostIP: 127.0.0.1}]", refused());
        check(
            "[{containerPort: 80, hostPort: 80, hostIP: 127.0.0.2}]",
            "[{containerPort: 80, hostPort: 80, hostIP: 127.0.0.1}]",
            expect!["fits"],
        );
    }
}
