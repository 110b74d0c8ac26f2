//! Differences on purpose: a short list with reasons, in `corpus/purpose.yaml`.

use anyhow::Context;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::compare::Difference;

const FILE: &str = include_str!("../corpus/purpose.yaml");

/// One reason, and the differences that it explains: those that every given pattern matches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    reason: String,
    /// Patterns match anywhere; empty ones match all.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    ours: String,
    #[serde(default)]
    theirs: String,
}

/// The list, compiled.
pub struct Purposes(Vec<Purpose>);

struct Purpose {
    kind: Regex,
    label: Regex,
    path: Regex,
    ours: Regex,
    theirs: Regex,
}

impl Purposes {
    pub fn load() -> anyhow::Result<Self> {
        let entries: Vec<Entry> = serde_yaml_ng::from_str(FILE).context("corpus/purpose.yaml")?;
        let compile = |entry: &Entry| -> anyhow::Result<Purpose> {
            anyhow::ensure!(!entry.reason.is_empty(), "an entry of purpose.yaml has no reason");
            Ok(Purpose {
                kind: Regex::new(&entry.kind)?,
                label: Regex::new(&entry.label)?,
                path: Regex::new(&entry.path)?,
                ours: Regex::new(&entry.ours)?,
                theirs: Regex::new(&entry.theirs)?,
            })
        };
        Ok(Self(entries.iter().map(compile).collect::<Result<_, _>>()?))
    }

    pub fn explain(&self, kind: &str, label: &str, difference: &Difference) -> bool {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (ours, theirs) = (text(&difference.ours), text(&difference.theirs));
        self.0.iter().any(|purpose| {
            purpose.kind.is_match(kind)
                && purpose.label.is_match(label)
                && purpose.path.is_match(&difference.path)
                && purpose.ours.is_match(&ours)
                && purpose.theirs.is_match(&theirs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_read() {
        let purposes = Purposes::load().unwrap();
        let other = Difference { path: "code".into(), ours: 200.into(), theirs: 422.into() };
        assert!(!purposes.explain("Pod", "create", &other));
    }
}
