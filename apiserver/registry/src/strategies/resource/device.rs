//! Rules of one device of a slice.

use serde_json::Value;
use windlass_sdk_meta::Quantity;

use super::{
    names::{binding_conditions, bounded, label, qualified, taint, unique},
    slice::counter_name,
};
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::core::{pod::validate_node_term, resource_names::quantity},
    tree,
};

const MOST_PROPERTIES: usize = 32;
const MOST_VALUE_BYTES: usize = 64;
const MOST_TAINTS: usize = 16;
const MOST_CONSUMPTIONS: usize = 2;
const MOST_COUNTERS: usize = 32;
const MOST_OPTIONS: usize = 10;
/// The forms that an attribute's value can have.
const VALUES: [&str; 8] =
    ["int", "bool", "string", "version", "ints", "bools", "strings", "versions"];
const PER_DEVICE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
const ONE_OF: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

/// `per_device`: the slice leaves it to its devices which nodes reach them.
pub fn validate(device: &Value, per_device: bool, path: Path<'_>, causes: &mut Causes) {
    label(tree::text(device, "name"), path.child("name"), causes);
    let count = |key: &str| tree::entries(device, key).count();
    let properties = count("attributes") + count("capacity");
    if properties > MOST_PROPERTIES {
        let why = format!(
            "the total number of attributes and capacities must not exceed {MOST_PROPERTIES}"
        );
        causes.invalid(path, &properties.into(), why);
    }
    let field = path.child("attributes");
    for (name, value) in tree::entries(device, "attributes") {
        qualified(name, field, causes);
        attribute(value, field.key(name), causes);
    }
    let shared = tree::flag(device, "allowMultipleAllocations");
    let field = path.child("capacity");
    for (name, value) in tree::entries(device, "capacity") {
        qualified(name, field, causes);
        let here = field.key(name);
        if tree::has(value, "requestPolicy") {
            let here = here.child("requestPolicy");
            match shared {
                true => request_policy(value, here, causes),
                false => causes.forbidden(here, "allowMultipleAllocations must be true"),
            }
        }
    }
    if let Some(taints) = bounded(device, "taints", MOST_TAINTS, path, causes) {
        let all = path.child("taints");
        for (at, one) in taints.iter().enumerate() {
            taint(one, all.index(at), causes);
        }
    }
    let key = "consumesCounters";
    if let Some(consumptions) = bounded(device, key, MOST_CONSUMPTIONS, path, causes) {
        let all = path.child(key);
        for (at, one) in consumptions.iter().enumerate() {
            named_counters(one, "counterSet", all.index(at), causes);
        }
        let set = |one: &Value| one["counterSet"].clone();
        let shown = |one| shown::written(one, "resource.v1.DeviceCounterConsumption");
        unique(consumptions, set, shown, all, causes);
    }
    nodes(device, per_device, path, causes);
    binding_conditions(device, path, causes);
}

/// A set of counters under the name at `key`.
pub fn named_counters(of: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        name => causes.complaints(path.child(key), name, names::label_in_bytes(name)),
    }
    let (counters, field) = (tree::entries(of, "counters"), path.child("counters"));
    let names: Vec<&String> = counters.map(|(name, _)| name).collect();
    if names.is_empty() {
        causes.required(field, "");
    } else if names.len() > MOST_COUNTERS {
        causes.too_many(field, names.len(), MOST_COUNTERS);
    } else {
        names.iter().for_each(|name| counter_name(name, field, causes));
    }
}

fn attribute(of: &Value, path: Path<'_>, causes: &mut Causes) {
    for (key, is_version) in [("string", false), ("version", true)] {
        if let Some(text) = of[key].as_str() {
            text_value(text, is_version, path.child(key), causes);
        }
    }
    for key in &VALUES[4..] {
        let field = path.child(key);
        if of[*key].as_array().is_some_and(Vec::is_empty) {
            causes.invalid(field, &of[*key], "must not be empty if specified");
        }
        for (at, text) in tree::list(of, key).iter().enumerate() {
            if let Some(text) = text.as_str() {
                text_value(text, *key == "versions", field.index(at), causes);
            }
        }
    }
    let all = VALUES.map(|key| format!("`{key}`")).join(", ");
    let said: Vec<&str> = VALUES.into_iter().filter(|key| tree::has(of, key)).collect();
    match said.as_slice() {
        [] => causes.invalid_text(path, "", format!("must specify one of: {all}")),
        [_] => {}
        said => {
            let shown = format!("{{{}}}", said.join(", "));
            causes.invalid_text(path, &shown, format!("must specify exactly one of: {all}"));
        }
    }
}

fn text_value(text: &str, is_version: bool, path: Path<'_>, causes: &mut Causes) {
    if is_version && !is_semver(text) {
        let why = "must be a string compatible with semver.org spec 2.0.0";
        causes.invalid_text(path, text, why);
    }
    if text.len() > MOST_VALUE_BYTES {
        causes.too_long(path, MOST_VALUE_BYTES);
    }
}

fn is_semver(text: &str) -> bool {
    let is_number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let (rest, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let is_pre = |part: &str| {
        is_word(part) && (!part.bytes().all(|byte| byte.is_ascii_digit()) || is_number(part))
    };
    let core: Vec<&str> = core.split('.').collect();
    core.len() == 3
        && core.iter().all(|part| is_number(part))
        && pre.is_none_or(|pre| pre.split('.').all(is_pre))
        && build.is_none_or(|build| build.split('.').all(is_word))
}

fn request_policy(capacity: &Value, path: Path<'_>, causes: &mut Causes) {
    let policy = &capacity["requestPolicy"];
    let most = quantity(&capacity["value"]).unwrap_or_default();
    let shown = tree::text(capacity, "value");
    let values = tree::list(policy, "validValues");
    let range = &policy["validRange"];
    if !values.is_empty() && !range.is_null() {
        let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        return causes.forbidden(path, why);
    }
    let default = &policy["default"];
    let key = if values.is_empty() { "validRange" } else { "validValues" };
    if values.is_empty() && range.is_null() {
        return;
    }
    if default.is_null() {
        return causes.required(path.child("default"), &format!("required when {key} is defined"));
    }
    match key {
        "validValues" => valid_values(values, default, (most, shown), path.child(key), causes),
        _ => valid_range(range, default, (most, shown), path.child(key), causes),
    }
}

fn valid_values(
    values: &[Value],
    default: &Value,
    (most, shown): (Quantity, &str),
    path: Path<'_>,
    causes: &mut Causes,
) {
    let amounts: Vec<Quantity> =
        values.iter().map(|value| quantity(value).unwrap_or_default()).collect();
    for (at, pair) in amounts.windows(2).enumerate().filter(|(_, pair)| pair[0] > pair[1]) {
        let _ = pair;
        let why = "values must be sorted in ascending order";
        causes.invalid(path.index(at + 1), &values[at + 1], why);
    }
    if values.len() > MOST_OPTIONS {
        causes.too_many(path, values.len(), MOST_OPTIONS);
    }
    for (at, _) in amounts.iter().enumerate().filter(|(_, amount)| **amount > most) {
        let why = format!("option is larger than capacity value: {shown}");
        causes.invalid(path.index(at), &values[at], why);
    }
    for (at, amount) in amounts.iter().enumerate() {
        if amounts[..at].contains(amount) {
            causes.duplicate(path.index(at), &values[at]);
        }
    }
    if !quantity(default).is_some_and(|default| amounts.contains(&default)) {
        let why = "default value is not valid according to the requestPolicy";
        causes.invalid(path, default, why);
    }
}

fn valid_range(
    range: &Value,
    default: &Value,
    (most, shown): (Quantity, &str),
    path: Path<'_>,
    causes: &mut Causes,
) {
    let at = |key: &str| quantity(&range[key]);
    let Some(min) = at("min") else {
        return causes.required(path.child("min"), "required when validRange is defined");
    };
    let chosen = quantity(default).unwrap_or_default();
    let text = |key: &str| tree::text(range, key);
    let mut complain = |wrong: bool, key: &str, value: &Value, why: String| {
        if wrong {
            causes.invalid(path.child(key), value, why);
        }
    };
    let larger = |what: &str| format!("{what} is larger than capacity value: {shown}");
    complain(min > most, "min", &range["min"], larger("min"));
    let why = format!("default is less than min: {}", text("min"));
    complain(chosen < min, "default", default, why);
    if let Some(max) = at("max") {
        let why = format!("min is larger than max: {}", text("max"));
        complain(min > max, "max", &range["min"], why);
        complain(max > most, "max", &range["max"], larger("max"));
        let why = format!("default is more than max: {}", text("max"));
        complain(chosen > max, "default", default, why);
    }
    let Some(step) = at("step") else { return };
    if step <= Quantity::ZERO {
        return complain(true, "step", &range["step"], "must be greater than zero".to_owned());
    }
    let first = min.saturating_add(step);
    let why = larger(&format!("one step {first}"));
    complain(first > most, "step", &range["step"], why);
    for value in [default, &range["max"]] {
        let Some(amount) = quantity(value) else { continue };
        let apart = amount.units() - min.units();
        let uneven = step.units() != 0 && apart % step.units() != 0;
        let why = format!(
            "value is not a multiple of a given step ({}) from ({})",
            text("step"),
            text("min")
        );
        complain(uneven, "step", value, why);
    }
}

fn nodes(device: &Value, per_device: bool, path: Path<'_>, causes: &mut Causes) {
    let keys = ["nodeName", "nodeSelector", "allNodes"];
    if !per_device {
        if keys.iter().any(|key| tree::has(device, key)) {
            causes.invalid_null(path, PER_DEVICE);
        }
        return;
    }
    let mut set = Vec::new();
    match device["nodeName"].as_str() {
        None => {}
        Some("") => causes.invalid_text(path.child("nodeName"), "", "must not be empty"),
        Some(node) => {
            set.push("`nodeName`");
            causes.complaints(path.child("nodeName"), node, names::subdomain(node));
        }
    }
    if tree::has(device, "nodeSelector") {
        set.push("`nodeSelector`");
        let selector = path.child("nodeSelector");
        let all = selector.child("nodeSelectorTerms");
        for (at, term) in
            tree::list(&device["nodeSelector"], "nodeSelectorTerms").iter().enumerate()
        {
            validate_node_term(term, true, all.index(at), causes);
        }
    }
    match device["allNodes"].as_bool() {
        None => {}
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            let why = "must be either unset or set to true";
            causes.invalid(path.child("allNodes"), &device["allNodes"], why);
        }
    }
    match set.len() {
        0 => causes.required(path, ONE_OF),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            causes.invalid_text(path, &shown, ONE_OF);
        }
    }
}
