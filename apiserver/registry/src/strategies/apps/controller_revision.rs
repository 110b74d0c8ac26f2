//! ControllerRevision: a state that a controller may go back to.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::workload::not_negative;
use crate::{
    cause::{Causes, Path},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        not_negative(object, Path::Root, &["revision"], causes);
        match &object["data"] {
            Value::Null => causes.required(Path::Root.child("data"), "data is mandatory"),
            Value::Object(_) => {}
            _ => causes.required(Path::Root.child("data"), "data must be a valid JSON object"),
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        not_negative(new, Path::Root, &["revision"], causes);
        if !tree::same(&new["data"], &old["data"]) {
            causes.invalid_or_null(Path::Root.child("data"), &new["data"], "field is immutable");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let owners = tree::list(&object["metadata"], "ownerReferences").iter();
        let mut controller = owners.filter(|owner| tree::flag(owner, "controller")).map(|owner| {
            let (group, _) = tree::text(owner, "apiVersion").split_once('/').unwrap_or_default();
            let dot = if group.is_empty() { "" } else { "." };
            let kind = tree::text(owner, "kind").to_lowercase();
            format!("{kind}{dot}{group}/{}", tree::text(owner, "name"))
        });
        vec![
            name(object),
            controller.next().unwrap_or_else(|| "<none>".to_owned()).into(),
            tree::number(object, "revision").unwrap_or(0).into(),
            age(object, now),
        ]
    }
}
