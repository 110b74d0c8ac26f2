//! NodeAffinity: `nodeSelector` and required node affinity refuse nodes, preferred affinity likes them.

use super::{Causes, Filter, Normalise, Plugin, Refusal, Score, reason};
use crate::{node::NodeInfo, pod::PodInfo};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeAffinity",
    filter: Some(Filter {
        concerns: |pod| !pod.node_selector.is_empty() || pod.required.is_some(),
        refuses,
        reasons: |_, _| reason("node(s) didn't match Pod's node affinity/selector"),
        helped_by: Causes::NODE_ADDED.and(Causes::LABELS),
    }),
    score: Some(Score {
        concerns: |pod, _| !pod.preferred.is_empty(),
        of: preference,
        normalise: Normalise::UpToHighest,
        weight: 2,
    }),
};

fn refuses(pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    let selected = pod.node_selector.matches_labels(&node.details.labels);
    let one_of = |terms: &Vec<crate::pod::NodeTerm>| terms.iter().any(|term| term.matches(node));
    (!selected || !pod.required.as_ref().is_none_or(one_of)).then_some(1)
}

/// The weights of the preferred terms that match.
fn preference(pod: &PodInfo, node: &NodeInfo) -> i64 {
    pod.preferred.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
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

    fn required(terms: &str) -> String {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: {terms}}}}}}}"
        )
    }

    #[test]
    fn selectors() {
        let ssd = "labels: {disk: ssd, cores: '8'}";
        let refused = || expect!["node(s) didn't match Pod's node affinity/selector"];
        check("{}", ssd, expect!["score 0"]);
        check("nodeSelector: {disk: ssd}", ssd, expect!["score 0"]);
        check("nodeSelector: {disk: ssd, zone: a}", ssd, refused());
        let table = [
            ("[{matchExpressions: [{key: disk, operator: In, values: [hdd, ssd]}]}]", true),
            ("[{matchExpressions: [{key: disk, operator: NotIn, values: [ssd]}]}]", false),
            ("[{matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}]", true),
            ("[{matchExpressions: [{key: disk, operator: Exists}]}]", true),
            ("[{matchExpressions: [{key: disk, operator: DoesNotExist}]}]", false),
            ("[{matchExpressions: [{key: cores, operator: Gt, values: ['4']}]}]", true),
            ("[{matchExpressions: [{key: cores, operator: Lt, values: ['4']}]}]", false),
            ("[{matchExpressions: [{key: disk, operator: Gt, values: ['4']}]}]", false),
            ("[{matchFields: [{key: metadata.name, operator: In, values: [x]}]}]", true),
            ("[{matchFields: [{key: metadata.name, operator: NotIn, values: [x]}]}]", false),
            // One term must hold, and all of it. A term that says nothing matches nothing.
            (
                "[{matchExpressions: [{key: zone, operator: Exists}]}, {matchExpressions: [{key: disk, operator: Exists}]}]",
                true,
            ),
            (
                "[{matchExpressions: [{key: zone, operator: Exists}, {key: disk, operator: Exists}]}]",
                false,
            ),
            ("[{}]", false),
            ("[]", false),
        ];
        for (terms, fits) in table {
            let expected = if fits { expect!["score 0"] } else { refused() };
            check(&required(terms), ssd, expected);
        }
    }

    #[test]
    fn preferences() {
        let pod = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
            {weight: 10, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}},
            {weight: 5, preference: {matchExpressions: [{key: zone, operator: Exists}]}},
            {weight: 50, preference: {}}]}}";
        check(pod, "{}", expect!["score 0"]);
        check(pod, "labels: {disk: ssd}", expect!["score 10"]);
        check(pod, "labels: {disk: ssd, zone: a}", expect!["score 15"]);
    }
}
