//! ReplicationController: what ReplicaSets were before they had selectors by expression.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::pod;
use crate::{
    cause::{Causes, Path},
    names::NameRule,
    strategies::apps::workload,
    strategy::{Context, ScalePaths, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const COUNTS: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];

#[derive(Debug)]
pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        if !tree::has(&object["spec"], "template") {
            return;
        }
        workload::default_template(object);
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        if tree::is_empty(&labels) {
            return;
        }
        for parent in ["spec", "metadata"] {
            let key = if parent == "spec" { "selector" } else { "labels" };
            let of = tree::child(object, parent);
            if tree::is_empty(&of[key]) {
                tree::set(of, key, labels.clone());
            }
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::SubdomainInBytes
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({"replicas": 0}));
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        workload::not_negative(spec, path, &["minReadySeconds"], causes);
        let selector = &spec["selector"];
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            causes.required(path.child("selector"), "");
        }
        workload::not_negative(spec, path, &["replicas"], causes);
        let (template, here) = (&spec["template"], path.child("template"));
        if template.is_null() {
            return causes.required(here, "");
        }
        let labels = &template["metadata"]["labels"];
        let fits = tree::entries(spec, "selector").all(|(key, value)| labels[key] == *value);
        if !fits {
            let metadata = here.child("metadata");
            let why = "`selector` does not match template `labels`";
            causes.invalid_or_null(metadata.child("labels"), labels, why);
        }
        pod::validate_template(template, here, causes);
        workload::runs_always(template, here, "ReplicationController", causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return workload::validate_counts(new, &COUNTS, causes);
        }
        self.validate(new, causes);
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(sub, new, old, true)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let status = |key: &str| json!(tree::number(&object["status"], key).unwrap_or(0));
        let [names, images] = workload::container_cells(&object["spec"]["template"]);
        vec![
            name(object),
            json!(tree::number(&object["spec"], "replicas").unwrap_or(0)),
            status("replicas"),
            status("readyReplicas"),
            age(object, now),
            names,
            images,
            workload::labels_cell(&object["spec"]["selector"]).into(),
        ]
    }

    fn scale(&self) -> Option<ScalePaths<'_>> {
        Some(ScalePaths {
            spec_replicas: "spec.replicas",
            status_replicas: "status.replicas",
            selector: "spec.selector",
            plain_selector: true,
        })
    }
}
