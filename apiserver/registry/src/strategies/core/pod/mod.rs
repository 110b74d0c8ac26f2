//! Pod: containers on one node. The kind with the most rules; those about the specification are
//! shared with the templates of workloads.

mod cells;
mod containers;
mod defaults;
mod ephemeral;
mod level;
mod mounts;
mod projected;
mod qos;
mod resize;
mod resources;
mod restart;
mod scheduling;
mod security;
mod spec;
mod status;
mod status_resources;
mod update;
mod volumes;
mod warnings;

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

pub use defaults::default_spec;
pub use resources::validate as validate_resources;
pub use scheduling::{node_term as validate_node_term, validate_tolerations};
pub use spec::validate_template;
pub use update::changed;
pub use warnings::{of_claim as claim_warnings, of_name as name_warning, of_pod as pod_warnings};

use crate::{
    cause::{Causes, Path},
    strategy::{Context, Separation, Strategy},
    table::Cells,
    tree,
};

/// Set by the agent that mirrors a manifest of its node; no API call changes what such a pod runs.
const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Debug)]
pub struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        defaults::default_pod(object);
    }

    fn prepare_for_create(&self, object: &mut Value, cx: &Context<'_>) {
        let labels = object["metadata"]["labels"].clone();
        let spec = tree::child(object, "spec");
        level::default(spec);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(spec)});
        tree::default(spec, "preemptionPolicy", "PreemptLowerPriority");
        tree::default(spec, "priority", 0);
        scheduling::merge_label_keys(spec, &labels);
        if !tree::list(spec, "schedulingGates").is_empty() {
            let gated = json!({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": format_time(cx.now)});
            tree::set(&mut status, "conditions", json!([gated]));
        }
        tree::set(object, "status", status);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        match sub {
            "status" => {}
            "ephemeralcontainers" => return ephemeral::keep_the_rest(new, old),
            "resize" => return resize::keep_the_rest(new, old),
            _ => return,
        }
        tree::keep(tree::child(new, "metadata"), &old["metadata"], "ownerReferences");
        let (status, before) = (tree::child(new, "status"), &old["status"]);
        for key in ["qosClass", "observedGeneration", "resourceClaimStatuses"] {
            if !tree::has(status, key) && tree::has(before, key) {
                tree::keep(status, before, key);
            }
        }
        keep_observed_generations(status, before);
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        spec::validate_pod(object, causes);
        if !tree::list(spec, "ephemeralContainers").is_empty() {
            causes.forbidden(path.child("ephemeralContainers"), "cannot be set on create");
        }
        let gated = !tree::list(spec, "schedulingGates").is_empty();
        if gated && !tree::text(spec, "nodeName").is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            causes.forbidden(path.child("nodeName"), why);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        match sub {
            "status" => status::validate(new, old, causes),
            // `bind` checks all that it touches, and touches what an update may not.
            "binding" => {}
            "ephemeralcontainers" => ephemeral::validate_update(new, old, causes),
            "resize" => resize::validate(new, old, causes),
            _ => update::validate(new, old, causes),
        }
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() || !sub.is_empty() {
            return Vec::new();
        }
        let mut all: Vec<String> =
            warnings::of_name(new, "the Pod's hostname").into_iter().collect();
        all.extend(warnings::of_pod(new, Path::Root));
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        cells::cells(object, now)
    }

    /// The pod's own period unless the client asks for another; none where no node has to act.
    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let (spec, phase) = (&object["spec"], tree::text(&object["status"], "phase"));
        let own = || tree::number(spec, "terminationGracePeriodSeconds").unwrap_or(0);
        let finished = phase == "Failed" || phase == "Succeeded";
        if tree::text(spec, "nodeName").is_empty() || finished {
            return Some(0);
        }
        let seconds = asked.unwrap_or_else(own);
        Some(if seconds < 0 { 1 } else { seconds })
    }
}

/// A client that doesn't know `observedGeneration` doesn't clear it.
fn keep_observed_generations(status: &mut Value, before: &Value) {
    let old = tree::list(before, "conditions");
    for condition in tree::list_mut(status, "conditions") {
        if tree::number(condition, "observedGeneration").unwrap_or(0) == 0
            && let Some(same) = old.iter().find(|one| one["type"] == condition["type"])
            && tree::has(same, "observedGeneration")
        {
            tree::keep(condition, same, "observedGeneration");
        }
    }
}
