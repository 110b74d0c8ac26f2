//! Names of devices, pools and attributes, and rules that all kinds of the group share.

use serde_json::Value;

use crate::{
    cause::{Causes, Path},
    names,
    strategies::common::driver_name,
    tree,
};

const MOST_ID: usize = 32;
const MOST_POOL: usize = 253;
const MOST_BINDING_CONDITIONS: usize = 4;
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// A list of at most `most` items; None where it is longer, and only that is said.
pub fn bounded<'a>(
    of: &'a Value,
    key: &str,
    most: usize,
    path: Path<'_>,
    causes: &mut Causes,
) -> Option<&'a [Value]> {
    let items = tree::list(of, key);
    if items.len() > most {
        causes.too_many(path.child(key), items.len(), most);
        return None;
    }
    Some(items)
}

/// Items that say the same as one before them, by `of`.
pub fn unique<'a, T: PartialEq>(
    items: &'a [Value],
    of: impl Fn(&'a Value) -> T,
    shown: impl Fn(&'a Value) -> Value,
    path: Path<'_>,
    causes: &mut Causes,
) {
    for (at, item) in items.iter().enumerate() {
        if items[..at].iter().any(|other| of(other) == of(item)) {
            causes.duplicate(path.index(at), &shown(item));
        }
    }
}

/// Label names, and required as such.
pub fn label(name: &str, path: Path<'_>, causes: &mut Causes) {
    causes.complaints(path, name, names::label(name));
}

pub fn pool_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    if name.len() > MOST_POOL {
        causes.too_long(path, MOST_POOL);
    }
    for part in name.split('/') {
        causes.complaints(path, part, names::subdomain(part));
    }
}

/// The name of an attribute or capacity: an identifier, perhaps in a domain.
pub fn qualified(name: &str, path: Path<'_>, causes: &mut Causes) {
    match name.split_once('/') {
        None => identifier(name, path, causes),
        Some((_, rest)) if rest.contains('/') => {}
        Some((domain, rest)) => {
            if domain.is_empty() {
                causes.invalid_text(path, "", "the domain must not be empty");
            } else {
                driver_name(domain, path, causes);
            }
            if rest.is_empty() {
                causes.invalid_text(path, "", "the name must not be empty");
            } else {
                identifier(rest, path, causes);
            }
        }
    }
}

pub fn fully_qualified(name: &str, path: Path<'_>, causes: &mut Causes) {
    qualified(name, path, causes);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        causes.invalid_text(path, name, why);
    }
}

fn identifier(id: &str, path: Path<'_>, causes: &mut Causes) {
    if id.len() > MOST_ID {
        causes.too_long(path, MOST_ID);
    }
    let begins = id.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !begins || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        causes.invalid_text(path, id, IDENTIFIER);
    }
}

/// A uid as Kubernetes writes them.
pub fn is_uid(uid: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    uid.len() == 36
        && uid.bytes().enumerate().all(|(at, byte)| match hyphens.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
        })
}

/// `parameters` and the like: an object of a driver's own.
pub fn raw(of: &Value, most: usize, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return causes.required(path, "");
    }
    if of.to_string().len() > most {
        causes.too_long(path, most);
    } else if !of.is_object() {
        causes.invalid_text(path, "<value omitted>", "must be a valid JSON object");
    }
}

pub fn taint(taint: &Value, path: Path<'_>, causes: &mut Causes) {
    let (key, value) = (tree::text(taint, "key"), tree::text(taint, "value"));
    causes.complaints(path.child("key"), key, names::qualified(key));
    causes.complaints(path.child("value"), value, names::label_value(value));
    match tree::text(taint, "effect") {
        "" => causes.required(path.child("effect"), ""),
        effect if !EFFECTS.contains(&effect) => {
            causes.not_supported(path.child("effect"), &taint["effect"], &EFFECTS);
        }
        _ => {}
    }
}

pub fn toleration(toleration: &Value, path: Path<'_>, causes: &mut Causes) {
    toleration_but_value(toleration, path, causes);
    let value = tree::text(toleration, "value");
    match tree::text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            let why = "must be empty for operator `Exists`";
            causes.invalid_text(path.child("value"), value, why);
        }
        "Equal" => causes.complaints(path.child("value"), value, names::label_value(value)),
        _ => {}
    }
}

pub fn toleration_but_value(toleration: &Value, path: Path<'_>, causes: &mut Causes) {
    let key = tree::text(toleration, "key");
    if !key.is_empty() {
        causes.complaints(path.child("key"), key, names::qualified(key));
    }
    match tree::text(toleration, "operator") {
        "Exists" | "Equal" => {}
        "" => causes.required(path.child("operator"), ""),
        _ => {
            let known = ["Equal", "Exists"];
            causes.not_supported(path.child("operator"), &toleration["operator"], &known);
        }
    }
    let effect = tree::text(toleration, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        causes.not_supported(path.child("effect"), &toleration["effect"], &EFFECTS);
    }
}

/// Conditions that a device waits for after it was allocated, and those that end the waiting.
pub fn binding_conditions(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let keys = ["bindingConditions", "bindingFailureConditions"];
    let lists = keys.map(|key| tree::list(of, key));
    for key in keys {
        let Some(items) = bounded(of, key, MOST_BINDING_CONDITIONS, path, causes) else { continue };
        let field = path.child(key);
        for (at, item) in items.iter().enumerate() {
            let name = item.as_str().unwrap_or_default();
            causes.complaints(field.index(at), name, names::qualified(name));
        }
    }
    for (key, items) in keys.iter().zip(lists) {
        unique(items, |item| item, Clone::clone, path.child(key), causes);
    }
    let field = path.child(keys[1]);
    for (at, item) in lists[1].iter().enumerate().filter(|(_, item)| lists[0].contains(item)) {
        let why = "bindingFailureConditions must not overlap with bindingConditions";
        causes.invalid(field.index(at), item, why);
    }
    for (own, other) in [(0, 1), (1, 0)] {
        if lists[own].is_empty() && !lists[other].is_empty() {
            let why = format!("{} are required to use {}", keys[own], keys[other]);
            causes.invalid_or_null(path.child(keys[own]), &of[keys[own]], &why);
        }
    }
}
