//! PriorityClass: a name for how important pods are.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    strategy::{Context, Strategy},
    table::{Cells, age, name},
    tree,
};

const POLICIES: [&str; 2] = ["Never", "PreemptLowerPriority"];
const SYSTEM_PREFIX: &str = "system-";
const HIGHEST_OF_USERS: i64 = 1_000_000_000;
/// Upstream's two classes: name, value, description.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The classes that every cluster has.
pub fn system_classes() -> [Value; 2] {
    SYSTEM.map(|(name, value, description)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description})
    })
}

#[derive(Debug)]
pub struct PriorityClass;

impl Strategy for PriorityClass {
    /// What a class says never changes, so this is the only generation there is.
    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(tree::child(object, "metadata"), "generation", 1);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let name = tree::text(&object["metadata"], "name");
        let value = tree::number(object, "value").unwrap_or(0);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Err(error) = known_system(name, value, tree::flag(object, "globalDefault")) {
                let metadata = Path::Root.child("metadata");
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {error}"
                );
                causes.forbidden(metadata.child("name"), why);
            }
        } else if value > HIGHEST_OF_USERS {
            let why =
                format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
            causes.forbidden(Path::Root.child("value"), why);
        }
        let (policy, path) = (&object["preemptionPolicy"], Path::Root.child("preemptionPolicy"));
        match policy.as_str() {
            Some("") => causes.required(path, ""),
            Some(known) if !POLICIES.contains(&known) => {
                causes.not_supported(path, policy, &["PreemptLowerPriority", "Never"]);
            }
            _ => {}
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if tree::number(new, "value").unwrap_or(0) != tree::number(old, "value").unwrap_or(0) {
            causes.forbidden(Path::Root.child("value"), "may not be changed in an update.");
        }
        let key = "preemptionPolicy";
        if !tree::same(&new[key], &old[key]) {
            causes.invalid_or_null(Path::Root.child(key), &new[key], "field is immutable");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![
            name(object),
            tree::number(object, "value").unwrap_or(0).into(),
            tree::flag(object, "globalDefault").into(),
            age(object, now),
            tree::text(object, "preemptionPolicy").into(),
        ]
    }
}

fn known_system(name: &str, value: i64, global_default: bool) -> Result<(), String> {
    match SYSTEM.iter().find(|(known, ..)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, wanted, _)) if *wanted != value => {
            Err(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) if global_default => {
            Err(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => Ok(()),
    }
}
