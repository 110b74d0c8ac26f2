//! Between v2 and v1. What v1 has no field for stands in annotations there, in v1's own form, so
//! that nothing is lost on the way through.

use serde_json::{Value, json};

use crate::tree;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const KEPT: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
const DEFAULT_PERCENT: i64 = 80;

/// What is measured where nobody says: CPU.
pub fn default_metric() -> Value {
    cpu_target(DEFAULT_PERCENT)
}

fn cpu_target(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}})
}

/// The share of CPU that a metric wants, if that is what it is about.
fn cpu_percent<'a>(metric: &'a Value, part: &str) -> Option<&'a Value> {
    let resource = &metric["resource"];
    let of_cpu = metric["type"] == "Resource" && resource["name"] == "cpu";
    let percent = &resource[part]["averageUtilization"];
    (of_cpu && !percent.is_null()).then_some(percent)
}

/// From v2 to v1.
pub fn to_v1(object: &mut Value) {
    drop_annotations(object);
    let spec = tree::child(object, "spec");
    let metrics = tree::remove(spec, "metrics").unwrap_or_default();
    let behavior = tree::remove(spec, "behavior").unwrap_or_default();
    let metrics = metrics.as_array().cloned().unwrap_or_default();
    if let Some(percent) = metrics.iter().find_map(|metric| cpu_percent(metric, "target")) {
        tree::set(spec, "targetCPUUtilizationPercentage", percent.clone());
    }
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| cpu_percent(metric, "target").is_none())
        .map(|metric| metric_to_v1(metric, "target"))
        .collect();
    annotate(object, METRICS, !others.is_empty(), &json!(others));
    if let Some(status) = object.get_mut("status") {
        tree::default(status, "currentReplicas", 0);
        let current = tree::remove(status, "currentMetrics").unwrap_or_default();
        let conditions = tree::remove(status, "conditions").unwrap_or_default();
        let current = current.as_array().cloned().unwrap_or_default();
        // The last of them counts, as upstream has it.
        if let Some(percent) = current.iter().rev().find_map(|one| cpu_percent(one, "current")) {
            tree::set(status, "currentCPUUtilizationPercentage", percent.clone());
        }
        let shown: Vec<Value> =
            current.iter().map(|metric| metric_to_v1(metric, "current")).collect();
        annotate(object, CURRENT, !shown.is_empty(), &json!(shown));
        let any = conditions.as_array().is_some_and(|all| !all.is_empty());
        annotate(object, CONDITIONS, any, &conditions);
    }
    annotate(object, BEHAVIOR, !behavior.is_null(), &behavior);
}

/// From v1 to v2.
pub fn from_v1(object: &mut Value) {
    let read = |key: &str| -> Option<Value> {
        serde_json::from_str(object["metadata"]["annotations"][key].as_str()?).ok()
    };
    let list = |key: &str| read(key).and_then(|value| value.as_array().cloned());
    let others = list(METRICS).unwrap_or_default();
    let (behavior, current, conditions) = (read(BEHAVIOR), list(CURRENT), list(CONDITIONS));
    drop_annotations(object);
    let spec = tree::child(object, "spec");
    let percent = tree::remove(spec, "targetCPUUtilizationPercentage").and_then(|v| v.as_i64());
    let mut metrics: Vec<Value> =
        others.iter().map(|metric| metric_from_v1(metric, "target")).collect();
    metrics.extend(percent.map(cpu_target));
    if metrics.is_empty() {
        metrics.push(default_metric());
    }
    tree::set(spec, "metrics", metrics);
    if let Some(behavior) = behavior.filter(|behavior| !tree::is_empty(behavior)) {
        tree::set(spec, "behavior", behavior);
    }
    let Some(status) = object.get_mut("status").filter(|status| status.is_object()) else { return };
    let percent = tree::remove(status, "currentCPUUtilizationPercentage");
    if let Some(current) = current {
        let all: Vec<Value> =
            current.iter().map(|metric| metric_from_v1(metric, "current")).collect();
        tree::set(status, "currentMetrics", all);
    } else if let Some(percent) = percent {
        let metric = json!({"type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
        tree::set(status, "currentMetrics", json!([metric]));
    }
    if let Some(conditions) = conditions {
        tree::set(status, "conditions", conditions);
    }
}

fn drop_annotations(object: &mut Value) {
    let metadata = tree::child(object, "metadata");
    let Some(annotations) = metadata.get_mut("annotations") else { return };
    KEPT.iter().for_each(|key| drop(tree::remove(annotations, key)));
    if annotations.as_object().is_some_and(serde_json::Map::is_empty) {
        tree::remove(metadata, "annotations");
    }
}

fn annotate(object: &mut Value, key: &str, wanted: bool, value: &Value) {
    if wanted {
        let annotations = tree::child(tree::child(object, "metadata"), "annotations");
        tree::set(annotations, key, value.to_string());
    }
}

/// The fields of one metric as v1 calls them; `part` is `target` or `current`.
fn metric_to_v1(metric: &Value, part: &str) -> Value {
    let mut metric = metric.clone();
    let (value, average, percent) = names(part);
    each_source(&mut metric, |key, source| {
        let of = tree::remove(source, part).unwrap_or_default();
        let named = tree::remove(source, "metric").unwrap_or_default();
        let selector = if key == "external" { "metricSelector" } else { "selector" };
        let move_to = |source: &mut Value, from: &Value, to: &str| {
            if !from.is_null() {
                tree::set(source, to, from.clone());
            }
        };
        if let Some(described) = tree::remove(source, "describedObject") {
            tree::set(source, "target", described);
        }
        move_to(source, &named["name"], "metricName");
        move_to(source, &named["selector"], selector);
        match key {
            "object" | "external" => {
                move_to(source, &of["value"], value);
                move_to(source, &of["averageValue"], object_average(key, part));
            }
            _ => {
                move_to(source, &of["averageValue"], average);
                move_to(source, &of["averageUtilization"], percent);
            }
        }
        // Amounts that v1 can't leave out.
        match (key, part) {
            ("object", _) | ("external", "current") => tree::default(source, value, "0"),
            ("pods", _) | ("resource" | "containerResource", "current") => {
                tree::default(source, average, "0");
            }
            _ => {}
        }
    });
    metric
}

fn metric_from_v1(metric: &Value, part: &str) -> Value {
    let mut metric = metric.clone();
    let (value, average, percent) = names(part);
    each_source(&mut metric, |key, source| {
        let mut of = json!({});
        let mut named = json!({});
        let selector = if key == "external" { "metricSelector" } else { "selector" };
        if key == "object"
            && let Some(described) = tree::remove(source, "target")
        {
            tree::set(source, "describedObject", described);
        }
        for (from, to) in [("metricName", "name"), (selector, "selector")] {
            if let Some(value) = tree::remove(source, from) {
                tree::set(&mut named, to, value);
            }
        }
        let averages = [average, object_average(key, part)];
        for (from, to) in [
            (value, "value"),
            (averages[0], "averageValue"),
            (averages[1], "averageValue"),
            (percent, "averageUtilization"),
        ] {
            if let Some(value) = tree::remove(source, from).filter(|value| value != "0") {
                tree::set(&mut of, to, value);
            }
        }
        if part == "target" {
            let sort = match (tree::has(&of, "averageUtilization"), tree::has(&of, "value")) {
                (true, _) => "Utilization",
                (_, true) if !tree::has(&of, "averageValue") => "Value",
                _ => "AverageValue",
            };
            tree::set(&mut of, "type", sort);
        }
        if matches!(key, "object" | "external" | "pods") {
            tree::set(source, "metric", named);
        }
        tree::set(source, part, of);
    });
    metric
}

/// v1's names of a value, an average and a share.
fn names(part: &str) -> (&'static str, &'static str, &'static str) {
    match part {
        "target" => ("targetValue", "targetAverageValue", "targetAverageUtilization"),
        _ => ("currentValue", "currentAverageValue", "currentAverageUtilization"),
    }
}

/// v1 calls the average of an object's metric by a name of its own.
fn object_average(key: &str, part: &str) -> &'static str {
    match (key, part) {
        ("object", _) => "averageValue",
        (_, "target") => "targetAverageValue",
        _ => "currentAverageValue",
    }
}

fn each_source(metric: &mut Value, mut change: impl FnMut(&str, &mut Value)) {
    for key in ["object", "external", "pods", "resource", "containerResource"] {
        if let Some(source) = metric.get_mut(key).filter(|source| source.is_object()) {
            change(key, source);
        }
    }
}
