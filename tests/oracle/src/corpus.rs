//! The data files: an example of every kind, and cases written by hand.

use anyhow::{Context, bail};
use serde::Deserialize as _;
use serde_json::Value;
use windlass_apiserver_schema::{ResourceFacts, Schema};

use crate::session::{Session, Step};

/// Examples, in the order of the report.
const OBJECTS: [(&str, &str); 8] = [
    ("core", include_str!("../corpus/objects/core.yaml")),
    ("pod", include_str!("../corpus/objects/pod.yaml")),
    ("apps", include_str!("../corpus/objects/apps.yaml")),
    ("batch", include_str!("../corpus/objects/batch.yaml")),
    ("networking", include_str!("../corpus/objects/networking.yaml")),
    ("rbac", include_str!("../corpus/objects/rbac.yaml")),
    ("policy", include_str!("../corpus/objects/policy.yaml")),
    ("rest", include_str!("../corpus/objects/rest.yaml")),
];

const WRITTEN: [(&str, &str); 4] = [
    ("cases", include_str!("../corpus/cases/cases.yaml")),
    ("expressions", include_str!("../corpus/cases/expressions.yaml")),
    ("reviews", include_str!("../corpus/cases/reviews.yaml")),
    ("versions", include_str!("../corpus/cases/versions.yaml")),
];

/// A kind and its examples: the first is the smallest valid object, the others say more.
pub struct Row {
    /// As the report calls it: two kinds have the name Event.
    pub kind: String,
    pub group: String,
    pub version: String,
    pub plural: String,
    pub facts: &'static ResourceFacts,
    pub examples: Vec<Value>,
}

impl Row {
    /// Where objects of the kind are listed and created.
    pub fn collection(&self) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match self.facts.namespaced {
            true => format!("{root}/namespaces/{{ns}}/{}", self.plural),
            false => format!("{root}/{}", self.plural),
        }
    }

    pub fn subresources(&self) -> impl Iterator<Item = &'static ResourceFacts> {
        Schema::builtin().resources().iter().filter(|facts| {
            facts.group == self.group
                && facts.version == self.version
                && facts.plural == self.plural
                && facts.subresource.is_some()
        })
    }
}

/// All kinds that have an example, those only that are named where some are.
pub fn rows(wanted: &[String]) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for (file, text) in OBJECTS {
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            let object = Value::deserialize(document).with_context(|| format!("{file}.yaml"))?;
            if !object.is_null() {
                add(&mut rows, object).with_context(|| format!("{file}.yaml"))?;
            }
        }
    }
    for name in wanted {
        let known = |row: &Row| is(row, name);
        if !rows.iter().any(known) && name != crate::discovery::KIND {
            bail!("no kind, plural name or group {name:?} in the corpus");
        }
    }
    rows.retain(|row| wanted.is_empty() || wanted.iter().any(|name| is(row, name)));
    Ok(rows)
}

fn is(row: &Row, name: &str) -> bool {
    let group = if row.group.is_empty() { "core" } else { &row.group };
    let short = group.split('.').next().unwrap_or(group);
    let kind = row.kind.split('.').next().unwrap_or(&row.kind);
    name == row.kind || name == kind || name == row.plural || name == group || name == short
}

fn add(rows: &mut Vec<Row>, object: Value) -> anyhow::Result<()> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let facts = Schema::builtin().resources().iter().find(|facts| {
        facts.group == group
            && facts.version == version
            && facts.kind == kind
            && facts.subresource.is_none()
    });
    let facts = facts.with_context(|| format!("no kind {kind} in {api_version}"))?;
    let of =
        |row: &&mut Row| row.group == group && row.version == version && row.facts.kind == kind;
    if let Some(row) = rows.iter_mut().find(of) {
        row.examples.push(object);
        return Ok(());
    }
    let twice = rows.iter().any(|row| row.facts.kind == kind);
    rows.push(Row {
        kind: if twice { format!("{kind}.{version}.{group}") } else { kind },
        group: group.into(),
        version: version.into(),
        plural: facts.plural.into(),
        facts,
        examples: vec![object],
    });
    Ok(())
}

/// `cases/*.yaml`: a list of sessions.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    case: String,
    steps: Vec<WrittenStep>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    /// `METHOD /path`
    send: String,
    /// A patch type or a media type.
    #[serde(default)]
    r#as: String,
    #[serde(default)]
    accept: String,
    #[serde(default)]
    body: Value,
    /// A body that is no JSON.
    #[serde(default)]
    text: String,
}

/// The cases written for a kind.
pub fn written(kind: &str) -> anyhow::Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for (file, text) in WRITTEN {
        let cases: Vec<Written> =
            serde_yaml_ng::from_str(text).with_context(|| format!("{file}.yaml"))?;
        for case in cases.into_iter().filter(|case| case.kind == kind) {
            let steps = case
                .steps
                .into_iter()
                .enumerate()
                .map(|(at, step)| written_step(&format!("{} #{}", case.case, at + 1), step));
            let steps = steps.collect::<Result<_, _>>()?;
            sessions.push(Session { kind: case.kind, steps });
        }
    }
    Ok(sessions)
}

fn written_step(label: &str, written: WrittenStep) -> anyhow::Result<Step> {
    let (method, path) = written.send.split_once(' ').context("METHOD /path")?;
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let method = methods.into_iter().find(|known| *known == method).context(method.to_owned())?;
    let mut step = Step::new(format!("{label} {}", written.send), method, path);
    if !written.accept.is_empty() {
        step = step.accept(&written.accept);
    }
    step.media = media(&written.r#as)?;
    if !written.text.is_empty() {
        step.body = crate::session::Body::Text(written.text);
    } else if !written.body.is_null() {
        step.body = crate::session::Body::Object(written.body);
    }
    Ok(step)
}

fn media(name: &str) -> anyhow::Result<&'static str> {
    Ok(match name {
        "" => crate::session::JSON,
        "yaml" => "application/yaml",
        "json" => crate::lifecycle::JSON_PATCH,
        "merge" => crate::lifecycle::MERGE,
        "strategic" => crate::lifecycle::STRATEGIC,
        "apply" => crate::lifecycle::APPLY,
        "text" => "text/plain",
        other => bail!("no body type {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_can_be_read() {
        for row in rows(&[]).unwrap() {
            written(&row.kind).unwrap();
        }
    }
}
