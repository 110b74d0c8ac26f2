//! ReplicaSet: a number of equal pods.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::workload;
use crate::{
    cause::{Causes, Path},
    strategy::{Context, ScalePaths, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const COUNTS: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];

#[derive(Debug)]
pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(tree::child(object, "status"), "replicas", 0);
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let path = Path::Root.child("spec");
        workload::not_negative(&object["spec"], path, &["replicas", "minReadySeconds"], causes);
        workload::validate_selector_and_template(object, causes);
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
        let status = |key: &str| json!(tree::number(&object["status"], key).unwrap_or(0));
        let desired = json!(tree::number(&object["spec"], "replicas").unwrap_or(0));
        let mut cells = vec![
            name(object),
            desired,
            status("replicas"),
            status("readyReplicas"),
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
