//! DeviceTaintRule: an administrator taints devices, by who made them or where they are.

use serde_json::Value;
use windlass_sdk_meta::{Timestamp, format_time};

use super::names::{label, pool_name, taint};
use crate::{
    cause::{Causes, Path},
    conditions,
    strategies::common::{driver_name, keep_metadata},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name, since},
    tree,
};

const MOST_CONDITIONS: usize = 8;

#[derive(Debug)]
pub struct TaintRule;

impl Strategy for TaintRule {
    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn prepare_for_create(&self, object: &mut Value, cx: &Context<'_>) {
        let taint = tree::child(tree::child(object, "spec"), "taint");
        tree::default(taint, "timeAdded", format_time(cx.now));
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, cx: &Context<'_>) {
        if sub == "status" {
            return keep_metadata(new, old);
        }
        let effect = |of: &Value| of["spec"]["taint"]["effect"].clone();
        let moved = effect(new) != effect(old);
        let taint = tree::child(tree::child(new, "spec"), "taint");
        let time = &old["spec"]["taint"]["timeAdded"];
        if moved && (taint["timeAdded"].is_null() || taint["timeAdded"] == *time) {
            tree::set(taint, "timeAdded", format_time(cx.now));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (selector, here) = (&spec["deviceSelector"], path.child("deviceSelector"));
        if let Some(driver) = selector["driver"].as_str() {
            driver_name(driver, here.child("driver"), causes);
        }
        if let Some(pool) = selector["pool"].as_str() {
            pool_name(pool, here.child("pool"), causes);
        }
        if let Some(device) = selector["device"].as_str() {
            label(device, here.child("device"), causes);
        }
        taint(&spec["taint"], path.child("taint"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub != "status" {
            return self.validate(new, causes);
        }
        let path = Path::Root.child("status");
        let (all, field) = (tree::list(&new["status"], "conditions"), path.child("conditions"));
        conditions::validate(all, field, causes);
        if all.len() > MOST_CONDITIONS {
            causes.too_many(field, all.len(), MOST_CONDITIONS);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let taint = &object["spec"]["taint"];
        vec![
            name(object),
            tree::text(taint, "key").into(),
            tree::text(taint, "value").into(),
            tree::text(taint, "effect").into(),
            since(&taint["timeAdded"], now).into(),
            age(object, now),
        ]
    }
}
