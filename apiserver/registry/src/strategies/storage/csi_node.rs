//! CSINode: which storage drivers a node has, and by which names they know it.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::{
        apps::workload::not_negative,
        common::{driver_name, keep_metadata},
    },
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const MOST_ID_BYTES: usize = 256;

#[derive(Debug)]
pub struct CsiNode;

impl Strategy for CsiNode {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    /// What a status may say is an alpha feature: it is dropped, as upstream does by default.
    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({}));
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        tree::keep(new, old, "status");
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Path::Root.child("spec");
        let path = spec.child("drivers");
        let all = tree::list(&object["spec"], "drivers");
        for (at, driver) in all.iter().enumerate() {
            let item = path.index(at);
            self::driver(driver, item, causes);
            if all[..at].iter().any(|other| other["name"] == driver["name"]) {
                causes.duplicate(item.child("name"), &driver["name"]);
            }
            topology_keys(driver, item, causes);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return;
        }
        self.validate(new, causes);
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            tree::remove(&mut driver, "allocatable");
            driver
        };
        let spec = Path::Root.child("spec");
        for before in tree::list(&old["spec"], "drivers") {
            let after = tree::list(&new["spec"], "drivers");
            for after in after.iter().filter(|after| after["name"] == before["name"]) {
                if !tree::same(&fixed(after), &fixed(before)) {
                    let shown = shown::internal(&fixed(after), "storage.v1.CSINodeDriver");
                    causes.immutable(spec.child("drivers"), &shown);
                }
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let drivers = tree::list(&object["spec"], "drivers").len();
        vec![name(object), drivers.into(), age(object, now)]
    }
}

fn driver(driver: &Value, path: Path<'_>, causes: &mut Causes) {
    driver_name(tree::text(driver, "name"), path.child("name"), causes);
    let id = tree::text(driver, "nodeID");
    if id.is_empty() {
        causes.required(path.child("nodeID"), "");
    }
    if id.len() > MOST_ID_BYTES {
        let why = format!("must be {MOST_ID_BYTES} characters or less");
        causes.invalid_text(path.child("nodeID"), id, why);
    }
    not_negative(&driver["allocatable"], path.child("allocatable"), &["count"], causes);
}

fn topology_keys(driver: &Value, path: Path<'_>, causes: &mut Causes) {
    let keys = tree::list(driver, "topologyKeys");
    for (at, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            causes.required(path, "");
        }
        if keys[..at].contains(key) {
            causes.duplicate(path, key);
        }
        causes.complaints(path, text, names::qualified(text));
    }
}
