//! DaemonSet: one pod on every node that fits.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::workload;
use crate::{
    cause::{Causes, Path},
    semantic,
    strategies::core::pod,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

/// Where apps/v1 carries the count of template changes that older versions had as a field.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

const SPEC: &str = "apps.v1.DaemonSetSpec";

#[derive(Debug)]
pub struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        // The count as upstream's types have it: a number that is always there.
        if !tree::has(&object["metadata"]["annotations"], TEMPLATE_GENERATION) {
            set_template_generation(object, 0);
        }
        let strategy = tree::child(tree::child(object, "spec"), "updateStrategy");
        if tree::text(strategy, "type") == "RollingUpdate" {
            let rolling = tree::child(strategy, "rollingUpdate");
            tree::default(rolling, "maxUnavailable", 1);
            tree::default(rolling, "maxSurge", 0);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let said = template_generation(object).max(1);
        set_template_generation(object, said);
        let status = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0});
        tree::set(object, "status", status);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub.is_empty() {
            let (spec, before) = (&new["spec"], &old["spec"]);
            let changed = !semantic::same_in(spec, before, "apps.v1.DaemonSetSpec", "template");
            set_template_generation(new, template_generation(old) + i64::from(changed));
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (selector, field) = (&spec["selector"], path.child("selector"));
        workload::validate_selector(selector, field, causes);
        workload::labels_fit(spec, path, None, causes);
        if tree::has(spec, "selector") && tree::is_empty(selector) {
            causes.invalid(field, selector, "empty selector is invalid for daemonset");
        }
        pod::validate_template(&spec["template"], path.child("template"), causes);
        workload::runs_always(&spec["template"], path.child("template"), "DaemonSet", causes);
        workload::not_negative(spec, path, &["minReadySeconds"], causes);
        update_strategy(&spec["updateStrategy"], path.child("updateStrategy"), causes);
        workload::not_negative(spec, path, &["revisionHistoryLimit"], causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            let path = Path::Root.child("status");
            workload::not_negative(&new["status"], path, &COUNTS, causes);
            return workload::collisions_kept(new, old, causes);
        }
        workload::spec_kept(new, old, SPEC, &["selector"], causes);
        self.validate(new, causes);
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(sub, new, old, false)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let status = |key: &str| json!(tree::number(&object["status"], key).unwrap_or(0));
        let nodes = workload::labels_cell(&object["spec"]["template"]["spec"]["nodeSelector"]);
        let mut cells = vec![
            name(object),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            nodes.into(),
            age(object, now),
        ];
        cells.extend(workload::wide_cells(object));
        cells
    }
}

fn update_strategy(strategy: &Value, path: Path<'_>, causes: &mut Causes) {
    let rolling = &strategy["rollingUpdate"];
    match tree::text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(rolling, path.child("rollingUpdate"), causes),
        kind => {
            let parameters = match rolling {
                Value::Null => Value::Null,
                _ => json!({"MaxUnavailable": rolling["maxUnavailable"],
                    "MaxSurge": rolling["maxSurge"]}),
            };
            let shown = json!({"Type": kind, "RollingUpdate": parameters});
            causes.not_supported(path, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn rolling_update(rolling: &Value, path: Path<'_>, causes: &mut Causes) {
    let keys = ["maxUnavailable", "maxSurge"];
    for key in keys {
        workload::count_or_percent(&rolling[key], path.child(key), causes);
    }
    for key in keys {
        workload::at_most_all(&rolling[key], path.child(key), causes);
    }
    match keys.map(|key| workload::amount(&rolling[key]) != 0) {
        [true, true] => {
            let why = "may not be set when maxUnavailable is non-zero";
            causes.invalid(path.child("maxSurge"), &rolling["maxSurge"], why);
        }
        [false, false] => {
            causes.required(path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}

fn template_generation(object: &Value) -> i64 {
    let said = tree::text(&object["metadata"]["annotations"], TEMPLATE_GENERATION);
    said.parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, count: i64) {
    let annotations = tree::child(tree::child(object, "metadata"), "annotations");
    tree::set(annotations, TEMPLATE_GENERATION, count.to_string());
}
