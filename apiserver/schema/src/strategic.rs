//! Strategic merge patch, driven by the type table.
//!
//! `kubectl apply`, `edit`, `set` and `scale` send it for every built-in kind. Lists of objects merge by
//! their merge key, lists of scalars as sets, everything else is replaced; directives inside the patch
//! (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x`, `$setElementOrder/x`) say what a plain merge
//! can't. The steps and their order follow upstream's `strategicpatch`, quirks included: a corpus made
//! with it is the test.

use serde_json::{Map, Value};
use windlass_sdk_meta::{Reason, Status};

use crate::facts::{Field, Shape, Type};

/// Applies `patch` to `original`, an object of type `ty`.
///
/// # Errors
/// When a directive is malformed or an element lacks its merge key; `original` is then as it was.
pub fn strategic_merge(
    original: &mut Value,
    patch: &Value,
    ty: &'static Type,
) -> Result<(), PatchError> {
    if patch.is_array() {
        let why = "json: cannot unmarshal array into Go value of type map[string]interface {}";
        return Err(PatchError::new(why));
    }
    let (Value::Object(into), Value::Object(from)) = (&*original, patch) else {
        return Err(PatchError::new("invalid JSON document"));
    };
    *original = Value::Object(merge_map(into.clone(), from.clone(), Place::Type(ty))?);
    Ok(())
}

/// Why a patch can't be applied, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatchError {
    message: String,
    /// The patch is well formed but asks for what can't be done.
    unprocessable: bool,
}

impl PatchError {
    fn new(message: impl Into<String>) -> PatchError {
        PatchError { message: message.into(), unprocessable: false }
    }

    fn list_of_lists() -> PatchError {
        let message = "lists of lists are not supported".into();
        PatchError { message, unprocessable: true }
    }

    fn no_merge_key(element: &Map<String, Value>, key: &str) -> PatchError {
        let element = go_map(element);
        PatchError::new(format!("map: {element} does not contain declared merge key: {key}"))
    }

    fn wrong_type(expected: &str, found: &Value) -> PatchError {
        PatchError::new(format!("expected a {expected}, but received a {}", go_type(found)))
    }
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Status {
        let reason = if error.unprocessable { Reason::Invalid } else { Reason::BadRequest };
        Status::new(reason, error.message)
    }
}

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const GO_MAP: &str = "map[string]interface {}";
const GO_LIST: &str = "[]interface {}";

/// Elements of a list that merges, at most: finding partners takes the product of both lengths.
const MAX_MERGED_ELEMENTS: usize = 5_000;

type Object = Map<String, Value>;

/// Which Go type describes the value that is being merged.
#[derive(Clone, Copy)]
enum Place {
    Type(&'static Type),
    Shape(&'static Shape),
}

impl Place {
    fn field(self, key: &str) -> Result<&'static Field, PatchError> {
        let (found, name) = match self {
            Place::Type(ty) => (ty.field(key), ty.short_name().to_string()),
            Place::Shape(Shape::Struct(id)) => return Place::Type(id.get()).field(key),
            Place::Shape(shape @ (Shape::Map(_) | Shape::List(_) | Shape::Wrapped(_))) => {
                let kind = if matches!(shape, Shape::Map(_)) { "map" } else { "slice" };
                return Err(PatchError::new(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                )));
            }
            Place::Shape(other) => (None, other.go_type()),
        };
        found.ok_or_else(|| {
            let name = name.rsplit('.').next().unwrap_or_default();
            PatchError::new(format!(
                "unable to find api field in struct {name} for the json field {key:?}"
            ))
        })
    }

    /// As [`Place::field`], for a list: with the place of its elements.
    fn list(self, key: &str) -> Result<(&'static Field, Place), PatchError> {
        let field = self.field(key)?;
        match &field.shape {
            Shape::List(inner) | Shape::Wrapped(inner) => Ok((field, Place::Shape(inner))),
            _ => Err(PatchError::new("expected slice or array type, but got: struct")),
        }
    }
}

/// The merge key of a field; empty where it has none.
fn merge_key(field: &Field) -> &'static str {
    field.patch_merge_key.unwrap_or_default()
}

fn merge_map(mut original: Object, mut patch: Object, place: Place) -> Result<Object, PatchError> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.shift_remove(DIRECTIVE);
            return Ok(patch);
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, place)?;
    // Deletions first: Go's order of maps leaves it open, and this one loses nothing.
    let (deletions, rest): (Vec<_>, Vec<_>) =
        patch.into_iter().partition(|(key, _)| key.starts_with(DELETE_FROM));
    for (key, value) in deletions {
        let key = directive_key(&key, DELETE_FROM, "invalid patch format of primitive list")?;
        if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(&key), &value) {
            place.list(&key)?;
            list.retain(|item| !gone.contains(item));
        }
    }
    for (key, value) in rest {
        merge_entry(&mut original, key, value, place)?;
    }
    Ok(original)
}

fn merge_entry(
    original: &mut Object,
    key: String,
    mut value: Value,
    place: Place,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.shift_remove(&key);
        return Ok(());
    }
    match (original.get_mut(&key), &mut value) {
        (Some(Value::Object(into)), Value::Object(from)) => {
            let field = place.field(&key)?;
            let (into, from) = (std::mem::take(into), std::mem::take(from));
            let merged = if field.patches_by("replace") {
                from
            } else {
                merge_map(into, from, Place::Shape(&field.shape))?
            };
            original.insert(key, Value::Object(merged));
        }
        (Some(Value::Array(into)), Value::Array(from)) => {
            let (field, elements) = place.list(&key)?;
            let (into, from) = (std::mem::take(into), std::mem::take(from));
            let merged = merge_field(field, into, from, elements)?;
            original.insert(key, Value::Array(merged));
        }
        _ => {
            discard_nulls(&mut value);
            match without_directives(value) {
                Some(value) => drop(original.insert(key, value)),
                None => drop(original.shift_remove(&key)),
            }
        }
    }
    Ok(())
}

/// Clears what `$retainKeys` doesn't name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(PatchError::new(BAD_RETAIN_KEYS)) };
    let retained = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let stray = patch.iter().any(|(key, value)| {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
        !value.is_null() && !directive && !retained(key)
    });
    if stray {
        return Err(PatchError::new(BAD_RETAIN_KEYS));
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// Merges the lists whose order the patch gives, and takes them out of the patch.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    place: Place,
) -> Result<(), PatchError> {
    let orders: Vec<String> =
        patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in orders {
        let order = match patch.shift_remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(PatchError::wrong_type(GO_LIST, &other.unwrap_or_default())),
        };
        let key = directive_key(&directive, SET_ORDER, BAD_ORDER)?;
        let list_of = |from: &Object| match from.get(&key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list.clone())),
            Some(other) => Err(PatchError::wrong_type(GO_LIST, other)),
        };
        let (live, wanted) = (list_of(original)?, list_of(patch)?);
        let (field, elements) = place.list(&key)?;
        let by = merge_key(field);
        check_order(wanted.as_deref().unwrap_or_default(), &order, by)?;
        let merged = match (&live, &wanted) {
            (None, None) => continue,
            (Some(live), None) => live.clone(),
            (None, Some(wanted)) => wanted.iter().cloned().filter_map(without_directives).collect(),
            (Some(live), Some(wanted)) => {
                merge_field(field, live.clone(), wanted.clone(), elements)?
            }
        };
        let live = live.unwrap_or_default();
        element_type(&[&live, wanted.as_deref().unwrap_or_default()])?;
        original.insert(key.clone(), Value::Array(order_elements(merged, &order, &live, by)?));
        patch.shift_remove(&key);
    }
    Ok(())
}

/// The elements of the patch must come in the order that the directive gives.
fn check_order(wanted: &[Value], order: &[Value], by: &str) -> Result<(), PatchError> {
    if wanted.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for element in wanted {
        if !by.is_empty() {
            match element {
                Value::Object(element) if element.contains_key(DIRECTIVE) => continue,
                Value::Object(_) => {}
                other => return Err(PatchError::wrong_type(GO_MAP, other)),
            }
        }
        loop {
            let Some(next) = rest.next() else {
                return Err(PatchError::new(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                    go_list(wanted),
                    go_list(order)
                )));
            };
            if key_of(element, by)? == key_of(next, by)? {
                break;
            }
        }
    }
    Ok(())
}

/// Merges a list by its field's strategy; without one the patch replaces it.
fn merge_field(
    field: &Field,
    original: Vec<Value>,
    patch: Vec<Value>,
    elements: Place,
) -> Result<Vec<Value>, PatchError> {
    if field.patches_by("merge") {
        merge_list(original, patch, elements, merge_key(field))
    } else {
        Ok(patch)
    }
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    elements: Place,
    by: &str,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if original.len().max(patch.len()) > MAX_MERGED_ELEMENTS {
        let message = format!("lists of more than {MAX_MERGED_ELEMENTS} elements don't merge");
        return Err(PatchError { message, unprocessable: true });
    }
    let (original, patch, merged) = match element_type(&[&original, &patch])? {
        Value::Object(_) => {
            if by.is_empty() {
                let name = "struct";
                return Err(PatchError::new(format!(
                    "cannot merge lists without merge key for {name}"
                )));
            }
            let (original, patch) = take_directives(original, patch, by)?;
            let merged = merge_elements(original.clone(), patch.clone(), elements, by)?;
            (original, patch, merged)
        }
        _ => {
            let mut merged: Vec<Value> = Vec::new();
            for item in original.iter().chain(&patch) {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            (original, patch, merged)
        }
    };
    order_elements(merged, &patch, &original, by)
}

/// Carries out `$patch` in elements of a list: what is left of the original, and the plain elements.
fn take_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    by: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    for element in patch {
        let Value::Object(fields) = &element else { continue };
        match fields.get(DIRECTIVE) {
            None => plain.push(element),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = fields.get(by).ok_or_else(|| PatchError::no_merge_key(fields, by))?;
                original.retain(|item| item.get(by) != Some(gone));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::new("merging lists cannot yet be specified in the patch"));
            }
            Some(other) => return Err(unknown_directive(other, fields)),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn merge_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    elements: Place,
    by: &str,
) -> Result<Vec<Value>, PatchError> {
    for element in patch {
        let Value::Object(fields) = element else { continue };
        let key = fields.get(by).ok_or_else(|| PatchError::no_merge_key(&fields, by))?;
        match original.iter_mut().find(|item| item.get(by) == Some(key)) {
            Some(Value::Object(found)) => {
                *found = merge_map(std::mem::take(found), fields, elements)?;
            }
            _ => original.push(Value::Object(fields)),
        }
    }
    Ok(original)
}

/// Sorts what the patch names by the patch's order and the rest by the live order, and weaves both.
fn order_elements(
    merged: Vec<Value>,
    order: &[Value],
    live: &[Value],
    by: &str,
) -> Result<Vec<Value>, PatchError> {
    let keys = |list: &[Value]| -> Result<Vec<Value>, PatchError> {
        list.iter().map(|item| key_of(item, by).cloned()).collect()
    };
    let (order, live, merged_keys) = (keys(order)?, keys(live)?, keys(&merged)?);
    let position = |list: &[Value], key: &Value| list.iter().position(|k| k == key);
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for (item, key) in merged.into_iter().zip(merged_keys) {
        match position(&order, &key) {
            Some(at) => named.push((at, key, item)),
            None => others.push((position(&live, &key).unwrap_or(usize::MAX), key, item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, ..)| *at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, key, item) in named {
        // An element that only the server has stays before the named one that follows it in the live list.
        let limit = position(&live, &key);
        while let Some((_, _, other)) = others.next_if(|(at, ..)| limit.is_some_and(|l| *at < l)) {
            out.push(other);
        }
        out.push(item);
    }
    out.extend(others.map(|(_, _, item)| item));
    Ok(out)
}

/// What identifies an element: its merge key's value, or itself where the list has no merge key.
fn key_of<'v>(element: &'v Value, by: &str) -> Result<&'v Value, PatchError> {
    if by.is_empty() {
        return Ok(element);
    }
    match element {
        Value::Object(fields) => fields.get(by).ok_or_else(|| PatchError::no_merge_key(fields, by)),
        other => Err(PatchError::wrong_type(GO_MAP, other)),
    }
}

/// One element, if all elements of the lists are of one type.
fn element_type<'v>(lists: &[&'v [Value]]) -> Result<&'v Value, PatchError> {
    let mut elements = lists.iter().copied().flatten();
    let first =
        elements.next().ok_or_else(|| PatchError::new("no elements in any of the given slices"))?;
    if first.is_array() {
        return Err(PatchError::list_of_lists());
    }
    if elements.any(|element| go_type(element) != go_type(first)) {
        let lists: Vec<String> = lists.iter().map(|list| go_list(list)).collect();
        let lists = lists.join(" ");
        return Err(PatchError::new(format!("list element types are not identical: [{lists}]")));
    }
    Ok(first)
}

fn directive_key(key: &str, prefix: &str, error: &str) -> Result<String, PatchError> {
    let rest = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    rest.map(str::to_string).ok_or_else(|| PatchError::new(error))
}

fn unknown_directive(directive: &Value, within: &Object) -> PatchError {
    PatchError::new(format!(
        "unknown patch type: {} in map: {}",
        go_format(directive),
        go_map(within)
    ))
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without anything that carries `$patch`; `None` where it does itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(
            fields.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?))).collect(),
        )),
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().filter_map(without_directives).collect()))
        }
        scalar => Some(scalar),
    }
}

/// Go's name of a decoded value's type.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => GO_LIST,
        Value::Object(_) => GO_MAP,
    }
}

/// A value as Go's `%v` prints it.
fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(fields) => go_map(fields),
        scalar => scalar.to_string(),
    }
}

fn go_list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(go_format).collect::<Vec<_>>().join(" "))
}

fn go_map(fields: &Object) -> String {
    let mut entries: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key}:{}", go_format(value))).collect();
    entries.sort();
    format!("map[{}]", entries.join(" "))
}
