//! What a schema doesn't specify goes from an object; and nulls that it doesn't allow, where nothing
//! is filled in for them.

use serde_json::Value;

use crate::schema::{Additional, Schema};

pub const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes out what isn't specified, and names it (`spec.a[0].b`), sorted.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut walk = Walk { path: String::new(), dropped: Vec::new() };
    walk.prune(object, Some(schema), true);
    walk.dropped.sort();
    walk.dropped
}

/// As `prune`, for a value inside of an object.
pub fn prune_value(value: &mut Value, schema: &Schema) {
    let mut walk = Walk { path: String::new(), dropped: Vec::new() };
    walk.prune(value, Some(schema), false);
}

/// Takes out nulls that may not be there and that have no default.
pub fn drop_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let own = schema.and_then(|schema| schema.field(key));
            let forbidden = own.is_some_and(|own| !own.nullable && own.default.is_none());
            if value.is_null() && forbidden {
                return false;
            }
            drop_nulls(value, own);
            true
        }),
        Value::Array(items) => {
            let own = schema.and_then(|schema| schema.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, own));
        }
        _ => {}
    }
}

struct Walk {
    path: String,
    dropped: Vec<String>,
}

impl Walk {
    fn prune(&mut self, value: &mut Value, schema: Option<&Schema>, is_root: bool) {
        let resource = is_root || schema.is_some_and(|schema| schema.embedded);
        let preserves = schema.is_some_and(Schema::preserves);
        match value {
            Value::Object(map) => map.retain(|key, value| {
                if resource && META_FIELDS.contains(&key.as_str()) {
                    return true;
                }
                let length = self.push(key);
                let known = schema.is_some_and(|schema| {
                    schema.properties.contains_key(key) || schema.additional.is_some()
                });
                if known {
                    let own = schema.and_then(|schema| match schema.properties.get(key) {
                        Some(own) => Some(own),
                        None => match &schema.additional {
                            Some(Additional::Schema(own)) => Some(&**own),
                            _ => None,
                        },
                    });
                    self.prune(value, own, false);
                } else if !preserves {
                    self.dropped.push(self.path.clone());
                }
                self.path.truncate(length);
                known || preserves
            }),
            Value::Array(items) => {
                let own = schema.and_then(|schema| schema.items.as_deref());
                // Inside of what is preserved, items without a schema are, too.
                if preserves && own.is_none() {
                    return;
                }
                for (at, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{at}]"));
                    self.prune(item, own, false);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, key: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        length
    }
}
