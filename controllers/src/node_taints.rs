//! Nodes that aren't ready, or say they are short of something, are tainted, so that no pod is sent
//! there that doesn't tolerate it. A new node is tainted as not ready by admission. Nodes may not
//! taint themselves (NodeRestriction): this controller does it in their place, from their conditions, as upstream's node lifecycle controller does.

use async_trait::async_trait;
use serde_json::{Value, json};
use windlass_sdk_client::{Api, Cluster, Informer, Key, Patch};
use windlass_sdk_types::{Node, api::core::v1::Taint};

use crate::kit::{Controller, Error, Requeue, Watch, watch};

/// Whose service account acts.
pub const NAME: &str = "node-controller";

const EFFECT: &str = "NoSchedule";
/// A condition, the state of it that counts, and the taint it then stands for.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Keeps the taints of nodes as their conditions say.
pub struct NodeTaints {
    api: Api,
    nodes: Informer<Node>,
}

impl NodeTaints {
    pub fn new(cluster: &Cluster) -> Self {
        Self { api: cluster.api(NAME), nodes: cluster.informers.of() }
    }
}

#[async_trait]
impl Controller for NodeTaints {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> Vec<Watch> {
        vec![watch::own(&self.nodes)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let node = self.nodes.find(key);
        if let Some((node, taints)) = node.as_deref().and_then(|node| Some((node, plan(node)?))) {
            // Others may change the list: it is replaced only as it was seen.
            let patch = json!({
                "metadata": { "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": taints },
            });
            match self.api.patch::<Node>("", &key.name, &Patch::Merge(patch)).await {
                Err(error) if error.is_not_found() => {}
                answer => drop(answer?),
            }
        }
        Ok(Requeue::No)
    }
}

/// The taints a node should have; None where it has them. Those of others stay.
fn plan(node: &Node) -> Option<Vec<Value>> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    let holds = |(sort, state, _): &(&str, &str, &str)| {
        let mut all = conditions.unwrap_or_default().iter();
        all.any(|condition| condition.type_ == *sort && condition.status == *state)
    };
    let present = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let row = |taint: &Taint| {
        TAINTS.iter().find(|(_, _, key)| taint.effect == EFFECT && taint.key == *key)
    };
    let (stays, goes): (Vec<&Taint>, Vec<&Taint>) =
        present.iter().partition(|taint| row(taint).is_none_or(holds));
    let has = |key: &str| present.iter().any(|of| of.key == key && of.effect == EFFECT);
    let missing: Vec<&str> =
        TAINTS.iter().filter(|row| holds(row) && !has(row.2)).map(|(_, _, key)| *key).collect();
    if goes.is_empty() && missing.is_empty() {
        return None;
    }
    let kept = stays.into_iter().map(|taint| json!(taint));
    let new = missing.into_iter().map(|key| json!({ "key": key, "effect": EFFECT }));
    Some(kept.chain(new).collect())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use windlass_sdk_types::Kind;

    use super::*;

    fn check(conditions: &[(&str, &str)], taints: Value, expected: Expect) {
        let conditions =
            conditions.iter().map(|(sort, status)| json!({"type": sort, "status": status}));
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"taints": taints}, "status": {"conditions": conditions.collect::<Vec<_>>()}});
        let node = Node::decode(node.to_string().as_bytes()).expect("a node");
        let planned = plan(&node).map_or("nothing".to_owned(), |taints| json!(taints).to_string());
        expected.assert_eq(&planned);
    }

    #[test]
    fn taints_follow_conditions() {
        let pressure =
            json!([{"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}]);
        let other = json!([{"key": "dedicated", "value": "x", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/memory-pressure", "effect": "NoExecute"}]);
        check(&[], json!(null), expect!["nothing"]);
        check(&[("MemoryPressure", "False"), ("Ready", "True")], other.clone(), expect!["nothing"]);
        check(
            &[("MemoryPressure", "True")],
            json!(null),
            expect![[r#"[{"key":"node.kubernetes.io/memory-pressure","effect":"NoSchedule"}]"#]],
        );
        check(&[("MemoryPressure", "True")], pressure.clone(), expect!["nothing"]);
        check(&[("MemoryPressure", "False")], pressure.clone(), expect!["[]"]);
        check(&[("MemoryPressure", "Unknown")], pressure, expect!["[]"]);
        let new = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        check(&[("Ready", "False")], new.clone(), expect!["nothing"]);
        check(&[("Ready", "True")], new.clone(), expect!["[]"]);
        check(
            &[("Ready", "Unknown")],
            new,
            expect![[r#"[{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule"}]"#]],
        );
        check(
            &[("DiskPressure", "True"), ("PIDPressure", "True")],
            other,
            expect![[
                r#"[{"effect":"NoSchedule","key":"dedicated","value":"x"},{"effect":"NoExecute","key":"node.kubernetes.io/memory-pressure"},{"key":"node.kubernetes.io/disk-pressure","effect":"NoSchedule"},{"key":"node.kubernetes.io/pid-pressure","effect":"NoSchedule"}]"#
            ]],
        );
    }
}
