//! `/metrics/resource` in Prometheus' text format: names and labels are upstream's (stable since
//! Kubernetes 1.29), because metrics-server and dashboards ask for them by name.

use std::fmt::Write;

use windlass_runtime_api::{ContainerStats, SandboxStats};

use super::Sample;

type Labels<'a> = Vec<(&'static str, &'a str)>;
/// Labels, value, and whether the time of the sample belongs to it.
type Line<'a> = (Labels<'a>, f64, bool);

/// The page.
pub(super) fn text(sample: &Sample) -> String {
    let mut page = Page { out: String::new(), millis: sample.at.as_millisecond() };
    let machine = &sample.machine;
    let containers = |value: fn(&ContainerStats) -> Option<(f64, bool)>| {
        let all = sample.pods.iter().flat_map(|pod| pod.containers.iter().map(move |of| (pod, of)));
        all.filter_map(|(pod, of)| {
            let (value, timed) = value(of)?;
            Some((of_container(pod, of), value, timed))
        })
        .collect::<Vec<Line<'_>>>()
    };
    let pods = |value: fn(&ContainerStats) -> f64| {
        let line = |pod| (of_pod(pod), pod.containers.iter().map(value).sum::<f64>(), true);
        sample.pods.iter().map(line).collect::<Vec<Line<'_>>>()
    };
    page.family(
        ("container_cpu_usage_seconds_total", "counter", "CPU time of the container's guests"),
        containers(|of| Some((seconds(of.cpu_nanos), true))),
    );
    page.family(
        ("container_memory_working_set_bytes", "gauge", "Memory of the container's live instances"),
        containers(|of| Some((of.memory_bytes as f64, true))),
    );
    page.family(
        ("container_start_time_seconds", "gauge", "When the container started, since 1970"),
        containers(|of| Some((of.started_at?.as_millisecond() as f64 / 1e3, false))),
    );
    page.family(
        ("node_cpu_usage_seconds_total", "counter", "CPU time of the whole machine"),
        vec![(Vec::new(), seconds(machine.cpu_nanos), true)],
    );
    page.family(
        ("node_memory_working_set_bytes", "gauge", "Memory of the machine that is in use"),
        vec![(Vec::new(), machine.working_set_bytes() as f64, true)],
    );
    page.family(
        ("pod_cpu_usage_seconds_total", "counter", "CPU time of the pod's containers"),
        pods(|of| seconds(of.cpu_nanos)),
    );
    page.family(
        ("pod_memory_working_set_bytes", "gauge", "Memory of the pod's containers"),
        pods(|of| of.memory_bytes as f64),
    );
    // The older name is still what some collectors look at.
    for name in ["resource_scrape_error", "scrape_error"] {
        let help = "1 where the containers could not be asked, else 0";
        page.family((name, "gauge", help), vec![(Vec::new(), 0.0, false)]);
    }
    page.out
}

struct Page {
    out: String,
    millis: i64,
}

impl Page {
    /// Nothing where there are no lines.
    fn family(&mut self, (name, sort, help): (&str, &str, &str), lines: Vec<Line<'_>>) {
        if lines.is_empty() {
            return;
        }
        // Writing to a String can't fail, here and below.
        let _ = write!(self.out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {sort}\n");
        for (labels, value, timed) in lines {
            self.out.push_str(name);
            for (at, (label, text)) in labels.iter().enumerate() {
                let _ = write!(self.out, "{}{label}=", if at == 0 { '{' } else { ',' });
                quote(text, &mut self.out);
            }
            if !labels.is_empty() {
                self.out.push('}');
            }
            let _ = write!(self.out, " {value}");
            if timed {
                let _ = write!(self.out, " {}", self.millis);
            }
            self.out.push('\n');
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn of_container<'a>(pod: &'a SandboxStats, of: &'a ContainerStats) -> Labels<'a> {
    vec![("container", &of.name), ("namespace", &pod.namespace), ("pod", &pod.name)]
}

fn of_pod(pod: &SandboxStats) -> Labels<'_> {
    vec![("namespace", &pod.namespace), ("pod", &pod.name)]
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{super::testing::sample, *};

    #[test]
    fn the_page_is_as_upstreams() {
        expect![[r##"
            # HELP container_cpu_usage_seconds_total [STABLE] CPU time of the container's guests
            # TYPE container_cpu_usage_seconds_total counter
            container_cpu_usage_seconds_total{container="main",namespace="shop",pod="cart"} 1.5 1795428010000
            container_cpu_usage_seconds_total{container="log",namespace="shop",pod="cart"} 0 1795428010000
            container_cpu_usage_seconds_total{container="main",namespace="shop",pod="pay"} 0.004710169 1795428010000
            # HELP container_memory_working_set_bytes [STABLE] Memory of the container's live instances
            # TYPE container_memory_working_set_bytes gauge
            container_memory_working_set_bytes{container="main",namespace="shop",pod="cart"} 20971520 1795428010000
            container_memory_working_set_bytes{container="log",namespace="shop",pod="cart"} 0 1795428010000
            container_memory_working_set_bytes{container="main",namespace="shop",pod="pay"} 1048576 1795428010000
            # HELP container_start_time_seconds [STABLE] When the container started, since 1970
            # TYPE container_start_time_seconds gauge
            container_start_time_seconds{container="main",namespace="shop",pod="cart"} 1795428000.25
            container_start_time_seconds{container="log",namespace="shop",pod="cart"} 1795428000.25
            container_start_time_seconds{container="main",namespace="shop",pod="pay"} 1795428000.25
            # HELP node_cpu_usage_seconds_total [STABLE] CPU time of the whole machine
            # TYPE node_cpu_usage_seconds_total counter
            node_cpu_usage_seconds_total 90.5 1795428010000
            # HELP node_memory_working_set_bytes [STABLE] Memory of the machine that is in use
            # TYPE node_memory_working_set_bytes gauge
            node_memory_working_set_bytes 536870912 1795428010000
            # HELP pod_cpu_usage_seconds_total [STABLE] CPU time of the pod's containers
            # TYPE pod_cpu_usage_seconds_total counter
            pod_cpu_usage_seconds_total{namespace="shop",pod="cart"} 1.5 1795428010000
            pod_cpu_usage_seconds_total{namespace="shop",pod="pay"} 0.004710169 1795428010000
            # HELP pod_memory_working_set_bytes [STABLE] Memory of the pod's containers
            # TYPE pod_memory_working_set_bytes gauge
            pod_memory_working_set_bytes{namespace="shop",pod="cart"} 20971520 1795428010000
            pod_memory_working_set_bytes{namespace="shop",pod="pay"} 1048576 1795428010000
            # HELP resource_scrape_error [STABLE] 1 where the containers could not be asked, else 0
            # TYPE resource_scrape_error gauge
            resource_scrape_error 0
            # HELP scrape_error [STABLE] 1 where the containers could not be asked, else 0
            # TYPE scrape_error gauge
            scrape_error 0
        "##]]
        .assert_eq(&text(&sample()));
        let mut quoted = String::new();
        quote("a\"b\\c\nd", &mut quoted);
        assert_eq!(quoted, r#""a\"b\\c\nd""#);
    }

    #[test]
    fn an_idle_node_has_no_containers() {
        let page = text(&Sample { pods: Vec::new(), ..sample() });
        assert!(
            !page.contains("container_cpu") && page.contains("node_cpu_usage_seconds_total 90.5")
        );
    }
}
