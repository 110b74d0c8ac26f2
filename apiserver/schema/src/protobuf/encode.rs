//! Objects as protobuf, in the bytes that upstream's encoder writes: fields by number, value fields
//! also where they are zero, pointers and lists only where they hold something.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{MAGIC, json_schema_props};
use crate::decode::{DecodeError, Target, unfit};
use crate::facts::{Shape, Type};
use crate::golang;
use crate::node::Node;

/// Writes an object as a protobuf body, byte for byte as upstream's encoder does.
///
/// # Errors
/// When the target's type is unknown, or a value doesn't fit its type.
pub fn encode_protobuf(object: &Value, target: &Target<'_>) -> Result<Vec<u8>, DecodeError> {
    let raw = message_of(object, target)?;
    let mut out = envelope_start(&target.api_version(), target.kind, raw.len());
    out.extend_from_slice(&raw);
    out.extend_from_slice(&ENVELOPE_END);
    Ok(out)
}

/// A list in protobuf that is written item by item: the envelope names the length of what it holds,
/// so the items come first and the head can be written when their bytes have been counted.
#[derive(Debug, Clone)]
pub struct ProtobufList {
    api_version: String,
    kind: String,
    item: &'static Type,
    /// The field of the list that holds an item.
    number: u32,
    /// The encoded list without its items.
    head: Vec<u8>,
}

impl ProtobufList {
    /// `list` is the list's kind, and `without_items` has its metadata.
    ///
    /// # Errors
    /// When the kind is unknown, or is no list in protobuf.
    pub fn new(list: &Target<'_>, without_items: &Value) -> Result<ProtobufList, DecodeError> {
        let head = message_of(without_items, list)?;
        let items = list.ty.and_then(|ty| ty.field("items")).filter(|field| field.number > 0);
        let items = items.and_then(|field| Some((field.number, field.target()?)));
        let (number, item) = items.ok_or_else(|| unfit(list, "it is no list".into()))?;
        let (api_version, kind) = (list.api_version(), list.kind.to_owned());
        Ok(ProtobufList { api_version, kind, item, number, head })
    }

    /// Writes one item behind those before it.
    ///
    /// # Errors
    /// When a value doesn't fit its type.
    pub fn item(&self, object: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        put_bytes(out, self.number, &encode_message(object, self.item)?);
        Ok(())
    }

    /// What stands before items of so many bytes in all.
    pub fn start(&self, items_bytes: usize) -> Vec<u8> {
        let length = self.head.len() + items_bytes;
        let mut out = envelope_start(&self.api_version, &self.kind, length);
        out.extend_from_slice(&self.head);
        out
    }

    /// What stands behind them.
    pub fn end(&self) -> &'static [u8] {
        &ENVELOPE_END
    }
}

/// One event of a watch: `metav1.WatchEvent` around an object in its envelope, behind the length
/// in four bytes.
pub fn watch_frame(event: &str, object: &[u8], out: &mut Vec<u8>) {
    let mut extension = Vec::with_capacity(object.len() + 6);
    put_bytes(&mut extension, 1, object);
    let mut message = Vec::with_capacity(extension.len() + 24);
    put_bytes(&mut message, 1, event.as_bytes());
    put_bytes(&mut message, 2, &extension);
    // An object is far smaller than 4 GiB: the store takes 3 MiB.
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
}

impl Target<'_> {
    /// Whether objects of this kind can be written in protobuf.
    pub fn has_protobuf(&self) -> bool {
        self.ty.is_some_and(|ty| {
            ty.fields.iter().all(|field| field.number > 0 || (field.inline && is_type_meta(field)))
        })
    }
}

fn is_type_meta(field: &crate::facts::Field) -> bool {
    field.target().is_some_and(|ty| ty.short_name() == "TypeMeta")
}

fn message_of(object: &Value, target: &Target<'_>) -> Result<Vec<u8>, DecodeError> {
    let fail = |cause: String| unfit(target, cause);
    let ty = target.ty.ok_or_else(|| fail("protobuf carries built-in kinds only".into()))?;
    encode_message(object, ty).map_err(fail)
}

/// An envelope's content type and encoding, which are written though they are empty.
const ENVELOPE_END: [u8; 4] = [0x1a, 0, 0x22, 0];

fn envelope_start(api_version: &str, kind: &str, raw_bytes: usize) -> Vec<u8> {
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw_bytes + meta.len() + 20);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_tag(&mut out, 2, 2);
    put_raw_varint(&mut out, raw_bytes as u64);
    out
}

fn encode_message(object: &Value, ty: &Type) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for field in ty.wire_order() {
        match &field.shape {
            Shape::Struct(inner) if field.inline => {
                put_bytes(&mut out, field.number, &encode_message(object, inner.get())?);
            }
            shape => match object.get(field.json) {
                None | Some(Value::Null) if field.pointer => {}
                None | Some(Value::Null) => encode_zero(&mut out, field.number, shape)?,
                Some(value) => encode_field(&mut out, field.number, value, shape)
                    .map_err(|error| format!("{}: {error}", field.json))?,
            },
        }
    }
    Ok(out)
}

/// What a value field holds that nobody set: lists, maps and bytes write nothing.
fn encode_zero(out: &mut Vec<u8>, number: u32, shape: &Shape) -> Result<(), String> {
    match shape {
        Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::Any => Ok(()),
        Shape::Wrapped(_) => Ok(()),
        Shape::Time | Shape::MicroTime | Shape::Raw | Shape::Json | Shape::FieldsV1 => {
            put_bytes(out, number, b"");
            Ok(())
        }
        other => encode_field(out, number, &golang::zero(other), other),
    }
}

fn encode_field(
    out: &mut Vec<u8>,
    number: u32,
    value: &Value,
    shape: &Shape,
) -> Result<(), String> {
    match (shape, value) {
        (Shape::List(inner), Value::Array(items)) => {
            for item in items {
                encode_field(out, number, item, inner)?;
            }
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            for (key, value) in sorted {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                match value {
                    Value::Null => encode_zero(&mut entry, 2, inner)?,
                    value => encode_field(&mut entry, 2, value, inner)?,
                }
                put_bytes(out, number, &entry);
            }
        }
        (Shape::Bool | Shape::Int32 | Shape::Int64, _) => {
            let integer = value.as_i64().or(value.as_bool().map(i64::from));
            put_varint(out, number, integer.ok_or_else(|| mismatch(value))? as u64);
        }
        (Shape::Float64, _) => {
            put_double(out, number, value.as_f64().ok_or_else(|| mismatch(value))?);
        }
        _ => put_bytes(out, number, &encode_bytes(value, shape)?),
    }
    Ok(())
}

/// The bytes of a value that is length-delimited on the wire.
fn encode_bytes(value: &Value, shape: &Shape) -> Result<Vec<u8>, String> {
    let text = || value.as_str().ok_or_else(|| mismatch(value));
    let mut out = Vec::new();
    match shape {
        Shape::String => out = text()?.into(),
        Shape::Bytes => out = STANDARD.decode(text()?).map_err(|error| error.to_string())?,
        Shape::Quantity => put_bytes(&mut out, 1, text()?.as_bytes()),
        Shape::Duration => put_varint(&mut out, 1, golang::parse_duration(text()?)? as u64),
        Shape::Time | Shape::MicroTime if value.is_null() => {}
        Shape::Time | Shape::MicroTime => {
            let at = golang::parse_time(text()?, *shape == Shape::MicroTime)?;
            let nanos = i64::from(at.subsec_nanosecond());
            // Go counts the fraction upwards, also before 1970.
            let (seconds, nanos) = if nanos < 0 {
                (at.as_second() - 1, nanos + 1_000_000_000)
            } else {
                (at.as_second(), nanos)
            };
            put_varint(&mut out, 1, seconds as u64);
            put_varint(&mut out, 2, if *shape == Shape::Time { 0 } else { nanos as u64 });
        }
        Shape::IntOrString => {
            let number = value.as_i64();
            put_varint(&mut out, 1, u64::from(number.is_none()));
            put_varint(&mut out, 2, number.unwrap_or(0) as u64);
            put_bytes(&mut out, 3, value.as_str().unwrap_or_default().as_bytes());
        }
        Shape::Raw | Shape::Json | Shape::FieldsV1 => {
            if !value.is_null() {
                put_bytes(&mut out, 1, value.to_string().as_bytes());
            }
        }
        Shape::Struct(inner) => out = encode_message(value, inner.get())?,
        Shape::Wrapped(inner) => {
            for item in value.as_array().ok_or_else(|| mismatch(value))? {
                encode_field(&mut out, 1, item, inner)?;
            }
        }
        Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings => {
            let schema = json_schema_props()?;
            let number = if *shape == Shape::SchemaOrBool { 2 } else { 1 };
            match (shape, value) {
                (Shape::SchemaOrBool, _) => {
                    let allows = value.as_bool().unwrap_or(true);
                    put_varint(&mut out, 1, u64::from(allows));
                    if value.is_object() {
                        encode_field(&mut out, number, value, &schema)?;
                    }
                }
                (_, Value::Object(_)) => encode_field(&mut out, number, value, &schema)?,
                (Shape::SchemaOrArray, Value::Array(items)) => {
                    items.iter().try_for_each(|s| encode_field(&mut out, 2, s, &schema))?;
                }
                (_, Value::Array(items)) => {
                    items.iter().try_for_each(|s| encode_field(&mut out, 2, s, &Shape::String))?;
                }
                _ => {}
            }
        }
        _ => return Err(mismatch(value)),
    }
    Ok(out)
}

fn mismatch(value: &Value) -> String {
    format!("a {} doesn't fit", Node::from(value).go_literal())
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_raw_varint(out, u64::from(number << 3 | wire));
}

pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 0);
    put_raw_varint(out, value);
}

pub(crate) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_tag(out, number, 1);
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_raw_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
