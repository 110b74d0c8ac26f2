//! Values as upstream's messages show them: its rules work on internal types without JSON tags, so
//! that a struct in a message has Go's names, every field, and Go's zero values.

use serde_json::{Map, Value};
use windlass_apiserver_schema::{Field, Schema, Shape, Type};

/// A value of the type that OpenAPI calls `io.k8s.api.NAME`, such as `core.v1.SecurityContext`.
pub fn internal(value: &Value, name: &str) -> Value {
    match Schema::builtin().type_named(&format!("io.k8s.api.{name}")) {
        Some(of) => structure(value, of),
        None => value.clone(),
    }
}

fn structure(value: &Value, of: &Type) -> Value {
    let mut shown = Map::new();
    for field in &of.fields {
        match field.target() {
            // An embedded struct's fields are those of the struct around it.
            Some(target) if field.inline => {
                if let Value::Object(inner) = structure(value, target) {
                    shown.extend(inner);
                }
            }
            _ => {
                let found = value.get(field.json).unwrap_or(&Value::Null);
                shown.insert(field.go_name.to_owned(), one(found, field, &field.shape));
            }
        }
    }
    Value::Object(shown)
}

fn one(value: &Value, field: &Field, shape: &Shape) -> Value {
    match (shape, value) {
        (Shape::Struct(of), Value::Null) if !field.pointer => structure(value, of.get()),
        (_, Value::Null) if field.pointer => Value::Null,
        (Shape::Struct(of), value) => structure(value, of.get()),
        (Shape::List(inner) | Shape::Wrapped(inner), Value::Array(items)) => {
            items.iter().map(|item| one(item, field, inner)).collect()
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.iter().map(|(key, item)| (key.clone(), one(item, field, inner))).collect()
        }
        (Shape::String, Value::Null) => "".into(),
        (Shape::Bool, Value::Null) => false.into(),
        (Shape::Int32 | Shape::Int64 | Shape::IntOrString, Value::Null) => 0.into(),
        (Shape::Quantity, Value::Null) => "0".into(),
        (_, value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gos_names_and_zero_values() {
        let profile = json!({"type": "RuntimeDefault", "localhostProfile": "x"});
        assert_eq!(
            internal(&profile, "core.v1.SeccompProfile").to_string(),
            r#"{"Type":"RuntimeDefault","LocalhostProfile":"x"}"#
        );
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(
            internal(&taint, "core.v1.Taint").to_string(),
            r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#
        );
    }
}
