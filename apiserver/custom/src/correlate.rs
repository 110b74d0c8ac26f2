//! Which old value an unchanged part of an object came from: errors about what a write leaves as it
//! was don't stop the write (KEP-4008).

use serde_json::Value;

use crate::{lists::keys_of, schema::Schema};

/// A value's counterpart before the write, if it can be told.
pub type Old<'v> = Option<&'v Value>;

/// The old value of a field or entry.
pub fn field<'v>(old: Old<'v>, schema: &Schema, key: &str) -> Old<'v> {
    schema.field(key)?;
    old?.as_object()?.get(key)
}

/// The old value of an item; only lists under keys know it.
pub fn item<'v>(old: Old<'v>, schema: &Schema, item: &Value) -> Old<'v> {
    if schema.list_type.as_deref() != Some("map") {
        return None;
    }
    let wanted = keys_of(item, &schema.list_map_keys);
    old?.as_array()?.iter().find(|old| keys_of(old, &schema.list_map_keys) == wanted)
}
