//! What a client applies (server-side apply): only what its body names counts, so nothing is filled in.

use serde_json::Value;

use crate::{
    decode::{DecodeError, Decoded, FieldValidation, Format, Target, decode},
    node::Node,
};

/// Reads what a client applies (YAML, or JSON, which is YAML too): what is named in the body and
/// nothing else, nulls included, with quantities and times in their canonical spelling. Fields that
/// the type doesn't have stay, for whoever applies it to refuse.
///
/// # Errors
/// As [`decode`].
pub fn decode_config(
    body: &[u8],
    target: &Target<'_>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let mut decoded = decode(body, Format::Yaml, target, validation)?;
    if let Ok(node) = Node::from_yaml(body) {
        decoded.value = named_in(decoded.value, node.to_value());
    }
    Ok(decoded)
}

/// What of `decoded` is named in the body it was decoded from.
fn named_in(decoded: Value, named: Value) -> Value {
    match (decoded, named) {
        (Value::Object(mut decoded), Value::Object(named)) => {
            let member = |(key, named): (String, Value)| {
                let value = match decoded.remove(&key) {
                    Some(decoded) => named_in(decoded, named),
                    // Go leaves it out, because it is empty, or doesn't know it.
                    None => named,
                };
                (key, value)
            };
            Value::Object(named.into_iter().map(member).collect())
        }
        (Value::Array(decoded), Value::Array(named)) if decoded.len() == named.len() => {
            let items = decoded.into_iter().zip(named);
            Value::Array(items.map(|(decoded, named)| named_in(decoded, named)).collect())
        }
        (_, Value::Null) => Value::Null,
        (decoded, _) => decoded,
    }
}
