//! Defaults that need no code: what upstream fills into a field that is absent, whatever its siblings
//! say. Defaults that depend on something (an image's tag, a strategy's type) belong to the kind's
//! strategy in the registry, which runs this first.

use serde_json::{Map, Value};
use windlass_sdk_meta::Quantity;

use crate::facts::{Shape, Type};
use crate::golang::left_out;

/// Fills every absent field of `object` that the table has a default for, into structs and lists of
/// structs that are present. Running it twice changes nothing.
pub fn apply_defaults(object: &mut Value, ty: &Type) {
    let Value::Object(fields) = object else { return };
    fill(fields, ty);
}

fn fill(fields: &mut Map<String, Value>, ty: &Type) {
    for field in ty.properties() {
        if let Some(default) = field.default
            && is_absent(fields.get(field.json), field.pointer)
            // The table's JSON is checked by a test; an unreadable default would be left out.
            && let Ok(value) = serde_json::from_str(default.json)
            && !left_out(field, &value)
        {
            fields.insert(field.json.into(), value);
        }
        match (fields.get_mut(field.json), &field.shape) {
            (Some(Value::Object(inner)), Shape::Struct(id)) => fill(inner, id.get()),
            (Some(Value::Object(amounts)), Shape::Map(inner))
                if **inner == Shape::Quantity && ty.name.starts_with(CORE) =>
            {
                amounts.values_mut().for_each(round_up);
            }
            (Some(Value::Array(items)), Shape::List(inner)) => {
                if let Shape::Struct(id) = &**inner {
                    items.iter_mut().for_each(|item| apply_defaults(item, id.get()));
                }
            }
            _ => {}
        }
    }
}

/// Makes empty lists null, where they are written at all: upstream stores protobuf, which has none.
pub fn drop_empty_lists(object: &mut Value, ty: &Type) {
    let Value::Object(fields) = object else { return };
    for field in ty.properties() {
        match (fields.get_mut(field.json), &field.shape) {
            (Some(list @ Value::Array(_)), Shape::List(_)) if *list == Value::Array(Vec::new()) => {
                *list = Value::Null;
            }
            (Some(value), shape) => drop_inside(value, shape),
            (None, _) => {}
        }
    }
}

fn drop_inside(value: &mut Value, shape: &Shape) {
    match (value, shape) {
        (value @ Value::Object(_), Shape::Struct(id)) => drop_empty_lists(value, id.get()),
        (Value::Array(items), Shape::List(inner)) if matches!(**inner, Shape::Struct(_)) => {
            items.iter_mut().for_each(|item| drop_inside(item, inner));
        }
        (Value::Object(map), Shape::Map(inner)) if matches!(**inner, Shape::Struct(_)) => {
            map.values_mut().for_each(|item| drop_inside(item, inner));
        }
        _ => {}
    }
}

/// Where amounts of resources are kept in thousandths.
const CORE: &str = "io.k8s.api.core.";

fn round_up(amount: &mut Value) {
    let finer = amount.as_str().filter(|text| text.ends_with(['u', 'n']));
    if let Some(Ok(parsed)) = finer.map(str::parse::<Quantity>) {
        *amount = parsed.ceil_to_millis().to_string().into();
    }
}

/// Go defaults what is nil, and values that are zero: an empty string, 0.
fn is_absent(value: Option<&Value>, pointer: bool) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(_) if pointer => false,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Bool(_) | Value::Object(_)) => false,
    }
}
