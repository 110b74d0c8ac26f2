//! VolumeAttributesClass: properties of volumes that can change while they are in use.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::storage_class::{parameters, provisioner};
use crate::{
    cause::{Causes, Path},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        provisioner(object, "driverName", Path::Root, causes);
        parameters(object, false, Path::Root, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        for key in ["driverName", "parameters"] {
            if !tree::same(&new[key], &old[key]) {
                let why = format!("updates to {key} are forbidden.");
                causes.forbidden(Path::Root.child(key), why);
            }
        }
        self.validate(new, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), tree::text(object, "driverName").into(), age(object, now)]
    }
}
