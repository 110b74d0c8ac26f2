//! Small rules that kinds of several groups share.

use serde_json::Value;
use windlass_sdk_meta::Quantity;

use crate::{
    cause::{Causes, Path},
    names, tree,
};

const MAX_DRIVER: usize = 63;
const MAX_DOMAIN: usize = 253;
/// A domain, a slash, and a subdomain with one more label.
const MAX_SIGNER: usize = MAX_DOMAIN + 1 + MAX_DOMAIN + 63 + 1;
const ONLY_METADATA_OF_SYSTEM: [&str; 4] =
    ["labels", "annotations", "finalizers", "ownerReferences"];

/// Texts that must not be empty.
pub fn required(of: &Value, keys: &[&str], path: Path<'_>, causes: &mut Causes) {
    for key in keys.iter().filter(|key| tree::text(of, key).is_empty()) {
        causes.required(path.child(key), "");
    }
}

/// A text that is absent or one of `known`.
pub fn one_of(of: &Value, key: &str, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let value = &of[key];
    if !value.is_null() && !value.as_str().is_some_and(|text| known.contains(&text)) {
        causes.not_supported(path.child(key), value, known);
    }
}

/// A number within a range, where it is there.
pub fn between(
    of: &Value,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
    why: &str,
    path: Path<'_>,
    causes: &mut Causes,
) {
    if tree::number(of, key).is_some_and(|number| !range.contains(&number)) {
        causes.invalid(path.child(key), &of[key], why);
    }
}

/// An amount that is not below zero, where it is there.
pub fn not_below_zero(amount: &Value, path: Path<'_>, causes: &mut Causes) {
    let parsed = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
    if parsed.is_some_and(|amount| amount.is_negative()) {
        causes.invalid(path, amount, "must be greater than or equal to 0");
    }
}

/// The name of a storage driver.
pub fn driver_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    if name.len() > MAX_DRIVER {
        causes.too_long(path, MAX_DRIVER);
    }
    causes.complaints(path, name, names::subdomain(&name.to_ascii_lowercase()));
}

/// The same in the words of upstream's newer rules, which new objects are held to.
pub fn new_driver_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    if name.chars().count() > MAX_DRIVER {
        causes.too_many_characters(path, MAX_DRIVER);
    }
    causes.complaints(path, name, names::subdomain_in_any_case(name));
}

/// A reference to an object by names that can stand in a path.
pub fn path_segments(of: &Value, keys: &[&str], path: Path<'_>, causes: &mut Causes) {
    for key in keys {
        match tree::text(of, key) {
            "" => causes.required(path.child(key), ""),
            name => causes.complaints(path.child(key), name, names::path_segment(name)),
        }
    }
}

/// Who signs: a domain of two labels or more, a slash, and a path.
pub fn signer_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    let mut segments = name.split('/');
    let (Some(domain), Some(rest), None) = (segments.next(), segments.next(), segments.next())
    else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return causes.invalid_text(path, name, why);
    };
    if domain.len() > MAX_DOMAIN {
        causes.too_long(path, MAX_DOMAIN);
    }
    labels_of(domain, domain, names::label, path, causes);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        causes.invalid_text(path, domain, why);
    }
    labels_of(rest, rest, names::subdomain, path, causes);
    if name.len() > MAX_SIGNER {
        causes.too_long(path, MAX_SIGNER);
    }
}

/// Only the first label that is wrong is told.
fn labels_of(
    text: &str,
    shown: &str,
    rule: fn(&str) -> Vec<String>,
    path: Path<'_>,
    causes: &mut Causes,
) {
    let wrong = text.split('.').map(|label| (label, rule(label)));
    if let Some((label, complaints)) = wrong.into_iter().find(|(_, found)| !found.is_empty()) {
        for complaint in complaints {
            causes.invalid_text(path, shown, format!("validating label {label:?}: {complaint}"));
        }
    }
}

/// A condition list where each type stands once and none is empty.
pub fn condition_types(status: &Value, path: Path<'_>, causes: &mut Causes) {
    let (all, path) = (tree::list(status, "conditions"), path.child("conditions"));
    for (at, condition) in all.iter().enumerate() {
        let item = path.index(at);
        if all[..at].iter().any(|other| other["type"] == condition["type"]) {
            causes.duplicate(item.child("type"), &condition["type"]);
        }
        required(condition, &["type"], item, causes);
    }
}

/// Kinds whose `/status` leaves labels and the like alone.
pub fn keep_metadata(new: &mut Value, old: &Value) {
    let metadata = tree::child(new, "metadata");
    for key in ONLY_METADATA_OF_SYSTEM {
        tree::keep(metadata, &old["metadata"], key);
    }
}

/// How many bytes a valid text in base64 stands for: four characters for three, padding for none.
pub fn bytes_of_base64(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// Texts of a list, joined for a cell.
pub fn joined(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}
