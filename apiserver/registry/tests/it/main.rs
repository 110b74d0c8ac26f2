//! The registry as the server uses it: bodies in YAML go through the stages of a write, and what
//! comes out (or why it was refused) is compared as text.

mod apply;
mod create;
mod delete;
mod kinds;
mod managed;
mod ownership;
mod print;
mod resize;
mod table_of_kinds;
mod update;
mod validate;

use std::{net::IpAddr, sync::Arc};

use serde_json::Value;
use windlass_apiserver_registry::{
    Allocator, Causes, Context, GroupVersion, Kind, Manager, Registry, record_manager,
};
use windlass_apiserver_schema::{FieldValidation, Target, decode_value};
use windlass_sdk_meta::{GroupVersionKind, Rng, Status, Timestamp, parse_time};

/// The time at which everything in these tests happens.
pub fn now() -> Timestamp {
    at("2026-11-23T17:00:00Z")
}

pub fn at(time: &str) -> Timestamp {
    parse_time(time).expect("a time")
}

pub fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("YAML")
}

/// A body as the server hands it on: held to the facts about its kind.
pub fn body(text: &str) -> Value {
    let object = yaml(text);
    let gvk = kind_of(&object).gvk();
    let target = Target::new(&gvk.group, &gvk.version, &gvk.kind);
    decode_value(&object, &target, FieldValidation::Strict).expect("a valid body").value
}

/// An object as text, without what differs from run to run.
pub fn text(object: &Value) -> String {
    serde_yaml_ng::to_string(object).expect("YAML")
}

pub fn kind_of(object: &Value) -> Arc<Kind> {
    let said = |key: &str| object[key].as_str().unwrap_or_default();
    let gvk = GroupVersionKind::from_api_version(said("apiVersion"), said("kind"));
    Registry::builtin().by_kind(&gvk).expect("a known kind")
}

/// A service range of one free address.
pub struct OneAddress;

impl Allocator for OneAddress {
    fn next_free(&self) -> Result<IpAddr, String> {
        Ok("127.96.0.5".parse().expect("an address"))
    }

    fn in_range(&self, address: IpAddr) -> bool {
        address.to_string().starts_with("127.96.")
    }

    fn range(&self) -> String {
        "127.96.0.0/20".to_owned()
    }

    fn next_node_port(&self, taken: &[i64]) -> Result<i64, String> {
        let free = (30_086..30_088).find(|number| !taken.contains(number));
        free.ok_or_else(|| "range is full".into())
    }
}

/// Runs the stages of a create, without admission.
pub fn create(text: &str) -> Result<Value, Status> {
    let mut object = body(text);
    let kind = kind_of(&object);
    let rng = Rng::seeded(7);
    let cx = Context { now: now(), rng: &rng, user: "ann" };
    let namespace = if kind.namespaced { "default" } else { "" };
    let served = kind.storage().clone();
    kind.identify(&mut object, &served, namespace, None)?;
    kind.default(&mut object);
    let by = Manager { name: "test", subresource: "", applies: false };
    record_manager(&kind, &mut object, None, by, now());
    kind.prepare_create(&mut object, &cx)?;
    kind.allocate(&mut object, None, &OneAddress)?;
    kind.validate_create(kind.storage(), &object, Causes::default())?;
    object["metadata"]["uid"] = Value::from("u");
    Ok(object)
}

/// An object that is stored: created and with a revision.
pub fn stored(body: &str) -> Value {
    let mut object = create(body).unwrap_or_else(|status| panic!("{}", status.message));
    object["metadata"]["resourceVersion"] = Value::from("5");
    object
}

/// Runs the stages of an update of `old` through a subresource (empty: the main one).
pub fn update(sub: &str, old: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, Status> {
    let mut object = old.clone();
    change(&mut object);
    let kind = kind_of(old);
    let rng = Rng::seeded(8);
    let cx = Context { now: at("2026-11-23T18:00:00Z"), rng: &rng, user: "ann" };
    kind.default(&mut object);
    kind.prepare_update(sub, &mut object, old, &cx)?;
    kind.allocate(&mut object, Some(old), &OneAddress)?;
    kind.validate_update(kind.storage(), sub, &object, old, Causes::default())?;
    let by = Manager { name: "test", subresource: sub, applies: false };
    record_manager(&kind, &mut object, Some(old), by, cx.now);
    Ok(object)
}

/// A refusal as text: the message, then its causes.
pub fn refusal(result: Result<Value, Status>) -> String {
    match result {
        Ok(_) => "accepted\n".to_owned(),
        Err(status) => {
            let mut text = format!("{} {}\n", status.code, status.message);
            for cause in status.details.into_iter().flat_map(|details| details.causes) {
                text.push_str(&format!("  {} {}\n", cause.reason, cause.field));
            }
            text
        }
    }
}

pub fn served(group: &str, version: &str) -> GroupVersion {
    GroupVersion::new(group.to_owned(), version.to_owned())
}
