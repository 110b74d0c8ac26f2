//! Kubernetes' protobuf, driven by the type table.
//!
//! Current client-go sends typed bodies only in this form. A body is `k8s\0` and a `runtime.Unknown`
//! that names the kind and holds the message. Upstream's messages are proto2 as gogo writes it: every
//! value field is on the wire even when it is zero, only pointers tell absent from zero. So the table's
//! `pointer` and `omitempty` decide what the JSON form shows, exactly as for a JSON body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use windlass_sdk_meta::Timestamp;

use crate::decode::{DecodeError, Target, check_kind, unfit, with_type_meta};
use crate::facts::{Schema, Shape, Type};
use crate::golang::{self, Found, MAX_STRUCTS};
use crate::node::Node;

mod encode;

pub use encode::{ProtobufList, encode_protobuf, watch_frame};
pub(crate) use encode::{put_bytes, put_double, put_varint};

/// Reads a protobuf body as an object of `target`, in the form Go's JSON encoder gives it.
///
/// # Errors
/// When the body isn't the envelope, is of another kind, is cut short, or the target's type is unknown.
pub fn decode_protobuf(body: &[u8], target: &Target<'_>) -> Result<Value, DecodeError> {
    let fail = |cause: String| unfit(target, cause);
    let message = body.strip_prefix(MAGIC).ok_or_else(|| fail(NOT_AN_ENVELOPE.into()))?;
    let envelope = Envelope::read(message).map_err(fail)?;
    check_kind(&envelope.api_version, &envelope.kind, body, target)?;
    let ty = target.ty.ok_or_else(|| fail("protobuf carries built-in kinds only".into()))?;
    let mut reader = Decoder { structs: 0 };
    let mut found = Found::default();
    reader.message(envelope.raw, ty, &mut found, 0).map_err(fail)?;
    Ok(with_type_meta(golang::assemble(ty, found), target))
}

const MAGIC: &[u8] = b"k8s\0";
const NOT_AN_ENVELOPE: &str = "provided data does not appear to be a protobuf message, \
                               expected prefix [107 56 115 0]";

/// Messages in messages, at most; the deepest built-in kind (a CRD's schema) is far below.
const MAX_DEPTH: usize = 128;

const EOF: &str = "unexpected EOF";

/// `runtime.Unknown`.
struct Envelope<'b> {
    api_version: String,
    kind: String,
    raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn read(message: &'b [u8]) -> Result<Envelope<'b>, String> {
        let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
        for field in Fields(message) {
            let (number, value) = field?;
            match (number, value) {
                (1, Wire::Bytes(meta)) => {
                    for field in Fields(meta) {
                        match field? {
                            (1, Wire::Bytes(text)) => envelope.api_version = string(text),
                            (2, Wire::Bytes(text)) => envelope.kind = string(text),
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err(format!("content encoding {:?} is not known", string(encoding)));
                }
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// One value on the wire.
#[derive(Clone, Copy)]
enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'b [u8]),
}

/// The fields of a message, in the order they are written.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Wire<'b>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn field(&mut self) -> Result<(u32, Wire<'b>), String> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0 && *n < 1 << 29);
        let number = number.ok_or_else(|| format!("proto: illegal tag {tag}"))?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| EOF)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| EOF)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(EOF)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("proto: integer overflow".into())
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], String> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(EOF)?;
        self.0 = rest;
        Ok(head)
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Decoder {
    structs: usize,
}

impl Decoder {
    fn message(
        &mut self,
        bytes: &[u8],
        ty: &Type,
        found: &mut Found,
        depth: usize,
    ) -> Result<(), String> {
        self.structs += 1;
        if self.structs > MAX_STRUCTS || depth > MAX_DEPTH {
            return Err("proto: the message holds too many messages".into());
        }
        for item in Fields(bytes) {
            let (number, wire) = item?;
            let Some(field) = ty.fields.iter().find(|f| f.number == number) else { continue };
            let wrong = || format!("proto: wrong wireType for field {}", field.go_name);
            match (&field.shape, wire) {
                (Shape::Struct(inner), Wire::Bytes(bytes)) if field.inline => {
                    self.message(bytes, inner.get(), found, depth + 1)?;
                }
                (Shape::List(inner), wire) => {
                    let list = found.list(field.json);
                    match (wire, inner.as_ref()) {
                        (Wire::Bytes(packed), Shape::Int32 | Shape::Int64 | Shape::Bool) => {
                            let mut packed = Fields(packed);
                            while !packed.0.is_empty() {
                                let number = Wire::Varint(packed.varint()?);
                                list.push(self.value(number, inner, depth)?.ok_or_else(wrong)?);
                            }
                        }
                        _ => list.push(self.value(wire, inner, depth)?.ok_or_else(wrong)?),
                    }
                }
                (Shape::Map(inner), Wire::Bytes(entry)) => {
                    let (key, value) = self.entry(entry, inner, depth)?;
                    found.map(field.json).insert(key, value);
                }
                (shape, wire) => {
                    found.set(field.json, self.value(wire, shape, depth)?.ok_or_else(wrong)?);
                }
            }
        }
        // Go writes maps sorted.
        for field in &ty.fields {
            if let (Shape::Map(_), Some(Value::Object(map))) =
                (&field.shape, found.get_mut(field.json))
            {
                map.sort_keys();
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        bytes: &[u8],
        inner: &Shape,
        depth: usize,
    ) -> Result<(String, Value), String> {
        let mut key = String::new();
        let mut value = match inner {
            Shape::Bytes => Value::from(""),
            Shape::Wrapped(_) => Value::Array(Vec::new()),
            other => golang::zero(other),
        };
        for item in Fields(bytes) {
            match item? {
                (1, Wire::Bytes(text)) => key = string(text),
                (2, wire) => {
                    let wrong = || "proto: wrong wireType for a map's value".to_string();
                    value = self.value(wire, inner, depth)?.ok_or_else(wrong)?;
                }
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// One value; `None` where the wire type isn't the shape's.
    fn value(
        &mut self,
        wire: Wire<'_>,
        shape: &Shape,
        depth: usize,
    ) -> Result<Option<Value>, String> {
        let bytes = match (shape, wire) {
            (Shape::Bool, Wire::Varint(number)) => return Ok(Some(Value::Bool(number != 0))),
            (Shape::Int32, Wire::Varint(number)) => return Ok(Some(Value::from(number as i32))),
            (Shape::Int64, Wire::Varint(number)) => return Ok(Some(Value::from(number as i64))),
            (Shape::Float64, Wire::Fixed64(bits)) => {
                return Ok(Some(crate::node::float(f64::from_bits(bits))));
            }
            (_, Wire::Bytes(bytes)) => bytes,
            _ => return Ok(None),
        };
        Ok(Some(match shape {
            Shape::String => Value::String(string(bytes)),
            Shape::Bytes => Value::String(STANDARD.encode(bytes)),
            Shape::Time | Shape::MicroTime => time(bytes, *shape == Shape::MicroTime)?,
            Shape::Duration => {
                golang::format_duration(numbers(bytes)?.first().copied().unwrap_or(0)).into()
            }
            Shape::Quantity => {
                let text = first_bytes(bytes)?.map(string).unwrap_or_default();
                golang::canonical_quantity(&text)?.into()
            }
            Shape::IntOrString => int_or_string(bytes)?,
            Shape::Raw | Shape::Json | Shape::FieldsV1 => match first_bytes(bytes)? {
                None | Some(b"") => Value::Null,
                Some(json) => Node::from_json(json)?.to_value(),
            },
            Shape::Struct(inner) => {
                let mut found = Found::default();
                self.message(bytes, inner.get(), &mut found, depth + 1)?;
                golang::assemble(inner.get(), found)
            }
            Shape::Wrapped(inner) => {
                let mut list = Vec::new();
                for item in Fields(bytes) {
                    if let (1, wire) = item? {
                        list.extend(self.value(wire, inner, depth)?);
                    }
                }
                Value::Array(list)
            }
            Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings => {
                self.schema_or(bytes, shape, depth)?
            }
            _ => return Ok(None),
        }))
    }

    /// The three types of a CRD's schema that are one thing or another.
    fn schema_or(&mut self, bytes: &[u8], shape: &Shape, depth: usize) -> Result<Value, String> {
        let schema = json_schema_props()?;
        let (mut one, mut many, mut allows) = (Value::Null, Vec::new(), false);
        for item in Fields(bytes) {
            match (item?, shape) {
                ((1, Wire::Varint(number)), Shape::SchemaOrBool) => allows = number != 0,
                ((2, wire), Shape::SchemaOrBool) | ((1, wire), _) => {
                    one = self.value(wire, &schema, depth)?.unwrap_or_default();
                }
                ((2, wire), Shape::SchemaOrArray) => {
                    many.extend(self.value(wire, &schema, depth)?);
                }
                ((2, wire), _) => many.extend(self.value(wire, &Shape::String, depth)?),
                _ => {}
            }
        }
        Ok(match shape {
            Shape::SchemaOrBool if one.is_null() => Value::Bool(allows),
            _ if !many.is_empty() => Value::Array(many),
            _ => one,
        })
    }
}

fn json_schema_props() -> Result<Shape, String> {
    let ty = Schema::builtin().type_ref(crate::facts::JSON_SCHEMA_PROPS);
    ty.map(Shape::Struct).ok_or_else(|| "no type for JSON schemas".into())
}

/// The varints of a small message, by field number from 1; absent ones are 0.
fn numbers(bytes: &[u8]) -> Result<[i64; 2], String> {
    let mut out = [0; 2];
    for item in Fields(bytes) {
        if let (number @ 1..=2, Wire::Varint(value)) = item? {
            out[number as usize - 1] = value as i64;
        }
    }
    Ok(out)
}

fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let mut found = None;
    for item in Fields(bytes) {
        if let (1, Wire::Bytes(inner)) = item? {
            found = Some(inner);
        }
    }
    Ok(found)
}

/// An empty message is Go's zero time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, String> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let [seconds, nanos] = numbers(bytes)?;
    let nanos = if micro { (nanos as i32) / 1000 * 1000 } else { 0 };
    let at = Timestamp::new(seconds, nanos).map_err(|_| "proto: time out of range")?;
    Ok(golang::time_value(at, micro))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let [kind, number] = numbers(bytes)?;
    if kind == 0 {
        return Ok(Value::from(number as i32));
    }
    let mut text = String::new();
    for item in Fields(bytes) {
        if let (3, Wire::Bytes(bytes)) = item? {
            text = string(bytes);
        }
    }
    Ok(Value::String(text))
}

impl Found {
    fn list(&mut self, json: &'static str) -> &mut Vec<Value> {
        let slot = self.slot(json);
        if !slot.is_array() {
            *slot = Value::Array(Vec::new());
        }
        match slot {
            Value::Array(list) => list,
            // Made an array above.
            _ => unreachable!(),
        }
    }

    fn map(&mut self, json: &'static str) -> &mut Map<String, Value> {
        let slot = self.slot(json);
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        match slot {
            Value::Object(map) => map,
            // Made an object above.
            _ => unreachable!(),
        }
    }
}
