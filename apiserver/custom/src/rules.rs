//! Rules in CEL (`x-kubernetes-validations`): compiled once a schema, then evaluated wherever the
//! object has what they stand at, within one budget for the whole object.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value as Json;
use windlass_apiserver_cel::{
    Budget, CALL_LIMIT, Decl, EvalError, Field, Form, ListKind, MAX_REQUEST_BYTES, OBJECT_BUDGET,
    Program, Scope, Type, Value, escape,
};
use windlass_apiserver_registry::{Causes, Path};

use crate::{
    correlate::{self, Old},
    schema::{Rule, Schema},
};

const MAX_MESSAGE_BYTES: usize = 5 * 1024;
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The type that rules see, or None where a schema isn't exposed to them.
pub fn decl_of(schema: &Schema, is_resource: bool) -> Option<Arc<Decl>> {
    if schema.int_or_string {
        let most = schema.max_length.map_or(MAX_REQUEST_BYTES - 2, |most| at_least_0(most) * 4);
        return Some(Decl::new(Form::IntOrString, most, 1));
    }
    Some(match schema.ty.as_str() {
        "array" => {
            let items = schema.items.as_deref()?;
            let item = decl_of(items, items.embedded)?;
            let most = match schema.max_items {
                Some(most) => at_least_0(most),
                None => (MAX_REQUEST_BYTES - 2) / (item.min_bytes + 1),
            };
            Decl::new(Form::List(item, list_kind(schema)), most, 2)
        }
        "object" => return object_decl(schema, is_resource),
        "string" => text_decl(schema),
        "boolean" => Decl::new(Form::Bool, 0, 4),
        "number" => Decl::new(Form::Double, 0, 1),
        "integer" => Decl::new(Form::Int, 0, 1),
        _ => return None,
    })
}

fn object_decl(schema: &Schema, is_resource: bool) -> Option<Arc<Decl>> {
    if let Some(additional) = schema.additional_schema()
        && !is_resource
    {
        let entry = decl_of(additional, additional.embedded)?;
        let most = match schema.max_properties {
            Some(most) => at_least_0(most),
            None => (MAX_REQUEST_BYTES - 2) / (entry.min_bytes + 6),
        };
        return Some(Decl::new(Form::Map(entry), most, 2));
    }
    let (mut fields, mut min_bytes) = (BTreeMap::new(), 2);
    let mut add = |name: &str, decl: Arc<Decl>| {
        if let Some(escaped) = escape(name) {
            fields.insert(escaped.into(), Field { json: name.into(), decl });
        }
    };
    for (name, own) in &schema.properties {
        let implied = is_resource && crate::prune::META_FIELDS.contains(&name.as_str());
        let Some(decl) = decl_of(own, own.embedded).filter(|_| !implied) else { continue };
        if schema.required.contains(name) && own.default.is_none() {
            min_bytes += name.len() as u64 + decl.min_bytes + 4;
        }
        add(name, decl);
    }
    if is_resource {
        let text = || Decl::new(Form::String, MAX_REQUEST_BYTES - 2, 2);
        add("kind", text());
        add("apiVersion", text());
        let names = ["name", "generateName"].map(|name| -> (Arc<str>, Field) {
            (name.into(), Field { json: name.into(), decl: text() })
        });
        add("metadata", Decl::new(Form::Object(BTreeMap::from(names)), 0, 2));
    }
    Some(Decl::new(Form::Object(fields), 0, min_bytes))
}

fn text_decl(schema: &Schema) -> Arc<Decl> {
    let longest = || schema.enums.iter().filter_map(|one| Some(one.as_str()?.len() as u64)).max();
    match (schema.format.as_str(), schema.max_length) {
        ("byte", most) => Decl::new(Form::Bytes, most.map_or(MAX_REQUEST_BYTES - 2, at_least_0), 2),
        ("duration", _) => Decl::new(Form::Duration, 32, 3),
        ("date", _) => Decl::new(Form::Date, 12, 12),
        ("date-time", _) => Decl::new(Form::Timestamp, 32, 21),
        (_, Some(most)) => Decl::new(Form::String, at_least_0(most) * 4, 2),
        (_, None) if !schema.enums.is_empty() => Decl::new(Form::String, longest().unwrap_or(0), 2),
        _ => Decl::new(Form::String, MAX_REQUEST_BYTES - 2, 2),
    }
}

fn list_kind(schema: &Schema) -> ListKind {
    match schema.list_type.as_deref() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(schema.list_map_keys.clone().into()),
        _ => ListKind::Atomic,
    }
}

fn at_least_0(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A rule, compiled.
#[derive(Debug)]
pub struct Compiled {
    pub program: Result<Program, String>,
    /// None: there is none, or it is wrong, which validation of the schema told.
    pub message: Option<Result<Program, String>>,
    /// Where its failures are reported, from its own place.
    at: String,
}

/// Compiles a rule. Errors of the parts are inside.
pub fn compile(rule: &Rule, schema: &Schema, decl: &Arc<Decl>) -> Compiled {
    let optional_old_self = rule.optional_old_self == Some(true);
    let scope = Scope::of_rule(decl.clone(), optional_old_self);
    let program = Program::compile(&rule.rule, &scope)
        .map_err(|why| format!("compilation failed: {why}"))
        .and_then(|program| match program.output {
            Type::Bool => Ok(program),
            _ => Err("cel expression must evaluate to a bool".to_owned()),
        });
    let message = (!rule.message_expression.is_empty() && program.is_ok()).then(|| {
        Program::compile(&rule.message_expression, &scope)
            .map_err(|why| format!("messageExpression compilation failed: {why}"))
            .and_then(|program| match program.output {
                Type::String => Ok(program),
                _ => Err("messageExpression must evaluate to a string".to_owned()),
            })
    });
    let at = field_path(&rule.field_path, schema, true).map(|(at, _)| at).unwrap_or_default();
    Compiled { program, message, at }
}

/// The rules of a schema and of what is inside of it.
#[derive(Debug)]
pub struct Rules {
    decl: Option<Arc<Decl>>,
    rules: Vec<Compiled>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: BTreeMap<String, Rules>,
}

impl Rules {
    /// None where there are none.
    pub fn of(schema: &Schema, is_resource: bool) -> Option<Rules> {
        if !schema.has_rules() {
            return None;
        }
        let decl = decl_of(schema, is_resource);
        let rules = match &decl {
            Some(decl) => schema.rules.iter().map(|rule| compile(rule, schema, decl)).collect(),
            None => Vec::new(),
        };
        let inner = |schema: &Schema| Rules::of(schema, schema.embedded).map(Box::new);
        let properties = schema.properties.iter();
        Some(Rules {
            decl,
            rules,
            items: schema.items.as_deref().and_then(inner),
            additional: schema.additional_schema().and_then(inner),
            properties: properties
                .filter_map(|(key, own)| Some((key.clone(), Rules::of(own, own.embedded)?)))
                .collect(),
        })
    }
}

/// What the rules say about an object.
pub struct Run<'c> {
    pub causes: &'c mut Causes,
    budget: u64,
    over: bool,
}

/// A value, as JSON and as rules see it, with its counterpart before the write.
#[derive(Clone, Copy)]
struct At<'v> {
    json: &'v Json,
    cel: Option<&'v Value>,
    old: Old<'v>,
    /// An ancestor is as it was.
    settled: bool,
}

/// Evaluates the rules on an object, or on a default of a schema.
pub fn check(
    json: &Json,
    schema: &Schema,
    rules: &Rules,
    path: &str,
    old: Old<'_>,
    causes: &mut Causes,
) {
    let mut run = Run { causes, budget: OBJECT_BUDGET, over: false };
    let at = At { json, cel: None, old, settled: false };
    run.visit(at, schema, rules, path);
}

impl Run<'_> {
    fn visit(&mut self, at: At<'_>, schema: &Schema, rules: &Rules, path: &str) {
        if at.json.is_null() || self.over {
            return;
        }
        let own;
        let mut at = at;
        if at.cel.is_none()
            && let Some(decl) = rules.decl.as_ref().filter(|_| !rules.rules.is_empty())
        {
            own = Value::from_json(at.json, decl);
            at.cel = Some(&own);
        }
        at.settled |= at.old == Some(at.json);
        if let (Some(value), Some(decl)) = (at.cel, &rules.decl) {
            self.evaluate(value, decl, at, schema, rules, path);
        }
        self.descend(at, schema, rules, path);
    }

    fn descend(&mut self, at: At<'_>, schema: &Schema, rules: &Rules, path: &str) {
        let dot = if path.is_empty() { "" } else { "." };
        match at.json {
            Json::Object(map) => {
                for (key, json) in map {
                    let Some(own) = schema.field(key) else { continue };
                    let old = correlate::field(at.old, schema, key);
                    let (rules, path) = match rules.properties.get(key) {
                        Some(rules) => (rules, format!("{path}{dot}{key}")),
                        None => match &rules.additional {
                            Some(rules) if !schema.properties.contains_key(key) => {
                                (&**rules, format!("{path}[{key}]"))
                            }
                            _ => continue,
                        },
                    };
                    let escaped = match schema.properties.contains_key(key) {
                        true => escape(key),
                        false => Some(key.clone()),
                    };
                    let cel = at.cel.zip(escaped).and_then(|(cel, key)| cel.field(&key));
                    let inner = At { json, cel, old, settled: at.settled };
                    self.visit(inner, own, rules, &path);
                }
            }
            Json::Array(items) => {
                let (Some(own), Some(rules)) = (&schema.items, &rules.items) else { return };
                for (n, json) in items.iter().enumerate() {
                    let old = correlate::item(at.old, schema, json);
                    let cel = at.cel.and_then(|cel| cel.item(n));
                    let inner = At { json, cel, old, settled: at.settled };
                    self.visit(inner, own, rules, &format!("{path}[{n}]"));
                }
            }
            _ => {}
        }
    }

    fn evaluate(
        &mut self,
        value: &Value,
        decl: &Decl,
        at: At<'_>,
        schema: &Schema,
        rules: &Rules,
        path: &str,
    ) {
        let uses_old = rules.rules.iter().any(|r| matches!(&r.program, Ok(p) if p.uses_old_self));
        let old = at.old.filter(|old| uses_old && !old.is_null());
        let old = old.map(|old| Value::from_json(old, decl));
        for (rule, compiled) in schema.rules.iter().zip(&rules.rules) {
            if self.over {
                return;
            }
            let program = match &compiled.program {
                Ok(program) => program,
                Err(why) => {
                    let why = format!("rule compile error: {why}");
                    self.invalid(path, &schema.ty, why);
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            if program.uses_old_self && old.is_none() && !optional {
                continue;
            }
            let bound = match optional {
                true => Some(Value::Optional(old.clone().map(Box::new))),
                false => old.clone(),
            };
            let bound = bound.filter(|_| program.uses_old_self);
            match self.run(program, value, bound.as_ref()) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => {
                    // What a write leaves as it was isn't held against it.
                    if program.uses_old_self || !at.settled {
                        self.failed(rule, compiled, value, bound.as_ref(), at, schema, path);
                    }
                }
                Err(error) => self.error(error, rule, &schema.ty, path),
            }
        }
    }

    fn run(
        &mut self,
        program: &Program,
        value: &Value,
        old: Option<&Value>,
    ) -> Result<Value, EvalError> {
        let mut budget = Budget { call: CALL_LIMIT };
        let result = program.eval(value, old, &mut budget);
        let spent = CALL_LIMIT - budget.call;
        match self.budget.checked_sub(spent) {
            Some(left) => {
                self.budget = left;
                result
            }
            None => {
                self.over = true;
                Err(EvalError::Failed(OUT_OF_BUDGET.to_owned()))
            }
        }
    }

    fn error(&mut self, error: EvalError, rule: &Rule, ty: &str, path: &str) {
        let shown = shown(rule);
        let why = match error {
            EvalError::Failed(why) if why == OUT_OF_BUDGET => why,
            EvalError::CallLimit => {
                self.over = true;
                format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                )
            }
            EvalError::Failed(why) if why.starts_with("no such overload") => {
                format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                )
            }
            EvalError::Failed(why) => format!("{why} evaluating rule: {shown}"),
        };
        self.invalid(path, ty, why);
    }

    fn invalid(&mut self, path: &str, ty: &str, why: String) {
        self.causes.invalid_text(at(path), ty, why);
    }

    #[allow(clippy::too_many_arguments)] // Each is one thing that the report is made of.
    fn failed(
        &mut self,
        rule: &Rule,
        compiled: &Compiled,
        value: &Value,
        old: Option<&Value>,
        place: At<'_>,
        schema: &Schema,
        path: &str,
    ) {
        let detail = match &compiled.message {
            Some(Ok(program)) => match self.run(program, value, old) {
                Ok(Value::String(text)) => usable(&text),
                Err(EvalError::CallLimit) => {
                    self.over = true;
                    let why = format!(
                        "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                        rule.message_expression
                    );
                    return self.invalid(path, &schema.ty, why);
                }
                _ => None,
            },
            _ => None,
        };
        let detail = detail.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.rule.trim()),
            false => rule.message.trim().to_owned(),
        });
        let dot = if path.is_empty() || compiled.at.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", compiled.at);
        let whole = place.json.is_object() || place.json.is_array();
        let path = at(&path);
        match (rule.reason.as_deref(), whole) {
            (Some("FieldValueForbidden"), _) => self.causes.forbidden(path, detail),
            (Some("FieldValueRequired"), _) => self.causes.required(path, &detail),
            (Some("FieldValueDuplicate"), true) => self.causes.duplicate_whole(path),
            (Some("FieldValueDuplicate"), false) => self.causes.duplicate(path, place.json),
            (_, true) => self.causes.invalid_whole(path, &detail),
            (_, false) => self.causes.invalid(path, place.json, detail),
        }
    }
}

fn at(path: &str) -> Path<'_> {
    Path::Child(&Path::Root, if path.is_empty() { "<nil>" } else { path })
}

/// A message that an expression made, where it is one.
fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n'))
        .then(|| text.to_owned())
}

fn shown(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

/// A path (`.spec.x['y']`) that names a place of a schema: written plainly, with what is there.
/// Errors: why it doesn't.
pub fn field_path<'s>(
    path: &str,
    schema: &'s Schema,
    brackets: bool,
) -> Result<(String, &'s Schema), String> {
    let (mut out, mut at, mut rest) = (String::new(), schema, path);
    let unknown = || "does not refer to a valid field".to_owned();
    while let Some(first) = rest.chars().next() {
        let (key, after) = match first {
            '.' => {
                let tail = &rest[1..];
                let end = tail.find(['.', '[', ']']).unwrap_or(tail.len());
                if end == 0 {
                    return Err(if tail.is_empty() {
                        "unexpected end of JSON path".to_owned()
                    } else {
                        unknown()
                    });
                }
                (tail[..end].to_owned(), &tail[end..])
            }
            '[' if !brackets => return Err("array notation is not allowed".to_owned()),
            '[' => quoted(&rest[1..])?,
            _ => {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len()).max(1);
                let token = rest.get(..end).unwrap_or(rest);
                return Err(format!("expected [ or . but got: {token}"));
            }
        };
        rest = after;
        if !at.properties.is_empty() {
            at = at.properties.get(&key).ok_or_else(unknown)?;
            let dot = if out.is_empty() { "" } else { "." };
            out += &format!("{dot}{key}");
        } else {
            at = at.additional_schema().ok_or_else(unknown)?;
            out += &format!("[{key}]");
        }
    }
    Ok((out, at))
}

/// `'key']...` and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let Some(inner) = text.strip_prefix('\'') else {
        let end = text.find(['.', '[', ']']).unwrap_or(text.len());
        return Err(match &text[..end] {
            "" => "unexpected end of JSON path".to_owned(),
            token => format!("expected single quoted string but got {token}"),
        });
    };
    let (mut key, mut escaped) = (String::new(), false);
    for (at, c) in inner.char_indices() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (false, '\'') => {
                let rest = &inner[at + 1..];
                let after = rest.strip_prefix(']').ok_or_else(|| match rest.chars().next() {
                    None => "unexpected end of JSON path".to_owned(),
                    Some(other) => format!("expected ] but got {other}"),
                })?;
                return Ok((key, after));
            }
            (false, c) => key.push(c),
            (true, c) => {
                key.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '\'' | '\\' => c,
                    other => {
                        return Err(format!(
                            "invalid string literal: invalid escape char \\{other}"
                        ));
                    }
                });
                escaped = false;
            }
        }
    }
    Err(format!("expected single quoted string but got {text}"))
}
