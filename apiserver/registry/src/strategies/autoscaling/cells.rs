//! How `kubectl get hpa` shows an autoscaler.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    table::{Cells, age, name},
    tree,
};

/// Metrics that are shown; of more, only how many.
const MOST_SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub fn cells(object: &Value, now: Timestamp) -> Cells {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    let least = tree::number(spec, "minReplicas");
    vec![
        name(object),
        format!("{}/{}", tree::text(target, "kind"), tree::text(target, "name")).into(),
        metrics(tree::list(spec, "metrics"), tree::list(status, "currentMetrics")).into(),
        least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string()).into(),
        tree::number(spec, "maxReplicas").unwrap_or(0).into(),
        tree::number(status, "currentReplicas").unwrap_or(0).into(),
        age(object, now),
    ]
}

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .take(MOST_SHOWN)
        .map(|(at, spec)| metric(spec, statuses.get(at).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    match specs.len().saturating_sub(MOST_SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let key = match tree::text(spec, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[key]["target"], &status[key]["current"]);
    let is = |key: &str| current[key].as_str().unwrap_or(UNKNOWN).to_owned();
    let wants = |key: &str| tree::text(target, key).to_owned();
    let percent = |of: &Value, absent: &str| match tree::number(of, "averageUtilization") {
        Some(percent) => format!("{percent}%"),
        None => absent.to_owned(),
    };
    let by_average = tree::has(target, "averageValue");
    match key {
        "pods" => format!("{}/{}", is("averageValue"), wants("averageValue")),
        "external" | "object" if by_average => {
            format!("{}/{} (avg)", is("averageValue"), wants("averageValue"))
        }
        "external" | "object" => format!("{}/{}", is("value"), wants("value")),
        _ => {
            let resource = tree::text(&spec[key], "name");
            if by_average {
                let (now, then) = (is("averageValue"), wants("averageValue"));
                return format!("{resource}: {now}/{then}");
            }
            format!("{resource}: {}/{}", percent(current, UNKNOWN), percent(target, "<auto>"))
        }
    }
}
