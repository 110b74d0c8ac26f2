//! The types of a schema as expressions see them, with how large their values can get: what limits
//! say, else what fits into a request.

use std::{collections::BTreeMap, sync::Arc};

use crate::{check::Type, size::UNBOUNDED};

/// No request is larger: upstream's constant of CEL's cost rules.
pub const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The type of one place of a schema, or of a variable.
#[derive(Debug)]
pub struct Decl {
    /// What messages call an object; empty where it has no name.
    pub name: &'static str,
    pub form: Form,
    /// Items, entries, characters or bytes at most.
    pub max_elements: u64,
    /// Characters of a map's keys at most. Keys of schemas count as empty, as upstream's do.
    pub key_elements: u64,
    /// Bytes that the smallest value takes in JSON.
    pub min_bytes: u64,
}

#[derive(Debug)]
pub enum Form {
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Timestamp,
    /// A timestamp that is written as a date.
    Date,
    Duration,
    /// An integer or a string.
    IntOrString,
    /// Whatever it is is known when it is there.
    Dyn,
    /// A message of any type.
    Any,
    /// Something that only functions know.
    Opaque(&'static str),
    List(Arc<Decl>, ListKind),
    Map(Arc<Decl>),
    /// By the name that expressions use.
    Object(BTreeMap<Arc<str>, Field>),
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// As JSON has it.
    pub json: Arc<str>,
    pub decl: Arc<Decl>,
}

/// What makes items of a list the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    Map(Arc<[String]>),
}

impl Decl {
    pub fn new(form: Form, max_elements: u64, min_bytes: u64) -> Arc<Decl> {
        Arc::new(Decl { name: "", form, max_elements, key_elements: 0, min_bytes })
    }

    /// An object that has a name.
    pub fn named(name: &'static str, fields: BTreeMap<Arc<str>, Field>) -> Arc<Decl> {
        let form = Form::Object(fields);
        Arc::new(Decl { name, form, max_elements: UNBOUNDED, key_elements: 0, min_bytes: 0 })
    }

    /// A map whose keys have a bound, too.
    pub fn map(key_elements: u64, inner: Arc<Decl>, max_elements: u64) -> Arc<Decl> {
        let form = Form::Map(inner);
        Arc::new(Decl { name: "", form, max_elements, key_elements, min_bytes: 0 })
    }

    /// The declaration of a variable that an expression of that type makes; what upstream's has no
    /// declaration for is dynamic.
    pub fn of_type(ty: &Type) -> Arc<Decl> {
        let form = match ty {
            Type::Bool => Form::Bool,
            Type::Int => Form::Int,
            Type::Double => Form::Double,
            Type::String => Form::String,
            Type::Bytes => Form::Bytes,
            Type::Timestamp => Form::Timestamp,
            Type::Duration => Form::Duration,
            Type::List(inner) => Form::List(Self::of_type(inner), ListKind::Atomic),
            Type::Map(_, inner) => Form::Map(Self::of_type(inner)),
            _ => Form::Dyn,
        };
        Self::new(form, UNBOUNDED, 0)
    }

    /// The declaration of items or entries.
    pub fn element(&self) -> Option<&Arc<Decl>> {
        match &self.form {
            Form::List(inner, _) | Form::Map(inner) => Some(inner),
            _ => None,
        }
    }

    /// How often data of this type can occur in one request.
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST_BYTES / (self.min_bytes + 1)
    }
}

/// A field's name in expressions; None where it can't be written there.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (token, replacement) = match first {
            '_' if rest.starts_with("__") => ("__", "__underscores__"),
            '.' => (".", "__dot__"),
            '-' => ("-", "__dash__"),
            '/' => ("/", "__slash__"),
            other if other.is_ascii_alphanumeric() || other == '_' => {
                out.push(other);
                rest = &rest[1..];
                continue;
            }
            _ => return None,
        };
        out.push_str(replacement);
        rest = &rest[token.len()..];
    }
    Some(out)
}
