//! Trees as structured-merge-diff sees them (KEP-555): which fields a tree names, one tree merged
//! into another, a tree without some fields. All follow the ownership that the facts table tells.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    fieldset::{FieldSet, step_text},
    ownership::Ownership,
};

/// A tree that is none of its type; the text says where and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Untyped(pub String);

/// All that a tree names: its leaves, and the items and entries on the way to them.
pub fn fields_of(tree: &Value, as_: Ownership<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    match (as_, tree) {
        (Ownership::Items(field), Value::Array(items)) => {
            let item_as = field.item();
            for item in items {
                let mut inner = fields_of(item, item_as);
                inner.member = true;
                set.children.insert(field.element(item), inner);
            }
        }
        (Ownership::Set, Value::Array(items)) => {
            for item in items {
                set.children.insert(format!("v:{item}"), leaf());
            }
        }
        (as_, Value::Object(map)) if as_.has_members() => {
            for (key, value) in map {
                let (own, _) = as_.member(key);
                let mut inner = fields_of(value, own);
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                inner.member |= is_empty || !as_.is_named(key);
                if inner.holds() {
                    set.children.insert(format!("f:{key}"), inner);
                }
            }
        }
        _ => set.member = true,
    }
    set
}

fn leaf() -> FieldSet {
    FieldSet { member: true, ..FieldSet::default() }
}

/// The set with every named field on the way to its members.
pub fn with_named(set: &FieldSet, as_: Ownership<'_>) -> FieldSet {
    let step = |(path, child): (&String, &FieldSet)| {
        let (own, named) = match (path.strip_prefix("f:"), as_) {
            (Some(key), _) => (as_.member(key).0, as_.is_named(key)),
            (None, Ownership::Items(field)) => (field.item(), false),
            (None, _) => (Ownership::Whole, false),
        };
        let mut inner = with_named(child, own);
        inner.member |= named;
        (path.clone(), inner)
    };
    FieldSet { member: set.member, children: set.children.iter().map(step).collect() }
}

/// `config` over `live`: what both have is merged as far down as it is owned in parts. Nulls stay:
/// they say that nothing is wanted there.
pub fn merge(live: &Value, config: &Value, as_: Ownership<'_>) -> Value {
    match (as_, live, config) {
        (Ownership::Items(field), Value::Array(live), Value::Array(config)) => {
            let item_as = field.item();
            Value::Array(merge_lists(live, config, &|item| field.element(item), item_as))
        }
        (Ownership::Set, Value::Array(live), Value::Array(config)) => {
            let element = |item: &Value| item.to_string();
            Value::Array(merge_lists(live, config, &element, Ownership::Whole))
        }
        (as_, Value::Object(live), Value::Object(config)) if as_.has_members() => {
            let mut merged = live.clone();
            for (key, value) in config {
                let value = match live.get(key) {
                    Some(before) => merge(before, value, as_.member(key).0),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        _ => config.clone(),
    }
}

/// The items of both lists: those of `config` in its order, the others where they were among them.
fn merge_lists(
    live: &[Value],
    config: &[Value],
    element: &dyn Fn(&Value) -> String,
    item_as: Ownership<'_>,
) -> Vec<Value> {
    let live: Vec<(String, &Value)> = live.iter().map(|item| (element(item), item)).collect();
    let config: Vec<(String, &Value)> = config.iter().map(|item| (element(item), item)).collect();
    let wanted: BTreeSet<&str> = config.iter().map(|(key, _)| key.as_str()).collect();
    let before: BTreeMap<&str, &Value> = live.iter().map(|(key, v)| (key.as_str(), *v)).collect();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mut rest = live.iter().peekable();
    for (at, (key, item)) in config.iter().enumerate() {
        let next_in_both = config[at..].iter().find(|(key, _)| before.contains_key(key.as_str()));
        // An item that both have waits for its place in the order of the config.
        while let Some((other, kept)) =
            rest.next_if(|(other, _)| next_in_both.is_none_or(|(next, _)| next != other))
        {
            if !wanted.contains(other.as_str()) {
                merged.push((*kept).clone());
            }
        }
        rest.next_if(|(other, _)| other == key);
        let live = before.get(key.as_str());
        merged.push(live.map_or_else(|| (*item).clone(), |live| merge(live, item, item_as)));
    }
    let others = rest.filter(|(key, _)| !wanted.contains(key.as_str()));
    merged.extend(others.map(|(_, item)| (*item).clone()));
    merged
}

/// The tree without the members of a set, and without what is empty then.
pub fn without(tree: &Value, set: &FieldSet, as_: Ownership<'_>) -> Value {
    let keep = |path: String, value: &Value, own: Ownership<'_>| match set.children.get(&path) {
        None => Some(value.clone()),
        Some(inner) if inner.member => None,
        Some(inner) => {
            let left = without(value, inner, own);
            (!left.is_null()).then_some(left)
        }
    };
    match (as_, tree) {
        (Ownership::Items(field), Value::Array(items)) => {
            let own = field.item();
            let left = items.iter().filter_map(|item| keep(field.element(item), item, own));
            some_list(left.collect())
        }
        (Ownership::Set, Value::Array(items)) => {
            let left =
                items.iter().filter_map(|item| keep(format!("v:{item}"), item, Ownership::Whole));
            some_list(left.collect())
        }
        (as_, Value::Object(map)) if as_.has_members() => {
            let left = map.iter().filter_map(|(key, value)| {
                keep(format!("f:{key}"), value, as_.member(key).0).map(|left| (key.clone(), left))
            });
            let left: Map<String, Value> = left.collect();
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        _ => tree.clone(),
    }
}

fn some_list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { Value::Array(items) }
}

/// Refuses a tree with fields that its type doesn't have, or whose keyed lists or sets name an item
/// twice or leave out a key.
pub fn check(tree: &Value, as_: Ownership<'_>, at: &str) -> Result<(), Untyped> {
    match (as_, tree) {
        (Ownership::Items(field), Value::Array(items)) => {
            let item_as = field.item();
            let mut seen = BTreeSet::new();
            for (n, item) in items.iter().enumerate() {
                if let Some(key) = field.missing_key(item) {
                    return Err(Untyped(format!(
                        "{at}: element {n}: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                    )));
                }
                let path = step_text(&field.element(item));
                if !seen.insert(path.clone()) {
                    return Err(Untyped(format!("{at}: duplicate entries for key {path}")));
                }
                check(item, item_as, &format!("{at}{path}"))?;
            }
            Ok(())
        }
        (Ownership::Set, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items {
                if !seen.insert(item.to_string()) {
                    return Err(Untyped(format!("{at}: duplicate entries for key [={item}]")));
                }
            }
            Ok(())
        }
        (as_, Value::Object(map)) if as_.has_members() => {
            for (key, value) in map {
                let path = format!("{at}.{key}");
                if as_.is_closed() && !as_.is_named(key) {
                    return Err(Untyped(format!("{path}: field not declared in schema")));
                }
                check(value, as_.member(key).0, &path)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
