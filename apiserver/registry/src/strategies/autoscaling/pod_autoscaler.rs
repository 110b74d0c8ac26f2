//! HorizontalPodAutoscaler: how many replicas something has, by what is measured.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::{
    cells,
    convert::{self, default_metric},
    metrics,
};
use crate::{
    cause::{Causes, Path},
    kind::GroupVersion,
    strategies::{
        apps::workload::not_negative,
        common::{between, not_below_zero, one_of, path_segments},
    },
    strategy::{Context, Separation, Strategy},
    table::Cells,
    tree,
};

const LONGEST_WINDOW_SECONDS: i64 = 3600;
const LONGEST_PERIOD_SECONDS: i64 = 1800;
const SELECT: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICIES: [&str; 2] = ["Percent", "Pods"];

#[derive(Debug)]
pub struct PodAutoscaler;

impl Strategy for PodAutoscaler {
    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        tree::default(spec, "minReplicas", 1);
        if tree::list(spec, "metrics").is_empty() {
            tree::set(spec, "metrics", json!([default_metric()]));
        }
        if tree::has(spec, "behavior") {
            let behavior = tree::child(spec, "behavior");
            rules_default(tree::child(behavior, "scaleUp"), true);
            rules_default(tree::child(behavior, "scaleDown"), false);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({"desiredReplicas": 0, "currentMetrics": null}));
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        spec_rules(&object["spec"], false, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return status_rules(&new["status"], causes);
        }
        let target = |of: &Value| {
            let target = &of["spec"]["scaleTargetRef"];
            (target["apiVersion"].clone(), target["kind"].clone())
        };
        spec_rules(&new["spec"], target(new) == target(old), causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        cells::cells(object, now)
    }

    fn convert(&self, object: &mut Value, to: &GroupVersion) {
        match &*to.version {
            "v1" => convert::to_v1(object),
            _ => convert::from_v1(object),
        }
    }
}

fn rules_default(rules: &mut Value, up: bool) {
    tree::default(rules, "selectPolicy", "Max");
    if up {
        tree::default(rules, "stabilizationWindowSeconds", 0);
    }
    if !tree::has(rules, "policies") {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let policies = if up { json!([pods, percent]) } else { json!([percent]) };
        tree::set(rules, "policies", policies);
    }
}

/// `same_target`: an update that aims where the object aimed before.
fn spec_rules(spec: &Value, same_target: bool, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let least = tree::number(spec, "minReplicas");
    if least.is_some_and(|least| least < 0) {
        let why = "must be greater than or equal to 0";
        causes.invalid(path.child("minReplicas"), &spec["minReplicas"], why);
    }
    let (most, field) = (tree::number(spec, "maxReplicas").unwrap_or(0), path.child("maxReplicas"));
    match most {
        0 => causes.required(field, ""),
        ..0 => causes.invalid(field, &most.into(), "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        causes.invalid(field, &most.into(), "must be greater than or equal to `minReplicas`");
    }
    let target = &spec["scaleTargetRef"];
    let bare = tree::text(target, "kind") == "ReplicationController";
    reference(target, bare, same_target, path.child("scaleTargetRef"), causes);
    metrics::validate(spec, path.child("metrics"), causes);
    if least == Some(0) {
        let outer = |metric: &Value| matches!(tree::text(metric, "type"), "Object" | "External");
        if !tree::list(spec, "metrics").iter().any(outer) {
            let why = "must specify at least one Object or External metric to support scaling to zero replicas";
            causes.forbidden(path.child("metrics"), why);
        }
    }
    let (behavior, path) = (&spec["behavior"], path.child("behavior"));
    for key in ["scaleUp", "scaleDown"] {
        if tree::has(behavior, key) {
            scaling_rules(&behavior[key], path.child(key), causes);
        }
    }
}

/// An object in any group and version. `bare`: it may be of the group without a name.
pub fn reference(of: &Value, bare: bool, any_version: bool, path: Path<'_>, causes: &mut Causes) {
    path_segments(of, &["kind", "name"], path, causes);
    let version = tree::text(of, "apiVersion");
    let why = match version.matches('/').count() {
        _ if any_version => return,
        0 if bare => return,
        0 => "apiVersion must specify API group".to_owned(),
        1 if !version.starts_with('/') || bare => return,
        1 => "apiVersion must specify API group".to_owned(),
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    causes.invalid_text(path.child("apiVersion"), version, why);
}

fn scaling_rules(rules: &Value, path: Path<'_>, causes: &mut Causes) {
    let window = "stabilizationWindowSeconds";
    let why = "must be greater than or equal to zero";
    between(rules, window, 0..=i64::MAX, why, path, causes);
    let why = format!("must be less than or equal to {LONGEST_WINDOW_SECONDS}");
    between(rules, window, i64::MIN..=LONGEST_WINDOW_SECONDS, &why, path, causes);
    one_of(rules, "selectPolicy", &SELECT, path, causes);
    let (policies, all) = (tree::list(rules, "policies"), path.child("policies"));
    if policies.is_empty() {
        causes.required(all, "must specify at least one Policy");
    }
    for (at, policy) in policies.iter().enumerate() {
        let item = all.index(at);
        if !POLICIES.contains(&tree::text(policy, "type")) {
            causes.not_supported(item.child("type"), &policy["type"], &POLICIES);
        }
        for key in ["value", "periodSeconds"] {
            let number = tree::number(policy, key).unwrap_or(0);
            if number <= 0 {
                causes.invalid(item.child(key), &number.into(), "must be greater than zero");
            }
        }
        let why = format!("must be less than or equal to {LONGEST_PERIOD_SECONDS}");
        between(policy, "periodSeconds", i64::MIN..=LONGEST_PERIOD_SECONDS, &why, item, causes);
    }
    not_below_zero(&rules["tolerance"], path.child("tolerance"), causes);
}

fn status_rules(status: &Value, causes: &mut Causes) {
    let path = Path::Root.child("status");
    let all = path.child("conditions");
    for (at, condition) in tree::list(status, "conditions").iter().enumerate() {
        not_negative(condition, all.index(at), &["observedGeneration"], causes);
    }
    not_negative(status, path, &["currentReplicas", "desiredReplicas"], causes);
}
