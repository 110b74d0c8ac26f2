//! DeviceClass: a name for devices of a sort, and how they are configured.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::{expressions, names::bounded, requests};
use crate::{
    cause::{Causes, Path},
    expression::Expression,
    names,
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const MOST_CONFIGS: usize = 32;

#[derive(Debug)]
pub struct DeviceClass;

impl Strategy for DeviceClass {
    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        requests::selectors(spec, path, causes);
        if let Some(configs) = bounded(spec, "config", MOST_CONFIGS, path, causes) {
            let all = path.child("config");
            for (at, one) in configs.iter().enumerate() {
                requests::configuration(one, all.index(at), causes);
            }
        }
        if let Some(resource) = spec["extendedResourceName"].as_str() {
            extended_resource(resource, path.child("extendedResourceName"), causes);
        }
    }

    fn expressions(&self, object: &Value, old: Option<&Value>) -> Vec<Expression> {
        let (spec, mut all) = (&object["spec"], Vec::new());
        // What was stored has been compiled.
        let same = |old: &Value| tree::same(&spec["selectors"], &old["spec"]["selectors"]);
        if !old.is_some_and(same) {
            expressions::of_selectors(spec, Path::Root.child("spec"), &mut all);
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), age(object, now)]
    }
}

/// The name under which containers may ask for a device.
fn extended_resource(resource: &str, path: Path<'_>, causes: &mut Causes) {
    if !resource.contains('/') {
        let why = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
        causes.invalid_text(path, resource, why);
    } else if resource.contains("kubernetes.io/") {
        causes.invalid_text(path, resource, "must not have \"kubernetes.io/\" domain");
    }
    if resource.starts_with("requests.") {
        causes.invalid_text(path, resource, "must not have \"requests.\" prefix");
    }
    // Quotas count what is asked of it under this name.
    causes.complaints(path, resource, names::qualified(&format!("requests.{resource}")));
}
