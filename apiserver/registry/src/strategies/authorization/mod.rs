//! The review kinds of authorization.k8s.io and authentication.k8s.io: created, evaluated and
//! answered, never stored.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    strategy::Strategy,
    table::Cells,
    tree,
};

/// A question about who may do what.
#[derive(Debug)]
pub struct Review;

impl Strategy for Review {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let kind = tree::text(object, "kind");
        if matches!(kind, "SelfSubjectReview" | "SelfSubjectRulesReview" | "TokenReview") {
            return;
        }
        let spec = &object["spec"];
        let path = Path::Root.child("spec");
        let about_resource = tree::has(spec, "resourceAttributes");
        let about_path = tree::has(spec, "nonResourceAttributes");
        if about_resource && about_path {
            let why = "cannot be specified in combination with resourceAttributes";
            causes.invalid(
                path.child("nonResourceAttributes"),
                &spec["nonResourceAttributes"],
                why,
            );
        }
        if !about_resource && !about_path {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            causes.invalid(path.child("resourceAttributes"), &Value::Null, why);
        }
        let someone =
            !tree::text(spec, "user").is_empty() || !tree::list(spec, "groups").is_empty();
        if kind != "SelfSubjectAccessReview" && !someone {
            let why = "at least one of user or group must be specified";
            causes.invalid(path.child("user"), &spec["user"], why);
        }
    }

    fn cells(&self, _object: &Value, _now: Timestamp) -> Cells {
        Cells::new()
    }
}
