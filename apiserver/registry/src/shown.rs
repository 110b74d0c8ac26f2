//! Values as upstream's messages show them: its rules work on internal types without JSON tags, so
//! that a struct in a message has Go's names, every field, and Go's zero values. Types of meta/v1 are
//! the same inside and outside: they keep their JSON form.

use serde_json::{Map, Value};
use windlass_apiserver_schema::{Field, Schema, Shape, Type};

/// A value of the type that OpenAPI calls `io.k8s.api.NAME`, such as `core.v1.SecurityContext`.
pub fn internal(value: &Value, name: &str) -> Value {
    match Schema::builtin().type_named(&format!("io.k8s.api.{name}")) {
        Some(of) => structure(value, of),
        None => value.clone(),
    }
}

/// A field of such a type, in which it is shown.
pub fn field(of: &Value, name: &str, key: &str) -> Value {
    let known = Schema::builtin().type_named(&format!("io.k8s.api.{name}"));
    match known.and_then(|known| known.field(key)) {
        Some(field) => one(&of[key], field, &field.shape),
        None => of[key].clone(),
    }
}

/// A value of such a type as Go writes it to clients: with every field that is written when empty.
pub fn written(value: &Value, name: &str) -> Value {
    let known = Schema::builtin().type_named(&format!("io.k8s.api.{name}"));
    let Some(of) = known else { return value.clone() };
    let mut shown = Map::new();
    for field in &of.fields {
        match value.get(field.json) {
            Some(found) => drop(shown.insert(field.json.to_owned(), found.clone())),
            None if field.omitempty || field.omitzero || field.pointer => {}
            None => {
                drop(shown.insert(field.json.to_owned(), one(&Value::Null, field, &field.shape)))
            }
        }
    }
    Value::Object(shown)
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

fn structure(value: &Value, of: &Type) -> Value {
    if of.name.starts_with(META) {
        return value.clone();
    }
    let mut shown = Map::new();
    for field in &of.fields {
        match field.target() {
            // Metadata is embedded inside; kind and version are not told.
            Some(target) if target.name.starts_with(META) && field.json == "metadata" => {
                let parts = value[field.json].as_object().into_iter().flatten();
                shown.extend(parts.map(|(key, part)| (key.clone(), part.clone())));
            }
            Some(target) if field.inline && target.name.starts_with(META) => {}
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
    fn metadata_is_embedded() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {}}});
        assert_eq!(
            internal(&template, "resource.v1.ResourceClaimTemplateSpec").to_string(),
            r#"{"labels":{"a":"b"},"Spec":{"Devices":{"Requests":null,"Constraints":null,"Config":null}}}"#
        );
    }

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
