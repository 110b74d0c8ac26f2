//! How the parts of an object are owned: as a whole, member by member, or item by item under keys.
//! The facts table says it for each field.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json};
use windlass_apiserver_schema::{Field, Shape, Type};

static NULL: Value = Value::Null;
static FALSE: Value = Value::Bool(false);
static ZERO: LazyLock<Value> = LazyLock::new(|| json!(0));
static EMPTY_TEXT: LazyLock<Value> = LazyLock::new(|| json!(""));
pub static EMPTY: LazyLock<Value> = LazyLock::new(|| json!({}));

/// How a field is owned.
#[derive(Clone, Copy, Debug)]
pub enum Ownership<'a> {
    Whole,
    Struct(&'static Type),
    Map(&'static Shape),
    /// A list whose items are told apart by keys.
    Items(Keyed<'a>),
    Set,
    /// Of unknown type: maps by member, all else as a whole.
    Open,
    /// Of a type that came at run time: one of its maps.
    Custom(&'a Owned),
}

/// How a value is owned whose type came at run time.
#[derive(Debug)]
pub enum Owned {
    Whole,
    Open,
    Set,
    /// Its fields; one that isn't closed takes others, too.
    Struct {
        fields: BTreeMap<String, Owned>,
        closed: bool,
    },
    Map(Box<Owned>),
    Items(OwnedItems),
    /// A type of the facts table: an object's metadata.
    Builtin(&'static Type),
}

/// A keyed list whose type came at run time.
#[derive(Debug)]
pub struct OwnedItems {
    /// Keys, sorted, with what they count as where they are absent.
    pub keys: Vec<(String, Option<Value>)>,
    pub item: Box<Owned>,
}

/// What is known about the items of a keyed list.
#[derive(Clone, Copy, Debug)]
pub enum Keyed<'a> {
    Field(&'static Field),
    Custom(&'a OwnedItems),
}

impl Owned {
    pub fn ownership(&self) -> Ownership<'_> {
        match self {
            Owned::Whole => Ownership::Whole,
            Owned::Open => Ownership::Open,
            Owned::Set => Ownership::Set,
            Owned::Struct { .. } | Owned::Map(_) => Ownership::Custom(self),
            Owned::Items(items) => Ownership::Items(Keyed::Custom(items)),
            Owned::Builtin(of) => Ownership::Struct(of),
        }
    }
}

impl<'a> Keyed<'a> {
    /// How the items are owned.
    pub fn item(self) -> Ownership<'a> {
        match self {
            Keyed::Field(field) => Ownership::of_shape(&field.shape),
            Keyed::Custom(items) => items.item.ownership(),
        }
    }

    /// What tells an item from the others; a key that is absent counts as its default.
    pub fn element(self, item: &Value) -> String {
        match self {
            Keyed::Field(field) => element(item, field),
            Keyed::Custom(items) => {
                let of = |(key, default): &(String, Option<Value>)| {
                    let said = item.get(key).filter(|value| !value.is_null()).cloned();
                    said.or_else(|| default.clone()).map(|value| (key.clone(), value))
                };
                let key: Map<String, Value> = items.keys.iter().filter_map(of).collect();
                format!("k:{}", Value::Object(key))
            }
        }
    }

    /// A list may have several keys of which some are left out, as long as one is there.
    pub fn missing_key(self, item: &Value) -> Option<&'a str> {
        let absent = |key: &str| item.get(key).is_none_or(Value::is_null);
        match self {
            Keyed::Field(field) => {
                let has_default = |key: &str| {
                    field.target().and_then(|of| of.field(key)).is_some_and(|f| f.default.is_some())
                };
                let keys = &field.list_map_keys;
                let all = keys.iter().all(|key| absent(key) && !has_default(key));
                all.then(|| keys.first().copied())?
            }
            Keyed::Custom(items) => {
                let all = items.keys.iter().all(|(key, default)| absent(key) && default.is_none());
                all.then(|| items.keys.first().map(|(key, _)| key.as_str()))?
            }
        }
    }
}

impl<'a> Ownership<'a> {
    pub fn of_field(field: &'static Field) -> Self {
        let atomic = field.map_type == Some("atomic");
        match (&field.shape, field.list_type) {
            (Shape::Struct(_) | Shape::Map(_), _) if atomic => Self::Whole,
            // The field has the last word over its type.
            (Shape::Struct(at), _) if field.map_type == Some("granular") => Self::Struct(at.get()),
            (Shape::List(_), Some("map")) => Self::Items(Keyed::Field(field)),
            (Shape::List(_), Some("set")) => Self::Set,
            (Shape::List(_), _) => Self::Whole,
            (shape, _) => Self::of_shape(shape),
        }
    }

    /// Of a value, or of the items of a list, that no field annotates.
    pub fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Struct(at) if at.get().map_type == Some("atomic") => Self::Whole,
            Shape::Struct(at) => Self::Struct(at.get()),
            Shape::Map(inner) => Self::Map(inner),
            Shape::List(inner) => Self::of_shape(inner),
            _ => Self::Whole,
        }
    }

    /// How a member is owned, and what it counts as where it is absent: Go writes struct values
    /// always, and what has no `omitempty` also when it is zero, so these were there before.
    pub fn member(self, key: &str) -> (Self, Option<&'static Value>) {
        match self {
            Self::Custom(Owned::Struct { fields, .. }) => {
                (fields.get(key).map_or(Self::Open, Owned::ownership), None)
            }
            Self::Custom(Owned::Map(inner)) => (inner.ownership(), None),
            Self::Struct(of) => of.field(key).map_or((Self::Open, None), |field| {
                let absent = match &field.shape {
                    _ if field.pointer && !field.omitempty && !field.omitzero => Some(&NULL),
                    Shape::Struct(_) if !field.pointer && !field.omitzero => Some(&*EMPTY),
                    // A struct in Go, but written as null where it is zero.
                    Shape::Time | Shape::MicroTime if !field.pointer && !field.omitzero => {
                        Some(&NULL)
                    }
                    _ if field.omitempty || field.pointer => None,
                    Shape::List(_) | Shape::Map(_) => Some(&NULL),
                    Shape::String => Some(&*EMPTY_TEXT),
                    Shape::Int32 | Shape::Int64 => Some(&*ZERO),
                    Shape::Bool => Some(&FALSE),
                    _ => None,
                };
                (Self::of_field(field), absent)
            }),
            Self::Map(shape) => (Self::of_shape(shape), None),
            _ => (Self::Open, None),
        }
    }

    /// The member is a field of a struct, not an entry of a map.
    pub fn is_named(self, key: &str) -> bool {
        match self {
            Self::Struct(of) => of.field(key).is_some(),
            Self::Custom(Owned::Struct { fields, .. }) => fields.contains_key(key),
            _ => false,
        }
    }

    /// A struct that takes no other members than its fields.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Struct(_) | Self::Custom(Owned::Struct { closed: true, .. }))
    }

    /// A map or a struct.
    pub fn has_members(self) -> bool {
        matches!(self, Self::Struct(_) | Self::Map(_) | Self::Open | Self::Custom(_))
    }

    /// Whether the parts of these values are owned one by one: they are of the right form, and not
    /// both empty.
    pub fn has_parts(self, old: Option<&Value>, new: Option<&Value>) -> bool {
        let is_list = matches!(self, Self::Items(_) | Self::Set);
        if matches!(self, Self::Whole) {
            return false;
        }
        let mut any = false;
        for value in [old, new].into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::Array(items) if is_list => any |= !items.is_empty(),
                Value::Object(map) if !is_list => any |= !map.is_empty(),
                _ => return false,
            }
        }
        any
    }
}

/// The items of a keyed list by path element; of doubles the last counts.
pub fn items<'a>(list: Option<&'a Value>, keyed: Keyed<'_>) -> BTreeMap<String, &'a Value> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().map(|item| (keyed.element(item), item)).collect()
}

/// The elements of a keyed list that are there more than once, and whether they were others before.
pub fn repeated(
    old: Option<&Value>,
    new: Option<&Value>,
    keyed: Keyed<'_>,
) -> BTreeMap<String, bool> {
    let list = |of: Option<&Value>| of.and_then(Value::as_array).cloned().unwrap_or_default();
    let length = new.and_then(Value::as_array).map_or(0, Vec::len);
    if items(new, keyed).len() == length {
        return BTreeMap::new();
    }
    let (old, new) = (list(old), list(new));
    let of = |all: &[Value], key: &str| -> Vec<Value> {
        all.iter().filter(|item| keyed.element(item) == key).cloned().collect()
    };
    let keys = new.iter().map(|item| keyed.element(item));
    let all = keys.map(|key| (of(&old, &key), of(&new, &key), key));
    all.filter(|(_, now, _)| now.len() > 1).map(|(was, now, key)| (key, was != now)).collect()
}

/// What tells an item of a keyed list from the others; a key that is absent counts as its default.
fn element(item: &Value, field: &Field) -> String {
    let mut keys = field.list_map_keys.clone();
    keys.sort_unstable();
    let of = |key: &&str| {
        let said = item.get(*key).filter(|value| !value.is_null()).cloned();
        let default = || field.target()?.field(key)?.default_value();
        said.or_else(default).map(|value| ((*key).to_owned(), value))
    };
    let key: Map<String, Value> = keys.iter().filter_map(of).collect();
    format!("k:{}", Value::Object(key))
}

pub fn set_items(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().map(|one| format!("v:{one}")).collect()
}
