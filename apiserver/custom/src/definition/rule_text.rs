//! How rules are written, and how messages show them.

use serde_json::Value;
use windlass_apiserver_registry::{Causes, Path};

use crate::{
    rules::field_path,
    schema::{Rule, Schema},
};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

fn at(path: &str) -> Path<'_> {
    Path::Child(&Path::Root, path)
}

/// What a rule must look like before anybody compiles it.
pub fn written(rule: &Rule, schema: &Schema, path: &str, causes: &mut Causes) {
    let child = |name: &str| format!("{path}.{name}");
    let (text, message) = (rule.rule.trim(), rule.message.trim());
    let lines = |text: &str| text.contains(['\n', '\r']);
    if text.is_empty() {
        causes.required(at(&child("rule")), "rule is not specified");
    } else if !rule.message.is_empty() && message.is_empty() {
        let why = "must be non-empty if specified";
        causes.invalid_text(at(&child("message")), &rule.message, why);
    } else if lines(message) {
        causes.invalid_text(at(&child("message")), &rule.message, "must not contain line breaks");
    } else if lines(text) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        causes.required(at(&child("message")), why);
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        causes.required(at(&child("messageExpression")), why);
    }
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        causes.not_supported(at(&child("reason")), &reason.into(), &REASONS);
    }
    let place = child("fieldPath");
    if !rule.field_path.is_empty() {
        if rule.field_path.trim().is_empty() {
            let why = "must be non-empty if specified";
            causes.invalid_text(at(&place), &rule.field_path, why);
        }
        if lines(&rule.field_path) {
            causes.invalid_text(at(&place), &rule.field_path, "must not contain line breaks");
        }
        if field_path(&rule.field_path, schema, true).is_err() {
            causes.invalid_text(at(&place), &rule.field_path, "must be a valid path");
        }
    }
}

/// A rule as messages show it: with all of its fields.
pub fn shown(rule: &Rule) -> Value {
    serde_json::json!({"Rule": rule.rule, "Message": rule.message,
        "MessageExpression": rule.message_expression, "Reason": rule.reason,
        "FieldPath": rule.field_path, "OptionalOldSelf": rule.optional_old_self})
}

pub fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
