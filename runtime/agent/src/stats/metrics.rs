//! `/metrics`: what the node agent counts about itself, with upstream's names where the meaning is
//! the same, and what only WASM containers have, as `windlass_*`. Everything is read when the page
//! is asked for, so containers that are gone leave nothing behind.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};
use windlass_runtime_api::{ContainerStats, MemoryBudget};

use super::Sample;

/// The page, in OpenMetrics.
pub(super) fn text(
    node: &str,
    sample: Sample,
    budget: Option<MemoryBudget>,
    evictions: u64,
) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page {
        node: node.to_owned(),
        sample,
        budget,
        evictions,
    }));
    let mut out = String::new();
    // Formatting into a String has no way to fail.
    let _ = encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Page {
    node: String,
    sample: Sample,
    budget: Option<MemoryBudget>,
    evictions: u64,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ContainerLabels {
    namespace: String,
    pod: String,
    container: String,
}

type Wrote = Result<(), std::fmt::Error>;

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Wrote {
        let out = &mut encoder;
        let labelled = [("node", self.node.as_str())];
        gauge(out, "kubelet_node_name", "The node's name", &labelled, 1)?;
        let pods = self.sample.pods.iter().filter(|pod| !pod.containers.is_empty());
        gauge(out, "kubelet_running_pods", "Pods with a running container", &[], pods.count())?;
        let containers = self.sample.pods.iter().map(|pod| pod.containers.len()).sum();
        let running = [("container_state", "running")];
        gauge(out, "kubelet_running_containers", "Containers", &running, containers)?;
        out.encode_descriptor("kubelet_evictions", "Pods evicted", None, MetricType::Counter)?
            .encode_family(&[("eviction_signal", "memory.available")])?
            .encode_counter::<[(&str, &str); 0], _, u64>(&self.evictions, None)?;
        if let Some(budget) = &self.budget {
            let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let (limit, used) = (bytes(budget.limit_bytes), bytes(budget.used_bytes));
            let help = "Memory that all guests of the node may hold together";
            gauge(out, "windlass_node_memory_budget_bytes", help, &[], limit)?;
            let help = "Memory that all guests of the node hold";
            gauge(out, "windlass_node_memory_used_bytes", help, &[], used)?;
        }
        self.counters(out, "windlass_requests", "Requests answered", |of| of.requests)?;
        self.counters(out, "windlass_traps", "Requests that ended in a trap", |of| of.traps)?;
        let help = "Lines of the log that were dropped";
        self.counters(out, "windlass_log_lines_dropped", help, |of| of.log_dropped_lines)?;
        let help = "CPU time of the container's guests";
        let mut family =
            out.encode_descriptor("windlass_cpu_seconds", help, None, MetricType::Counter)?;
        for (labels, of) in self.containers() {
            let seconds = of.cpu_nanos as f64 / 1e9;
            family
                .encode_family(&labels)?
                .encode_counter::<[(&str, &str); 0], _, u64>(&seconds, None)?;
        }
        self.gauges(out, "windlass_instances", "Live instances", |of| of.instances)?;
        let help = "Memory of live instances";
        self.gauges(out, "windlass_memory_bytes", help, |of| of.memory_bytes)?;
        self.latency(out)
    }
}

impl Page {
    fn containers(&self) -> impl Iterator<Item = (ContainerLabels, &ContainerStats)> {
        self.sample.pods.iter().flat_map(|pod| {
            pod.containers.iter().map(|of| {
                let labels = ContainerLabels {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: of.name.clone(),
                };
                (labels, of)
            })
        })
    }

    fn counters(
        &self,
        out: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        value: fn(&ContainerStats) -> u64,
    ) -> Wrote {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, of) in self.containers() {
            family
                .encode_family(&labels)?
                .encode_counter::<[(&str, &str); 0], _, u64>(&value(of), None)?;
        }
        Ok(())
    }

    fn gauges(
        &self,
        out: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        value: fn(&ContainerStats) -> u64,
    ) -> Wrote {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, of) in self.containers() {
            family.encode_family(&labels)?.encode_gauge(&value(of))?;
        }
        Ok(())
    }

    /// Containers that never had a request have no histogram.
    fn latency(&self, out: &mut DescriptorEncoder) -> Wrote {
        let name = "windlass_request_duration_seconds";
        let help = "Time from a request's head to the head of its answer";
        let mut family = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, of) in self.containers().filter(|(_, of)| of.requests > 0) {
            let mut below = 0;
            let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(of.latency.len() + 1);
            for (bound, count) in &of.latency {
                buckets.push((bound.as_secs_f64(), count.saturating_sub(below)));
                below = *count;
            }
            // Counted one after the other, so that the sum of all is never less than a part.
            let all = of.requests.max(below);
            buckets.push((f64::INFINITY, all - below));
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                of.latency_sum.as_secs_f64(),
                all,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn gauge(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    labels: &[(&str, &str)],
    value: usize,
) -> Wrote {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    let mut encoder = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    match labels {
        [] => encoder.encode_gauge(&value),
        labels => encoder.encode_family(&labels)?.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{super::testing::sample, *};

    #[test]
    fn the_page_tells_of_each_container() {
        let budget = MemoryBudget { limit_bytes: 1000, used_bytes: 400, reserve_bytes: 100 };
        let page = text("n1", sample(), Some(budget), 2);
        let told = page.lines().filter(|line| !line.starts_with('#'));
        let told: String =
            told.filter(|line| !line.contains("log\"")).map(|l| l.to_owned() + "\n").collect();
        expect![[r#"
            kubelet_node_name{node="n1"} 1
            kubelet_running_pods 2
            kubelet_running_containers{container_state="running"} 3
            kubelet_evictions_total{eviction_signal="memory.available"} 2
            windlass_node_memory_budget_bytes 1000
            windlass_node_memory_used_bytes 400
            windlass_requests_total{namespace="shop",pod="cart",container="main"} 7
            windlass_requests_total{namespace="shop",pod="pay",container="main"} 7
            windlass_traps_total{namespace="shop",pod="cart",container="main"} 1
            windlass_traps_total{namespace="shop",pod="pay",container="main"} 1
            windlass_log_lines_dropped_total{namespace="shop",pod="cart",container="main"} 3
            windlass_log_lines_dropped_total{namespace="shop",pod="pay",container="main"} 3
            windlass_cpu_seconds_total{namespace="shop",pod="cart",container="main"} 1.5
            windlass_cpu_seconds_total{namespace="shop",pod="pay",container="main"} 0.004710169
            windlass_instances{namespace="shop",pod="cart",container="main"} 2
            windlass_instances{namespace="shop",pod="pay",container="main"} 2
            windlass_memory_bytes{namespace="shop",pod="cart",container="main"} 20971520
            windlass_memory_bytes{namespace="shop",pod="pay",container="main"} 1048576
            windlass_request_duration_seconds_sum{namespace="shop",pod="cart",container="main"} 0.25
            windlass_request_duration_seconds_count{namespace="shop",pod="cart",container="main"} 7
            windlass_request_duration_seconds_bucket{le="0.001",namespace="shop",pod="cart",container="main"} 4
            windlass_request_duration_seconds_bucket{le="0.005",namespace="shop",pod="cart",container="main"} 6
            windlass_request_duration_seconds_bucket{le="+Inf",namespace="shop",pod="cart",container="main"} 7
            windlass_request_duration_seconds_sum{namespace="shop",pod="pay",container="main"} 0.25
            windlass_request_duration_seconds_count{namespace="shop",pod="pay",container="main"} 7
            windlass_request_duration_seconds_bucket{le="0.001",namespace="shop",pod="pay",container="main"} 4
            windlass_request_duration_seconds_bucket{le="0.005",namespace="shop",pod="pay",container="main"} 6
            windlass_request_duration_seconds_bucket{le="+Inf",namespace="shop",pod="pay",container="main"} 7
        "#]]
        .assert_eq(&told);
        assert!(page.ends_with("# EOF\n"));
    }
}
