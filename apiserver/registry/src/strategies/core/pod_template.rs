//! PodTemplate: a pod to be, for whoever makes pods.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::pod;
use crate::{
    cause::{Causes, Path},
    strategies::apps::workload,
    strategies::core::pod::pod_warnings,
    strategy::{Separation, Strategy},
    table::{Cells, name},
    tree,
};

#[derive(Debug)]
pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        pod::default_spec(tree::child(tree::child(object, "template"), "spec"));
    }

    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        pod::validate_template(&object["template"], Path::Root.child("template"), causes);
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let changed = old.is_none_or(|old| !tree::same(&old["template"], &new["template"]));
        if !sub.is_empty() || !changed {
            return Vec::new();
        }
        pod_warnings(&new["template"], Path::Root.child("template"))
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let template = &object["template"];
        let [names, images] = workload::container_cells(template);
        let labels = workload::labels_cell(&template["metadata"]["labels"]);
        vec![name(object), names, images, labels.into()]
    }
}
