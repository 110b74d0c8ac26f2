//! Reading and writing `serde_json::Value` trees without ceremony: what is absent, null or of
//! another type reads as empty, and writing makes the objects on the way.

use serde_json::{Map, Value};

static NOTHING: Value = Value::Null;

/// The text at `key`, or "".
pub fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at `key`.
pub fn number(of: &Value, key: &str) -> Option<i64> {
    of.get(key).and_then(Value::as_i64)
}

/// True only where `key` holds `true`.
pub fn flag(of: &Value, key: &str) -> bool {
    of.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at `key`, or an empty one.
pub fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn list_mut<'a>(of: &'a mut Value, key: &str) -> &'a mut [Value] {
    of.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The entries of the map at `key`.
pub fn entries<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    of.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Something other than null is there.
pub fn has(of: &Value, key: &str) -> bool {
    of.get(key).is_some_and(|found| !found.is_null())
}

/// The value at a dotted path; null where there is none.
pub fn at<'a>(of: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(of, |at, part| at.get(part)).unwrap_or(&NOTHING)
}

/// Sets `key` where it is absent or null.
pub fn default(of: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(map) = of
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// As `default`, and also where an empty text stands.
pub fn default_text(of: &mut Value, key: &str, value: &str) {
    if let Value::Object(map) = of
        && map.get(key).is_none_or(|found| found.is_null() || found == "")
    {
        map.insert(key.to_owned(), value.into());
    }
}

pub fn set(of: &mut Value, key: &str, value: impl Into<Value>) {
    object(of).insert(key.to_owned(), value.into());
}

pub fn remove(of: &mut Value, key: &str) -> Option<Value> {
    of.as_object_mut()?.shift_remove(key)
}

/// Makes `key` of one tree as it is in the other: also absent where it is absent there.
pub fn keep(of: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => set(of, key, value.clone()),
        None => {
            remove(of, key);
        }
    }
}

/// The object at `key`, made where there is none.
pub fn child<'a>(of: &'a mut Value, key: &str) -> &'a mut Value {
    let map = object(of);
    // `entry` would copy the key also where it is known.
    if !map.get(key).is_some_and(Value::is_object) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    &mut map[key]
}

/// The tree as an object; anything else is replaced by an empty one.
pub fn object(of: &mut Value) -> &mut Map<String, Value> {
    if !of.is_object() {
        *of = Value::Object(Map::new());
    }
    match of {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Equal as the API sees it: absent, null, false, "" and empty lists and maps are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&NOTHING)))
                && y.iter().all(|(key, value)| x.contains_key(key) || is_empty(value))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

/// Null, false, "", an empty list, or a map of nothing else.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Number(_) => false,
    }
}
