//! Deployment: pods by a template, replaced a few at a time when it changes.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::workload::{self, amount, count_or_percent};
use crate::{
    cause::{Causes, Path},
    shown,
    strategy::{Context, ScalePaths, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const COUNTS: [&str; 5] = [
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "collisionCount",
];

#[derive(Debug)]
pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let strategy = tree::child(tree::child(object, "spec"), "strategy");
        if tree::text(strategy, "type") == "RollingUpdate" {
            let rolling = tree::child(strategy, "rollingUpdate");
            tree::default(rolling, "maxUnavailable", "25%");
            tree::default(rolling, "maxSurge", "25%");
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        let (after, before) = (&new["metadata"], &old["metadata"]);
        if sub == "status" {
            tree::keep(&mut new["metadata"], before, "labels");
        } else if !tree::same(&after["annotations"], &before["annotations"]) {
            // ReplicaSets get a copy of them, so the controller has to act.
            let generation = tree::number(before, "generation").unwrap_or(0);
            tree::set(&mut new["metadata"], "generation", generation + 1);
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        workload::not_negative(spec, path, &["replicas"], causes);
        workload::validate_selector_and_template(object, causes);
        strategy_rules(&spec["strategy"], path.child("strategy"), causes);
        let keys = ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
        workload::not_negative(spec, path, &keys, causes);
        let deadline = tree::number(spec, "progressDeadlineSeconds");
        if deadline.is_some_and(|at| at <= tree::number(spec, "minReadySeconds").unwrap_or(0)) {
            let field = path.child("progressDeadlineSeconds");
            causes.invalid(
                field,
                &spec["progressDeadlineSeconds"],
                "must be greater than minReadySeconds",
            );
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return workload::validate_counts(new, &COUNTS, causes);
        }
        self.validate(new, causes);
        workload::selector_kept(new, old, causes);
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(sub, new, old, true)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let status = |key: &str| tree::number(&object["status"], key).unwrap_or(0);
        let desired = tree::number(&object["spec"], "replicas").unwrap_or(0);
        let mut cells = vec![
            name(object),
            Value::from(format!("{}/{desired}", status("readyReplicas"))),
            json!(status("updatedReplicas")),
            json!(status("availableReplicas")),
            age(object, now),
        ];
        cells.extend(workload::wide_cells(object));
        cells
    }

    fn scale(&self) -> Option<ScalePaths<'_>> {
        Some(ScalePaths {
            spec_replicas: "spec.replicas",
            status_replicas: "status.replicas",
            selector: "spec.selector",
            plain_selector: false,
        })
    }
}

fn strategy_rules(strategy: &Value, path: Path<'_>, causes: &mut Causes) {
    let rolling = &strategy["rollingUpdate"];
    match tree::text(strategy, "type") {
        "Recreate" if !rolling.is_null() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            causes.forbidden(path.child("rollingUpdate"), why);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            for key in ["maxUnavailable", "maxSurge"] {
                count_or_percent(&rolling[key], path.child(key), causes);
            }
            let field = path.child("maxUnavailable");
            let unavailable = &rolling["maxUnavailable"];
            if amount(unavailable) == 0 && amount(&rolling["maxSurge"]) == 0 {
                causes.invalid(field, unavailable, "may not be 0 when `maxSurge` is 0");
            }
            if unavailable.is_string() && amount(unavailable) > 100 {
                causes.invalid(field, unavailable, "must not be greater than 100%");
            }
        }
        _ => {
            let shown = shown::internal(strategy, "apps.v1.DeploymentStrategy");
            causes.not_supported(path, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}
