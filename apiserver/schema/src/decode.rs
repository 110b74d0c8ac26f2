//! Request bodies into the object that Go's decoder and encoder would make of them.
//!
//! Clients match the words of these errors and rely on what Go does silently: unknown fields are
//! dropped, nulls are absent, quantities and times get their canonical spelling, an embedded struct
//! that nobody set is written empty. So the walk here follows Go's decoder, driven by the type table;
//! `golang` then writes the object as Go would.

use std::collections::HashSet;

use serde_json::{Map, Value};
use windlass_sdk_meta::Status;

use crate::facts::{META_GROUP, Schema, Shape, Type};
use crate::golang::{self, Found, MAX_STRUCTS};
use crate::node::Node;

/// Reads a body as an object of `target`.
///
/// With [`FieldValidation::Warn`] unknown and duplicate fields come back as warnings in upstream's
/// words, with `Strict` they are the error. An unknown type keeps every field, and only its duplicates
/// are reported. `apiVersion` and `kind` may be absent; the result always has them.
///
/// # Errors
/// Everything is a 400 whose message is upstream's.
pub fn decode(
    body: &[u8],
    format: Format,
    target: &Target<'_>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let parsed = match format {
        Format::Json => Node::from_json(body)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}")),
        Format::Yaml => Node::from_yaml(body)
            .map_err(|error| format!("error converting YAML to JSON: yaml: {error}")),
    };
    let node = parsed.map_err(|cause| unrecognized(target, cause, body))?;
    decode_node(&node, body, target, validation)
}

/// As [`decode`], for a value that was already read: what a patch made of an object.
///
/// # Errors
/// As [`decode`].
pub fn decode_value(
    value: &Value,
    target: &Target<'_>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    decode_node(&Node::from(value), b"", target, validation)
}

/// What a body must be.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// `None` for kinds that are known only at run time.
    pub ty: Option<&'static Type>,
}

/// The `fieldValidation` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// An object, and what the client should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// One a header `Warning: 299`.
    pub warnings: Vec<String>,
}

/// Why a body isn't the object that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its kind is known but it doesn't fit.
    #[error("{kind} in version {version:?} cannot be handled as a {expected}: {cause}")]
    Unfit { kind: String, version: String, expected: String, cause: String },
    /// It can't be told what it is.
    #[error(
        "the object provided is unrecognized (must be of type {expected}): {cause} ({summary})"
    )]
    Unrecognized { expected: String, cause: String, summary: String },
    /// It is of another group-version than the path.
    #[error(
        "the API version in the data ({found}) does not match the expected API version ({expected})"
    )]
    OtherVersion { found: String, expected: String },
}

impl DecodeError {
    /// The reason without what it was about, which patches put into their own error.
    pub fn cause(&self) -> String {
        match self {
            DecodeError::Unfit { cause, .. } | DecodeError::Unrecognized { cause, .. } => {
                cause.clone()
            }
            DecodeError::OtherVersion { .. } => self.to_string(),
        }
    }
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Status {
        Status::bad_request(error.to_string())
    }
}

impl FieldValidation {
    /// The value of the query parameter; empty means the default, anything unknown is `None`.
    pub fn parse(text: &str) -> Option<FieldValidation> {
        match text {
            "" | "Warn" => Some(FieldValidation::Warn),
            "Ignore" => Some(FieldValidation::Ignore),
            "Strict" => Some(FieldValidation::Strict),
            _ => None,
        }
    }
}

impl<'a> Target<'a> {
    /// A kind, with its type if the table has it.
    pub fn new(group: &'a str, version: &'a str, kind: &'a str) -> Target<'a> {
        Target { group, version, kind, ty: Schema::builtin().kind(group, version, kind) }
    }

    pub(crate) fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

/// At most this many unknown or duplicate fields of one body are reported, as upstream.
const MAX_STRICT_ERRORS: usize = 100;

/// What upstream's first look at a body unmarshals into, as Go names it in errors.
const TYPE_META: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                         Kind string \"json:\\\"kind,omitempty\\\"\" }";

fn decode_node(
    node: &Node,
    body: &[u8],
    target: &Target<'_>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let entries: &[(String, Node)] = match node {
        Node::Map(entries) => entries,
        Node::Null => &[],
        other => {
            let literal = other.go_literal();
            let cause =
                format!("json: cannot unmarshal {literal} into Go value of type {TYPE_META}");
            return Err(unrecognized(target, interpret_error(&cause), body));
        }
    };
    let (api_version, kind) = type_meta(entries).map_err(|e| unrecognized(target, e, body))?;
    check_kind(api_version, kind, body, target)?;
    let mut walk = Walk::default();
    let walked = match target.ty {
        Some(ty) => walk.object(entries, ty),
        None => Ok(walk.untyped_map(entries)),
    };
    let unfit = |cause: String| unfit(target, cause);
    let value = walked.map_err(unfit)?;
    if let Some(error) = walk.error {
        return Err(unfit(error));
    }
    if validation == FieldValidation::Strict && !walk.strict.is_empty() {
        return Err(unfit(format!("strict decoding error: {}", walk.strict.join(", "))));
    }
    let warnings = if validation == FieldValidation::Warn { walk.strict } else { Vec::new() };
    Ok(Decoded { value: with_type_meta(value, target), warnings })
}

/// The `apiVersion` and `kind` that a body states; empty where it doesn't.
fn type_meta(entries: &[(String, Node)]) -> Result<(&str, &str), String> {
    let text = |name: &str| match entries.iter().rev().find(|(key, _)| key == name) {
        None | Some((_, Node::Null)) => Ok(""),
        Some((_, Node::String(text))) => Ok(text.as_str()),
        Some((_, other)) => Err(interpret_error(&format!(
            "json: cannot unmarshal {} into Go struct field .{name} of type string",
            other.go_literal()
        ))),
    };
    Ok((text("apiVersion")?, text("kind")?))
}

/// Refuses a body that says it is something else than the target.
pub(crate) fn check_kind(
    found_version: &str,
    found_kind: &str,
    body: &[u8],
    target: &Target<'_>,
) -> Result<(), DecodeError> {
    let (group, version) = match found_version.split_once('/') {
        None if found_version.is_empty() => (target.group, target.version),
        None => ("", found_version),
        Some((_, version)) if version.contains('/') => {
            let cause = format!("unexpected GroupVersion string: {found_version}");
            return Err(unrecognized(target, cause, body));
        }
        Some((group, version)) => (group, version),
    };
    let kind = if found_kind.is_empty() { target.kind } else { found_kind };
    if (group, version, kind) == (target.group, target.version, target.kind) {
        return Ok(());
    }
    // Where upstream's table of kinds is made: part of the message.
    const SCHEME: &str = "pkg/runtime/scheme.go:111";
    let travels = target.ty.is_some_and(|ty| ty.kinds().any(|k| k.group == META_GROUP));
    if kind == target.kind && travels {
        // DeleteOptions and the like come in whatever group-version the client works in.
        return Ok(());
    }
    let known = Schema::builtin().kind(group, version, kind);
    if kind == target.kind && (known.is_some() || target.ty.is_none()) {
        let found = api_version(group, version);
        return Err(DecodeError::OtherVersion { found, expected: target.api_version() });
    }
    let cause = if known.is_some() {
        format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            target.version, target.kind
        )
    } else {
        format!(
            "no kind {kind:?} is registered for version {:?} in scheme {SCHEME:?}",
            api_version(group, version)
        )
    };
    Err(DecodeError::Unfit {
        kind: kind.into(),
        version: version.into(),
        expected: target.kind.into(),
        cause,
    })
}

/// The body is of the target's kind but can't be it.
pub(crate) fn unfit(target: &Target<'_>, cause: String) -> DecodeError {
    DecodeError::Unfit {
        kind: target.kind.into(),
        version: target.version.into(),
        expected: target.kind.into(),
        cause,
    }
}

fn interpret_error(cause: &str) -> String {
    format!("couldn't get version/kind; json parse error: {cause}")
}

fn unrecognized(target: &Target<'_>, cause: String, body: &[u8]) -> DecodeError {
    DecodeError::Unrecognized { expected: target.kind.into(), cause, summary: summary(body) }
}

/// The start of a body for an error message: text where it looks like JSON, else hexadecimal.
fn summary(body: &[u8]) -> String {
    const MAX_BYTES: usize = 30;
    let start = &body[..body.len().min(MAX_BYTES)];
    let more = if body.len() > MAX_BYTES { " ..." } else { "" };
    match start.first() {
        None => "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned() + more,
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

/// The object with its `kind` and `apiVersion` first.
pub(crate) fn with_type_meta(value: Value, target: &Target<'_>) -> Value {
    let Value::Object(mut fields) = value else { return value };
    let mut out = Map::with_capacity(fields.len() + 2);
    out.insert("kind".into(), target.kind.into());
    out.insert("apiVersion".into(), target.api_version().into());
    fields.shift_remove("kind");
    fields.shift_remove("apiVersion");
    out.append(&mut fields);
    Value::Object(out)
}

/// One walk over a body; it holds what Go's decoder holds.
#[derive(Default)]
struct Walk {
    /// The first error that doesn't stop the walk.
    error: Option<String>,
    strict: Vec<String>,
    /// Where the walk is, in strict errors' form: `spec.containers[0].name`.
    path: String,
    /// Where the walk is, in type errors' form: field names without indices.
    fields: Vec<&'static str>,
    /// The Go struct that holds the current field.
    holder: Option<&'static str>,
    /// How many structs were made so far.
    structs: usize,
}

/// `Ok(None)`: absent. `Err`: an error that stops the walk.
type Walked = Result<Option<Value>, String>;

impl Walk {
    fn object(&mut self, entries: &[(String, Node)], ty: &Type) -> Result<Value, String> {
        let mut found = Found::default();
        self.structs += 1;
        if self.structs > MAX_STRUCTS {
            return Err("the body holds too many objects".into());
        }
        let mut seen = HashSet::new();
        for (key, node) in entries {
            let Some((field, via)) = ty.field_via(key) else {
                self.report("unknown field", key);
                continue;
            };
            self.note_duplicate(&mut seen, key);
            let (path, fields, holder) = (self.path.len(), self.fields.len(), self.holder);
            self.push_key(key);
            self.fields.extend_from_slice(via);
            self.fields.push(field.json);
            self.holder = Some(ty.short_name());
            let value = self.value(node, &field.shape, &|| field.go_type())?;
            self.path.truncate(path);
            self.fields.truncate(fields);
            self.holder = holder;
            if let Some(value) = value {
                found.set(field.json, value);
            }
        }
        Ok(golang::assemble(ty, found))
    }

    fn value(&mut self, node: &Node, shape: &Shape, go_type: &dyn Fn() -> String) -> Walked {
        if *node == Node::Null {
            return Ok(None);
        }
        Ok(match (shape, node) {
            (Shape::String, Node::String(text)) => Some(Value::String(text.clone())),
            (Shape::Bool, Node::Bool(value)) => Some(Value::Bool(*value)),
            (Shape::Int32 | Shape::Int64, Node::Int(_) | Node::Float(_)) => {
                self.integer(node, *shape == Shape::Int32, go_type)
            }
            (Shape::Float64, Node::Int(number)) => Some(Value::from(*number)),
            (Shape::Float64, Node::Float(number)) => Some(crate::node::float(*number)),
            (Shape::Bytes, Node::String(text)) => self.base64(text),
            (Shape::Any | Shape::Raw | Shape::Json | Shape::FieldsV1, _) => Some(node.to_value()),
            (Shape::Time | Shape::MicroTime, _) => {
                let micro = *shape == Shape::MicroTime;
                let Some(text) = self.inner_string(node)? else { return Ok(None) };
                Some(golang::time_value(golang::parse_time(text, micro)?, micro))
            }
            (Shape::Duration, _) => {
                let Some(text) = self.inner_string(node)? else { return Ok(None) };
                Some(golang::format_duration(golang::parse_duration(text)?).into())
            }
            (Shape::Quantity, _) => {
                let text = match node {
                    Node::String(text) => text.clone(),
                    other => other.number_text().unwrap_or_else(|| other.go_literal()),
                };
                Some(golang::canonical_quantity(&text)?.into())
            }
            (Shape::IntOrString, Node::String(text)) => Some(Value::String(text.clone())),
            (Shape::IntOrString, _) => match int32(node) {
                Some(number) => Some(number),
                None => return Err(self.type_error(&literal(node), "int32")),
            },
            (Shape::Struct(id), Node::Map(entries)) => Some(self.object(entries, id.get())?),
            (Shape::List(inner) | Shape::Wrapped(inner), Node::Seq(items)) => {
                Some(self.list(items, inner, go_type)?)
            }
            (Shape::Map(inner), Node::Map(entries)) => Some(self.map(entries, inner, go_type)?),
            (Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings, _) => {
                return self.schema_or(node, shape);
            }
            _ => {
                let error = self.type_error(&node.go_literal(), &go_type());
                self.error.get_or_insert(error);
                None
            }
        })
    }

    fn list(
        &mut self,
        items: &[Node],
        inner: &Shape,
        go_type: &dyn Fn() -> String,
    ) -> Result<Value, String> {
        let element_type =
            || go_type().strip_prefix("[]").map_or_else(|| inner.go_type(), str::to_string);
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if self.structs > MAX_STRUCTS {
                return Err("the body holds too many objects".into());
            }
            let path = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            // A null makes a zero struct too.
            self.structs += usize::from(*item == Node::Null);
            let value = self.value(item, inner, &element_type)?;
            self.path.truncate(path);
            out.push(value.unwrap_or_else(|| golang::zero(inner)));
        }
        Ok(Value::Array(out))
    }

    fn map(
        &mut self,
        entries: &[(String, Node)],
        inner: &Shape,
        go_type: &dyn Fn() -> String,
    ) -> Result<Value, String> {
        let element_type = || {
            let whole = go_type();
            let element = whole.strip_prefix("map[").and_then(|rest| rest.split_once(']'));
            element.map_or_else(|| inner.go_type(), |(_, element)| element.to_string())
        };
        let mut seen = HashSet::new();
        let mut out = Map::new();
        for (key, node) in entries {
            self.note_duplicate(&mut seen, key);
            let path = self.path.len();
            self.push_key(key);
            let value = self.value(node, inner, &element_type)?;
            self.path.truncate(path);
            out.insert(key.clone(), value.unwrap_or_else(|| golang::zero(inner)));
        }
        // Go writes maps sorted.
        out.sort_keys();
        Ok(Value::Object(out))
    }

    /// The three types of a CRD's schema that are one thing or another. Their own decoders in Go report
    /// no strict errors.
    fn schema_or(&mut self, node: &Node, shape: &Shape) -> Walked {
        let schema = Schema::builtin().type_named(crate::facts::JSON_SCHEMA_PROPS);
        let Some(schema) = schema else { return Ok(Some(node.to_value())) };
        let mut inner = Walk::default();
        let value = match (shape, node) {
            (Shape::SchemaOrBool, Node::Bool(allows)) => Value::Bool(*allows),
            (_, Node::Map(entries)) => inner.object(entries, schema)?,
            (Shape::SchemaOrStrings, Node::Seq(items)) => {
                inner.list(items, &Shape::String, &|| "[]string".into())?
            }
            (Shape::SchemaOrArray, Node::Seq(items)) => {
                let mut schemas = Vec::with_capacity(items.len());
                for item in items {
                    let Node::Map(entries) = item else {
                        return Err("invalid JSON schema in a list of schemas".into());
                    };
                    schemas.push(inner.object(entries, schema)?);
                }
                Value::Array(schemas)
            }
            (Shape::SchemaOrBool, _) => return Err("boolean or JSON schema expected".into()),
            (Shape::SchemaOrStrings, _) => {
                return Err("JSON schema or list of strings expected".into());
            }
            _ => return Ok(None),
        };
        inner.error.map_or(Ok(Some(value)), Err)
    }

    fn untyped(&mut self, node: &Node) -> Value {
        match node {
            Node::Map(entries) => self.untyped_map(entries),
            Node::Seq(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    out.push(self.untyped(item));
                    self.path.truncate(path);
                }
                Value::Array(out)
            }
            scalar => scalar.to_value(),
        }
    }

    fn untyped_map(&mut self, entries: &[(String, Node)]) -> Value {
        let mut seen = HashSet::new();
        let mut out = Map::new();
        for (key, node) in entries {
            self.note_duplicate(&mut seen, key);
            let path = self.path.len();
            self.push_key(key);
            let value = self.untyped(node);
            self.path.truncate(path);
            out.insert(key.clone(), value);
        }
        Value::Object(out)
    }

    fn integer(&mut self, node: &Node, small: bool, go_type: &dyn Fn() -> String) -> Option<Value> {
        let value = match node {
            Node::Int(number) if !small => Some(Value::from(*number)),
            other if small => int32(other),
            _ => None,
        };
        if value.is_none() {
            let error = self.type_error(&literal(node), &go_type());
            self.error.get_or_insert(error);
        }
        value
    }

    fn base64(&mut self, text: &str) -> Option<Value> {
        use base64::Engine as _;
        let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match base64::engine::general_purpose::STANDARD.decode(&plain) {
            Ok(_) => Some(Value::String(plain)),
            Err(error) => {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) => at,
                    base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    // Go tells where the last four characters begin that aren't four.
                    _ if !plain.contains('=') => plain.len() / 4 * 4,
                    _ => plain.len(),
                };
                self.error.get_or_insert(format!("illegal base64 data at input byte {at}"));
                None
            }
        }
    }

    /// A string inside a type with its own decoder in Go: anything else stops the walk.
    fn inner_string<'n>(&self, node: &'n Node) -> Result<Option<&'n str>, String> {
        match node {
            Node::String(text) => Ok(Some(text)),
            other => Err(self.type_error(&other.go_literal(), "string")),
        }
    }

    fn type_error(&self, literal: &str, go_type: &str) -> String {
        match self.holder {
            Some(holder) => format!(
                "json: cannot unmarshal {literal} into Go struct field {holder}.{} of type {go_type}",
                self.fields.join(".")
            ),
            None => format!("json: cannot unmarshal {literal} into Go value of type {go_type}"),
        }
    }

    fn push_key(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    fn note_duplicate<'k>(&mut self, seen: &mut HashSet<&'k str>, key: &'k str) {
        if !seen.insert(key) {
            self.report("duplicate field", key);
        }
    }

    fn report(&mut self, what: &str, key: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{key}", self.path);
        let error = format!("{what} {path:?}");
        if self.strict.len() < MAX_STRICT_ERRORS && !self.strict.contains(&error) {
            self.strict.push(error);
        }
    }
}

/// What Go's errors call the literal where a number doesn't fit: with its digits.
fn literal(node: &Node) -> String {
    node.number_text().map_or_else(|| node.go_literal(), |digits| format!("number {digits}"))
}

fn int32(node: &Node) -> Option<Value> {
    match node {
        Node::Int(number) => i32::try_from(*number).ok().map(Value::from),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
