//! Sets of fields as `managedFields` writes them (FieldsV1), and the comparison of two states of an
//! object that yields them. How a field is owned (as a whole, by member, by the key of a list's
//! items) is in the facts table.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    kind::Kind,
    ownership::{EMPTY, Ownership, items, repeated, set_items},
    strategy::Separation,
};

/// Metadata that no client owns.
pub const SYSTEM_METADATA: [&str; 8] = [
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
    pub member: bool,
    pub children: BTreeMap<String, FieldSet>,
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Delta {
    /// Added, or of another value than before.
    pub changed: FieldSet,
    pub removed: FieldSet,
    /// Some item of a keyed list leaves out its key: the object can't be taken apart.
    pub untyped: bool,
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

    /// What is in both.
    pub fn common(&self, other: &Self) -> Self {
        let both = |(key, child): (&String, &Self)| {
            let common = child.common(other.children.get(key)?);
            common.holds().then(|| (key.clone(), common))
        };
        Self {
            member: self.member && other.member,
            children: self.children.iter().filter_map(both).collect(),
        }
    }

    /// The paths of all members, as upstream writes them: `.spec.ports[port=80].name`.
    pub fn paths(&self) -> Vec<String> {
        fn walk(set: &FieldSet, at: &str, into: &mut Vec<String>) {
            for (element, child) in &set.children {
                let path = format!("{at}{}", step_text(element));
                if child.member {
                    into.push(path.clone());
                }
                walk(child, &path, into);
            }
        }
        let mut paths = Vec::new();
        walk(self, "", &mut paths);
        paths
    }

    pub fn holds(&self) -> bool {
        self.member || !self.children.is_empty()
    }
}

/// `f:name` as `.name`, `k:{"a":1}` as `[a=1]`, `v:"x"` as `[="x"]`.
pub fn step_text(element: &str) -> String {
    let (sort, rest) = element.split_once(':').unwrap_or(("f", element));
    match (sort, serde_json::from_str(rest)) {
        ("k", Ok(Value::Object(keys))) => {
            let keys: Vec<String> = keys.iter().map(|(key, is)| format!("{key}={is}")).collect();
            format!("[{}]", keys.join(","))
        }
        ("v", _) => format!("[={rest}]"),
        _ => format!(".{rest}"),
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
        let root = kind.ownership();
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
                "spec" if kind.strategy.spec_stays() => {}
                _ if sub == "status" && !["metadata", "status"].contains(&key) => {}
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
    fn step(
        &mut self,
        element: String,
        old: Option<&Value>,
        new: Option<&Value>,
        as_: Ownership<'_>,
    ) {
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

    fn walk(&mut self, old: Option<&Value>, new: Option<&Value>, as_: Ownership<'_>) {
        match as_ {
            Ownership::Items(field) => {
                let list = new.and_then(Value::as_array).into_iter().flatten();
                self.untyped |= list.clone().any(|item| field.missing_key(item).is_some());
                let (before, after) = (items(old, field), items(new, field));
                let item = field.item();
                let repeated = repeated(old, new, field);
                for (key, value) in &after {
                    if let Some(differ) = repeated.get(key) {
                        // Of what is there twice nothing inside can be told apart.
                        let leaf = FieldSet { member: true, children: BTreeMap::new() };
                        self.changed.children.extend(differ.then(|| (key.clone(), leaf)));
                        continue;
                    }
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
        self.untyped |= inner.untyped;
        if inner.changed.holds() {
            self.changed.children.insert(element.clone(), inner.changed);
        }
        if inner.removed.holds() {
            self.removed.children.insert(element, inner.removed);
        }
    }
}

type Member<'a, 'o> = (&'a str, Option<&'a Value>, Option<&'a Value>, Ownership<'o>);

/// The members of either object that differ. What an absent member counts as holds only inside an
/// object that is there.
fn members<'a, 'o>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    as_: Ownership<'o>,
) -> Vec<Member<'a, 'o>> {
    // A null stands for absence, but where Go writes it for what is there and empty.
    let present = |of: Option<&'a Value>, key: &str| {
        let written = || as_.member(key).1.is_some_and(Value::is_null);
        of.and_then(|of| of.get(key)).filter(|value| !value.is_null() || written())
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
