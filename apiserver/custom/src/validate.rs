//! Values against schemas, in the words of upstream's validator (kube-openapi). What an update leaves
//! as it was is not held against it.

use serde_json::Value;
use windlass_apiserver_registry::{Causes, Path};

use crate::{
    correlate::{self, Old},
    formats,
    schema::{Additional, Schema},
};

/// What is wrong with a value at a path (empty for the root).
pub fn check(value: &Value, schema: &Schema, path: &str, old: Old<'_>, causes: &mut Causes) {
    let outcome = node(value, schema, path, old);
    for failure in outcome.failures {
        failure.report(causes);
    }
}

/// As `check`, for a part that has a validator of its own: paths in messages begin at the part.
pub fn check_under(
    prefix: &str,
    value: &Value,
    schema: &Schema,
    old: Old<'_>,
    causes: &mut Causes,
) {
    for mut failure in node(value, schema, "", old).failures {
        let dot = if failure.path.is_empty() || failure.path.starts_with('.') { "" } else { "." };
        failure.path = format!("{prefix}{dot}{}", failure.path);
        failure.report(causes);
    }
}

/// How a value did: what failed, and how much fit (to tell which alternative came closest).
#[derive(Default)]
struct Outcome {
    failures: Vec<Failure>,
    matches: usize,
}

#[derive(Clone, PartialEq)]
struct Failure {
    path: String,
    what: What,
}

#[derive(Clone, PartialEq)]
enum What {
    Required,
    Enum(Value, Vec<String>),
    TooLong(i64),
    TooMany(usize, i64),
    Type(String, String),
    Invalid(Value, String),
    /// About no value in particular.
    Junctor(String),
}

impl Failure {
    fn report(&self, causes: &mut Causes) {
        let name = self.path.strip_prefix('.').unwrap_or(&self.path);
        let at = Path::Child(&Path::Root, if name.is_empty() { "<nil>" } else { name });
        match &self.what {
            What::Required => causes.required(at, ""),
            What::Enum(value, values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                causes.not_supported(at, value, &values);
            }
            What::TooLong(most) => causes.too_long(at, usize::try_from(*most).unwrap_or(0)),
            What::TooMany(found, most) => {
                causes.too_many(at, *found, usize::try_from(*most).unwrap_or(0));
            }
            What::Type(value, why) => causes.type_invalid(at, &value.as_str().into(), why),
            What::Invalid(value, why) => causes.invalid(at, value, why),
            What::Junctor(why) => {
                causes.invalid_text(Path::Child(&Path::Root, "<nil>"), "", why);
            }
        }
    }
}

impl Outcome {
    fn fail(&mut self, path: &str, what: What) {
        let failure = Failure { path: path.to_owned(), what };
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    fn invalid(&mut self, path: &str, value: impl Into<Value>, why: String) {
        self.fail(path, What::Invalid(value.into(), format!("{path} in body {why}")));
    }

    fn merge(&mut self, other: Outcome) {
        for failure in other.failures {
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
        self.matches += other.matches;
    }

    fn is_valid(&self) -> bool {
        self.failures.is_empty()
    }
}

fn node(value: &Value, schema: &Schema, path: &str, old: Old<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    types(value, schema, path, &mut outcome);
    if !value.is_null() {
        junctors(value, schema, path, &mut outcome);
        match value {
            Value::String(text) => self::text(text, schema, path, &mut outcome),
            Value::Number(number) => self::number(number, schema, path, &mut outcome),
            Value::Array(items) => list(items, schema, path, old, &mut outcome),
            _ => {}
        }
    }
    enums(value, schema, path, &mut outcome);
    if let Value::Object(map) = value {
        object(map, schema, path, old, &mut outcome);
    }
    outcome.matches += 1;
    if !outcome.is_valid() && old == Some(value) {
        outcome.failures.clear();
    }
    outcome
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn types(value: &Value, schema: &Schema, path: &str, outcome: &mut Outcome) {
    let allowed: &[&str] = match (schema.int_or_string, schema.ty.as_str()) {
        (true, _) => &["integer", "string"],
        (false, "") => &[],
        (false, ty) => &[ty],
    };
    if allowed.is_empty() {
        return;
    }
    let found = type_name(value);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = allowed.contains(&found)
        || (found == "integer" && allowed.contains(&"number"))
        || (found == "number" && whole && allowed.contains(&"integer"))
        || (found == "null" && schema.nullable);
    if fits {
        outcome.matches += 1;
        return;
    }
    // A format of a text excuses its type, as upstream's validator has it.
    let numeric = allowed.contains(&"number") || allowed.contains(&"integer");
    let format = formats::supported(&schema.ty, &schema.format);
    if !numeric && format && matches!(value, Value::String(_) | Value::Array(_)) {
        return;
    }
    let wanted = allowed.join(",");
    let why = format!("{path} in body must be of type {wanted}: {found:?}");
    outcome.fail(path, What::Type(found.to_owned(), why));
}

fn junctors(value: &Value, schema: &Schema, path: &str, outcome: &mut Outcome) {
    if !schema.any_of.is_empty() {
        let mut best: Option<Outcome> = None;
        let mut fits = false;
        for inner in &schema.any_of {
            let result = node(value, inner, path, None);
            if result.is_valid() {
                (fits, best) = (true, Some(result));
                break;
            }
            if best.as_ref().is_none_or(|best| result.matches > best.matches) {
                best = Some(result);
            }
        }
        if !fits {
            let why = format!("{path:?} must validate at least one schema (anyOf)");
            outcome.fail(path, What::Junctor(why));
        }
        outcome.merge(best.unwrap_or_default());
    }
    if !schema.one_of.is_empty() {
        one_of(value, schema, path, outcome);
    }
    if !schema.all_of.is_empty() {
        let mut fit = 0;
        for inner in &schema.all_of {
            let result = node(value, inner, path, None);
            fit += usize::from(result.is_valid());
            outcome.merge(result);
        }
        if fit != schema.all_of.len() {
            let none = if fit == 0 { ". None validated" } else { "" };
            let why = format!("{path:?} must validate all the schemas (allOf){none}");
            outcome.fail(path, What::Junctor(why));
        }
    }
    if let Some(inner) = &schema.not
        && node(value, inner, path, None).is_valid()
    {
        outcome.fail(path, What::Junctor(format!("{path:?} must not validate the schema (not)")));
    }
    outcome.matches += 1;
}

fn one_of(value: &Value, schema: &Schema, path: &str, outcome: &mut Outcome) {
    let (mut fit, mut best, mut first) = (0, None::<Outcome>, None);
    for inner in &schema.one_of {
        let result = node(value, inner, path, None);
        if result.is_valid() {
            fit += 1;
            best = None;
            first.get_or_insert(result);
        } else if fit == 0 && best.as_ref().is_none_or(|best| result.matches > best.matches) {
            best = Some(result);
        }
    }
    if fit == 1 {
        return outcome.merge(first.unwrap_or_default());
    }
    let found = match fit {
        0 => "Found none valid".to_owned(),
        many => format!("Found {many} valid alternatives"),
    };
    let why = format!("{path:?} must validate one and only one schema (oneOf). {found}");
    outcome.fail(path, What::Junctor(why));
    outcome.merge(best.unwrap_or_default());
}

fn text(text: &str, schema: &Schema, path: &str, outcome: &mut Outcome) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        outcome.fail(path, What::TooLong(most));
    } else if let Some(least) = schema.min_length.filter(|least| length < *least) {
        outcome.invalid(path, text, format!("should be at least {least} chars long"));
    } else if !schema.pattern.is_empty() && schema.matches(text) != Some(true) {
        outcome.invalid(path, text, format!("should match '{}'", schema.pattern));
    }
    let format = &schema.format;
    if formats::supported(&schema.ty, format) && !formats::is_of(format, text) {
        let why = format!("{path} in body must be of type {format}: {text:?}");
        outcome.fail(path, What::Type(text.to_owned(), why));
    }
    outcome.matches += 2;
}

fn number(number: &serde_json::Number, schema: &Schema, path: &str, outcome: &mut Outcome) {
    let value = Value::Number(number.clone());
    let float = number.as_f64().unwrap_or_default();
    let whole = number.as_i64();
    if schema.ty == "integer"
        && schema.format == "int32"
        && whole.is_none_or(|n| i32::try_from(n).is_err())
    {
        let why = format!("Checked value must be of type integer with format int32 in {path}");
        outcome.fail(path, What::Junctor(why));
    }
    if schema.ty == "number" && schema.format == "float" && float.abs() > f64::from(f32::MAX) {
        let why = format!("Checked value must be of type number with format float in {path}");
        outcome.fail(path, What::Junctor(why));
    }
    if let Some(factor) = schema.multiple_of {
        multiple(&value, factor, path, outcome);
    }
    // Integers are compared with what is left of a bound without its fraction.
    let bound = |value: f64| if whole.is_some() { value.trunc() } else { value };
    if let Some(most) = schema.maximum {
        let limit = bound(most.value);
        if float > limit || (most.exclusive && float >= limit) {
            let than = if most.exclusive { "less than" } else { "less than or equal to" };
            outcome.invalid(path, value.clone(), format!("should be {than} {limit}"));
        }
    }
    if let Some(least) = schema.minimum {
        let limit = bound(least.value);
        if float < limit || (least.exclusive && float <= limit) {
            let than = if least.exclusive { "greater than" } else { "greater than or equal to" };
            outcome.invalid(path, value, format!("should be {than} {limit}"));
        }
    }
    outcome.matches += 1;
}

fn multiple(value: &Value, factor: f64, path: &str, outcome: &mut Outcome) {
    let fits = match value.as_i64() {
        Some(number) => match factor as i64 {
            whole if whole > 0 => number % whole == 0,
            _ => true,
        },
        None => {
            let number = value.as_f64().unwrap_or_default();
            let times = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
            (times - times.round()).abs() < 1e-9
        }
    };
    if !fits {
        outcome.invalid(path, value.clone(), format!("should be a multiple of {factor}"));
    }
}

fn list(items: &[Value], schema: &Schema, path: &str, old: Old<'_>, outcome: &mut Outcome) {
    if let Some(own) = &schema.items {
        for (at, item) in items.iter().enumerate() {
            let before = correlate::item(old, schema, item);
            outcome.merge(node(item, own, &format!("{path}[{at}]"), before));
        }
    }
    let count = items.len();
    let size = i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_items.filter(|least| size < *least) {
        outcome.invalid(path, size, format!("should have at least {least} items"));
    }
    if let Some(most) = schema.max_items.filter(|most| size > *most) {
        outcome.fail(path, What::TooMany(count, most));
    }
    outcome.matches += 2;
}

fn enums(value: &Value, schema: &Schema, path: &str, outcome: &mut Outcome) {
    if schema.enums.is_empty() {
        return;
    }
    let same = |allowed: &Value| match (allowed.as_f64(), value.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => allowed == value && !allowed.is_null(),
    };
    if !schema.enums.iter().any(same) {
        let values = schema.enums.iter().map(|allowed| match allowed {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let found = if value.is_null() { Value::from("null") } else { value.clone() };
        outcome.fail(path, What::Enum(found, values.collect()));
    }
    outcome.matches += 1;
}

fn object(
    map: &serde_json::Map<String, Value>,
    schema: &Schema,
    path: &str,
    old: Old<'_>,
    outcome: &mut Outcome,
) {
    let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_properties.filter(|least| count < *least) {
        outcome.invalid(path, count, format!("should have at least {least} properties"));
    }
    if let Some(most) = schema.max_properties.filter(|most| count > *most) {
        outcome.fail(path, What::TooMany(map.len(), most));
    }
    for (key, value) in map.iter().filter(|(key, _)| !schema.properties.contains_key(*key)) {
        match &schema.additional {
            Some(Additional::Any(false)) => {
                let why = format!("{path}.{key} in body is a forbidden property");
                outcome.fail(path, What::Invalid(key.as_str().into(), why));
            }
            Some(Additional::Schema(own)) => {
                let before = correlate::field(old, schema, key);
                outcome.merge(node(value, own, &format!("{path}.{key}"), before));
            }
            _ => {}
        }
    }
    for (key, own) in &schema.properties {
        let Some(value) = map.get(key) else { continue };
        // Versions differ between old and new, though nobody changed them.
        let is_type = path.is_empty() && (key == "apiVersion" || key == "kind");
        let before = if is_type { None } else { correlate::field(old, schema, key) };
        let dot = if path.is_empty() { "" } else { "." };
        outcome.merge(node(value, own, &format!("{path}{dot}{key}"), before));
    }
    for key in schema.required.iter().filter(|key| !map.contains_key(*key)) {
        outcome.fail(&format!("{path}.{key}"), What::Required);
    }
    outcome.matches += 1;
}
