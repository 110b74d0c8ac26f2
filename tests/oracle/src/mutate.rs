//! The generator: every field that a kind's types have, with values that are wrong, missing, at a
//! bound or merely different, in create, update and status updates. All of them are dry runs, so
//! that no request depends on another. How many there are is bounded three ways: a field of a type
//! is tried in one place only, with at most `MOST_VALUES` values, and what many kinds share is tried
//! whole in one kind and in samples in the others.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::{Value, json};
use windlass_apiserver_schema::{Field, Shape, Type};

use crate::{
    corpus::Row,
    ops::{self, Op, Segment},
    session::{Session, Step},
};

/// Structs inside structs that the example lacks.
const DEEPEST_ABSENT: usize = 2;
/// Pod templates are in many kinds: outside Pod one probe in so many is tried.
const TEMPLATE_SAMPLE: u64 = 12;
/// Metadata is of one type and has one set of rules: it is tried whole for these kinds.
const WHOLE_METADATA: [&str; 3] = ["ConfigMap", "Namespace", "Pod"];
const METADATA_SAMPLE: u64 = 6;
/// Values that a field is tried with; each makes a create and an update.
const MOST_VALUES: usize = 32;
/// A session's requests run one after the other: long lists of them are cut for concurrency.
const REQUESTS_A_SESSION: usize = 400;

/// A change of one field, and what it is about.
#[derive(Clone)]
struct Probe {
    label: String,
    op: Op,
    /// No decoder takes it: one verb suffices.
    undecodable: bool,
}

/// Generated sessions of a kind.
pub fn sessions(row: &Row) -> Vec<Session> {
    let mut all = Vec::new();
    let Some(ty) = row_type(row) else { return all };
    let mut seen = BTreeSet::new();
    for (number, example) in row.examples.iter().enumerate() {
        let mut walk = Walk { row, seen: &mut seen, probes: Vec::new() };
        walk.structure(ty, Some(example), &mut Vec::new(), ("", ""), 0);
        let probes = std::mem::take(&mut walk.probes);
        all.extend(sessions_of(row, number, example, &probes));
    }
    all
}

fn row_type(row: &Row) -> Option<&'static Type> {
    let schema = windlass_apiserver_schema::Schema::builtin();
    schema.kind(&row.group, &row.version, row.facts.kind)
}

fn sessions_of(row: &Row, number: usize, example: &Value, probes: &[Probe]) -> Vec<Session> {
    let session = |steps| Session { kind: row.kind.clone(), steps };
    let collection = row.collection();
    let creates = probes.iter().filter(|probe| !in_status(probe)).map(|probe| {
        let mut object = example.clone();
        ops::apply(&mut object, &probe.op);
        let label = format!("create {number} {}", probe.label);
        let path = format!("{collection}?dryRun=All&fieldValidation=Strict");
        Step::new(label, "POST", path).object(object)
    });
    let creates: Vec<Step> = creates.collect();
    let mut all: Vec<Session> =
        creates.chunks(REQUESTS_A_SESSION).map(|steps| session(steps.to_vec())).collect();
    if !row.facts.verbs.contains(&"update") {
        return all;
    }
    let name = example["metadata"]["name"].as_str().unwrap_or_default();
    let object = format!("{collection}/{name}");
    let store =
        Step::new(format!("create {number}"), "POST", &collection).object(example.clone()).set_up();
    let remove =
        Step::new(format!("delete {number}"), "DELETE", format!("{object}?gracePeriodSeconds=0"))
            .set_up();
    let update = |of: &'static str, status: bool| {
        let to = if status { format!("{object}/status") } else { object.clone() };
        let wanted = move |probe: &&Probe| !probe.undecodable && in_status(probe) == status;
        let steps = probes.iter().filter(wanted).map(move |probe| {
            let label = format!("{of} {number} {}", probe.label);
            Step::new(label, "PUT", format!("{to}?dryRun=All")).last(vec![probe.op.clone()])
        });
        steps.collect::<Vec<_>>()
    };
    let mut changes = update("update", false);
    if row.subresources().any(|sub| sub.subresource == Some("status")) {
        changes.extend(update("status", true));
    }
    // All changes start from one stored object; a cluster-wide name can be there once only.
    let part = if row.facts.namespaced { REQUESTS_A_SESSION } else { usize::MAX };
    for steps in changes.chunks(part.min(changes.len().max(1))) {
        let mut list = vec![store.clone()];
        list.extend(steps.iter().cloned());
        list.push(remove.clone());
        all.push(session(list));
    }
    all
}

fn in_status(probe: &Probe) -> bool {
    probe.label.starts_with("status")
}

struct Walk<'a> {
    row: &'a Row,
    /// What was probed: the same type in the same field of the same parent is probed once.
    seen: &'a mut BTreeSet<(String, String, String, bool)>,
    probes: Vec<Probe>,
}

impl Walk<'_> {
    /// All fields of a struct. `of` is the type and field that hold it, `absent` how many structs
    /// around this one the example lacks.
    fn structure(
        &mut self,
        ty: &'static Type,
        value: Option<&Value>,
        path: &mut Vec<Segment>,
        of: (&str, &str),
        absent: usize,
    ) {
        for field in ty.properties() {
            let found = value.and_then(|value| value.get(field.json));
            if path.is_empty() && ["apiVersion", "kind"].contains(&field.json) {
                continue;
            }
            path.push(Segment::Key(field.json.to_owned()));
            let key = (
                format!("{}.{}", of.0, of.1),
                ty.name.to_owned(),
                field.json.to_owned(),
                found.is_some(),
            );
            if self.seen.insert(key) {
                self.field(field, found, path);
            }
            self.inside(ty, field, found, path, absent);
            path.pop();
        }
        let unknown = (String::new(), ty.name.to_owned(), "?".to_owned(), false);
        if self.seen.insert(unknown) {
            path.push(Segment::Key("bogusField".into()));
            self.push("unknown", Op::Set(path.clone(), json!(1)), true);
            path.pop();
        }
    }

    /// Goes down into the structs of a field.
    fn inside(
        &mut self,
        ty: &'static Type,
        field: &'static Field,
        found: Option<&Value>,
        path: &mut Vec<Segment>,
        absent: usize,
    ) {
        let absent = absent + usize::from(found.is_none());
        let Some(target) = field.target().filter(|_| absent <= DEEPEST_ABSENT) else { return };
        // A type that holds itself (JSON schemas) is looked at once.
        let depth = path.len();
        if depth > 24 {
            return;
        }
        let of = (ty.name, field.json);
        match &field.shape {
            Shape::Struct(_) => self.structure(target, found, path, of, absent),
            Shape::List(_) | Shape::Wrapped(_) => {
                let items = found.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for at in 0..items.len().max(1) {
                    path.push(Segment::Index(at));
                    self.structure(target, items.get(at), path, of, absent);
                    path.pop();
                }
            }
            Shape::Map(_) => {
                let map = found.and_then(Value::as_object);
                let first = map.and_then(|map| map.iter().next());
                path.push(Segment::Key(first.map_or("key".into(), |(key, _)| key.clone())));
                self.structure(target, first.map(|(_, value)| value), path, of, absent);
                path.pop();
            }
            _ => {}
        }
    }

    fn field(&mut self, field: &'static Field, found: Option<&Value>, path: &[Segment]) {
        if found.is_some() {
            self.push("removed", Op::Remove(path.to_vec()), false);
            self.push("null", Op::Set(path.to_vec(), Value::Null), false);
            if found.and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
                self.push("repeated", Op::Repeat(path.to_vec()), false);
            }
        }
        for (value, undecodable) in values(field, &field.shape).into_iter().take(MOST_VALUES) {
            if found != Some(&value) {
                let label = format!("= {}", shorten(&value));
                self.push(&label, Op::Set(path.to_vec(), value), undecodable);
            }
        }
    }

    /// What many kinds share is tried whole for one of them, and in samples for the others.
    fn sampled(&self, label: &str, path: &str) -> bool {
        let kind = self.row.kind.as_str();
        let in_template = path.contains("template.spec") || path.contains("template.metadata");
        if in_template && kind != "Pod" {
            return in_sample(kind, label, TEMPLATE_SAMPLE);
        }
        let in_metadata = path.starts_with("metadata.");
        !in_metadata || WHOLE_METADATA.contains(&kind) || in_sample(kind, label, METADATA_SAMPLE)
    }

    fn push(&mut self, what: &str, op: Op, undecodable: bool) {
        let (Op::Set(path, _) | Op::Remove(path) | Op::Repeat(path)) = &op;
        let shown = ops::show(path);
        let label = format!("{shown} {what}");
        if !self.sampled(&label, &shown) {
            return;
        }
        self.probes.push(Probe { label, op, undecodable });
    }
}

/// One label in so many, the same ones in every run.
fn in_sample(kind: &str, label: &str, one_in: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    (kind, label).hash(&mut hasher);
    hasher.finish().is_multiple_of(one_in)
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 60 { format!("{}...({})", &text[..40], text.len()) } else { text }
}

/// What a field of that shape is tried with, and whether no decoder takes it.
fn values(field: &Field, shape: &Shape) -> Vec<(Value, bool)> {
    let taken = |list: Vec<Value>| list.into_iter().map(|value| (value, false)).collect::<Vec<_>>();
    let mut all = match shape {
        Shape::String => taken(strings(field)),
        Shape::Bool => taken(vec![json!(true), json!(false)]),
        Shape::Int32 | Shape::Int64 => taken(vec![json!(-1), json!(0), json!(1), json!(70000)]),
        Shape::Float64 => taken(vec![json!(-1), json!(0.5)]),
        Shape::Bytes => taken(vec![json!(""), json!("aGVsbG8=")]),
        Shape::Time | Shape::MicroTime => {
            taken(vec![json!("2026-01-02T03:04:05Z"), json!("2026-01-02T03:04:05.678901Z")])
        }
        Shape::Duration => taken(vec![json!("10s"), json!("-1s")]),
        Shape::Quantity => taken(["1", "-1", "100m", "1.5Gi"].map(Value::from).to_vec()),
        Shape::IntOrString => taken(vec![
            json!(0),
            json!(-1),
            json!(70000),
            json!("ok-name"),
            json!("Bad_Name"),
            json!(""),
            json!("50%"),
            json!("150%"),
            json!("-5%"),
        ]),
        Shape::Struct(_) => taken(vec![json!({})]),
        Shape::List(inner) | Shape::Wrapped(inner) => lists(field, inner),
        Shape::Map(inner) => maps(inner),
        Shape::Raw | Shape::Any | Shape::Json => taken(vec![json!({"a": 1})]),
        _ => Vec::new(),
    };
    all.extend(wrong(shape).into_iter().map(|value| (value, true)));
    all
}

/// Values that no decoder takes.
fn wrong(shape: &Shape) -> Vec<Value> {
    match shape {
        Shape::String => vec![json!(7)],
        Shape::Bool => vec![json!("true")],
        Shape::Int32 => vec![json!("5"), json!(1.5), json!(4_294_967_296_u64)],
        Shape::Int64 => vec![json!("5"), json!(1e30)],
        Shape::Bytes => vec![json!("!!")],
        Shape::Time | Shape::MicroTime => vec![json!("yesterday"), json!(5)],
        Shape::Duration => vec![json!("x"), json!(5)],
        Shape::Quantity => vec![json!("x"), json!(true)],
        Shape::IntOrString => vec![json!(true), json!(1.5)],
        Shape::Struct(_) | Shape::Map(_) => vec![json!("x"), json!([])],
        Shape::List(_) | Shape::Wrapped(_) => vec![json!("x"), json!({})],
        _ => Vec::new(),
    }
}

fn strings(field: &Field) -> Vec<Value> {
    let mut all: Vec<Value> = ["", "Bad_Value!", "ok-value"].map(Value::from).to_vec();
    all.push("a".repeat(300).into());
    all.extend(field.enums.iter().map(|known| Value::from(*known)));
    let name = field.json.to_lowercase();
    let table: [(&str, &[&str]); 9] = [
        ("ip", &["1.2.3.4", "fd00::1", "127.0.0.1", "010.0.0.1", "10.96.0.9"]),
        ("cidr", &["10.0.0.0/8", "10.0.0.1/8", "fd00::/64"]),
        ("path", &["/abs", "../up", "a:b", "/a/../b"]),
        ("name", &["a.b", "-a", "ok-name"]),
        ("host", &["*.example.com", "example.com", "1.2.3.4"]),
        ("image", &[" a", "a b"]),
        ("key", &["example.com/key", "/key"]),
        ("class", &["a.b/c"]),
        ("schedule", &["* * * * *", "@every 1s", "TZ=UTC * * * * *"]),
    ];
    for (part, values) in table {
        if name.contains(part) {
            all.extend(values.iter().map(|value| Value::from(*value)));
        }
    }
    all
}

fn lists(field: &Field, inner: &Shape) -> Vec<(Value, bool)> {
    let mut all = vec![(json!([]), false)];
    match inner {
        Shape::String => {
            let mut items = strings(field);
            items.push(json!("*"));
            all.extend(items.iter().map(|item| (json!([item]), false)));
            all.push((json!(["a", "a"]), false));
            all.push((json!(["a", "b"]), false));
            all.push((json!([5]), true));
        }
        Shape::Struct(_) => {
            all.push((json!([{}]), false));
            all.push((json!([{}, {}]), false));
            all.push((json!([null]), false));
        }
        Shape::Int32 | Shape::Int64 => {
            all.extend([json!([-1]), json!([0]), json!([1, 1])].map(|v| (v, false)));
        }
        _ => {}
    }
    all
}

fn maps(inner: &Shape) -> Vec<(Value, bool)> {
    let mut all = vec![(json!({}), false)];
    match inner {
        Shape::String | Shape::Bytes => {
            let key = "k".repeat(260);
            for key in ["a", "bad key!", "", "example.com/a", "a/b/c", "UPPER", ".", "..", &key] {
                all.push((json!({key: "dmFs"}), false));
            }
            all.push((json!({"a": "bad value!"}), false));
            all.push((json!({"a": "b".repeat(70)}), false));
            all.push((json!({"a": 5}), true));
        }
        Shape::Quantity => {
            let quantities = [
                ("cpu", "1"),
                ("cpu", "-1"),
                ("cpu", "0.0001"),
                ("memory", "1Gi"),
                ("memory", "100m"),
                ("bogus", "1"),
                ("bad key!", "1"),
                ("example.com/gpu", "1"),
                ("example.com/gpu", "1500m"),
                ("hugepages-2Mi", "2Mi"),
                ("hugepages-2Mi", "3Mi"),
                ("ephemeral-storage", "1Gi"),
                ("storage", "0"),
                ("storage", "2Gi"),
                ("pods", "5"),
                ("requests.cpu", "1"),
                ("count/pods", "1"),
            ];
            all.extend(quantities.map(|(name, amount)| (json!({name: amount}), false)));
            all.push((json!({"cpu": "x"}), true));
        }
        Shape::Struct(_) => all.push((json!({"key": {}}), false)),
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn every_kind_is_probed() {
        for row in corpus::rows(&[]).unwrap() {
            let requests: usize = sessions(&row).iter().map(|s| s.steps.len()).sum();
            assert!(requests > 20, "{}: {requests}", row.kind);
        }
    }
}
