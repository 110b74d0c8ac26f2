//! ResourceClaim, and the template from which pods get one of their own.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::{claim_status, expressions, requests};
use crate::{
    cause::{Causes, Path},
    expression::Expression,
    metadata, semantic, shown,
    strategies::common::keep_metadata,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct Claim;

#[derive(Debug)]
pub struct ClaimTemplate;

impl Strategy for Claim {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn default(&self, object: &mut Value) {
        requests::default(tree::child(object, "spec"));
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
            claim_status::drop_deallocated(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        requests::validate(&object["spec"], Path::Root.child("spec"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return claim_status::validate(new, old, causes);
        }
        if !semantic::same_named(&new["spec"], &old["spec"], "resource.v1.ResourceClaimSpec") {
            causes.invalid_null(Path::Root.child("spec"), "field is immutable");
        }
    }

    fn expressions(&self, object: &Value, old: Option<&Value>) -> Vec<Expression> {
        // The spec never changes.
        let spec = Path::Root.child("spec");
        old.map_or_else(|| expressions::of_claim(&object["spec"], spec), |_| Vec::new())
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), state(object).into(), age(object, now)]
    }
}

fn state(claim: &Value) -> String {
    let status = &claim["status"];
    let mut states = Vec::new();
    if tree::has(&claim["metadata"], "deletionTimestamp") {
        states.push("deleted");
    }
    match (tree::has(status, "allocation"), tree::list(status, "reservedFor").is_empty()) {
        (false, _) if states.is_empty() => states.push("pending"),
        (false, _) => {}
        (true, true) => states.push("allocated"),
        (true, false) => states.extend(["allocated", "reserved"]),
    }
    states.join(",")
}

impl Strategy for ClaimTemplate {
    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        requests::default(tree::child(spec, "spec"));
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (template, path) = (&object["spec"], Path::Root.child("spec"));
        metadata::validate_of_template(&template["metadata"], path.child("metadata"), causes);
        requests::validate(&template["spec"], path.child("spec"), causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        const SPEC: &str = "resource.v1.ResourceClaimTemplateSpec";
        if !semantic::same_named(&new["spec"], &old["spec"], SPEC) {
            causes.immutable(Path::Root.child("spec"), &shown::internal(&new["spec"], SPEC));
        }
    }

    fn expressions(&self, object: &Value, old: Option<&Value>) -> Vec<Expression> {
        let (spec, root) = (&object["spec"]["spec"], Path::Root.child("spec"));
        match old {
            Some(old) if old["spec"] == object["spec"] => Vec::new(),
            _ => expressions::of_claim(spec, root.child("spec")),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), age(object, now)]
    }
}
