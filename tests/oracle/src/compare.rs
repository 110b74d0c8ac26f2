//! Two answers to one request, and where they differ.

use http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::normalise;

/// What a side answered, as it is compared: code, warnings, content type and body in one tree.
pub struct Answer(pub Value);

/// One place where two answers differ; what a side lacks is null.
#[derive(Clone, Debug)]
pub struct Difference {
    /// `code`, `warnings.TEXT`, `body.spec.replicas`.
    pub path: String,
    pub ours: Value,
    pub theirs: Value,
}

/// Of one request: the rest says no more.
const MOST_DIFFERENCES: usize = 40;

impl Answer {
    pub fn new(code: u16, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Self {
        let texts = |name: header::HeaderName| -> Vec<String> {
            let values = headers.get_all(name).iter();
            values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
        };
        // A set: one that only one side has is one difference.
        let warnings: serde_json::Map<String, Value> = texts(header::WARNING)
            .iter()
            .map(|text| (normalise::text(text, now), Value::Bool(true)))
            .collect();
        let mut body = serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()));
        normalise::normalise(&mut body, now);
        let media = texts(header::CONTENT_TYPE).join(", ");
        Self(json!({"code": code, "warnings": warnings, "media": media, "body": body}))
    }

    pub fn differences(&self, theirs: &Answer) -> Vec<Difference> {
        let mut all = Vec::new();
        diff("", &self.0, &theirs.0, &mut all);
        // A status besides an object differs in everything: what is told is the answer as such.
        if all.iter().any(|difference| difference.path == "code") {
            let kind = |answer: &Value| answer["body"]["kind"].clone();
            if kind(&self.0) != kind(&theirs.0) {
                all.retain(|difference| difference.path == "code");
                all.push(Difference {
                    path: "body".into(),
                    ours: brief(&self.0["body"]),
                    theirs: brief(&theirs.0["body"]),
                });
            }
        }
        all.truncate(MOST_DIFFERENCES);
        all
    }
}

/// A Status by its message; an object by its kind.
fn brief(body: &Value) -> Value {
    match body["kind"].as_str() {
        Some("Status") => body["message"].clone(),
        Some(kind) => Value::from(kind),
        None => body.clone(),
    }
}

fn diff(path: &str, ours: &Value, theirs: &Value, all: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let more = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(more) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                // An absent field isn't null.
                if a.contains_key(key) == b.contains_key(key) {
                    diff(&path, &of(a), &of(b), all);
                } else {
                    all.push(Difference { path, ours: of(a), theirs: of(b) });
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                let of = |list: &[Value]| list.get(at).cloned().unwrap_or_default();
                diff(&format!("{path}[{at}]"), &of(a), &of(b), all);
            }
        }
        _ if ours == theirs => {}
        _ => {
            all.push(Difference { path: path.into(), ours: ours.clone(), theirs: theirs.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_answers_differ() {
        let ours = Answer(json!({"code": 200, "body": {"kind": "A", "x": [1, 2], "y": null}}));
        let theirs = Answer(json!({"code": 200, "body": {"kind": "A", "x": [1, 3, 4]}}));
        let shown: Vec<String> = ours
            .differences(&theirs)
            .iter()
            .map(|d| format!("{} {} {}", d.path, d.ours, d.theirs))
            .collect();
        assert_eq!(shown, ["body.x[1] 2 3", "body.x[2] null 4", "body.y null null"]);
    }
}
