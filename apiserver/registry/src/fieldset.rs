//! Sets of fields as `managedFields` writes them (FieldsV1), and the comparison of two states of an
//! object that yields them. How a field is owned (as a whole, by member, by the key of a list's
//! items) is in the facts table.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json};
use windlass_apiserver_schema::{Field, Shape, Type};

use crate::{kind::Kind, strategy::Separation, tree};

/// Metadata that no client owns.
const SYSTEM_METADATA: [&str; 8] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// A set of fields: path elements (`f:name`, `k:{..}`, `v:..`) to what is owned below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The element itself belongs to the set, not only something below it.
    member: bool,
    children: BTreeMap<String, FieldSet>,
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Delta {
    /// Added, or of another value than before.
    pub changed: FieldSet,
    pub removed: FieldSet,
}

impl FieldSet {
    /// Nothing below the root.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    pub fn from_json(fields: &Value) -> Self {
        let map = fields.as_object();
        let children = map.into_iter().flatten().filter(|(key, _)| *key != ".");
        Self {
            member: map.is_none_or(|map| map.is_empty() || map.contains_key(".")),
            children: children.map(|(key, value)| (key.clone(), Self::from_json(value))).collect(),
        }
    }

    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        map.extend(self.children.iter().map(|(key, child)| {
            let value = if child.children.is_empty() { json!({}) } else { child.to_json() };
            (key.clone(), value)
        }));
        Value::Object(map)
    }

    pub fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (key, child) in &other.children {
            match self.children.get_mut(key) {
                Some(own) => own.add(child),
                None => {
                    self.children.insert(key.clone(), child.clone());
                }
            }
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (key, child) in &other.children {
            if let Some(own) = self.children.get_mut(key) {
                own.member &= !child.member;
                own.subtract(child);
                if !own.holds() {
                    self.children.remove(key);
                }
            }
        }
    }

    fn holds(&self) -> bool {
        self.member || !self.children.is_empty()
    }
}

/// Whether a set in JSON form has anything in common with another: asked before it is taken apart.
pub fn touches(fields: &Value, set: &FieldSet) -> bool {
    set.children.iter().any(|(key, child)| {
        let Some(found) = fields.get(key) else { return false };
        let member = found.as_object().is_none_or(|map| map.is_empty() || map.contains_key("."));
        (member && child.member) || touches(found, child)
    })
}

impl Delta {
    /// Compares two states of an object (`old` null on create) as a write through `sub` is recorded:
    /// without what that write resets.
    pub fn between(kind: &Kind, old: &Value, new: &Value, sub: &str) -> Self {
        let root = kind.schema().map_or(Ownership::Open, Ownership::Struct);
        let separation = kind.strategy.separation();
        let resets_status = sub.is_empty()
            && matches!(separation, Separation::Status | Separation::StatusAndGeneration);
        let mut delta = Self::default();
        // Upstream compares with an object of the kind that is empty, but there.
        let old = if old.is_null() { &*EMPTY } else { old };
        for (key, old, new, field) in members(Some(old), Some(new), root) {
            match key {
                "apiVersion" | "kind" => {}
                "status" if resets_status => {}
                "metadata" => {
                    let mut inner = Self::default();
                    for (key, old, new, field) in members(old, new, field) {
                        if !SYSTEM_METADATA.contains(&key) {
                            inner.step(format!("f:{key}"), old, new, field);
                        }
                    }
                    delta.absorb("f:metadata".to_owned(), inner);
                }
                _ => delta.step(format!("f:{key}"), old, new, field),
            }
        }
        delta
    }

    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// Compares what stands at one path element.
    fn step(&mut self, element: String, old: Option<&Value>, new: Option<&Value>, as_: Ownership) {
        if old == new {
            return;
        }
        let mut inner = Self::default();
        if as_.has_parts(old, new) {
            inner.walk(old, new, as_);
            inner.changed.member = old.is_none();
        } else {
            inner.changed.member = new.is_some();
        }
        inner.removed.member = new.is_none();
        self.absorb(element, inner);
    }

    fn walk(&mut self, old: Option<&Value>, new: Option<&Value>, as_: Ownership) {
        match as_ {
            Ownership::Items(field) => {
                let (before, after) = (items(old, field), items(new, field));
                let item = Ownership::of_shape(&field.shape);
                for (key, value) in &after {
                    self.step(key.clone(), before.get(key).copied(), Some(value), item);
                }
                for (key, value) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
                    self.step(key.clone(), Some(value), None, item);
                }
            }
            Ownership::Set => {
                let (before, after) = (set_items(old), set_items(new));
                let leaf = FieldSet { member: true, children: BTreeMap::new() };
                for one in after.iter().filter(|one| !before.contains(one)) {
                    self.changed.children.insert(one.clone(), leaf.clone());
                }
                for one in before.iter().filter(|one| !after.contains(one)) {
                    self.removed.children.insert(one.clone(), leaf.clone());
                }
            }
            _ => {
                for (key, old, new, field) in members(old, new, as_) {
                    self.step(format!("f:{key}"), old, new, field);
                }
            }
        }
    }

    fn absorb(&mut self, element: String, inner: Self) {
        if inner.changed.holds() {
            self.changed.children.insert(element.clone(), inner.changed);
        }
        if inner.removed.holds() {
            self.removed.children.insert(element, inner.removed);
        }
    }
}

static NULL: Value = Value::Null;
static FALSE: Value = Value::Bool(false);
static ZERO: LazyLock<Value> = LazyLock::new(|| json!(0));
static EMPTY_TEXT: LazyLock<Value> = LazyLock::new(|| json!(""));
static EMPTY: LazyLock<Value> = LazyLock::new(|| json!({}));

/// How a field is owned.
#[derive(Clone, Copy, Debug)]
enum Ownership {
    Whole,
    Struct(&'static Type),
    Map(&'static Shape),
    /// A list whose items are told apart by keys.
    Items(&'static Field),
    Set,
    /// Of unknown type: maps by member, all else as a whole.
    Open,
}

impl Ownership {
    fn of_field(field: &'static Field) -> Self {
        let atomic = field.map_type == Some("atomic");
        match (&field.shape, field.list_type) {
            (Shape::Struct(_) | Shape::Map(_), _) if atomic => Self::Whole,
            (Shape::List(_), Some("map")) => Self::Items(field),
            (Shape::List(_), Some("set")) => Self::Set,
            (Shape::List(_), _) => Self::Whole,
            (shape, _) => Self::of_shape(shape),
        }
    }

    /// Of a value, or of the items of a list, that no field annotates.
    fn of_shape(shape: &'static Shape) -> Self {
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
    fn member(self, key: &str) -> (Self, Option<&'static Value>) {
        match self {
            Self::Struct(of) => of.field(key).map_or((Self::Open, None), |field| {
                let absent = match &field.shape {
                    Shape::Struct(_) if !field.pointer && !field.omitzero => Some(&*EMPTY),
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

    /// Whether the parts of these values are owned one by one: they are of the right form, and not
    /// both empty.
    fn has_parts(self, old: Option<&Value>, new: Option<&Value>) -> bool {
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

type Member<'a> = (&'a str, Option<&'a Value>, Option<&'a Value>, Ownership);

/// The members of either object that differ. What an absent member counts as holds only inside an
/// object that is there.
fn members<'a>(old: Option<&'a Value>, new: Option<&'a Value>, as_: Ownership) -> Vec<Member<'a>> {
    let present = |of: Option<&'a Value>, key: &str| {
        of.and_then(|of| of.get(key)).filter(|value| !value.is_null())
    };
    let keys = |of: Option<&'a Value>| of.and_then(Value::as_object).into_iter().flatten();
    let mut found = Vec::new();
    for (key, _) in keys(new) {
        let (before, after) = (present(old, key), present(new, key));
        if after.is_some() && before != after {
            let (field, absent) = as_.member(key);
            found.push((key.as_str(), before.or(absent.filter(|_| old.is_some())), after, field));
        }
    }
    for (key, _) in keys(old) {
        let before = present(old, key);
        if before.is_some() && present(new, key).is_none() {
            let (field, absent) = as_.member(key);
            found.push((key.as_str(), before, absent.filter(|_| new.is_some()), field));
        }
    }
    found
}

/// The items of a keyed list by path element; of doubles the last counts.
fn items<'a>(list: Option<&'a Value>, field: &Field) -> BTreeMap<String, &'a Value> {
    let mut keys = field.list_map_keys.clone();
    keys.sort_unstable();
    let element = |item: &Value| {
        let key: Map<String, Value> = keys
            .iter()
            .filter(|key| tree::has(item, key))
            .map(|key| ((*key).to_owned(), item[*key].clone()))
            .collect();
        format!("k:{}", Value::Object(key))
    };
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().map(|item| (element(item), item)).collect()
}

fn set_items(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().map(|one| format!("v:{one}")).collect()
}
