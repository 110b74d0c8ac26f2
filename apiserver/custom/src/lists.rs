//! Lists that are sets, or maps under keys: nothing in them may stand twice.

use std::collections::HashMap;

use serde_json::{Map, Value};
use windlass_apiserver_registry::{Causes, Path};

use crate::schema::Schema;

/// What stands twice.
pub fn check(value: &Value, schema: &Schema, path: &str, causes: &mut Causes) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                if let Some(own) = schema.properties.get(key) {
                    check(value, own, &format!("{path}{dot}{key}"), causes);
                } else if let Some(own) = schema.additional_schema() {
                    check(value, own, &format!("{path}[{key}]"), causes);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type.as_deref() {
                Some("set") => {
                    for at in doubles(items.iter()) {
                        let path = format!("{path}[{at}]");
                        causes.duplicate(Path::Child(&Path::Root, &path), &items[at]);
                    }
                }
                Some("map") => keyed(items, &schema.list_map_keys, path, causes),
                _ => {}
            }
            if let Some(own) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    check(item, own, &format!("{path}[{at}]"), causes);
                }
            }
        }
        _ => {}
    }
}

/// The keys of an item, as far as it has them.
pub fn keys_of(item: &Value, keys: &[String]) -> Value {
    let own = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(own.collect::<Map<_, _>>())
}

fn keyed(items: &[Value], keys: &[String], path: &str, causes: &mut Causes) {
    let other = items.iter().position(|item| !item.is_null() && !item.is_object());
    if let Some(at) = other {
        let why = "must be an object for an array of list-type map";
        let path = format!("{path}[{at}]");
        return causes.invalid(Path::Child(&Path::Root, &path), &items[at], why);
    }
    let found: Vec<Value> = items.iter().map(|item| keys_of(item, keys)).collect();
    for at in doubles(found.iter()) {
        let path = format!("{path}[{at}]");
        causes.duplicate(Path::Child(&Path::Root, &path), &found[at]);
    }
}

/// Where values stand the second time.
fn doubles<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, value) in values.enumerate() {
        let times = seen.entry(canonical(value)).or_default();
        *times += 1;
        if *times == 2 {
            found.push(at);
        }
    }
    found
}

/// Text that is the same for equal values, whatever the order of their fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", canonical(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}
