//! What Go's JSON encoder writes for an object, which is what clients of Kubernetes see: which empty
//! fields appear, which don't, and how times, durations and quantities are spelt. Both decoders (JSON
//! and protobuf) end here, so one object has one form whatever it came as.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use windlass_sdk_meta::{Quantity, Timestamp, format_micro_time, format_time};

use crate::facts::{Field, Shape, Type};

/// Structs in one body, at most. Two bytes of a body can make a struct of a hundred times that size in
/// memory (its empty fields are written), so the size of the body alone is no bound.
pub(crate) const MAX_STRUCTS: usize = 100_000;

/// The fields of one struct that a decoder found, by JSON name.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<(&'static str, Value)>);

impl Found {
    /// Sets a field; a later value replaces an earlier one.
    pub(crate) fn set(&mut self, json: &'static str, value: Value) {
        *self.slot(json) = value;
    }

    /// The field's place, null where it wasn't found yet.
    pub(crate) fn slot(&mut self, json: &'static str) -> &mut Value {
        let at = self.0.iter().position(|(name, _)| *name == json).unwrap_or_else(|| {
            self.0.push((json, Value::Null));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    pub(crate) fn get_mut(&mut self, json: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(name, _)| *name == json).map(|(_, value)| value)
    }

    fn take(&mut self, json: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == json)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// The object Go would write: fields in its order, empty ones written or left out as their tags say.
pub(crate) fn assemble(ty: &Type, mut found: Found) -> Value {
    let mut out = Map::new();
    fill(ty, &mut found, &mut out);
    Value::Object(out)
}

fn fill(ty: &Type, found: &mut Found, out: &mut Map<String, Value>) {
    for field in &ty.fields {
        if let (Shape::Struct(inner), true) = (&field.shape, field.inline) {
            fill(inner.get(), found, out);
            continue;
        }
        let value = found.take(field.json).unwrap_or_else(|| absent(field));
        if !left_out(field, &value) {
            out.insert(field.json.into(), value);
        }
    }
}

/// What a field holds that nobody set.
fn absent(field: &Field) -> Value {
    if field.pointer { Value::Null } else { zero(&field.shape) }
}

/// Go's zero value of a type, encoded.
pub(crate) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => Value::from(""),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::SchemaOrBool => Value::Bool(false),
        Shape::Struct(id) => assemble(id.get(), Found::default()),
        Shape::Bytes
        | Shape::Any
        | Shape::Time
        | Shape::MicroTime
        | Shape::FieldsV1
        | Shape::Raw
        | Shape::Json
        | Shape::SchemaOrArray
        | Shape::SchemaOrStrings
        | Shape::List(_)
        | Shape::Wrapped(_)
        | Shape::Map(_) => Value::Null,
    }
}

/// Whether `omitempty` or `omitzero` drops the value. Structs are never empty to `omitempty`.
pub(crate) fn left_out(field: &Field, value: &Value) -> bool {
    if field.omitzero && !field.pointer && *value == zero(&field.shape) {
        return true;
    }
    if !field.omitempty {
        return false;
    }
    if field.pointer {
        return value.is_null();
    }
    match &field.shape {
        Shape::String | Shape::Bytes => value.as_str().is_none_or(str::is_empty),
        Shape::Bool => *value == Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 => value.as_f64() == Some(0.0),
        Shape::Any => value.is_null(),
        Shape::List(_) | Shape::Wrapped(_) => value.as_array().is_none_or(Vec::is_empty),
        Shape::Map(_) => value.as_object().is_none_or(Map::is_empty),
        _ => false,
    }
}

/// `metav1.Time` or `metav1.MicroTime` in UTC; the zero time is null.
pub(crate) fn time_value(at: Timestamp, micro: bool) -> Value {
    if at.as_second() == GO_ZERO_SECONDS && at.subsec_nanosecond() == 0 {
        return Value::Null;
    }
    Value::String(if micro { format_micro_time(at) } else { format_time(at) })
}

/// 0001-01-01T00:00:00Z, Go's zero time, in seconds since 1970.
pub(crate) const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// Reads a time as Go's `time.Parse` does with RFC 3339, or with exactly six digits after the second
/// where `micro` is set. The error has Go's words.
pub(crate) fn parse_time(text: &str, micro: bool) -> Result<Timestamp, String> {
    let layout =
        if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let cannot = |rest: &str, part: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    };
    let mut rest = text;
    for (index, (digits, name)) in
        [(4, "2006"), (2, "01"), (2, "02"), (2, "15"), (2, "04"), (2, "05")].into_iter().enumerate()
    {
        if index > 0 {
            let separator = ["-", "-", "T", ":", ":"][index - 1];
            rest = rest.strip_prefix(separator).ok_or_else(|| cannot(rest, separator))?;
        }
        let part = rest.get(..digits).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        part.ok_or_else(|| cannot(rest, name))?;
        rest = &rest[digits..];
    }
    let fraction = rest.strip_prefix('.').map(|r| r.bytes().take_while(u8::is_ascii_digit).count());
    match (micro, fraction) {
        (true, Some(6)) | (false, Some(1..)) => rest = &rest[1 + fraction.unwrap_or(0)..],
        (true, _) => return Err(cannot(rest, ".000000")),
        (false, _) => {}
    }
    let bytes = rest.as_bytes();
    let offset_fits = rest == "Z"
        || matches!(bytes, [b'+' | b'-', h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()));
    if !offset_fits {
        return Err(cannot(rest, "Z07:00"));
    }
    windlass_sdk_meta::parse_time(text).ok_or_else(|| {
        let part = |at: std::ops::Range<usize>| text[at].parse::<u8>().unwrap_or(0);
        let field = match (part(5..7), part(11..13), part(14..16), part(17..19)) {
            (0 | 13.., ..) => "month",
            (_, 24.., ..) => "hour",
            (_, _, 60.., _) => "minute",
            (.., 60..) => "second",
            _ => "day",
        };
        format!("parsing time {text:?}: {field} out of range")
    })
}

/// A quantity in its canonical spelling. The error has upstream's words.
pub(crate) fn canonical_quantity(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return Ok("0".into());
    }
    text.parse::<Quantity>().map(|q| q.to_string()).map_err(|error| error.to_string())
}

/// Reads a Go duration such as `1h15m30.5s` into nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let (unit, length) = DURATION_UNITS
            .iter()
            .find(|(name, _)| {
                rest.strip_prefix(name)
                    .is_some_and(|r| r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit()))
            })
            .ok_or_else(invalid)?;
        total += number * length;
        rest = &rest[unit.len()..];
    }
    Ok((sign * total).round() as i64)
}

const DURATION_UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Writes nanoseconds as Go's `Duration.String` does.
pub(crate) fn format_duration(nanos: i64) -> String {
    let mut out = String::new();
    let left = nanos.unsigned_abs();
    if nanos < 0 {
        out.push('-');
    }
    if left < 1_000_000_000 {
        let (unit, size) = match left {
            0 => return "0s".into(),
            1..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return out + &decimal(left, size) + unit;
    }
    let (minutes, seconds) = (left / 60_000_000_000, left % 60_000_000_000);
    if minutes >= 60 {
        // Writing to a String can't fail.
        let _ = write!(out, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(out, "{}m", minutes % 60);
    }
    out + &decimal(seconds, 1_000_000_000) + "s"
}

/// `number / size` with as many digits as it needs.
fn decimal(number: u64, size: u64) -> String {
    let digits = size.ilog10() as usize;
    let fraction = format!("{:0digits$}", number % size);
    match fraction.trim_end_matches('0') {
        "" => (number / size).to_string(),
        fraction => format!("{}.{fraction}", number / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn durations() {
        for (text, printed) in [
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1h15m30.918s", "1h15m30.918s"),
            ("1.5ms", "1.5ms"),
            ("-2us", "-2µs"),
            ("0", "0s"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed, "{text}");
        }
        assert!(parse_duration("1").is_err() && parse_duration("").is_err());
    }

    fn check(text: &str, micro: bool, expected: Expect) {
        let found = parse_time(text, micro).map(|at| time_value(at, micro).to_string());
        expected.assert_eq(&found.unwrap_or_else(|error| error));
    }

    #[test]
    fn times() {
        check("2026-11-23T17:20:00+01:00", false, expect![[r#""2026-11-23T16:20:00Z""#]]);
        check("2026-11-23T17:20:00.25Z", false, expect![[r#""2026-11-23T17:20:00Z""#]]);
        check("0001-01-01T00:00:00Z", false, expect!["null"]);
        check("2026-11-23T17:20:00.250000Z", true, expect![[r#""2026-11-23T17:20:00.250000Z""#]]);
        check(
            "2026-11-23T17:20:00Z",
            true,
            expect![[
                r#"parsing time "2026-11-23T17:20:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
            ]],
        );
        check(
            "2026-11-23",
            false,
            expect![[
                r#"parsing time "2026-11-23" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#
            ]],
        );
        check(
            "yesterday",
            false,
            expect![[
                r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#
            ]],
        );
        check(
            "2026-13-23T17:20:00Z",
            false,
            expect![[r#"parsing time "2026-13-23T17:20:00Z": month out of range"#]],
        );
        check(
            "2026-02-30T17:20:00Z",
            false,
            expect![[r#"parsing time "2026-02-30T17:20:00Z": day out of range"#]],
        );
    }
}
