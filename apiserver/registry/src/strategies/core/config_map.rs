//! ConfigMap: text and bytes by key, which may be frozen.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names,
    strategies::common::bytes_of_base64,
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

/// Bytes of all values together, of a ConfigMap or a Secret.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let binary = &object["binaryData"];
        let mut bytes = 0;
        for bag in ["data", "binaryData"] {
            let path = Path::Root.child(bag);
            for (key, value) in tree::entries(object, bag) {
                causes.complaints(path.key(key), key, names::config_key(key));
                if bag == "data" && binary.get(key).is_some() {
                    causes.invalid_text(
                        path.key(key),
                        key,
                        "duplicate of key present in binaryData",
                    );
                }
                let size = if bag == "data" { str::len } else { bytes_of_base64 };
                bytes += value.as_str().map_or(0, size);
            }
        }
        if bytes > MAX_DATA_BYTES {
            causes.too_long(Path::Root, MAX_DATA_BYTES);
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        frozen(new, old, &["data", "binaryData"], causes);
        self.validate(new, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let keys =
            tree::entries(object, "data").count() + tree::entries(object, "binaryData").count();
        vec![name(object), Value::from(keys), age(object, now)]
    }
}

/// What `immutable: true` forbids.
pub fn frozen(new: &Value, old: &Value, bags: &[&str], causes: &mut Causes) {
    if !tree::flag(old, "immutable") {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !tree::flag(new, "immutable") {
        causes.forbidden(Path::Root.child("immutable"), why);
    }
    for bag in bags {
        if !tree::same(&new[*bag], &old[*bag]) {
            causes.forbidden(Path::Root.child(bag), why);
        }
    }
}
