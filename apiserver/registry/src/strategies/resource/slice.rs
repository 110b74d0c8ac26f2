//! ResourceSlice: devices of a pool that a driver offers, and which nodes reach them.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::{
    device,
    names::{bounded, label, pool_name, unique},
};
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::{common::driver_name, core::pod::validate_node_term},
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const MOST_DEVICES: usize = 128;
/// Where devices have taints, consume counters, or have lists of attributes.
const MOST_RICH_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const ONE_OF: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

#[derive(Debug)]
pub struct Slice;

impl Strategy for Slice {
    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        spec_rules(&object["spec"], None, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        spec_rules(&new["spec"], Some(&old["spec"]), causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        vec![
            name(object),
            tree::text(spec, "nodeName").into(),
            tree::text(spec, "driver").into(),
            tree::text(&spec["pool"], "name").into(),
            age(object, now),
        ]
    }
}

fn spec_rules(spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    driver_name(tree::text(spec, "driver"), path.child("driver"), causes);
    pool(&spec["pool"], path.child("pool"), causes);
    if let Some(old) = old {
        let pool = path.child("pool");
        if !tree::same(&spec["pool"]["name"], &old["pool"]["name"]) {
            causes.immutable(pool.child("name"), &spec["pool"]["name"]);
        }
        for key in ["driver", "nodeName"] {
            if !tree::same(&spec[key], &old[key]) {
                causes.invalid_or_null(path.child(key), &spec[key], "field is immutable");
            }
        }
    }
    nodes(spec, path, causes);
    if tree::has(spec, "sharedCounters") && tree::has(spec, "devices") {
        causes.invalid_text(path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = tree::list(spec, "devices");
    let most = if devices.iter().any(is_rich) { MOST_RICH_DEVICES } else { MOST_DEVICES };
    let per_device = tree::flag(spec, "perDeviceNodeSelection");
    if bounded(spec, "devices", most, path, causes).is_some() {
        let all = path.child("devices");
        for (at, one) in devices.iter().enumerate() {
            device::validate(one, per_device, all.index(at), causes);
        }
        unique(devices, |one| &one["name"], |one| one["name"].clone(), all, causes);
    }
    if let Some(sets) = bounded(spec, "sharedCounters", MOST_COUNTER_SETS, path, causes) {
        let all = path.child("sharedCounters");
        for (at, one) in sets.iter().enumerate() {
            let item = all.index(at);
            device::named_counters(one, "name", item, causes);
        }
        let shown = |one| shown::written(one, "resource.v1.CounterSet");
        unique(sets, |one| &one["name"], shown, all, causes);
    }
}

fn is_rich(device: &Value) -> bool {
    let lists = ["bools", "ints", "strings", "versions"];
    !tree::list(device, "taints").is_empty()
        || !tree::list(device, "consumesCounters").is_empty()
        || tree::entries(device, "attributes")
            .any(|(_, attribute)| lists.iter().any(|key| tree::has(attribute, key)))
}

fn pool(pool: &Value, path: Path<'_>, causes: &mut Causes) {
    pool_name(tree::text(pool, "name"), path.child("name"), causes);
    let count = tree::number(pool, "resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let why = "must be greater than zero";
        causes.invalid(path.child("resourceSliceCount"), &count.into(), why);
    }
    let generation = tree::number(pool, "generation").unwrap_or(0);
    if generation < 0 {
        let why = "must be greater than or equal to zero";
        causes.invalid(path.child("generation"), &generation.into(), why);
    }
}

fn nodes(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let mut set = Vec::new();
    match spec["nodeName"].as_str() {
        None => {}
        Some("") => {
            let why = "must be either unset or set to a non-empty string";
            causes.invalid_text(path.child("nodeName"), "", why);
        }
        Some(node) => {
            set.push("`nodeName`");
            causes.complaints(path.child("nodeName"), node, names::subdomain(node));
        }
    }
    if tree::has(spec, "nodeSelector") {
        set.push("`nodeSelector`");
        let selector = path.child("nodeSelector");
        let (terms, all) = (
            tree::list(&spec["nodeSelector"], "nodeSelectorTerms"),
            selector.child("nodeSelectorTerms"),
        );
        if terms.is_empty() {
            causes.required(all, "must have at least one node selector term");
        }
        for (at, term) in terms.iter().enumerate() {
            validate_node_term(term, true, all.index(at), causes);
        }
        if terms.len() != 1 {
            let shown =
                shown::field(&spec["nodeSelector"], "core.v1.NodeSelector", "nodeSelectorTerms");
            causes.invalid_or_null(all, &shown, "must have exactly one node selector term");
        }
    }
    for key in ["allNodes", "perDeviceNodeSelection"] {
        match spec[key].as_bool() {
            None => {}
            Some(true) => {
                set.push(if key == "allNodes" { "`allNodes`" } else { "`perDeviceNodeSelection`" })
            }
            Some(false) => {
                let why = "must be either unset or set to true";
                causes.invalid(path.child(key), &spec[key], why);
            }
        }
    }
    match set.len() {
        0 => causes.required(path, ONE_OF),
        1 => {}
        _ => {
            let why = format!("{ONE_OF}, but multiple fields are set");
            causes.invalid_text(path, &format!("{{{}}}", set.join(", ")), why);
        }
    }
}

/// The name of a device or a counter.
pub fn counter_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    label(name, path, causes);
}
