//! Differences grouped by what they have in common, so that the most frequent cause is mended first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

use crate::compare::Difference;

/// Groups that are printed: the rest is in the file of `--json`.
const MOST_PRINTED: usize = 60;
const MOST_TEXT_CHARS: usize = 160;

// The patterns are constants that the test below compiles.
static INDEX: LazyLock<Regex> = LazyLock::new(|| regex(r"\[[^\]]*\]"));
static TEMPLATE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\bspec\.(jobTemplate\.spec\.)?template\."));
static QUOTED: LazyLock<Regex> = LazyLock::new(|| regex(r#""(\\.|[^"\\])*""#));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| regex(r"-?\b\d+(\.\d+)?\b"));

#[allow(clippy::expect_used, reason = "constants, compiled by a test")]
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Requests that differ, by the signature of their leading difference.
#[derive(Default)]
pub struct Signatures(BTreeMap<String, Group>);

#[derive(Default)]
struct Group {
    requests: usize,
    kinds: BTreeSet<String>,
    /// The first request, to look at.
    example: String,
}

impl Signatures {
    /// Counts a request by its differences, which are some.
    pub fn add(&mut self, kind: &str, label: &str, differences: &[Difference]) {
        let group = self.0.entry(signature(differences)).or_default();
        group.requests += 1;
        group.kinds.insert(kind.to_owned());
        if group.example.is_empty() {
            group.example = format!("{kind}: {label}");
        }
    }

    /// The most frequent groups, one a line.
    pub fn print(&self) {
        let mut groups: Vec<(&String, &Group)> = self.0.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.requests));
        for (signature, group) in groups.iter().take(MOST_PRINTED) {
            let kinds = group.kinds.len();
            println!("{:6} ({kinds} kinds) {signature}\n       {}", group.requests, group.example);
        }
        let rest: usize = groups.iter().skip(MOST_PRINTED).map(|(_, group)| group.requests).sum();
        if rest > 0 {
            println!("{rest:6} of {} other causes", groups.len() - MOST_PRINTED);
        }
    }
}

/// What the leading difference of a request has in common with others: where it is without the
/// places in lists, and both values without what was sent. Another code leads, then all but the
/// message, which mostly repeats the rest.
fn signature(differences: &[Difference]) -> String {
    let code = differences.iter().find(|difference| difference.path == "code");
    let other = |difference: &&Difference| difference.path != "code";
    let first = differences
        .iter()
        .filter(other)
        .find(|difference| difference.path != "body.message")
        .or_else(|| differences.iter().find(other));
    let codes = code.map(|code| format!("code {} / {} ", code.ours, code.theirs));
    let rest = first.map(|first| {
        format!("{}: {} / {}", place(&first.path), value(&first.ours), value(&first.theirs))
    });
    codes.unwrap_or_default() + &rest.unwrap_or_default()
}

fn place(path: &str) -> String {
    TEMPLATE.replace_all(&INDEX.replace_all(path, "[*]"), "").into_owned()
}

fn value(value: &Value) -> String {
    let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let text = match texts.as_slice() {
        [] => value.to_string(),
        texts => QUOTED.replace_all(&texts.join(" | "), "\"…\"").into_owned(),
    };
    let text = NUMBER.replace_all(&place(&text), "N").into_owned();
    let short: String = text.chars().take(MOST_TEXT_CHARS).collect();
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_with_one_cause_have_one_signature() {
        let of = |path: &str, ours: Value| {
            signature(&[
                Difference { path: "body.message".into(), ours: json!("x"), theirs: json!("y") },
                Difference { path: path.into(), ours, theirs: Value::Null },
            ])
        };
        let one = of("body.spec.template.spec.a[1].b", json!("Invalid value: \"a\": at most 5"));
        assert_eq!(one, "body.spec.a[*].b: Invalid value: \"…\": at most N / null");
        assert_eq!(one, of("body.spec.a[22].b", json!("Invalid value: \"b\": at most 66")));
    }
}
