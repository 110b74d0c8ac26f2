//! `/stats/summary`: upstream's `stats/v1alpha1.Summary`, as far as it means something here. There
//! is no kernel between guests and node, so page faults, file systems and networks of containers
//! are not part of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windlass_runtime_api::{ContainerStats, SandboxStats};
use windlass_sdk_meta::{Timestamp, format_time};

use super::{Base, Sample};

/// What isn't measured.
pub(super) struct Facts {
    pub node: String,
    /// By uid.
    pub pods_started: BTreeMap<String, Timestamp>,
}

/// The document.
pub(super) fn summary(now: &Sample, base: &Base, facts: &Facts) -> Value {
    let machine = &now.machine;
    let mut node = json!({
        "nodeName": facts.node,
        "cpu": cpu(now.at, base.machine_rate(now), machine.cpu_nanos),
        "memory": {
            "time": format_time(now.at),
            "availableBytes": machine.available_bytes,
            "usageBytes": machine.total_bytes.saturating_sub(machine.free_bytes),
            "workingSetBytes": machine.working_set_bytes(),
            "rssBytes": machine.anonymous_bytes,
        },
    });
    if let Some(at) = machine.booted_at {
        node["startTime"] = format_time(at).into();
    }
    let pods: Vec<Value> = now.pods.iter().map(|pod| of_pod(now, base, facts, pod)).collect();
    json!({ "node": node, "pods": pods })
}

fn of_pod(now: &Sample, base: &Base, facts: &Facts, pod: &SandboxStats) -> Value {
    let rate = |of: &ContainerStats| base.container_rate(now, &pod.pod_uid, of);
    let containers: Vec<Value> =
        pod.containers.iter().map(|of| container(now, rate(of), of)).collect();
    let rates = pod.containers.iter().map(rate).sum();
    let nanos = pod.containers.iter().map(|of| of.cpu_nanos).sum();
    let bytes = pod.containers.iter().map(|of| of.memory_bytes).sum();
    let mut value = json!({
        "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.pod_uid },
        "containers": containers,
        "cpu": cpu(now.at, rates, nanos),
        "memory": memory(now.at, bytes, None),
    });
    if let Some(at) = facts.pods_started.get(&pod.pod_uid) {
        value["startTime"] = format_time(*at).into();
    }
    value
}

fn container(now: &Sample, rate: u64, of: &ContainerStats) -> Value {
    let mut value = json!({
        "name": of.name,
        "cpu": cpu(now.at, rate, of.cpu_nanos),
        "memory": memory(now.at, of.memory_bytes, of.memory_limit_bytes),
    });
    if let Some(at) = of.started_at {
        value["startTime"] = format_time(at).into();
    }
    value
}

fn cpu(at: Timestamp, rate: u64, nanos: u64) -> Value {
    json!({ "time": format_time(at), "usageNanoCores": rate, "usageCoreNanoSeconds": nanos })
}

/// A guest's memory is all its own: there is no cache in it that could go.
fn memory(at: Timestamp, bytes: u64, limit: Option<u64>) -> Value {
    let mut memory = json!({ "time": format_time(at), "usageBytes": bytes,
        "workingSetBytes": bytes, "rssBytes": bytes });
    if let Some(limit) = limit {
        memory["availableBytes"] = limit.saturating_sub(bytes).into();
    }
    memory
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::{super::testing::*, *};

    #[test]
    fn the_document_is_as_upstreams() {
        let base = sample().base();
        let mut now = sample();
        now.at += Duration::from_secs(2);
        now.pods[0].containers[0].cpu_nanos += 500_000_000;
        let started = time("2026-11-23T09:59:59Z");
        let facts =
            Facts { node: "n1".into(), pods_started: [("uid-cart".to_owned(), started)].into() };
        let document = summary(&now, &base, &facts);
        let text = serde_json::to_string_pretty(&document).expect("JSON");
        expect![[r#"
            {
              "node": {
                "nodeName": "n1",
                "cpu": {
                  "time": "2026-11-23T10:00:12Z",
                  "usageNanoCores": 0,
                  "usageCoreNanoSeconds": 90500000000
                },
                "memory": {
                  "time": "2026-11-23T10:00:12Z",
                  "availableBytes": 536870912,
                  "usageBytes": 805306368,
                  "workingSetBytes": 536870912,
                  "rssBytes": 134217728
                },
                "startTime": "2026-11-23T09:00:00Z"
              },
              "pods": [
                {
                  "podRef": {
                    "name": "cart",
                    "namespace": "shop",
                    "uid": "uid-cart"
                  },
                  "containers": [
                    {
                      "name": "main",
                      "cpu": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageNanoCores": 250000000,
                        "usageCoreNanoSeconds": 2000000000
                      },
                      "memory": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageBytes": 20971520,
                        "workingSetBytes": 20971520,
                        "rssBytes": 20971520,
                        "availableBytes": 46137344
                      },
                      "startTime": "2026-11-23T10:00:00Z"
                    },
                    {
                      "name": "log",
                      "cpu": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageNanoCores": 0,
                        "usageCoreNanoSeconds": 0
                      },
                      "memory": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageBytes": 0,
                        "workingSetBytes": 0,
                        "rssBytes": 0
                      },
                      "startTime": "2026-11-23T10:00:00Z"
                    }
                  ],
                  "cpu": {
                    "time": "2026-11-23T10:00:12Z",
                    "usageNanoCores": 250000000,
                    "usageCoreNanoSeconds": 2000000000
                  },
                  "memory": {
                    "time": "2026-11-23T10:00:12Z",
                    "usageBytes": 20971520,
                    "workingSetBytes": 20971520,
                    "rssBytes": 20971520
                  },
                  "startTime": "2026-11-23T09:59:59Z"
                },
                {
                  "podRef": {
                    "name": "pay",
                    "namespace": "shop",
                    "uid": "uid-pay"
                  },
                  "containers": [
                    {
                      "name": "main",
                      "cpu": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageNanoCores": 0,
                        "usageCoreNanoSeconds": 4710169
                      },
                      "memory": {
                        "time": "2026-11-23T10:00:12Z",
                        "usageBytes": 1048576,
                        "workingSetBytes": 1048576,
                        "rssBytes": 1048576,
                        "availableBytes": 66060288
                      },
                      "startTime": "2026-11-23T10:00:00Z"
                    }
                  ],
                  "cpu": {
                    "time": "2026-11-23T10:00:12Z",
                    "usageNanoCores": 0,
                    "usageCoreNanoSeconds": 4710169
                  },
                  "memory": {
                    "time": "2026-11-23T10:00:12Z",
                    "usageBytes": 1048576,
                    "workingSetBytes": 1048576,
                    "rssBytes": 1048576
                  }
                }
              ]
            }
        "#]]
        .assert_eq(&(text + "\n"));
    }
}
