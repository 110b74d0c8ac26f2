//! The part of defaulting that is data: values that the facts table knows, struct values that Go
//! always writes, and quantities in their canonical form. The table is compiled once to what a walk
//! over an object has to look at; everything else in the object is passed by.

use std::{collections::HashMap, sync::OnceLock};

use serde_json::{Value, json};
use windlass_apiserver_schema::{Schema, Shape, Type};
use windlass_sdk_meta::Quantity;

/// Fills in static defaults and canonical forms of an object of that type.
pub fn normalize(object: &mut Value, of: &'static Type) {
    let plan = plan();
    if let Some(rules) = plan.by_type.get(&key(of)) {
        apply(object, *rules, plan);
    }
}

/// What a walk does with each type, by index; types refer to each other in circles.
struct Plan {
    by_type: HashMap<usize, usize>,
    rules: Vec<Vec<Rule>>,
}

/// One field that needs a look.
struct Rule {
    field: &'static str,
    /// Set where the field is absent.
    absent: Option<Value>,
    /// Set where the field has Go's zero value: it is no pointer.
    replaces_zero: bool,
    then: Then,
}

enum Then {
    Nothing,
    Quantity,
    Quantities,
    /// Types by index.
    One(usize),
    Each(usize),
    EachEntry(usize),
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let types = Schema::builtin().types();
        let by_type: HashMap<usize, usize> =
            types.iter().enumerate().map(|(at, of)| (key(of), at)).collect();
        let mut rules: Vec<Vec<Rule>> = types.iter().map(|of| compile(of, &by_type)).collect();
        prune(&mut rules);
        Plan { by_type, rules }
    })
}

/// Types are compiled in once, so their address names them.
fn key(of: &Type) -> usize {
    std::ptr::from_ref(of) as usize
}

fn compile(of: &'static Type, by_type: &HashMap<usize, usize>) -> Vec<Rule> {
    let index = |at: &Type| by_type.get(&key(at)).copied();
    let mut rules = Vec::new();
    for field in of.properties() {
        let mut absent = field.default_value();
        let then = match &field.shape {
            Shape::Quantity => Then::Quantity,
            Shape::Map(inner) if **inner == Shape::Quantity => Then::Quantities,
            Shape::Struct(at) => index(at.get()).map_or(Then::Nothing, Then::One),
            Shape::List(inner) => match &**inner {
                Shape::Struct(at) => index(at.get()).map_or(Then::Nothing, Then::Each),
                _ => Then::Nothing,
            },
            Shape::Map(inner) => match &**inner {
                Shape::Struct(at) => index(at.get()).map_or(Then::Nothing, Then::EachEntry),
                _ => Then::Nothing,
            },
            _ => Then::Nothing,
        };
        if absent.is_none() && !field.pointer && !field.omitzero && field.json != "metadata" {
            absent = match &field.shape {
                Shape::Struct(_) => Some(json!({})),
                Shape::Quantity => Some(json!("0")),
                _ => None,
            };
        }
        if absent.is_some() || !matches!(then, Then::Nothing) {
            rules.push(Rule { field: field.json, absent, replaces_zero: !field.pointer, then });
        }
    }
    rules
}

/// Takes out what leads nowhere, until nothing more does.
fn prune(rules: &mut [Vec<Rule>]) {
    loop {
        let empty: Vec<bool> = rules.iter().map(Vec::is_empty).collect();
        let mut changed = false;
        for list in rules.iter_mut() {
            let before = list.len();
            list.retain(|rule| {
                let leads = match rule.then {
                    Then::One(at) | Then::Each(at) | Then::EachEntry(at) => !empty[at],
                    Then::Nothing => false,
                    Then::Quantity | Then::Quantities => true,
                };
                leads || rule.absent.is_some()
            });
            changed |= list.len() != before;
        }
        if !changed {
            return;
        }
    }
}

fn apply(object: &mut Value, rules: usize, plan: &Plan) {
    let Value::Object(map) = object else { return };
    for rule in &plan.rules[rules] {
        if let Some(absent) = &rule.absent {
            let fill = match map.get(rule.field) {
                None | Some(Value::Null) => true,
                Some(found) => rule.replaces_zero && is_zero(found),
            };
            if fill {
                map.insert(rule.field.to_owned(), absent.clone());
            }
        }
        let Some(found) = map.get_mut(rule.field) else { continue };
        match rule.then {
            Then::Nothing => {}
            Then::Quantity => canonical(found),
            Then::Quantities => {
                found
                    .as_object_mut()
                    .into_iter()
                    .for_each(|map| map.values_mut().for_each(canonical));
            }
            Then::One(at) => apply(found, at, plan),
            Then::Each(at) => {
                for item in found.as_array_mut().into_iter().flatten() {
                    apply(item, at, plan);
                }
            }
            Then::EachEntry(at) => {
                for (_, item) in found.as_object_mut().into_iter().flatten() {
                    apply(item, at, plan);
                }
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// `1000m` becomes `1`, a number its text; what can't be read stays for whoever validates.
fn canonical(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    if let Ok(quantity) = text.parse::<Quantity>() {
        *value = Value::String(quantity.to_string());
    }
}
