//! CSIStorageCapacity: how much a driver still has of a class for some nodes.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names,
    strategies::{apps::workload::validate_selector, common::not_below_zero},
    strategy::Strategy,
    table::{Cells, name},
    tree,
};

#[derive(Debug)]
pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let root = Path::Root;
        validate_selector(&object["nodeTopology"], root.child("nodeTopology"), causes);
        let class = tree::text(object, "storageClassName");
        causes.complaints(root.child("storageClassName"), class, names::subdomain(class));
        not_below_zero(&object["capacity"], root.child("capacity"), causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        for key in ["nodeTopology", "storageClassName"] {
            if !tree::same(&new[key], &old[key]) {
                let path = Path::Root.child(key);
                causes.invalid_or_null(path, &new[key], "field is immutable");
            }
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        vec![name(object), object["metadata"]["creationTimestamp"].clone()]
    }
}
