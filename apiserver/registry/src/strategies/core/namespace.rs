//! Namespace: its deletion waits until a controller has emptied it and taken its mark off
//! `spec.finalizers` through `/finalize`.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    metadata::{STANDARD_FINALIZERS, UNKNOWN_FINALIZER},
    names::{self, NameRule},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

#[derive(Debug)]
pub struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        label_with_name(object);
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        // A generated name is known only now.
        label_with_name(object);
        tree::set(tree::child(object, "status"), "phase", "Active");
        let spec = tree::child(object, "spec");
        let mut finalizers = tree::list(spec, "finalizers").to_vec();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        tree::set(spec, "finalizers", finalizers);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "finalize" {
            tree::keep(new, old, "status");
        } else {
            tree::keep(tree::child(new, "spec"), &old["spec"], "finalizers");
        }
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Path::Root.child("spec");
        for finalizer in tree::list(&object["spec"], "finalizers").iter().filter_map(Value::as_str)
        {
            let mut complaints = names::qualified(finalizer);
            let standard = STANDARD_FINALIZERS.contains(&finalizer);
            if !finalizer.contains('/') && !standard {
                complaints.push(UNKNOWN_FINALIZER.to_owned());
            }
            causes.complaints(spec.child("finalizers"), finalizer, complaints);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        match sub {
            "status" => phase_fits(new, causes),
            "finalize" => self.validate(new, causes),
            _ => {}
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), Value::from(tree::text(&object["status"], "phase")), age(object, now)]
    }

    fn held(&self, object: &Value) -> bool {
        !tree::list(&object["spec"], "finalizers").is_empty()
    }

    fn prepare_for_deletion(&self, object: &mut Value) {
        tree::set(tree::child(object, "status"), "phase", "Terminating");
    }

    fn owns_deletion(&self) -> bool {
        true
    }
}

fn label_with_name(object: &mut Value) {
    let metadata = tree::child(object, "metadata");
    let name = tree::text(metadata, "name").to_owned();
    if !name.is_empty() {
        tree::set(tree::child(metadata, "labels"), NAME_LABEL, name);
    }
}

/// The phase says whether it is being deleted, and nothing else.
fn phase_fits(new: &Value, causes: &mut Causes) {
    let status = Path::Root.child("status");
    let phase = tree::text(&new["status"], "phase");
    let deleting = tree::has(&new["metadata"], "deletionTimestamp");
    let why = match (deleting, phase) {
        (false, "Active") | (true, "Terminating") => return,
        (false, _) => "may only be 'Active' if `deletionTimestamp` is empty",
        (true, _) => "may only be 'Terminating' if `deletionTimestamp` is not empty",
    };
    causes.invalid_text(status.child("Phase"), phase, why);
}
