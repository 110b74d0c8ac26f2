//! Whether two values are the same to upstream's rules, which compare Go structs: a list or map that
//! is empty is the same as one that is absent, and so is the zero of a plain field, but not that of a
//! pointer, where absent and zero say different things. The facts table tells which is which.

use serde_json::Value;
use windlass_apiserver_schema::{Field, Schema, Shape, Type};
use windlass_sdk_meta::Quantity;

use crate::tree;

/// As `same`, of the type that OpenAPI calls `io.k8s.api.NAME`, such as `core.v1.PodSpec`.
pub fn same_named(a: &Value, b: &Value, name: &str) -> bool {
    match Schema::builtin().type_named(&format!("io.k8s.api.{name}")) {
        Some(of) => same(a, b, of),
        None => tree::same(a, b),
    }
}

/// Equal in one field of such structs.
pub fn same_in(a: &Value, b: &Value, name: &str, key: &str) -> bool {
    let of = Schema::builtin().type_named(&format!("io.k8s.api.{name}"));
    match of.and_then(|of| of.field(key)) {
        Some(field) => same_field(a, b, field),
        None => tree::same(&a[key], &b[key]),
    }
}

/// Equal as structs of the type.
pub fn same(a: &Value, b: &Value, of: &'static Type) -> bool {
    of.properties().all(|field| same_field(a, b, field))
}

/// Equal in one field of two structs.
pub fn same_field(a: &Value, b: &Value, field: &'static Field) -> bool {
    let (a, b) = (&a[field.json], &b[field.json]);
    match (a.is_null(), b.is_null()) {
        // A type may hold itself.
        (true, true) => return true,
        (true, false) | (false, true) if field.pointer => return false,
        _ => {}
    }
    same_shape(a, b, &field.shape)
}

fn same_shape(a: &Value, b: &Value, shape: &'static Shape) -> bool {
    match shape {
        Shape::Struct(of) => same(a, b, of.get()),
        Shape::List(inner) | Shape::Wrapped(inner) => {
            let (a, b) = (items(a), items(b));
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_shape(a, b, inner))
        }
        Shape::Map(inner) => {
            let count = |of: &Value| of.as_object().map_or(0, serde_json::Map::len);
            let kept =
                |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| same_shape(a, b, inner));
            count(a) == count(b) && a.as_object().into_iter().flatten().all(kept)
        }
        Shape::Quantity => amount(a) == amount(b),
        _ => a == b || (is_zero(a) && is_zero(b)),
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn amount(value: &Value) -> Option<Quantity> {
    value.as_str().unwrap_or("0").parse().ok()
}

fn is_zero(value: &Value) -> bool {
    tree::is_empty(value) || value.as_f64() == Some(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(a: Value, b: Value, same: bool) {
        assert_eq!(same_named(&a, &b, "core.v1.PodSpec"), same, "{a} {b}");
        assert_eq!(same_named(&b, &a, "core.v1.PodSpec"), same, "{b} {a}");
    }

    #[test]
    fn as_go_compares() {
        check(json!({}), json!({"containers": [], "nodeSelector": {}, "hostNetwork": false}), true);
        check(json!({}), json!({"enableServiceLinks": false}), false);
        check(json!({}), json!({"securityContext": {}}), false);
        check(json!({"securityContext": {}}), json!({"securityContext": {"sysctls": []}}), true);
        check(json!({"overhead": {"cpu": "1"}}), json!({"overhead": {"cpu": "1000m"}}), true);
        check(json!({"nodeSelector": {"a": ""}}), json!({"nodeSelector": {"b": ""}}), false);
    }
}
