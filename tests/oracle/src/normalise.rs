//! Takes out of an answer what no two servers have alike: uids, times, revisions, addresses and
//! names that were drawn. What stands in for them still tells that something was there.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use regex::{Captures, Regex};
use serde_json::Value;

/// A time this near to now was set by a server; others came with the request.
const NOW: SignedDuration = SignedDuration::from_hours(3);

/// Who writes to objects beside their clients: upstream's server itself, whenever it gets to it.
const OF_THE_SERVER: [&str; 2] = ["api-priority-and-fairness-config-consumer", "kube-apiserver"];

// The patterns are constants that the test below compiles.
static UID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"));
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| regex(r"\b10\.96\.\d{1,3}\.\d{1,3}\b"));
static NODE_PORT: LazyLock<Regex> = LazyLock::new(|| regex(r"\b3[0-2]\d{3}\b"));
static TOKEN_VOLUME: LazyLock<Regex> = LazyLock::new(|| regex(r"kube-api-access-[a-z0-9]{5}\b"));
static AGE: LazyLock<Regex> = LazyLock::new(|| regex(r"^\d{1,3}s$"));
static ADDRESS_LEFT: LazyLock<Regex> = LazyLock::new(|| regex(r"resourceVersion: \d+"));
static IN_RECORD: LazyLock<Regex> = LazyLock::new(|| regex(r"in record \(\d+\)"));
static IN_META: LazyLock<Regex> = LazyLock::new(|| regex(r"ResourceVersion in object meta: \d+"));
/// A generated name in a text; the corpus has one base.
static GENERATED: LazyLock<Regex> = LazyLock::new(|| regex(r"\bgen-[a-z0-9]{5}\b"));
/// Behind a refused change, upstream prints a diff of Go structs whose form changes from build to
/// build, and ours the members that differ: only that there is such a text is compared.
static REFUSED_CHANGE: LazyLock<Regex> = LazyLock::new(|| {
    let told = [
        "may not change fields other than [^\\n]*",
        "ephemeral containers \"[^\\n]*\" may not be changed",
        "spec is immutable after creation except [^\\n]*",
        "spec.persistentvolumesource is immutable after creation",
        "updates may not modify a condition of type [^\\n]*",
    ];
    regex(&format!(r"(?s)({})\n.*", told.join("|")))
});

#[allow(clippy::expect_used, reason = "constants, compiled by a test")]
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

pub fn normalise(answer: &mut Value, now: Timestamp) {
    walk(answer, "", now);
}

/// The same in a text that stands alone, such as a header.
pub fn text(text: &str, now: Timestamp) -> String {
    let text = UID.replace_all(text, "UID");
    let text =
        TIME.replace_all(&text, |found: &Captures<'_>| match found[0].parse::<Timestamp>() {
            Ok(time) if time.duration_since(now).abs() < NOW => "NOW".to_owned(),
            _ => found[0].to_owned(),
        });
    let text = ADDRESS.replace_all(&text, "SERVICE-IP");
    let text = ADDRESS_LEFT.replace_all(&text, "resourceVersion: RV");
    let text = IN_RECORD.replace_all(&text, "in record (RV)");
    let text = IN_META.replace_all(&text, "ResourceVersion in object meta: RV");
    let text = GENERATED.replace_all(&text, "gen-XXXXX");
    let text = REFUSED_CHANGE.replace(&text, "$1\nDIFF");
    TOKEN_VOLUME.replace_all(&text, "kube-api-access-XXXXX").into_owned()
}

fn walk(value: &mut Value, key: &str, now: Timestamp) {
    match value {
        Value::String(found) if !found.is_empty() => match key {
            "resourceVersion" => *found = "RV".into(),
            "continue" => *found = "CONTINUE".into(),
            "message" => *found = NODE_PORT.replace_all(&text(found, now), "NODE-PORT").into(),
            "cells" if AGE.is_match(found) => *found = "AGE".into(),
            _ => *found = text(found, now),
        },
        Value::Number(_) if matches!(key, "nodePort" | "healthCheckNodePort") => {
            *value = "NODE-PORT".into();
        }
        Value::Array(list) => {
            if key == "managedFields" {
                list.retain(|entry| {
                    let manager = entry["manager"].as_str().unwrap_or_default();
                    !OF_THE_SERVER.iter().any(|name| manager.starts_with(name))
                });
            }
            list.iter_mut().for_each(|item| walk(item, key, now));
            // Upstream tells rules in the order in which a hash map has their bindings.
            if ["causes", "resourceRules", "nonResourceRules"].contains(&key) {
                list.sort_by_key(Value::to_string);
            }
        }
        Value::Object(map) => {
            generated_name(map);
            map.iter_mut().for_each(|(key, value)| walk(value, key, now));
            if map.get("reason").is_some_and(|reason| reason == "Invalid") {
                in_any_order(map);
            }
        }
        _ => {}
    }
}

/// The random end of a name that was made from `generateName`.
fn generated_name(map: &mut serde_json::Map<String, Value>) {
    let base = map.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
    if !base.is_empty() && name.starts_with(&base) && name.len() == base.len() + 5 {
        map.insert("name".into(), format!("{base}XXXXX").into());
    }
}

/// The message of a 422 lists the causes in the order in which they were found: where it has
/// several, they are compared sorted, as the causes are.
fn in_any_order(map: &mut serde_json::Map<String, Value>) {
    let causes = map.get("details").and_then(|details| details["causes"].as_array());
    let Some(causes) = causes.filter(|causes| causes.len() > 1) else { return };
    let line = |cause: &Value| {
        let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("field"), text("message"))
    };
    let mut lines: Vec<String> = causes.iter().map(line).collect();
    lines.sort();
    // The message tells a repeated cause once.
    lines.dedup();
    let Some(message) = map.get("message").and_then(Value::as_str) else { return };
    let head = message.split_once(" is invalid: ").map_or(message, |(head, _)| head);
    let sorted = format!("{head} is invalid: {}", lines.join(", "));
    map.insert("message".into(), sorted.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_two_servers_have_alike() {
        let mut answer = json!({
            "metadata": {
                "generateName": "a-", "name": "a-x1y2z", "resourceVersion": "17",
                "uid": "0b0a1c1e-1111-4222-8333-944444444444",
                "creationTimestamp": "2026-11-28T18:00:00Z",
            },
            "spec": {"clusterIP": "10.96.3.4", "ports": [{"nodePort": 31000}], "at": "2020-01-01T00:00:00Z"},
        });
        normalise(&mut answer, "2026-11-28T18:00:05Z".parse().unwrap());
        expect_test::expect![[r#"{"metadata":{"generateName":"a-","name":"a-XXXXX","resourceVersion":"RV","uid":"UID","creationTimestamp":"NOW"},"spec":{"clusterIP":"SERVICE-IP","ports":[{"nodePort":"NODE-PORT"}],"at":"2020-01-01T00:00:00Z"}}"#]]
        .assert_eq(&answer.to_string());
    }

    #[test]
    fn a_refused_change_keeps_what_it_says() {
        let of = |text_: &str| text(text_, Timestamp::UNIX_EPOCH);
        let start = "spec: Forbidden: pod updates may not change fields other than `a`,`b`";
        assert_eq!(of(&format!("{start}\n  core.PodSpec{{\n+ x\n")), format!("{start}\nDIFF"));
        assert_eq!(
            of("data: Forbidden: field is immutable\nx"),
            "data: Forbidden: field is immutable\nx"
        );
    }

    #[test]
    fn causes_in_any_order() {
        let mut answer = json!({
            "reason": "Invalid",
            "message": "Pod \"a\" is invalid: [spec.b: Required value, spec.a: Required value]",
            "details": {"causes": [
                {"field": "spec.b", "message": "Required value"},
                {"field": "spec.a", "message": "Required value"},
            ]},
        });
        normalise(&mut answer, Timestamp::UNIX_EPOCH);
        assert_eq!(
            answer["message"],
            "Pod \"a\" is invalid: spec.a: Required value, spec.b: Required value"
        );
        assert_eq!(answer["details"]["causes"][0]["field"], "spec.a");
    }
}
