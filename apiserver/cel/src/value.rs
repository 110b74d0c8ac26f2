//! Values of expressions. What CEL calls timestamps and durations, and the types of Kubernetes'
//! libraries, stay values of `kube-cel`: its functions work on them.

use std::{collections::BTreeMap, sync::Arc};

use base64::Engine as _;
use kube_cel::cel::{self, objects};

use crate::{
    calls,
    decl::{Decl, Form, ListKind},
};

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<List>),
    Map(Arc<BTreeMap<Key, Value>>),
    Optional(Option<Box<Value>>),
    /// The name of a type.
    TypeOf(Arc<str>),
    Foreign(cel::Value),
}

#[derive(Debug)]
pub struct List {
    pub items: Vec<Value>,
    pub kind: ListKind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Value {
    /// A JSON value as its declaration shows it to expressions. Fields that it doesn't declare are
    /// left out.
    pub fn from_json(json: &serde_json::Value, decl: &Decl) -> Value {
        use serde_json::Value as Json;
        match (json, &decl.form) {
            (Json::Null, _) => Value::Null,
            (Json::Bool(value), _) => Value::Bool(*value),
            (Json::Number(number), Form::Double) => {
                Value::Double(number.as_f64().unwrap_or_default())
            }
            (Json::Number(number), _) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Double(number.as_f64().unwrap_or_default()),
            },
            (Json::String(text), form) => from_text(text, form),
            (Json::Array(items), Form::List(inner, kind)) => {
                let items = items.iter().map(|item| Value::from_json(item, inner)).collect();
                Value::List(Arc::new(List { items, kind: kind.clone() }))
            }
            (Json::Object(map), Form::Map(inner)) => {
                let entry = |(key, value): (&String, &Json)| {
                    (Key::String(key.as_str().into()), Value::from_json(value, inner))
                };
                Value::Map(Arc::new(map.iter().map(entry).collect()))
            }
            (Json::Object(map), Form::Object(fields)) => {
                let field = |(name, field): (&Arc<str>, &crate::decl::Field)| {
                    let value = map.get(&*field.json)?;
                    Some((Key::String(name.clone()), Value::from_json(value, &field.decl)))
                };
                Value::Map(Arc::new(fields.iter().filter_map(field).collect()))
            }
            _ => Value::Null,
        }
    }

    /// A field by the name that expressions use, or an entry.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(&Key::String(name.into())),
            _ => None,
        }
    }

    pub fn item(&self, at: usize) -> Option<&Value> {
        match self {
            Value::List(list) => list.items.get(at),
            _ => None,
        }
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(List { items, kind: ListKind::Atomic }))
    }

    pub fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    /// What CEL's `size` says: of texts, lists and maps.
    pub fn size(&self) -> Option<u64> {
        Some(match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.items.len() as u64,
            Value::Map(map) => map.len() as u64,
            _ => return None,
        })
    }

    /// The value as `kube-cel` has it.
    pub(crate) fn to_foreign(&self) -> cel::Value {
        match self {
            Value::Null | Value::Optional(_) | Value::TypeOf(_) => cel::Value::Null,
            Value::Bool(value) => cel::Value::Bool(*value),
            Value::Int(value) => cel::Value::Int(*value),
            Value::Uint(value) => cel::Value::UInt(*value),
            Value::Double(value) => cel::Value::Float(*value),
            Value::String(text) => cel::Value::String(Arc::new(text.to_string())),
            Value::Bytes(bytes) => cel::Value::Bytes(Arc::new(bytes.to_vec())),
            Value::List(list) => {
                cel::Value::List(Arc::new(list.items.iter().map(Value::to_foreign).collect()))
            }
            Value::Map(map) => {
                let entries = map.iter().map(|(key, value)| (key.to_foreign(), value.to_foreign()));
                cel::Value::Map(objects::Map { map: Arc::new(entries.collect()) })
            }
            Value::Foreign(value) => value.clone(),
        }
    }

    pub(crate) fn from_foreign(value: cel::Value) -> Value {
        match value {
            cel::Value::Null => Value::Null,
            cel::Value::Bool(value) => Value::Bool(value),
            cel::Value::Int(value) => Value::Int(value),
            cel::Value::UInt(value) => Value::Uint(value),
            cel::Value::Float(value) => Value::Double(value),
            cel::Value::String(text) => Value::String(text.as_str().into()),
            cel::Value::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
            cel::Value::List(items) => {
                Value::list(items.iter().cloned().map(Value::from_foreign).collect())
            }
            cel::Value::Map(map) => {
                let entry = |(key, value): (&objects::Key, &cel::Value)| {
                    (Key::from_foreign(key), Value::from_foreign(value.clone()))
                };
                Value::Map(Arc::new(map.map.iter().map(entry).collect()))
            }
            other => Value::Foreign(other),
        }
    }
}

impl Key {
    pub fn of(value: &Value) -> Option<Key> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::String(text) => Key::String(text.clone()),
            Value::Double(number) if number.fract() == 0.0 => Key::Int(*number as i64),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    fn to_foreign(&self) -> objects::Key {
        match self {
            Key::Bool(value) => objects::Key::Bool(*value),
            Key::Int(value) => objects::Key::Int(*value),
            Key::Uint(value) => objects::Key::Uint(*value),
            Key::String(text) => objects::Key::String(Arc::new(text.to_string())),
        }
    }

    fn from_foreign(key: &objects::Key) -> Key {
        match key {
            objects::Key::Bool(value) => Key::Bool(*value),
            objects::Key::Int(value) => Key::Int(*value),
            objects::Key::Uint(value) => Key::Uint(*value),
            objects::Key::String(text) => Key::String(text.as_str().into()),
        }
    }
}

/// A text by its format; one that isn't of it stays a text, which validation has refused by then.
fn from_text(text: &str, form: &Form) -> Value {
    let plain = || Value::text(text);
    let parsed = match form {
        Form::Timestamp => calls::call("timestamp", None, &[plain()]),
        Form::Date => calls::call("timestamp", None, &[Value::text(&format!("{text}T00:00:00Z"))]),
        Form::Duration => calls::call("duration", None, &[plain()]),
        Form::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            return bytes.map_or_else(|_| plain(), |bytes| Value::Bytes(bytes.into()));
        }
        _ => return plain(),
    };
    parsed.unwrap_or_else(|_| plain())
}
