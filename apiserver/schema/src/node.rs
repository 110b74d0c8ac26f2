//! A request body as it was written: JSON or YAML with every duplicate key still there, in order, so
//! that strict decoding can name them. `serde_json::Value` would silently keep the last one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// One value of a body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Reads JSON. Depth is bounded by the reader (128), size by whoever read the body.
    pub(crate) fn from_json(body: &[u8]) -> Result<Node, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// Reads one YAML document; depth and alias expansion are bounded by the reader.
    pub(crate) fn from_yaml(body: &[u8]) -> Result<Node, String> {
        serde_yaml_ng::from_slice(body).map_err(|error| error.to_string())
    }

    /// What Go's errors call a value of this form.
    pub(crate) fn go_literal(&self) -> String {
        match self {
            Node::Null => "null".into(),
            Node::Bool(_) => "bool".into(),
            Node::Int(_) | Node::Float(_) => "number".into(),
            Node::String(_) => "string".into(),
            Node::Seq(_) => "array".into(),
            Node::Map(_) => "object".into(),
        }
    }

    /// The number as it is written into an error or a quantity.
    pub(crate) fn number_text(&self) -> Option<String> {
        match self {
            Node::Int(number) => Some(number.to_string()),
            // As JSON writes it: Go shows what was sent.
            Node::Float(number) => Some(float(*number).to_string()),
            _ => None,
        }
    }

    /// The value without knowing its type: the last of duplicate keys wins.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(number) => Value::from(*number),
            Node::Float(number) => float(*number),
            Node::String(text) => Value::String(text.clone()),
            Node::Seq(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Node::Map(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (k.clone(), v.to_value())).collect())
            }
        }
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Node {
        match value {
            Value::Null => Node::Null,
            Value::Bool(value) => Node::Bool(*value),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Node::Float(number.as_f64().unwrap_or_default()), Node::Int),
            Value::String(text) => Node::String(text.clone()),
            Value::Array(items) => Node::Seq(items.iter().map(Node::from).collect()),
            Value::Object(map) => {
                Node::Map(map.iter().map(|(k, v)| (k.clone(), Node::from(v))).collect())
            }
        }
    }
}

/// A float as Go's encoder writes it: without a fraction where it has none.
pub(crate) fn float(number: f64) -> Value {
    // 2^53: above it, not every integer is a float.
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(i64::try_from(number).map_or(Node::Float(number as f64), Node::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::String(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        // YAML keys may be numbers and booleans; JSON's, and ours, are strings.
        while let Some(key) = map.next_key::<Node>()? {
            let key = match key {
                Node::String(text) => text,
                Node::Bool(value) => value.to_string(),
                Node::Null => "null".into(),
                other => other
                    .number_text()
                    .ok_or_else(|| serde::de::Error::custom("a key must be a scalar"))?,
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}
