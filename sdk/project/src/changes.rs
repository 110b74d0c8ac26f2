//! What an apply would change, as few lines: the object as it is beside the server's answer to a
//! dry run.

use serde_json::Value;

/// Fields that every write changes, or that aren't the person's.
const NOT_TOLD: [&str; 7] = [
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.annotations.deployment.kubernetes.io/revision",
    "status",
];
/// A longer value is cut.
const MOST_VALUE_CHARS: usize = 80;

/// One line a difference: `+` added, `-` removed, `~` another value. Empty: nothing changes.
pub fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", Some(before), Some(after), &mut lines);
    lines
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    if NOT_TOLD.contains(&path) || before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in new.keys().chain(gone) {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&below, old.get(key), new.get(key), lines);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            let keys = |list: &[Value]| list.iter().enumerate().map(key).collect::<Vec<_>>();
            let (old_keys, new_keys) = (keys(old), keys(new));
            let find = |keys: &[String], list: &'_ [Value], key: &str| {
                keys.iter().position(|known| known == key).map(|at| list[at].clone())
            };
            let gone = old_keys.iter().filter(|key| !new_keys.contains(key));
            for key in new_keys.iter().chain(gone) {
                let (was, is) = (find(&old_keys, old, key), find(&new_keys, new, key));
                compare(&format!("{path}[{key}]"), was.as_ref(), is.as_ref(), lines);
            }
        }
        (Some(old), Some(new)) => lines.push(format!("~ {path}: {} -> {}", short(old), short(new))),
        (None, Some(new)) => lines.push(format!("+ {path}: {}", short(new))),
        (Some(old), None) => lines.push(format!("- {path}: {}", short(old))),
        (None, None) => {}
    }
}

/// Items that have names are compared by them, others by their places.
fn key((place, item): (usize, &Value)) -> String {
    item["name"].as_str().map_or_else(|| place.to_string(), str::to_owned)
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_VALUE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(before: Value, after: Value, expected: Expect) {
        expected.assert_eq(&changes(&before, &after).join("\n"));
    }

    #[test]
    fn a_line_for_each_difference() {
        let container = |name: &str, image: &str| json!({"name": name, "image": image});
        check(
            json!({"metadata": {"name": "cart", "resourceVersion": "1"}, "status": {"a": 1},
                "spec": {"replicas": 1, "paused": true,
                    "containers": [container("old", "o:1"), container("main", "m:1")],
                    "args": ["a", "b"]}}),
            json!({"metadata": {"name": "cart", "resourceVersion": "2", "labels": {"a": "b"}},
                "status": {"a": 2},
                "spec": {"replicas": 2,
                    "containers": [container("main", "m:2"), container("new", "n:1")],
                    "args": ["a"]}}),
            expect![[r#"
                + metadata.labels: {"a":"b"}
                ~ spec.replicas: 1 -> 2
                ~ spec.containers[main].image: "m:1" -> "m:2"
                + spec.containers[new]: {"name":"new","image":"n:1"}
                - spec.containers[old]: {"name":"old","image":"o:1"}
                - spec.args[1]: "b"
                - spec.paused: true"#]],
        );
    }

    #[test]
    fn what_every_write_changes_is_no_change() {
        check(
            json!({"metadata": {"generation": 1, "managedFields": []}}),
            json!({"metadata": {"generation": 2, "managedFields": [1]}, "status": {}}),
            expect![[""]],
        );
        check(
            json!({"data": "short"}),
            json!({"data": "x".repeat(200)}),
            expect![[
                r#"~ data: "short" -> "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."#
            ]],
        );
    }
}
