//! Fills in what a schema has defaults for: on writes, and on reads of what was written before there
//! was the default.

use serde_json::Value;

use crate::schema::Schema;

/// Fills in, into what is there. Running it twice changes nothing.
pub fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (key, own) in &schema.properties {
                if let Some(default) = &own.default
                    && map.get(key).is_none_or(|found| found.is_null() && !own.nullable)
                {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(own) = schema.field(key) {
                    fill_null(value, own);
                    fill(value, own);
                }
            }
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for item in items {
                    fill_null(item, own);
                    fill(item, own);
                }
            }
        }
        _ => {}
    }
}

fn fill_null(value: &mut Value, schema: &Schema) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or_default();
    }
}
