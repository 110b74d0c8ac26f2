//! Evaluates a checked expression, charging each step as cel-go's tracker does, so that one that
//! costs too much ends there.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    calls,
    decl::ListKind,
    syntax::{Expr, Loop, MAP_INSERT, Node},
    value::{Key, List, Value},
};

/// Characters of a text that a unit of cost pays for.
const TRAVERSAL: f64 = 0.1;
const REGEX: f64 = 0.25;
/// Expressions nest no deeper than the parser allows, comprehensions inside included.
const MAX_DEPTH: usize = 512;

/// What one call may still spend.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub call: u64,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// The call's limit is reached.
    CallLimit,
    /// In cel-go's words.
    Failed(String),
}

pub fn eval(
    root: &Node,
    self_: &Value,
    old_self: Option<&Value>,
    budget: &mut Budget,
) -> Result<Value, EvalError> {
    let mut scope = Scope { vars: vec![("self".into(), self_.clone())], budget, depth: 0 };
    if let Some(old) = old_self {
        scope.vars.push(("oldSelf".into(), old.clone()));
    }
    scope.eval(root)
}

struct Scope<'b> {
    vars: Vec<(Arc<str>, Value)>,
    budget: &'b mut Budget,
    depth: usize,
}

type Evaluated = Result<Value, EvalError>;

fn failed<T>(why: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Failed(why.into()))
}

fn no_overload<T>() -> Result<T, EvalError> {
    failed("no such overload")
}

impl Scope<'_> {
    fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        match self.budget.call.checked_sub(cost) {
            Some(left) => {
                self.budget.call = left;
                Ok(())
            }
            None => {
                self.budget.call = 0;
                Err(EvalError::CallLimit)
            }
        }
    }

    fn spend_on(&mut self, size: u64, factor: f64) -> Result<(), EvalError> {
        self.spend((size as f64 * factor).ceil() as u64)
    }

    fn eval(&mut self, node: &Node) -> Evaluated {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return failed("expression nests too deeply");
        }
        let value = self.eval_inner(node);
        self.depth -= 1;
        value
    }

    fn eval_inner(&mut self, node: &Node) -> Evaluated {
        match &node.expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Ident(name) => {
                self.spend(1)?;
                let known = self.vars.iter().rev().find(|(own, _)| own == name);
                match known {
                    Some((_, value)) => Ok(value.clone()),
                    None => Ok(Value::TypeOf(name.clone())),
                }
            }
            Expr::Select { of, field, test } => {
                let of = self.eval(of)?;
                if *test {
                    return has(&of, field);
                }
                self.spend(1)?;
                select(&of, field)
            }
            Expr::List(items) => {
                self.spend(10)?;
                let mut out = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match self.eval(item)? {
                        Value::Optional(inner) if *optional => out.extend(inner.map(|v| *v)),
                        value => out.push(value),
                    }
                }
                Ok(Value::list(out))
            }
            Expr::Map(entries) => {
                self.spend(30)?;
                let mut out = std::collections::BTreeMap::new();
                for (key, value, optional) in entries {
                    let key = self.eval(key)?;
                    let Some(key) = Key::of(&key) else { return failed("unsupported key type") };
                    match self.eval(value)? {
                        Value::Optional(inner) if *optional => {
                            if let Some(inner) = inner {
                                out.insert(key, *inner);
                            }
                        }
                        value => drop(out.insert(key, value)),
                    }
                }
                Ok(Value::Map(Arc::new(out)))
            }
            Expr::Loop(it) => self.comprehension(it),
            Expr::Call { function, target, args } => self.call(function, target.as_deref(), args),
        }
    }

    fn comprehension(&mut self, it: &Loop) -> Evaluated {
        let range = self.eval(&it.range)?;
        let init = self.eval(&it.init)?;
        let depth = self.vars.len();
        self.vars.push((it.accu.clone(), init));
        let outcome = self.rounds(it, &range);
        self.vars.truncate(depth + 1);
        let result = outcome.and_then(|()| self.eval(&it.result));
        self.vars.truncate(depth);
        result
    }

    fn rounds(&mut self, it: &Loop, range: &Value) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for (at, item) in list.items.iter().enumerate() {
                    let pair = match it.second {
                        Some(_) => (Value::Int(at as i64), Some(item.clone())),
                        None => (item.clone(), None),
                    };
                    if !self.round(it, pair)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    let second = it.second.as_ref().map(|_| value.clone());
                    if !self.round(it, (key.value(), second))? {
                        break;
                    }
                }
                Ok(())
            }
            _ => no_overload(),
        }
    }

    /// One round; false ends the loop.
    fn round(
        &mut self,
        it: &Loop,
        (first, second): (Value, Option<Value>),
    ) -> Result<bool, EvalError> {
        let depth = self.vars.len();
        self.vars.push((it.first.clone(), first));
        if let (Some(name), Some(value)) = (&it.second, second) {
            self.vars.push((name.clone(), value));
        }
        let goes_on = self.eval(&it.while_);
        let goes_on = match goes_on {
            Ok(Value::Bool(value)) => value,
            Ok(_) => true,
            Err(error) => return Err(error),
        };
        if !goes_on {
            self.vars.truncate(depth);
            return Ok(false);
        }
        let step = self.step(&it.step, depth - 1);
        self.vars.truncate(depth);
        match step {
            Ok(value) => {
                self.vars[depth - 1].1 = value;
                Ok(true)
            }
            // An error counts unless a later round decides.
            Err(EvalError::Failed(why)) if is_quantifier(&it.step) => {
                self.vars[depth - 1].1 = Value::Foreign(error_value(&why));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// A step that adds to a list takes the list out of its variable: it grows in place.
    fn step(&mut self, step: &Node, accu: usize) -> Evaluated {
        if let Expr::Call { function, target: None, args } = &step.expr
            && let ("_+_", [left, right]) = (&**function, args.as_slice())
            && let (Expr::Ident(name), Expr::List(_)) = (&left.expr, &right.expr)
            && self.vars[accu].0 == *name
        {
            self.spend(2)?;
            let right = self.eval(right)?;
            let held = std::mem::replace(&mut self.vars[accu].1, Value::Null);
            return add(held, right);
        }
        self.eval(step)
    }

    fn call(&mut self, function: &str, target: Option<&Node>, args: &[Node]) -> Evaluated {
        match (function, args) {
            ("_&&_", [left, right]) => return self.logical(left, right, false),
            ("_||_", [left, right]) => return self.logical(left, right, true),
            ("_?_:_", [test, yes, no]) => {
                return match self.eval(test)? {
                    Value::Bool(true) => self.eval(yes),
                    Value::Bool(false) => self.eval(no),
                    other => failed_foreign(&other),
                };
            }
            ("@not_strictly_false", [inner]) => {
                let value = self.eval(inner);
                return match value {
                    Ok(Value::Bool(value)) => Ok(Value::Bool(value)),
                    Err(EvalError::CallLimit) => Err(EvalError::CallLimit),
                    _ => Ok(Value::Bool(true)),
                };
            }
            ("orValue" | "or", [other]) if target.is_some() => {
                let Some(target) = target else { return no_overload() };
                self.spend(1)?;
                return match self.eval(target)? {
                    Value::Optional(Some(inner)) if function == "orValue" => Ok(*inner),
                    Value::Optional(None) => self.eval(other),
                    known @ Value::Optional(Some(_)) => Ok(known),
                    _ => no_overload(),
                };
            }
            _ => {}
        }
        let target = target.map(|target| self.eval(target)).transpose()?;
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?);
        }
        self.charge(function, target.as_ref(), &values)?;
        apply(function, target, values)
    }

    /// Either side may decide, whatever the other comes to.
    fn logical(&mut self, left: &Node, right: &Node, decides: bool) -> Evaluated {
        let first = self.eval(left);
        if matches!(first, Ok(Value::Bool(value)) if value == decides) {
            return Ok(Value::Bool(decides));
        }
        if first == Err(EvalError::CallLimit) {
            return first;
        }
        let second = self.eval(right);
        match (first, second) {
            (_, Err(EvalError::CallLimit)) => Err(EvalError::CallLimit),
            (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(decides)),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decides)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Value::Bool(_)), Ok(other)) | (Ok(other), _) => failed_foreign(&other),
        }
    }

    fn charge(
        &mut self,
        function: &str,
        target: Option<&Value>,
        args: &[Value],
    ) -> Result<(), EvalError> {
        let size = |value: Option<&Value>| value.and_then(Value::size).unwrap_or(1);
        let (own, first, second) = (size(target), size(args.first()), size(args.get(1)));
        let is_text = matches!(args.first(), Some(Value::String(_) | Value::Bytes(_)));
        match function {
            "startsWith" | "endsWith" => self.spend_on(first, TRAVERSAL),
            "contains" => {
                let cost = (own as f64 * TRAVERSAL).ceil() * (first as f64 * TRAVERSAL).ceil();
                self.spend(cost as u64)
            }
            "matches" | "find" | "findAll" => {
                let (text, pattern) = if target.is_some() { (own, first) } else { (first, second) };
                let cost = ((text + 1) as f64 * TRAVERSAL).ceil() * (pattern as f64 * REGEX).ceil();
                self.spend(cost as u64)
            }
            "@in" => {
                self.spend(if matches!(args.get(1), Some(Value::List(_))) { second } else { 1 })
            }
            "_==_" | "_!=_" => self.spend_on(first.min(second).max(1), TRAVERSAL),
            "_<_" | "_<=_" | "_>_" | "_>=_" if is_text => {
                self.spend_on(first.min(second).max(1), TRAVERSAL)
            }
            "_+_" if is_text => self.spend_on(first + second, TRAVERSAL),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes"
            | "distinct" | "sort" | "flatten" | "reverse" => self.spend(own.max(1)),
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                self.spend(first.saturating_mul(second).max(1))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" | "charAt" => {
                self.spend_on(own, TRAVERSAL)
            }
            "replace" | "split" => self.spend_on(own, 2.0 * TRAVERSAL),
            "join" => self.spend_on(own, 1.0),
            "validate" => self.spend(((first + 1) as f64 * TRAVERSAL).ceil() as u64 * 32),
            "quantity" | "isQuantity" | "semver" | "isSemver" | "url" | "isURL" | "ip" | "isIP"
            | "cidr" | "isCIDR" | "ip.isCanonical" | "string" | "bytes" => {
                self.spend_on(first.max(1), TRAVERSAL)
            }
            _ => self.spend(1),
        }
    }
}

/// `all` and `exists`: their step is a logical operator.
fn is_quantifier(step: &Node) -> bool {
    matches!(&step.expr, Expr::Call { function, .. } if ["_&&_", "_||_"].contains(&&**function))
}

/// An error that stands where a value would, until somebody asks for its truth.
fn error_value(why: &str) -> kube_cel::cel::Value {
    let name = Arc::new(why.to_owned());
    kube_cel::cel::Value::Function(name, None)
}

fn failed_foreign(value: &Value) -> Evaluated {
    match value {
        Value::Foreign(kube_cel::cel::Value::Function(why, None)) => failed(why.as_str()),
        _ => no_overload(),
    }
}

fn has(of: &Value, field: &str) -> Evaluated {
    match of {
        Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::String(field.into())))),
        Value::Optional(None) => Ok(Value::Bool(false)),
        Value::Optional(Some(inner)) => has(inner, field),
        _ => no_overload(),
    }
}

fn select(of: &Value, field: &str) -> Evaluated {
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
fn apply(function: &str, target: Option<Value>, mut args: Vec<Value>) -> Evaluated {
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

fn add(left: Value, right: Value) -> Evaluated {
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
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
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
