//! `metav1.Condition`: rules that kinds with conditions of this type share, and how one is set.

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

use crate::{
    cause::{Causes, Path},
    names, tree,
};

const STATES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// Rules of a list of conditions.
pub fn validate(all: &[Value], path: Path<'_>, causes: &mut Causes) {
    for (at, condition) in all.iter().enumerate() {
        let item = path.index(at);
        let kind = tree::text(condition, "type");
        if all[..at].iter().any(|other| tree::text(other, "type") == kind) {
            causes.duplicate(item, &condition["type"]);
        }
        match kind {
            "" => causes.required(item.child("type"), "is required"),
            kind => causes.complaints(item.child("type"), kind, names::qualified(kind)),
        }
        if tree::text(condition, "status").is_empty() {
            causes.required(item.child("status"), "");
        } else if !STATES.contains(&tree::text(condition, "status")) {
            causes.not_supported(item.child("status"), &condition["status"], &STATES);
        }
        if tree::number(condition, "observedGeneration").is_some_and(|seen| seen < 0) {
            let why = "must be greater than or equal to zero";
            causes.invalid(item.child("observedGeneration"), &condition["observedGeneration"], why);
        }
        if !tree::has(condition, "lastTransitionTime") {
            causes.required(item.child("lastTransitionTime"), "");
        }
        let (reason, field) = (tree::text(condition, "reason"), item.child("reason"));
        if reason.is_empty() {
            causes.required(field, "");
        } else {
            causes.complaints(field, reason, names::condition_reason(reason));
            if reason.len() > MAX_REASON {
                causes.too_long(field, MAX_REASON);
            }
        }
        if tree::text(condition, "message").len() > MAX_MESSAGE {
            causes.too_long(item.child("message"), MAX_MESSAGE);
        }
    }
}

/// Sets a condition in a status; its time moves only when its state does.
pub fn set(status: &mut Value, mut condition: Value, now: Timestamp) {
    let list = tree::list(status, "conditions");
    let known = list.iter().position(|one| one["type"] == condition["type"]);
    let since = match known.map(|at| &list[at]) {
        Some(before) if before["status"] == condition["status"] => {
            before["lastTransitionTime"].clone()
        }
        _ => Value::from(format_time(now)),
    };
    tree::set(&mut condition, "lastTransitionTime", since);
    let mut all = list.to_vec();
    match known {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
    tree::set(status, "conditions", json!(all));
}
