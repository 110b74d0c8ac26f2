//! KeyValue: one entry of a key-value store that guests share. Its name follows from store and key,
//! so that an entry is one object whoever makes it, and a label selects the entries of a store.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use windlass_sdk_meta::{
    Timestamp,
    keyvalue::{KEY_LIMIT_BYTES, STORE_LABEL, VALUE_LIMIT_BYTES, entry_name, is_store_name},
};

use crate::{
    cause::{Causes, Path},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct KeyValue;

impl Strategy for KeyValue {
    fn default(&self, object: &mut Value) {
        let store = tree::text(&object["spec"], "store").to_owned();
        // What isn't a label's value is refused as a store's name too.
        if is_store_name(&store) {
            tree::child(tree::child(object, "metadata"), "labels")[STORE_LABEL] = json!(store);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (store, key) = (tree::text(spec, "store"), tree::text(spec, "key"));
        match store {
            "" => causes.required(path.child("store"), ""),
            store if !is_store_name(store) => causes.invalid_text(
                path.child("store"),
                store,
                "must be a label's value: at most 63 letters, digits, '-', '_' and '.', with a \
                 letter or digit at both ends",
            ),
            _ => {}
        }
        if key.len() > KEY_LIMIT_BYTES {
            causes.too_long(path.child("key"), KEY_LIMIT_BYTES);
        }
        if size(spec) > VALUE_LIMIT_BYTES {
            causes.too_long(path.child("value"), VALUE_LIMIT_BYTES);
        }
        let wanted = entry_name(store, key);
        let named = tree::text(&object["metadata"], "name");
        if is_store_name(store) && named != wanted {
            let field = Path::Root.child("metadata");
            let why = format!("the entry of this store and key is called {wanted:?}");
            causes.invalid_text(field.child("name"), named, why);
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        let path = Path::Root.child("spec");
        for field in ["store", "key"] {
            if new["spec"][field] != old["spec"][field] {
                causes.immutable(path.child(field), &new["spec"][field]);
            }
        }
        self.validate(new, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        vec![
            name(object),
            Value::from(tree::text(spec, "store")),
            Value::from(tree::text(spec, "key")),
            Value::from(size(spec)),
            age(object, now),
        ]
    }
}

/// Bytes of the value.
fn size(spec: &Value) -> usize {
    let value = tree::text(spec, "value");
    STANDARD.decode(value).map_or(value.len() / 4 * 3, |bytes| bytes.len())
}
