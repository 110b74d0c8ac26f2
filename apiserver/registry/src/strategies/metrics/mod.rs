//! metrics.k8s.io: what `kubectl top` and autoscalers ask for.

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupResource, Object, Quantity, Timestamp};

use crate::{
    computed::{Computed, Summary, Use},
    strategy::Strategy,
    table::{Cells, name},
    tree,
};

/// What the rates are over, told to whoever wants to know how fresh they are. Kubelets don't tell
/// theirs; it is between a second and a minute.
const WINDOW: &str = "30s";

/// NodeMetrics.
#[derive(Clone, Copy, Debug)]
pub struct NodeMetrics;

/// PodMetrics.
#[derive(Clone, Copy, Debug)]
pub struct PodMetrics;

impl Computed for NodeMetrics {
    fn subject(&self) -> GroupResource {
        GroupResource::new("", "nodes")
    }

    fn node_field(&self) -> &'static str {
        "metadata.name"
    }

    fn measure(&self, _subject: &Object, told: &Summary) -> Option<Value> {
        let (at, usage) = usage(&told.node)?;
        Some(json!({"timestamp": at, "window": WINDOW, "usage": usage}))
    }
}

impl Computed for PodMetrics {
    fn subject(&self) -> GroupResource {
        GroupResource::new("", "pods")
    }

    fn node_field(&self) -> &'static str {
        "spec.nodeName"
    }

    /// A pod that was deleted and made again under its name is another.
    fn measure(&self, subject: &Object, told: &Summary) -> Option<Value> {
        let pod = told.pods.get(&*subject.uid)?;
        let measured: Vec<(&str, &str, Value)> = pod
            .containers
            .iter()
            .filter_map(|of| usage(of).map(|(at, usage)| (at, of.name.as_str(), usage)))
            .collect();
        let (at, ..) = measured.first()?;
        let containers: Vec<Value> =
            measured.iter().map(|(_, name, usage)| json!({"name": name, "usage": usage})).collect();
        Some(json!({"timestamp": at, "window": WINDOW, "containers": containers}))
    }
}

/// When it was measured, and how much. None where CPU or memory isn't known (yet).
fn usage(of: &Use) -> Option<(&str, Value)> {
    let cpu = of.cpu.as_ref()?;
    let (nanos, bytes) = (cpu.usage_nano_cores?, of.memory.as_ref()?.working_set_bytes?);
    let usage = json!({"cpu": cores(nanos), "memory": Quantity::from_bytes(bytes).to_string()});
    Some((&cpu.time, usage))
}

/// Thousandths where that is exact.
fn cores(nanos: u64) -> String {
    match (nanos / 1_000_000, nanos % 1_000_000) {
        (0, 0) => "0".to_owned(),
        (millis, 0) => format!("{millis}m"),
        _ => format!("{nanos}n"),
    }
}

impl Strategy for NodeMetrics {
    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let usage = &object["usage"];
        vec![name(object), usage["cpu"].clone(), usage["memory"].clone(), object["window"].clone()]
    }
}

impl Strategy for PodMetrics {
    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let containers = tree::list(object, "containers");
        let sum = |resource: &str| {
            let amounts = containers.iter().filter_map(|of| of["usage"][resource].as_str());
            amounts.filter_map(nanos_or_bytes).sum::<u64>()
        };
        let memory = Quantity::from_bytes(sum("memory")).to_string();
        vec![
            name(object),
            Value::from(cores(sum("cpu"))),
            Value::from(memory),
            object["window"].clone(),
        ]
    }
}

/// Reads back what `usage` wrote: CPU in billionths, memory in bytes.
fn nanos_or_bytes(text: &str) -> Option<u64> {
    if let Some(nanos) = text.strip_suffix('n') {
        return nanos.parse().ok();
    }
    if let Some(millis) = text.strip_suffix('m') {
        return Some(millis.parse::<u64>().ok()? * 1_000_000);
    }
    text.parse::<Quantity>().ok().map(|amount| amount.units().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use windlass_sdk_meta::Encoded;

    use super::*;

    fn summary() -> Summary {
        let at = "2026-11-23T10:00:00Z";
        let used = |name: &str, nanos: u64, bytes: u64| {
            json!({"name": name, "cpu": {"time": at, "usageNanoCores": nanos, "usageCoreNanoSeconds": 1},
                "memory": {"time": at, "workingSetBytes": bytes, "usageBytes": 1}})
        };
        let told = json!({
            "node": {"nodeName": "n", "cpu": {"time": at, "usageNanoCores": 1_500_000_000},
                "memory": {"workingSetBytes": 1 << 30}, "fs": {}},
            "pods": [
                {"podRef": {"name": "cart", "namespace": "shop", "uid": "1"},
                    "containers": [used("main", 12_345_678, 5000), used("log", 2_000_000, 4 << 20)]},
                {"podRef": {"name": "new", "namespace": "shop", "uid": "2"},
                    "containers": [{"name": "main", "startTime": at}]},
                {"podRef": {"name": "idle", "namespace": "shop", "uid": "3"},
                    "containers": [used("main", 0, 0)]},
            ],
        });
        serde_json::from_value(told).expect("a summary")
    }

    fn check(kind: &(impl Computed + Strategy), metadata: Value, expected: Expect) {
        let tree = json!({"metadata": metadata});
        let subject = Object::new(Encoded::from_tree(&tree), &tree, 1, &[]);
        let measured = kind.measure(&subject, &summary());
        let text = measured.map_or("nothing\n".to_owned(), |mut body| {
            let told = body.to_string();
            body["metadata"] = tree["metadata"].clone();
            format!("{told}\n{}\n", Value::from(kind.cells(&body, Timestamp::UNIX_EPOCH)))
        });
        expected.assert_eq(&text);
    }

    #[test]
    fn what_a_node_tells_becomes_metrics() {
        check(
            &NodeMetrics,
            json!({"name": "n"}),
            expect![[r#"
            {"timestamp":"2026-11-23T10:00:00Z","window":"30s","usage":{"cpu":"1500m","memory":"1Gi"}}
            ["n","1500m","1Gi","30s"]
        "#]],
        );
        let pod = |name: &str, uid: &str| json!({"name": name, "namespace": "shop", "uid": uid});
        check(
            &PodMetrics,
            pod("cart", "1"),
            expect![[r#"
            {"timestamp":"2026-11-23T10:00:00Z","window":"30s","containers":[{"name":"main","usage":{"cpu":"12345678n","memory":"5000"}},{"name":"log","usage":{"cpu":"2m","memory":"4Mi"}}]}
            ["cart","14345678n","4199304","30s"]
        "#]],
        );
        check(
            &PodMetrics,
            pod("cart", "another"),
            expect![[r#"
            nothing
        "#]],
        );
        check(
            &PodMetrics,
            pod("new", "2"),
            expect![[r#"
            nothing
        "#]],
        );
        check(
            &PodMetrics,
            pod("idle", "3"),
            expect![[r#"
            {"timestamp":"2026-11-23T10:00:00Z","window":"30s","containers":[{"name":"main","usage":{"cpu":"0","memory":"0"}}]}
            ["idle","0","0","30s"]
        "#]],
        );
    }
}
