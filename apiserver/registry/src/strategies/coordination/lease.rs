//! Lease: who holds something, and until when.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct Lease;

impl Strategy for Lease {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        if tree::number(spec, "leaseDurationSeconds").is_some_and(|seconds| seconds <= 0) {
            let field = path.child("leaseDurationSeconds");
            causes.invalid(field, &spec["leaseDurationSeconds"], "must be greater than 0");
        }
        if tree::number(spec, "leaseTransitions").is_some_and(|count| count < 0) {
            let why = "must be greater than or equal to 0";
            causes.invalid(path.child("leaseTransitions"), &spec["leaseTransitions"], why);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let holder = tree::text(&object["spec"], "holderIdentity");
        vec![name(object), Value::from(holder), age(object, now)]
    }
}
