//! PodTemplate: a pod to be, for whoever makes pods.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::pod;
use crate::{
    cause::{Causes, Path},
    strategies::apps::workload,
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

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let template = &object["template"];
        let [names, images] = workload::container_cells(template);
        let labels = workload::labels_cell(&template["metadata"]["labels"]);
        vec![name(object), names, images, labels.into()]
    }
}
