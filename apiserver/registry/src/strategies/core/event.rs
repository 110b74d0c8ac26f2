//! Event: something happened to an object. One store, two faces: core/v1, which is stored, and
//! events.k8s.io/v1, which calls the same fields by other names.

mod strict;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    kind::{GroupVersion, Selectable},
    names::{self, NameRule},
    strategy::Strategy,
    table::{Cells, name, since},
    tree,
};

/// Fields by (core, events.k8s.io) name, where these differ.
const FACES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
const EVENTS_GROUP: &str = "events.k8s.io";
const MAX_BYTES: usize = 128;
const MAX_NOTE_BYTES: usize = 1024;

#[derive(Debug)]
pub struct Event;

impl Strategy for Event {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    /// Upstream's default of `--event-ttl`.
    fn lifetime(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_secs(3600))
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    /// Old clients write core/v1 with few rules; who speaks events.k8s.io is held to all of them.
    fn validate_at(
        &self,
        at: &GroupVersion,
        new: &Value,
        old: Option<&Value>,
        causes: &mut Causes,
    ) {
        let is_strict = at.group == EVENTS_GROUP;
        if tree::has(new, "eventTime") {
            let reporter = if is_strict { "reportingController" } else { "reportingComponent" };
            new_style(new, reporter, causes);
        } else {
            about_same_namespace(new, causes);
        }
        match old {
            None if is_strict => strict::validate(new, causes),
            Some(old) if is_strict => strict::validate_update(new, old, causes),
            _ => {}
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let of = |key: &str| object[key].is_string().then(|| since(&object[key], now));
        let unknown = || "<unknown>".to_owned();
        let first = of("firstTimestamp").or_else(|| of("eventTime")).unwrap_or_else(unknown);
        let mut last = of("lastTimestamp").unwrap_or_else(|| first.clone());
        let mut count = tree::number(object, "count").filter(|count| *count != 0).unwrap_or(1);
        if tree::has(object, "series") {
            last = since(&object["series"]["lastObservedTime"], now);
            count = tree::number(&object["series"], "count").unwrap_or(0);
        }
        let about = &object["involvedObject"];
        let mut target = tree::text(about, "kind").to_lowercase();
        if !tree::text(about, "name").is_empty() {
            target = format!("{target}/{}", tree::text(about, "name"));
        }
        vec![
            Value::from(last),
            Value::from(tree::text(object, "type")),
            Value::from(tree::text(object, "reason")),
            Value::from(target),
            Value::from(tree::text(about, "fieldPath")),
            Value::from(source_text(object)),
            Value::from(tree::text(object, "message").trim()),
            Value::from(first),
            Value::from(count),
            name(object),
        ]
    }

    fn convert(&self, object: &mut Value, to: &GroupVersion) {
        let to_events = to.group == EVENTS_GROUP;
        for (core, events) in FACES {
            let (from, into) = if to_events { (core, events) } else { (events, core) };
            if let Some(value) = tree::remove(object, from) {
                tree::set(object, into, value);
            }
        }
    }
}

/// What selectors may name, in either group's words, and where the stored form has it.
pub fn selectable() -> Vec<Selectable> {
    let about = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
    let row = |label: String, group: Option<&'static str>, path: String| Selectable {
        only_group: group.map(Into::into),
        ..Selectable::new(label, path, "")
    };
    let mut all = Vec::new();
    for part in about {
        let path = format!("involvedObject.{part}");
        all.push(row(path.clone(), Some(""), path.clone()));
        all.push(row(format!("regarding.{part}"), Some(EVENTS_GROUP), path));
    }
    for (label, group, path) in [
        ("reason", None, "reason"),
        ("type", None, "type"),
        ("reportingComponent", Some(""), "reportingComponent"),
        ("reportingController", Some(EVENTS_GROUP), "reportingComponent"),
        ("source", Some(""), "source.component"),
    ] {
        all.push(row(label.to_owned(), group, path.to_owned()));
    }
    all
}

/// Events without `eventTime` stand in the namespace of what they are about.
fn about_same_namespace(object: &Value, causes: &mut Causes) {
    let own = tree::text(&object["metadata"], "namespace");
    let about = tree::text(&object["involvedObject"], "namespace");
    let fits = if about.is_empty() { own.is_empty() || own == "default" } else { own == about };
    if !fits {
        mismatch(about, causes);
    }
}

fn mismatch(about: &str, causes: &mut Causes) {
    let path = Path::Root.child("involvedObject");
    causes.invalid_text(path.child("namespace"), about, "does not match event.namespace");
}

/// `reporter_field` is what the writer's version calls the reporting component.
fn new_style(object: &Value, reporter_field: &str, causes: &mut Causes) {
    let own = tree::text(&object["metadata"], "namespace");
    let about = tree::text(&object["involvedObject"], "namespace");
    if about.is_empty() && own != "default" && own != "kube-system" {
        mismatch(about, causes);
    }
    let reporter = tree::text(object, "reportingComponent");
    if reporter.is_empty() {
        causes.required(Path::Root.child(reporter_field), "");
    }
    let complaints = names::qualified(reporter);
    causes.complaints(Path::Root.child(reporter_field), reporter, complaints);
    for key in ["reportingInstance", "action", "reason"] {
        let text = tree::text(object, key);
        if text.is_empty() {
            causes.required(Path::Root.child(key), "");
        }
        if text.len() > MAX_BYTES {
            let why = format!("can have at most {MAX_BYTES} characters");
            causes.invalid_text(Path::Root.child(key), "", why);
        }
    }
    if tree::text(object, "message").len() > MAX_NOTE_BYTES {
        let why = format!("can have at most {MAX_NOTE_BYTES} characters");
        causes.invalid_text(Path::Root.child("message"), "", why);
    }
}

fn source_text(object: &Value) -> String {
    let pick = |old: &str, new: &str| match tree::text(&object["source"], old) {
        "" => tree::text(object, new).to_owned(),
        text => text.to_owned(),
    };
    let (component, instance) =
        (pick("component", "reportingComponent"), pick("host", "reportingInstance"));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
