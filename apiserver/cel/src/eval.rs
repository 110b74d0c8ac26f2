//! Evaluates a checked expression, charging each step as cel-go's tracker does, so that one that
//! costs too much ends there.

use std::sync::Arc;

use crate::{
    operations::{add, apply, has, select},
    syntax::{Expr, Loop, Node},
    value::{Key, Value},
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

pub(crate) type Evaluated = Result<Value, EvalError>;

pub(crate) fn failed<T>(why: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Failed(why.into()))
}

pub(crate) fn no_overload<T>() -> Result<T, EvalError> {
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
            // No rule of a schema makes one.
            Expr::Struct(name, _) => failed(format!("{name} can't be made here")),
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

pub(crate) fn failed_foreign(value: &Value) -> Evaluated {
    match value {
        Value::Foreign(kube_cel::cel::Value::Function(why, None)) => failed(why.as_str()),
        _ => no_overload(),
    }
}
