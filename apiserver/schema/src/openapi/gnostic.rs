//! OpenAPI version 2 as gnostic's protobuf, in which Go clients fetch it: the same document, its words
//! as numbered fields. The tables below are gnostic's messages, as far as our documents use them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::protobuf::{put_bytes, put_varint};

/// A message: its fields by their word in JSON, and where words that begin with `x-` go (0: nowhere).
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extension: u32,
}

/// How a field is written.
enum Form {
    Text,
    Flag,
    Integer,
    Number,
    /// Any JSON, as the YAML that it also is.
    Any,
    /// A list, or one element of it alone, of which each is written so.
    Each(&'static Form),
    Of(&'static Message),
    /// A message that holds nothing but the value, under this number.
    In(u32, &'static Form),
    /// Names and values, in messages of the two.
    Named(&'static Form),
    /// A parameter: which message it is depends on where it stands.
    Parameter,
    /// A schema, or yes or no.
    SchemaOrFlag,
}

static TEXTS: Form = Form::Each(&Form::Text);
static SCHEMA_FORM: Form = Form::Of(&SCHEMA);

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Number),
        ("maximum", 7, Form::Number),
        ("exclusiveMaximum", 8, Form::Flag),
        ("minimum", 9, Form::Number),
        ("exclusiveMinimum", 10, Form::Flag),
        ("maxLength", 11, Form::Integer),
        ("minLength", 12, Form::Integer),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Integer),
        ("minItems", 15, Form::Integer),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Integer),
        ("minProperties", 18, Form::Integer),
        ("required", 19, Form::Each(&Form::Text)),
        ("enum", 20, Form::Each(&Form::Any)),
        ("additionalProperties", 21, Form::SchemaOrFlag),
        ("type", 22, Form::In(1, &TEXTS)),
        ("items", 23, Form::In(1, &Form::Each(&SCHEMA_FORM))),
        ("allOf", 24, Form::Each(&SCHEMA_FORM)),
        ("properties", 25, Form::In(1, &Form::Named(&SCHEMA_FORM))),
        ("readOnly", 27, Form::Flag),
        ("example", 30, Form::Any),
    ],
    extension: 31,
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::In(1, &SCHEMA_FORM))],
    extension: 5,
};

static RESPONSE_VALUE: Form = Form::In(1, &Form::Of(&RESPONSE));

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Each(&Form::Text)),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Each(&Form::Text)),
        ("consumes", 7, Form::Each(&Form::Text)),
        ("parameters", 8, Form::Each(&Form::Parameter)),
        ("responses", 9, Form::In(1, &Form::Named(&RESPONSE_VALUE))),
        ("deprecated", 11, Form::Flag),
    ],
    extension: 13,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Form::Of(&OPERATION)),
        ("put", 3, Form::Of(&OPERATION)),
        ("post", 4, Form::Of(&OPERATION)),
        ("delete", 5, Form::Of(&OPERATION)),
        ("options", 6, Form::Of(&OPERATION)),
        ("head", 7, Form::Of(&OPERATION)),
        ("patch", 8, Form::Of(&OPERATION)),
        ("parameters", 9, Form::Each(&Form::Parameter)),
    ],
    extension: 10,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 5, Form::Of(&SCHEMA)),
    ],
    extension: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("default", 10, Form::Any),
        ("uniqueItems", 20, Form::Flag),
        ("enum", 21, Form::Each(&Form::Any)),
    ],
    extension: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Flag),
    ],
    extension: 22,
};

static INFO: Message =
    Message { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extension: 7 };

static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("description", 4, Form::Text),
    ],
    extension: 5,
};

static API_KEY_ITEM: Form = Form::In(2, &Form::Of(&API_KEY));
static REQUIREMENT: Form = Form::In(1, &TEXTS);

/// What stands behind paths and definitions.
static REST: Message = Message {
    fields: &[
        ("security", 12, Form::Each(&Form::In(1, &Form::Named(&REQUIREMENT)))),
        ("securityDefinitions", 13, Form::In(1, &Form::Named(&API_KEY_ITEM))),
    ],
    extension: 0,
};

/// One of `Paths.path`, ready to stand in it.
pub(super) fn path(path: &str, item: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_named(&mut out, 2, path, item, &Form::Of(&PATH_ITEM));
    out
}

/// One of `Definitions.additional_properties`, ready to stand in it.
pub(super) fn definition(name: &str, schema: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_named(&mut out, 1, name, schema, &SCHEMA_FORM);
    out
}

/// The document around its pieces.
pub(super) fn document(
    info: &Value,
    paths: BTreeMap<String, Vec<u8>>,
    definitions: BTreeMap<String, Vec<u8>>,
    rest: &Value,
) -> Vec<u8> {
    let joined = |pieces: BTreeMap<String, Vec<u8>>| {
        let mut out = Vec::with_capacity(pieces.values().map(Vec::len).sum());
        pieces.into_values().for_each(|piece| out.extend_from_slice(&piece));
        out
    };
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"2.0");
    put_bytes(&mut out, 2, &message(info, &INFO));
    put_bytes(&mut out, 8, &joined(paths));
    put_bytes(&mut out, 9, &joined(definitions));
    out.extend_from_slice(&message(rest, &REST));
    out
}

fn message(value: &Value, of: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    for (word, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, form)) = of.fields.iter().find(|(known, ..)| known == word) {
            put(&mut out, *number, value, form);
        } else if word.starts_with("x-") && of.extension > 0 {
            put_named(&mut out, of.extension, word, value, &Form::Any);
        }
    }
    out
}

/// Name and value, as one element of a field.
fn put_named(out: &mut Vec<u8>, number: u32, name: &str, value: &Value, form: &Form) {
    let mut named = Vec::new();
    put_bytes(&mut named, 1, name.as_bytes());
    put(&mut named, 2, value, form);
    put_bytes(out, number, &named);
}

fn put(out: &mut Vec<u8>, number: u32, value: &Value, form: &Form) {
    match form {
        Form::Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Form::Flag => put_varint(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Form::Integer => put_varint(out, number, value.as_i64().unwrap_or_default() as u64),
        Form::Number => {
            crate::protobuf::put_double(out, number, value.as_f64().unwrap_or_default());
        }
        Form::Any => {
            let mut any = Vec::new();
            put_bytes(&mut any, 2, value.to_string().as_bytes());
            put_bytes(out, number, &any);
        }
        Form::Each(form) => match value {
            Value::Array(all) => all.iter().for_each(|one| put(out, number, one, form)),
            one => put(out, number, one, form),
        },
        Form::Of(of) => put_bytes(out, number, &message(value, of)),
        Form::In(inner, form) => {
            let mut holder = Vec::new();
            put(&mut holder, *inner, value, form);
            put_bytes(out, number, &holder);
        }
        Form::Named(form) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                put_named(out, number, name, value, form);
            }
        }
        Form::Parameter => put_bytes(out, number, &parameter(value)),
        Form::SchemaOrFlag => {
            let mut holder = Vec::new();
            match value {
                Value::Bool(_) => put(&mut holder, 2, value, &Form::Flag),
                schema => put(&mut holder, 1, schema, &SCHEMA_FORM),
            }
            put_bytes(out, number, &holder);
        }
    }
}

/// A `ParametersItem`, which holds a `Parameter`, which holds one of a body, a query or a path.
fn parameter(value: &Value) -> Vec<u8> {
    let mut parameter = Vec::new();
    let mut other = |number: u32, of: &Message| {
        let mut holder = Vec::new();
        put_bytes(&mut holder, number, &message(value, of));
        put_bytes(&mut parameter, 2, &holder);
    };
    match value["in"].as_str() {
        Some("query") => other(3, &QUERY_PARAMETER),
        Some("path") => other(4, &PATH_PARAMETER),
        _ => put_bytes(&mut parameter, 1, &message(value, &BODY_PARAMETER)),
    }
    let mut item = Vec::new();
    put_bytes(&mut item, 1, &parameter);
    item
}
