//! What only writers of events.k8s.io/v1 are held to. Paths have the names of the stored form, as
//! upstream's messages have.

use serde_json::Value;
use windlass_sdk_meta::parse_time;

use crate::{
    cause::{Causes, Path},
    metadata::known_finalizers,
    names::NameRule,
    shown, tree,
};

/// Fields that are core/v1's.
const UNSET: [&str; 3] = ["firstTimestamp", "lastTimestamp", "count"];
/// What an Event tells never changes; only its series goes on.
const IMMUTABLE: [&str; 12] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];
const LEAST_SERIES: i64 = 2;

pub(super) fn validate(object: &Value, causes: &mut Causes) {
    let (metadata, path) = (&object["metadata"], Path::Root.child("metadata"));
    for (key, prefix) in [("generateName", true), ("name", false)] {
        let name = tree::text(metadata, key);
        if !name.is_empty() {
            let complaints = NameRule::Subdomain.complaints(name, prefix);
            causes.complaints(path.child(key), name, complaints);
        }
    }
    known_finalizers(metadata, path, causes);
    series(object, causes);
    if !tree::has(object, "eventTime") {
        causes.required(Path::Root.child("eventTime"), "");
    }
    let sort = tree::text(object, "type");
    if !["Normal", "Warning"].contains(&sort) {
        let why = format!("has invalid value: {sort}");
        causes.invalid_text(Path::Root.child("type"), "", why);
    }
    for key in UNSET.iter().filter(|key| tree::has(object, key) && object[**key] != 0) {
        causes.invalid_text(Path::Root.child(key), "", "needs to be unset");
    }
    if !tree::is_empty(&object["source"]) {
        causes.invalid_text(Path::Root.child("source"), "", "needs to be unset");
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, causes: &mut Causes) {
    known_finalizers(&new["metadata"], Path::Root.child("metadata"), causes);
    if !tree::same(&new["series"], &old["series"]) {
        series(new, causes);
    }
    for key in IMMUTABLE {
        let appears = key == "related" && tree::has(new, key) != tree::has(old, key);
        if appears || !tree::same(&new[key], &old[key]) {
            // Inside of upstream the component has its newer name.
            let name = if key == "reportingComponent" { "reportingController" } else { key };
            immutable(new, key, name, causes);
        }
    }
    let moment = |of: &Value| parse_time(tree::text(of, "eventTime")).map(|at| at.as_microsecond());
    if moment(new) != moment(old) {
        immutable(new, "eventTime", "eventTime", causes);
    }
}

fn immutable(new: &Value, key: &str, name: &str, causes: &mut Causes) {
    let value = shown::field(new, "core.v1.Event", key);
    causes.invalid_or_null(Path::Root.child(name), &value, "field is immutable");
}

fn series(object: &Value, causes: &mut Causes) {
    let (series, path) = (&object["series"], Path::Root.child("series"));
    if !series.is_object() {
        return;
    }
    if tree::number(series, "count").unwrap_or(0) < LEAST_SERIES {
        causes.invalid_text(path.child("count"), "", "should be at least 2");
    }
    if !tree::has(series, "lastObservedTime") {
        causes.required(path.child("lastObservedTime"), "");
    }
}
