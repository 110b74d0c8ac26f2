//! What a claim asks for: requests, constraints between them, and configuration for drivers.

use serde_json::Value;

use super::names::{
    bounded, fully_qualified, label, raw, toleration, toleration_but_value, unique,
};
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::common::new_driver_name,
    tree,
};

const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
pub const MOST_PARAMETER_BYTES: usize = 10 * 1024;
pub const MOST_EXPRESSION_BYTES: usize = 10 * 1024;
const MODES: [&str; 2] = ["All", "ExactCount"];
const ONE_OF: &str = "exactly one of `exactly` or `firstAvailable` is required";

/// Defaults of a claim's specification.
pub fn default(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in tree::list_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|one| one.is_object()) {
            default_count(exactly);
        }
        tree::list_mut(request, "firstAvailable").iter_mut().for_each(default_count);
    }
}

fn default_count(request: &mut Value) {
    tree::default_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" && tree::number(request, "count").unwrap_or(0) == 0
    {
        tree::set(request, "count", 1);
    }
    for toleration in tree::list_mut(request, "tolerations") {
        tree::default_text(toleration, "operator", "Equal");
    }
}

/// Rules of a claim's specification.
pub fn validate(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    if let Some(requests) = bounded(devices, "requests", MOST, path, causes) {
        let all = path.child("requests");
        for (at, one) in requests.iter().enumerate() {
            request(one, all.index(at), causes);
        }
        let shown = |one| shown::written(one, "resource.v1.DeviceRequest");
        unique(requests, |one| &one["name"], shown, all, causes);
    }
    if let Some(constraints) = bounded(devices, "constraints", MOST, path, causes) {
        let all = path.child("constraints");
        for (at, one) in constraints.iter().enumerate() {
            constraint(one, devices, all.index(at), causes);
        }
    }
    if let Some(configs) = bounded(devices, "config", MOST, path, causes) {
        let all = path.child("config");
        for (at, one) in configs.iter().enumerate() {
            references(one, devices, all.index(at), causes);
            configuration(one, all.index(at), causes);
        }
    }
}

fn request(request: &Value, path: Path<'_>, causes: &mut Causes) {
    label(tree::text(request, "name"), path.child("name"), causes);
    let alternatives = tree::list(request, "firstAvailable");
    match (tree::has(request, "exactly"), !alternatives.is_empty()) {
        (false, false) => causes.required(path, ONE_OF),
        (true, true) => {
            causes.invalid_null(path, &format!("{ONE_OF}, but multiple fields are set"));
            alternatives_rules(request, false, path, causes);
        }
        (true, false) => {
            wanted(&request["exactly"], names::subdomain, path.child("exactly"), causes);
        }
        (false, true) => alternatives_rules(request, true, path, causes),
    }
}

/// `named`: all of them is looked at, as upstream does where they are all that there is.
fn alternatives_rules(request: &Value, named: bool, path: Path<'_>, causes: &mut Causes) {
    let key = "firstAvailable";
    if bounded(request, key, MOST_ALTERNATIVES, path, causes).is_none() {
        return;
    }
    let (alternatives, all) = (tree::list(request, key), path.child(key));
    for (at, one) in alternatives.iter().enumerate() {
        let item = all.index(at);
        if named {
            label(tree::text(one, "name"), item.child("name"), causes);
        }
        if named {
            wanted(one, names::subdomain_in_bytes, item, causes);
        } else {
            wanted_class(one, names::subdomain_in_bytes, item, causes);
            allocation_mode(one, item, causes);
            let all = item.child("tolerations");
            for (at, one) in tree::list(one, "tolerations").iter().enumerate() {
                toleration_but_value(one, all.index(at), causes);
            }
        }
    }
    let shown = |one| shown::written(one, "resource.v1.DeviceSubRequest");
    unique(alternatives, |one| &one["name"], shown, all, causes);
}

/// What is wrong with a class's name: of alternatives in the words of upstream's generated rules.
type Words = fn(&str) -> Vec<String>;

fn wanted_class(of: &Value, words: Words, path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, "deviceClassName") {
        "" => causes.required(path.child("deviceClassName"), ""),
        class => causes.complaints(path.child("deviceClassName"), class, words(class)),
    }
}

fn allocation_mode(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if !MODES.contains(&tree::text(of, "allocationMode")) {
        causes.not_supported(path.child("allocationMode"), &of["allocationMode"], &MODES);
    }
}

fn wanted(of: &Value, words: Words, path: Path<'_>, causes: &mut Causes) {
    wanted_class(of, words, path, causes);
    selectors(of, path, causes);
    let (count, field) = (tree::number(of, "count").unwrap_or(0), path.child("count"));
    match tree::text(of, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            causes.invalid(field, &count.into(), why);
        }
        "All" => {}
        "ExactCount" if count <= 0 => {
            causes.invalid(field, &count.into(), "must be greater than zero");
        }
        "ExactCount" => {}
        _ => allocation_mode(of, path, causes),
    }
    let all = path.child("tolerations");
    for (at, one) in tree::list(of, "tolerations").iter().enumerate() {
        toleration(one, all.index(at), causes);
    }
}

/// Rules of `selectors`, of a request or of a class.
pub fn selectors(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let Some(selectors) = bounded(of, "selectors", MOST, path, causes) else { return };
    let all = path.child("selectors");
    for (at, selector) in selectors.iter().enumerate() {
        let item = all.index(at);
        let cel = item.child("cel");
        if !tree::has(selector, "cel") {
            causes.required(cel, "");
        } else if tree::text(&selector["cel"], "expression").len() > MOST_EXPRESSION_BYTES {
            causes.too_long(cel.child("expression"), MOST_EXPRESSION_BYTES);
        }
    }
}

fn constraint(of: &Value, devices: &Value, path: Path<'_>, causes: &mut Causes) {
    references(of, devices, path, causes);
    let keys = ["matchAttribute", "distinctAttribute"];
    match keys.iter().find(|key| tree::has(of, key)) {
        Some(key) => fully_qualified(tree::text(of, key), path.child(key), causes),
        None => {
            let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            causes.required(path, why);
        }
    }
}

/// `requests` of something: names of the claim's requests.
pub fn references(of: &Value, devices: &Value, path: Path<'_>, causes: &mut Causes) {
    let Some(names) = bounded(of, "requests", MOST, path, causes) else { return };
    let all = path.child("requests");
    for (at, name) in names.iter().enumerate() {
        reference(name.as_str().unwrap_or_default(), devices, all.index(at), causes);
    }
    unique(names, |name| name, Clone::clone, all, causes);
}

/// The name of a request, or `request/alternative`.
pub fn reference(name: &str, devices: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let segments: Vec<&str> = name.split('/').collect();
    if segments.len() > 2 {
        return causes.invalid_text(path, name, why);
    }
    segments.iter().for_each(|segment| label(segment, path, causes));
    let named = |of: &Value, key: &str, wanted: &str| {
        tree::list(of, key).iter().find(|one| tree::text(one, "name") == wanted).cloned()
    };
    let known = named(devices, "requests", segments[0]).is_some_and(|request| {
        segments.get(1).is_none_or(|sub| named(&request, "firstAvailable", sub).is_some())
    });
    if !known {
        causes.invalid_text(path, name, why);
    }
}

/// Rules of one configuration, of a claim, a class or an allocation.
pub fn configuration(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (opaque, path) = (&of["opaque"], path.child("opaque"));
    if opaque.is_null() {
        return causes.required(path, "");
    }
    new_driver_name(tree::text(opaque, "driver"), path.child("driver"), causes);
    raw(&opaque["parameters"], MOST_PARAMETER_BYTES, path.child("parameters"), causes);
}
