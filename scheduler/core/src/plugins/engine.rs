//! ContainerEngine: pods that need a container engine (the RuntimeClass `docker` makes them select its
//! label) go where one answers, and are told so in words. A pod whose image decides is placed
//! anywhere, with a slight liking for nodes that can run both.

use super::{Causes, Filter, Normalise, Plugin, Score, reason};

/// The label of a node whose container engine answers.
pub const LABEL: &str = "windlass.dev/runtime.docker";
/// Less than what a little more room is worth: WASM must not crowd there.
const LIKED: i64 = 5;

pub const PLUGIN: Plugin = Plugin {
    name: "ContainerEngine",
    filter: Some(Filter {
        concerns: |pod| pod.needs_engine,
        refuses: |_, node| (!node.has_engine).then_some(1),
        reasons: |_, _| reason("node(s) had no container engine (Docker) that answers"),
        helped_by: Causes::NODE_ADDED.and(Causes::LABELS),
    }),
    score: Some(Score {
        concerns: |pod, snapshot| !pod.names_runtime && snapshot.is_partly_equipped(),
        of: |_, node| if node.has_engine { LIKED } else { 0 },
        normalise: Normalise::No,
        weight: 1,
    }),
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
    fn engines() {
        let docker =
            "{runtimeClassName: docker, nodeSelector: {windlass.dev/runtime.docker: 'true'}}";
        let equipped = "labels: {windlass.dev/runtime.docker: 'true'}";
        check(docker, equipped, expect!["score 5"]);
        check(docker, "{}", expect!["node(s) had no container engine (Docker) that answers"]);
        check("{}", "{}", expect!["score 0"]);
        check("{}", equipped, expect!["score 5"]);
    }
}
