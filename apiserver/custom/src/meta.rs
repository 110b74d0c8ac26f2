//! `metadata` of objects inside of objects, and of custom resources themselves: it has a type of its
//! own whatever the schema says.

use serde_json::Value;
use windlass_apiserver_registry::{Causes, Path, names, validate_metadata};
use windlass_apiserver_schema::{FieldValidation, Target, decode_value};

use crate::schema::Schema;

/// Brings `metadata` of the object, and of those embedded in it, into its type, and names what it
/// doesn't know. Errors: why it can't be of that type.
pub fn coerce(object: &mut Value, schema: &Schema, is_root: bool) -> Result<Vec<String>, String> {
    let mut dropped = Vec::new();
    walk(object, schema, is_root, "", &mut dropped)?;
    dropped.sort();
    Ok(dropped)
}

fn walk(
    value: &mut Value,
    schema: &Schema,
    is_root: bool,
    path: &str,
    dropped: &mut Vec<String>,
) -> Result<(), String> {
    let dot = if path.is_empty() { "" } else { "." };
    match value {
        Value::Object(map) => {
            let is_resource = is_root || schema.embedded;
            for (key, value) in map.iter_mut() {
                let at = format!("{path}{dot}{key}");
                match key.as_str() {
                    "apiVersion" | "kind" if is_resource && !value.is_string() => {
                        return Err(format!("{at}: Invalid value: {value}: must be a string"));
                    }
                    "metadata" if is_root => {
                        metadata(value, &at, dropped).map_err(|(_, cause)| cause)?;
                    }
                    "metadata" if is_resource => {
                        metadata(value, &at, dropped).map_err(|(shown, cause)| {
                            format!("{at}: Invalid value: {shown}: {cause}")
                        })?;
                    }
                    _ => {}
                }
                if let Some(own) = schema.properties.get(key) {
                    walk(value, own, false, &at, dropped)?;
                } else if let Some(own) = schema.additional_schema() {
                    walk(value, own, false, &format!("{path}[{key}]"), dropped)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for (n, item) in items.iter_mut().enumerate() {
                    walk(item, own, false, &format!("{path}[{n}]"), dropped)?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The decoder of built-in kinds knows the type: any of them will do. Errors: what stood there, and
/// why it isn't of the type.
fn metadata(
    value: &mut Value,
    path: &str,
    dropped: &mut Vec<String>,
) -> Result<(), (String, String)> {
    let whole = serde_json::json!({"metadata": value.take()});
    let target = Target::new("", "v1", "PodTemplate");
    let decoded = decode_value(&whole, &target, FieldValidation::Warn).map_err(|error| {
        let cause =
            error.cause().replace("struct field PodTemplate.metadata", "struct field ObjectMeta");
        (whole["metadata"].to_string(), cause)
    })?;
    let unknown = decoded.warnings.iter().filter_map(|warning| {
        let name = warning.strip_prefix("unknown field \"")?.strip_suffix('"')?;
        Some(format!("{path}{}", name.strip_prefix("metadata")?))
    });
    dropped.extend(unknown);
    let mut decoded = decoded.value;
    *value = decoded["metadata"].take();
    if let Value::Object(map) = value {
        map.retain(|key, value| !(key == "creationTimestamp" && value.is_null()));
    } else if value.is_null() {
        *value = serde_json::json!({});
    }
    Ok(())
}

/// Rules of embedded objects.
pub fn check(value: &Value, schema: &Schema, path: &str, causes: &mut Causes) {
    let dot = if path.is_empty() { "" } else { "." };
    match value {
        Value::Object(map) => {
            if schema.embedded {
                embedded(value, path, causes);
            }
            for (key, value) in map {
                if let Some(own) = schema.properties.get(key) {
                    check(value, own, &format!("{path}{dot}{key}"), causes);
                } else if let Some(own) = schema.additional_schema() {
                    check(value, own, &format!("{path}[{key}]"), causes);
                }
            }
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for (n, item) in items.iter().enumerate() {
                    check(item, own, &format!("{path}[{n}]"), causes);
                }
            }
        }
        _ => {}
    }
}

fn embedded(value: &Value, path: &str, causes: &mut Causes) {
    let at = |key: &str| format!("{path}.{key}");
    for key in ["apiVersion", "kind"] {
        let at = at(key);
        let at = Path::Child(&Path::Root, &at);
        match &value[key] {
            Value::Null => causes.required(at, ""),
            Value::String(text) if text.is_empty() => {
                causes.invalid_text(at, text, "must not be empty");
            }
            Value::String(text) if key == "apiVersion" && text.matches('/').count() > 1 => {
                causes.invalid_text(at, text, format!("unexpected GroupVersion string: {text}"));
            }
            Value::String(text) if key == "kind" => {
                let wrong = names::label_1035(&text.to_lowercase());
                if !wrong.is_empty() {
                    let why = "may have mixed case, but should otherwise match: ";
                    causes.invalid_text(at, text, format!("{why}{}", wrong.join(",")));
                }
            }
            Value::String(_) => {}
            other => causes.invalid(at, other, "must be a string"),
        }
    }
    if value["metadata"].is_object() {
        let path = at("metadata");
        validate_metadata(&value["metadata"], Path::Child(&Path::Root, &path), causes);
    }
}
