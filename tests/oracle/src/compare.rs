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

/// Marks a place where both sides tell the same causes, and one of them tells some repeatedly.
const REPEATED: &str = " repeated";
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
        by_field(&mut body);
        let media = texts(header::CONTENT_TYPE).join(", ");
        Self(json!({"code": code, "warnings": warnings, "media": media, "body": body}))
    }

    pub fn differences(&self, theirs: &Answer) -> Vec<Difference> {
        let mut all = Vec::new();
        diff("", &told_once(&self.0), &told_once(&theirs.0), &mut all);
        if all.is_empty() && self.0 != theirs.0 {
            diff("", &self.0, &theirs.0, &mut all);
            all.iter_mut().for_each(|difference| difference.path.push_str(REPEATED));
        }
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
        // The message of a 422 is made of its causes: where these differ it says no more.
        if all.iter().any(|difference| difference.path.starts_with("body.details.causes")) {
            all.retain(|difference| difference.path != "body.message");
        }
        all.truncate(MOST_DIFFERENCES);
        all
    }
}

/// The answer with every cause once.
fn told_once(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let causes = answer.pointer_mut("/body/details/causes").and_then(Value::as_object_mut);
    for list in causes.into_iter().flat_map(|causes| causes.values_mut()) {
        if let Value::Array(list) = list {
            list.dedup();
        }
    }
    answer
}

/// The causes of a Status by their fields, so that one that only one side has is one difference.
fn by_field(body: &mut Value) {
    let Some(causes) = body.pointer_mut("/details/causes") else { return };
    let mut fields = serde_json::Map::new();
    for cause in causes.as_array().into_iter().flatten() {
        let text = |key: &str| cause[key].as_str().unwrap_or_default();
        let list = fields.entry(text("field")).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(format!("{}: {}", text("reason"), text("message")).into());
        }
    }
    *causes = Value::Object(fields);
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
    fn causes_are_compared_field_by_field() {
        let answer = |causes: Value| {
            let body = json!({"kind": "Status", "message": "m", "details": {"causes": causes}});
            let now = Timestamp::UNIX_EPOCH;
            Answer::new(422, &HeaderMap::new(), body.to_string().as_bytes(), now)
        };
        let (a, b) = (json!({"field": "a", "reason": "R"}), json!({"field": "b", "reason": "R"}));
        let found = answer(json!([b])).differences(&answer(json!([a, b])));
        let shown: Vec<String> =
            found.iter().map(|d| format!("{} {} {}", d.path, d.ours, d.theirs)).collect();
        assert_eq!(shown, ["body.details.causes.a null [\"R: \"]"]);
        let found = answer(json!([b])).differences(&answer(json!([b, b])));
        let shown: Vec<&str> = found.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(shown, ["body.details.causes.b[1] repeated"]);
    }

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
