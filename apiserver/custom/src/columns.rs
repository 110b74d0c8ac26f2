//! Printed columns of custom resources: a path in JSONPath each, of which the first thing found is
//! shown.

use serde_json::Value;
use windlass_apiserver_registry::human_duration;
use windlass_sdk_meta::{Timestamp, parse_time};

/// Values that one path may lead to on the way: what is behind `..` and `[*]` can be many.
const MAX_VALUES: usize = 10_000;

/// A path, read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    /// `[*]`, `.*`
    All,
    /// `..name`
    Deep(String),
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    path: JsonPath,
    /// None: the path leads somewhere.
    compare: Option<(String, Value)>,
}

impl JsonPath {
    /// The whole object.
    pub const NOWHERE: JsonPath = JsonPath(Vec::new());

    /// Reads `.spec.list[?(@.type=="a")].name`; None where it can't be read.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let (mut steps, mut rest) = (Vec::new(), text.trim());
        while !rest.is_empty() {
            let (step, after) = step(rest)?;
            steps.extend(step);
            rest = after;
        }
        Some(JsonPath(steps))
    }

    /// Everything it leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|at| step.from(at)).take(MAX_VALUES).collect();
        }
        found
    }
}

impl Step {
    fn from<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Index(at) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let at = if *at < 0 { items.len() as i64 + at } else { *at };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            Step::All => children(value),
            Step::Deep(name) => {
                let mut found = Vec::new();
                deep(value, name, &mut found);
                found
            }
            Step::Filter(filter) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                items.iter().filter(|item| filter.takes(item)).collect()
            }
        }
    }
}

impl Filter {
    fn takes(&self, item: &Value) -> bool {
        let found = self.path.find(item);
        let Some((operator, wanted)) = &self.compare else { return !found.is_empty() };
        let Some(found) = found.first() else { return false };
        let order = match (found, wanted) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) => match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => (*a == b).then_some(std::cmp::Ordering::Equal),
            },
        };
        match operator.as_str() {
            "==" => order.is_some_and(|order| order.is_eq()),
            "!=" => !order.is_some_and(|order| order.is_eq()),
            "<" => order.is_some_and(|order| order.is_lt()),
            "<=" => order.is_some_and(|order| order.is_le()),
            ">" => order.is_some_and(|order| order.is_gt()),
            _ => order.is_some_and(|order| order.is_ge()),
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn deep<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    if found.len() < MAX_VALUES {
        found.extend(value.get(name));
        children(value).into_iter().for_each(|child| deep(child, name, found));
    }
}

/// The first step of a path and what follows it; a lone `.` or `$` is no step.
fn step(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix("..") {
        let (name, rest) = name(rest);
        return (!name.is_empty()).then_some((Some(Step::Deep(name)), rest));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return bracket(rest);
    }
    if let Some(rest) = text.strip_prefix(['$', '@']) {
        return Some((None, rest));
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    if let Some(rest) = rest.strip_prefix('*') {
        return Some((Some(Step::All), rest));
    }
    if rest.starts_with('[') {
        return Some((None, rest));
    }
    let (name, after) = name(rest);
    if name.is_empty() {
        return after.is_empty().then_some((None, after));
    }
    Some((Some(Step::Field(name)), after))
}

/// A name up to the next `.` or `[`; a backslash takes away their meaning.
fn name(text: &str) -> (String, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => return (name, &text[at..]),
            c => {
                name.push(c);
                escaped = false;
            }
        }
    }
    (name, "")
}

/// What stands in brackets.
fn bracket(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix("?(") {
        let end = rest.find(")]")?;
        return Some((Some(Step::Filter(filter(&rest[..end])?)), &rest[end + 2..]));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    if let Some(quote) = quote {
        let inner = &text[1..];
        let end = inner.find(quote)?;
        let rest = inner[end + 1..].strip_prefix(']')?;
        return Some((Some(Step::Field(inner[..end].to_owned())), rest));
    }
    let end = text.find(']')?;
    let (inner, rest) = (text[..end].trim(), &text[end + 1..]);
    let step = match inner {
        "*" | ":" => Step::All,
        number => match number.parse() {
            Ok(at) => Step::Index(at),
            // Of a slice the first is shown.
            Err(_) => Step::Index(number.split(':').next()?.parse().ok()?),
        },
    };
    Some((Some(step), rest))
}

fn filter(text: &str) -> Option<Filter> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((left, right)) = text.split_once(operator) else { continue };
        let right = right.trim();
        let unquoted = right
            .strip_prefix(['"', '\''])
            .and_then(|inner| inner.strip_suffix(['"', '\'']))
            .map(Value::from);
        let value = unquoted.or_else(|| serde_json::from_str(right).ok())?;
        let path = JsonPath::parse(left)?;
        return Some(Filter { path, compare: Some((operator.to_owned(), value)) });
    }
    Some(Filter { path: JsonPath::parse(text)?, compare: None })
}

/// The cell for what a path found, in a column of that type.
pub fn cell(value: Option<&Value>, data_type: &str, now: Timestamp) -> Value {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Value::Null };
    match (data_type, value) {
        ("integer", Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64));
            whole.map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(number)) => number.as_f64().map_or(Value::Null, Value::from),
        ("boolean", Value::Bool(flag)) => Value::Bool(*flag),
        ("string", value) => Value::String(text(value)),
        ("date", Value::String(text)) => match parse_time(text) {
            Some(at) => human_duration(now.as_second() - at.as_second()).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(paths: &[(&str, &str)], expected: Expect) {
        let object = json!({"metadata": {"name": "x", "labels": {"a.b/c": "v"},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"n": 3, "f": 1.5, "on": true, "map": {"k": 1}, "list": [{"type": "A", "s": 1},
                {"type": "B", "s": 2}], "a.b": "dotted"}});
        let now = parse_time("2026-01-01T02:00:00Z").expect("a time");
        let mut out = String::new();
        for (path, ty) in paths {
            let shown = match JsonPath::parse(path) {
                None => "unreadable".to_owned(),
                Some(parsed) => cell(parsed.find(&object).first().copied(), ty, now).to_string(),
            };
            out += &format!("{path} as {ty}: {shown}\n");
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn cells() {
        check(
            &[
                (".spec.n", "integer"),
                (".spec.n", "string"),
                (".spec.n", "boolean"),
                (".spec.f", "number"),
                (".spec.f", "integer"),
                (".spec.on", "boolean"),
                (".spec.map", "string"),
                (".spec.nope", "string"),
                (".metadata.creationTimestamp", "date"),
                (".metadata.name", "date"),
                (".spec.list[1].type", "string"),
                (".spec.list[-1].type", "string"),
                (".spec.list[?(@.type==\"B\")].s", "integer"),
                (".spec.list[?(@.s>1)].type", "string"),
                (".spec.list[*].type", "string"),
                (".metadata.labels['a.b/c']", "string"),
                (".spec.a\\.b", "string"),
                ("..name", "string"),
                (".spec.list[?(", "string"),
            ],
            expect![[r#"
                .spec.n as integer: 3
                .spec.n as string: "3"
                .spec.n as boolean: null
                .spec.f as number: 1.5
                .spec.f as integer: 1
                .spec.on as boolean: true
                .spec.map as string: "{\"k\":1}"
                .spec.nope as string: null
                .metadata.creationTimestamp as date: "120m"
                .metadata.name as date: "<invalid>"
                .spec.list[1].type as string: "B"
                .spec.list[-1].type as string: "B"
                .spec.list[?(@.type=="B")].s as integer: 2
                .spec.list[?(@.s>1)].type as string: "B"
                .spec.list[*].type as string: "A"
                .metadata.labels['a.b/c'] as string: "v"
                .spec.a\.b as string: "dotted"
                ..name as string: "x"
                .spec.list[?( as string: unreadable
            "#]],
        );
    }
}
