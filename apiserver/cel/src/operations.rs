//! What functions and operators do to values, once their arguments are there. What isn't done here,
//! `kube-cel` does.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    calls,
    decl::ListKind,
    eval::{EvalError, Evaluated, failed, failed_foreign, no_overload},
    syntax::MAP_INSERT,
    value::{Key, List, Value},
};

pub fn has(of: &Value, field: &str) -> Evaluated {
    match of {
        Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::String(field.into())))),
        Value::Optional(None) => Ok(Value::Bool(false)),
        Value::Optional(Some(inner)) => has(inner, field),
        _ => no_overload(),
    }
}

pub fn select(of: &Value, field: &str) -> Evaluated {
    match of {
        Value::Map(map) => match map.get(&Key::String(field.into())) {
            Some(value) => Ok(value.clone()),
            None => failed(format!("no such key: {field}")),
        },
        Value::Optional(_) => optional_select(of, field),
        _ => no_overload(),
    }
}

fn optional_select(of: &Value, field: &str) -> Evaluated {
    let inner = match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    match inner {
        Value::Map(map) => {
            let found = map.get(&Key::String(field.into()));
            Ok(Value::Optional(found.cloned().map(Box::new)))
        }
        _ => no_overload(),
    }
}

fn index(of: &Value, at: &Value) -> Evaluated {
    match (of, at) {
        (Value::List(list), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| list.items.get(at));
            found.cloned().map_or_else(|| failed(format!("index out of bounds: {at}")), Ok)
        }
        (Value::List(_), Value::Uint(at)) => index(of, &Value::Int(*at as i64)),
        (Value::Map(map), key) => {
            let Some(key) = Key::of(key) else { return no_overload() };
            match map.get(&key) {
                Some(value) => Ok(value.clone()),
                None => failed(format!("no such key: {}", show(&key.value()))),
            }
        }
        (Value::Optional(_), _) => optional_index(of, at),
        _ => no_overload(),
    }
}

fn optional_index(of: &Value, at: &Value) -> Evaluated {
    let inner = match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    match index(inner, at) {
        Ok(value) => Ok(Value::Optional(Some(Box::new(value)))),
        Err(EvalError::Failed(why)) if why != "no such overload" => Ok(Value::Optional(None)),
        Err(error) => Err(error),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// Applies a function to values.
pub fn apply(function: &str, target: Option<Value>, mut args: Vec<Value>) -> Evaluated {
    if let Some(error) = args.iter().chain(&target).find(|value| is_error(value)) {
        return failed_foreign(error);
    }
    match (function, target.as_ref(), args.as_slice()) {
        ("_==_", _, [a, b]) => return Ok(Value::Bool(equal(a, b))),
        ("_!=_", _, [a, b]) => return Ok(Value::Bool(!equal(a, b))),
        ("!_", _, [Value::Bool(value)]) => return Ok(Value::Bool(!value)),
        ("!_", _, _) => return no_overload(),
        ("-_", _, [Value::Int(number)]) => {
            return number.checked_neg().map_or_else(overflow, |n| Ok(Value::Int(n)));
        }
        ("-_", _, [Value::Double(number)]) => return Ok(Value::Double(-number)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", _, [a, b]) => return compared(function, a, b),
        ("_[_]", _, [of, at]) => return index(of, at),
        ("_[?_]", _, [of, at]) => return optional_index(of, at),
        ("_?._", _, [of, Value::String(field)]) => return optional_select(of, field),
        ("@in", _, [item, Value::List(list)]) => {
            return Ok(Value::Bool(list.items.iter().any(|one| equal(one, item))));
        }
        ("@in", _, [key, Value::Map(map)]) => {
            return Ok(Value::Bool(Key::of(key).is_some_and(|key| map.contains_key(&key))));
        }
        ("size", target, args) => {
            let of = target.or(args.first());
            return match of.and_then(Value::size) {
                Some(size) => Ok(Value::Int(size as i64)),
                None => no_overload(),
            };
        }
        ("dyn", _, [value]) => return Ok(value.clone()),
        ("type", _, [value]) => return Ok(Value::TypeOf(type_name(value).into())),
        ("bool", _, [value]) => return to_bool(value),
        ("optional.of", _, [value]) => return Ok(Value::Optional(Some(Box::new(value.clone())))),
        ("optional.none", _, []) => return Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", _, [value]) => {
            let inner = (!is_zero(value)).then(|| Box::new(value.clone()));
            return Ok(Value::Optional(inner));
        }
        ("hasValue", Some(Value::Optional(inner)), []) => return Ok(Value::Bool(inner.is_some())),
        ("value", Some(Value::Optional(inner)), []) => {
            return match inner {
                Some(inner) => Ok((**inner).clone()),
                None => failed("optional.none() dereference"),
            };
        }
        ("includes", Some(Value::List(list)), [item]) => {
            return Ok(Value::Bool(list.items.iter().any(|one| equal(one, item))));
        }
        ("indexOf", Some(Value::List(list)), [item]) => {
            let at = list.items.iter().position(|one| equal(one, item));
            return Ok(Value::Int(at.map_or(-1, |at| at as i64)));
        }
        ("lastIndexOf", Some(Value::List(list)), [item]) => {
            let at = list.items.iter().rposition(|one| equal(one, item));
            return Ok(Value::Int(at.map_or(-1, |at| at as i64)));
        }
        ("validate", Some(_), [_]) => return validated(target.as_ref(), &args),
        _ => {}
    }
    match function {
        "_+_" if args.len() == 2 => {
            let right = args.pop().unwrap_or(Value::Null);
            add(args.pop().unwrap_or(Value::Null), right)
        }
        "_-_" | "_*_" | "_/_" | "_%_" => arithmetic(function, &args),
        MAP_INSERT => map_insert(args),
        _ => calls::call(function, target.as_ref(), &args).map_err(EvalError::Failed),
    }
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::Foreign(kube_cel::cel::Value::Function(_, None)))
}

/// Whatever `kube-cel` answers with: nothing wrong is an empty optional.
fn validated(target: Option<&Value>, args: &[Value]) -> Evaluated {
    Ok(match calls::call("validate", target, args).map_err(EvalError::Failed)? {
        Value::List(list) if list.items.is_empty() => Value::Optional(None),
        Value::Null => Value::Optional(None),
        found @ Value::List(_) => Value::Optional(Some(Box::new(found))),
        other => other,
    })
}

fn map_insert(args: Vec<Value>) -> Evaluated {
    let mut args = args.into_iter();
    let Some(Value::Map(mut map)) = args.next() else { return no_overload() };
    match (args.next(), args.next()) {
        (Some(key), Some(value)) => {
            let Some(key) = Key::of(&key) else { return failed("unsupported key type") };
            if map.contains_key(&key) {
                return failed(format!("insert failed: key {} already exists", show(&key.value())));
            }
            Arc::make_mut(&mut map).insert(key, value);
        }
        (Some(Value::Map(more)), None) => {
            let own = Arc::make_mut(&mut map);
            own.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        _ => return no_overload(),
    }
    Ok(Value::Map(map))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null_type",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Double(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Optional(_) => "optional_type",
        Value::TypeOf(_) => "type",
        Value::Foreign(kube_cel::cel::Value::Timestamp(_)) => "google.protobuf.Timestamp",
        Value::Foreign(kube_cel::cel::Value::Duration(_)) => "google.protobuf.Duration",
        Value::Foreign(_) => "opaque",
    }
}

fn to_bool(value: &Value) -> Evaluated {
    match value {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => failed("type conversion error from 'string' to 'bool'"),
        },
        _ => no_overload(),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        other => other.size() == Some(0),
    }
}

fn overflow() -> Evaluated {
    failed("integer overflow")
}

pub fn add(left: Value, right: Value) -> Evaluated {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            a.checked_add(b).map_or_else(overflow, |n| Ok(Value::Int(n)))
        }
        (Value::Uint(a), Value::Uint(b)) => a
            .checked_add(b)
            .map_or_else(|| failed("unsigned integer overflow"), |n| Ok(Value::Uint(n))),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::String(format!("{a}{b}").into())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        (Value::List(a), Value::List(b)) => Ok(concat(a, &b)),
        (a, b) => calls::call("_+_", None, &[a, b]).map_err(EvalError::Failed),
    }
}

/// Sets and keyed lists take in only what they lack, or replace what has the same key.
fn concat(mut left: Arc<List>, right: &List) -> Value {
    let kind = left.kind.clone();
    if Arc::get_mut(&mut left).is_none() {
        left = Arc::new(List { items: left.items.clone(), kind: kind.clone() });
    }
    let Some(own) = Arc::get_mut(&mut left) else { return Value::Null };
    match &kind {
        ListKind::Atomic => own.items.extend(right.items.iter().cloned()),
        ListKind::Set => {
            for item in &right.items {
                if !own.items.iter().any(|known| equal(known, item)) {
                    own.items.push(item.clone());
                }
            }
        }
        ListKind::Map(keys) => {
            for item in &right.items {
                match own.items.iter().position(|known| same_keys(known, item, keys)) {
                    Some(at) => own.items[at] = item.clone(),
                    None => own.items.push(item.clone()),
                }
            }
        }
    }
    Value::List(left)
}

fn same_keys(a: &Value, b: &Value, keys: &[String]) -> bool {
    keys.iter().all(|key| match (a.field(key), b.field(key)) {
        (Some(a), Some(b)) => equal(a, b),
        (None, None) => true,
        _ => false,
    })
}

fn arithmetic(function: &str, args: &[Value]) -> Evaluated {
    match (function, args) {
        ("_/_" | "_%_", [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)]) => {
            failed(if function == "_/_" { "division by zero" } else { "modulus by zero" })
        }
        (_, [Value::Int(a), Value::Int(b)]) => {
            let result = match function {
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result.map_or_else(overflow, |n| Ok(Value::Int(n)))
        }
        (_, [Value::Uint(a), Value::Uint(b)]) => {
            let result = match function {
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result.map_or_else(|| failed("unsigned integer overflow"), |n| Ok(Value::Uint(n)))
        }
        ("_-_", [Value::Double(a), Value::Double(b)]) => Ok(Value::Double(a - b)),
        ("_*_", [Value::Double(a), Value::Double(b)]) => Ok(Value::Double(a * b)),
        ("_/_", [Value::Double(a), Value::Double(b)]) => Ok(Value::Double(a / b)),
        _ => calls::call(function, None, args).map_err(EvalError::Failed),
    }
}

fn compared(function: &str, a: &Value, b: &Value) -> Evaluated {
    let order = match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        _ => match numbers(a, b) {
            Some(order) => order,
            None => {
                return calls::call(function, None, &[a.clone(), b.clone()])
                    .map_err(EvalError::Failed);
            }
        },
    };
    Ok(Value::Bool(match function {
        "_<_" => order == Some(Ordering::Less),
        "_<=_" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "_>_" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }))
}

/// The order of two numbers of whatever kind; None: not both are. Inside: NaN has no order.
fn numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    let wide = |value: &Value| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    let float = |value: &Value| match value {
        Value::Double(number) => Some(*number),
        other => wide(other).map(|number| number as f64),
    };
    match (wide(a), wide(b)) {
        (Some(a), Some(b)) => Some(Some(a.cmp(&b))),
        _ => Some(float(a)?.partial_cmp(&float(b)?)),
    }
}

/// Equality as CEL has it: of numbers by value, of sets and keyed lists in any order.
pub fn equal(a: &Value, b: &Value) -> bool {
    if let Some(order) = numbers(a, b) {
        return order == Some(Ordering::Equal);
    }
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::TypeOf(a), Value::TypeOf(b)) => a == b,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => equal(a, b),
            _ => false,
        },
        (Value::List(a), Value::List(b)) => equal_lists(a, b),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|own| equal(own, value)))
        }
        (Value::Foreign(_), Value::Foreign(_)) => a.to_foreign() == b.to_foreign(),
        _ => false,
    }
}

fn equal_lists(a: &List, b: &List) -> bool {
    if a.items.len() != b.items.len() {
        return false;
    }
    match &a.kind {
        ListKind::Atomic => a.items.iter().zip(&b.items).all(|(a, b)| equal(a, b)),
        ListKind::Set | ListKind::Map(_) => {
            a.items.iter().all(|item| b.items.iter().any(|own| equal(own, item)))
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        equal(self, other)
    }
}
