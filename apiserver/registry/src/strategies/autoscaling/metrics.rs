//! Rules of what an autoscaler measures.

use serde_json::Value;

use super::pod_autoscaler::reference;
use crate::{
    cause::{Causes, Path},
    names,
    strategies::{common::path_segments, core::resource_names},
    tree,
};

/// A metric's type, and the field that says the rest; in the order in which they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
/// Upstream lists them so.
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const ONE: &str = "must populate the given metric source only";

/// Rules of all metrics of a specification.
pub fn validate(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for (at, metric) in tree::list(spec, "metrics").iter().enumerate() {
        one(metric, path.index(at), causes);
    }
}

fn one(metric: &Value, path: Path<'_>, causes: &mut Causes) {
    let sort = tree::text(metric, "type");
    let known = SOURCES.iter().find(|(name, _)| *name == sort).map(|(_, key)| *key);
    let field = path.child("type");
    if sort.is_empty() {
        causes.required(field, "must specify a metric source type");
    }
    if known.is_none() {
        causes.not_supported(field, &sort.into(), &TYPES);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, key)| *key).filter(|key| tree::has(metric, key)).collect();
    if let Some(first) = present.first() {
        source(first, &metric[*first], path.child(first), causes);
    }
    match known {
        Some(key) if !present.contains(&key) => {
            let why = "must populate information for the given metric source";
            causes.required(path.child(key), why);
        }
        Some(_) => {}
        None => causes.not_supported(field, &sort.into(), &TYPES),
    }
    if present.len() != 1 {
        for key in present.iter().filter(|key| Some(**key) != known) {
            causes.forbidden(path.child(key), ONE);
        }
    }
}

fn source(key: &str, source: &Value, path: Path<'_>, causes: &mut Causes) {
    let (target, here) = (&source["target"], path.child("target"));
    match key {
        "object" => {
            let described = &source["describedObject"];
            reference(described, true, false, path.child("describedObject"), causes);
            identifier(&source["metric"], path.child("metric"), causes);
        }
        "external" | "pods" => identifier(&source["metric"], path.child("metric"), causes),
        _ => resource(key == "containerResource", source, path, causes),
    }
    self::target(target, here, causes);
    let has = |key: &str| tree::has(target, key);
    match key {
        "object" if !has("value") && !has("averageValue") => {
            let why = "must set either a target value or averageValue";
            causes.required(here.child("averageValue"), why);
        }
        "external" if !has("value") && !has("averageValue") => {
            let why = "must set either a target value for metric or a per-pod target";
            causes.required(here.child("averageValue"), why);
        }
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            causes.forbidden(here.child("value"), why);
        }
        "pods" if !has("averageValue") => {
            let why = "must specify a positive target averageValue";
            causes.required(here.child("averageValue"), why);
        }
        "resource" | "containerResource" => {
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => {
                    let why = "must set either a target raw value or a target utilization";
                    causes.required(here.child("averageUtilization"), why);
                }
                (true, true) => {
                    let why = "may not set both a target raw value and a target utilization";
                    causes.forbidden(here.child("averageValue"), why);
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn resource(of_container: bool, source: &Value, path: Path<'_>, causes: &mut Causes) {
    match tree::text(source, "name") {
        "" => causes.required(path.child("name"), "must specify a resource name"),
        name if of_container => resource_names::of_container(name, path.child("name"), causes),
        _ => {}
    }
    if of_container {
        match tree::text(source, "container") {
            "" => causes.required(path.child("container"), "must specify a container"),
            name => causes.complaints(path.child("container"), name, names::label(name)),
        }
    }
}

fn identifier(metric: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::text(metric, "name").is_empty() {
        return causes.required(path.child("name"), "must specify a metric name");
    }
    path_segments(metric, &["name"], path, causes);
}

fn target(target: &Value, path: Path<'_>, causes: &mut Causes) {
    let (sort, field) = (tree::text(target, "type"), path.child("type"));
    if sort.is_empty() {
        causes.required(field, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&sort) {
        causes.invalid_text(field, sort, "must be either Utilization, Value, or AverageValue");
    }
    for key in ["value", "averageValue"] {
        let amount = resource_names::quantity(&target[key]);
        if amount.is_some_and(|amount| amount <= windlass_sdk_meta::Quantity::ZERO) {
            causes.invalid(path.child(key), &target[key], "must be positive");
        }
    }
    let key = "averageUtilization";
    if tree::number(target, key).is_some_and(|percent| percent < 1) {
        causes.invalid(path.child(key), &target[key], "must be greater than 0");
    }
}
