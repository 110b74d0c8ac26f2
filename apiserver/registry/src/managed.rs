//! `metadata.managedFields`: who last set which field. Every write by a client is recorded as
//! operation Update, with upstream's rules, so that server-side apply finds true owners later: what
//! the write added or changed becomes the writer's and nobody else's; what it removed is nobody's.
//! An entry's time moves only when its set does, and old managers are merged beyond a bound.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

use crate::{
    fieldset::{FieldSet, touches},
    kind::{GroupVersion, Kind},
    tree,
    versions::{Deltas, version_of},
};

/// Entries of operation Update that an object keeps apart.
const MAX_UPDATE_MANAGERS: usize = 10;
const MERGED_MANAGER: &str = "ancient-changes";
const MAX_MANAGER_BYTES: usize = 128;

/// Who writes, and through which subresource (empty: the main one).
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    pub name: &'a str,
    pub subresource: &'a str,
    /// By server-side apply: what it owns is then in the object already.
    pub applies: bool,
}

/// Records what a write changes between `old` (None on create) and `object`.
pub fn record(
    kind: &Kind,
    object: &mut Value,
    old: Option<&Value>,
    by: Manager<'_>,
    now: Timestamp,
) {
    if by.subresource == "binding" {
        // The scheduler's answer is nobody's field.
        return;
    }
    if by.applies {
        if let Some(old) = old {
            keep_if_same(object, old);
        }
        return;
    }
    let mut entries = entries(object, old);
    if old.is_some() && entries.is_empty() {
        // Nobody's fields were ever told apart: that begins with the first apply.
        tree::remove(tree::child(object, "metadata"), "managedFields");
        return;
    }
    let mut deltas = Deltas::between(kind, old.unwrap_or(&Value::Null), object, by.subresource);
    if deltas.own().untyped {
        return keep_entries(object, old);
    }
    if !deltas.own().is_empty() {
        take(&mut entries, &mut deltas, by, kind, &format_time(now));
        merge_oldest(&mut entries);
        entries.sort_by(order);
    }
    let metadata = tree::child(object, "metadata");
    if entries.is_empty() {
        tree::remove(metadata, "managedFields");
    } else {
        tree::set(metadata, "managedFields", entries);
    }
}

/// As `record`, in the terms of the version that the writer speaks (None: the stored one).
pub fn record_at(
    kind: &Kind,
    at: Option<&GroupVersion>,
    object: &mut Value,
    old: Option<&Value>,
    by: Manager<'_>,
    now: Timestamp,
) {
    let Some(at) = at.filter(|at| *at != kind.storage()) else {
        return record(kind, object, old, by, now);
    };
    let shown = kind.stored_in(at);
    let mut new = shown.converted(object);
    record(&shown, &mut new, old.map(|old| shown.converted(old)).as_ref(), by, now);
    tree::keep(tree::child(object, "metadata"), &new["metadata"], "managedFields");
}

/// Whose fields are whose can't be told of an object whose lists leave out keys: it stays as it was.
fn keep_entries(object: &mut Value, old: Option<&Value>) {
    let metadata = tree::child(object, "metadata");
    match old {
        Some(old) => tree::keep(metadata, &old["metadata"], "managedFields"),
        None => drop(tree::remove(metadata, "managedFields")),
    }
}

/// An apply that changes nothing is no write: times stay.
fn keep_if_same(object: &mut Value, old: &Value) {
    let timeless = |of: &Value| {
        let mut entries = tree::list(&of["metadata"], "managedFields").to_vec();
        entries.iter_mut().for_each(|entry| drop(tree::remove(entry, "time")));
        entries.sort_by(order);
        entries
    };
    if timeless(object) != timeless(old) {
        return;
    }
    let new = tree::remove(&mut object["metadata"], "managedFields");
    let mut before = old.clone();
    let kept = tree::remove(&mut before["metadata"], "managedFields");
    let entries = if *object == before { kept } else { new };
    if let Some(entries) = entries {
        tree::set(&mut object["metadata"], "managedFields", entries);
    }
}

/// The manager of a request: what it says, else the first word of its user agent.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let first = user_agent.split('/').next().unwrap_or_default();
    let mut name: String = first.chars().filter(|one| !one.is_control()).collect();
    while name.len() > MAX_MANAGER_BYTES {
        name.pop();
    }
    name
}

/// The entries to begin with: the body's, unless it has none (then what is stored stays) or resets
/// them with a single empty entry.
fn entries(object: &Value, old: Option<&Value>) -> Vec<Value> {
    let said = tree::list(&object["metadata"], "managedFields");
    match said {
        [] => old.map_or(&[][..], |old| tree::list(&old["metadata"], "managedFields")).to_vec(),
        [only] if tree::is_empty(only) && old.is_some() => Vec::new(),
        said if said.iter().all(is_readable) => said.to_vec(),
        // What can't be read was not meant: what is stored stays.
        _ => old.map_or(&[][..], |old| tree::list(&old["metadata"], "managedFields")).to_vec(),
    }
}

fn is_readable(entry: &Value) -> bool {
    ["Apply", "Update"].contains(&tree::text(entry, "operation"))
        && !tree::text(entry, "apiVersion").is_empty()
        && tree::text(entry, "fieldsType") == "FieldsV1"
}

/// Moves the fields of the delta to the writer. What was told in a version that isn't served any more
/// is nobody's.
fn take(
    entries: &mut Vec<Value>,
    deltas: &mut Deltas<'_>,
    by: Manager<'_>,
    kind: &Kind,
    now: &str,
) {
    let mut own = None;
    entries.retain_mut(|entry| {
        if kind.speaks(version_of(entry)) && is_of(entry, by) {
            own = Some(std::mem::take(entry));
            return false;
        }
        let Some(delta) = deltas.in_version(version_of(entry)) else { return false };
        let fields = &entry["fieldsV1"];
        if !touches(fields, &delta.changed) && !touches(fields, &delta.removed) {
            return true;
        }
        let mut set = FieldSet::from_json(fields);
        set.subtract(&delta.changed);
        set.subtract(&delta.removed);
        entry["fieldsV1"] = set.to_json();
        !set.is_empty()
    });
    let before =
        own.as_ref().map(|entry| FieldSet::from_json(&entry["fieldsV1"])).unwrap_or_default();
    let delta = deltas.own();
    let mut set = before.clone();
    set.subtract(&delta.removed);
    set.add(&delta.changed);
    if set.is_empty() {
        return;
    }
    let mut entry = json!({
        "manager": by.name, "operation": "Update", "apiVersion": api_version_of(kind), "time": now,
        "fieldsType": "FieldsV1", "fieldsV1": set.to_json(),
    });
    match &own {
        Some(own) if set == before => tree::keep(&mut entry, own, "time"),
        // As upstream, which looks for the time of a Scale's writer where that isn't yet.
        _ if by.subresource == "scale" => drop(tree::remove(&mut entry, "time")),
        _ => {}
    }
    if !by.subresource.is_empty() {
        tree::set(&mut entry, "subresource", by.subresource);
    }
    entries.push(entry);
}

/// The version in which sets are written.
pub fn api_version_of(kind: &Kind) -> String {
    kind.storage().api_version().into_owned()
}

/// The entry is of this manager and its way to write.
pub fn is_of(entry: &Value, by: Manager<'_>) -> bool {
    tree::text(entry, "manager") == by.name
        && tree::text(entry, "operation") == if by.applies { "Apply" } else { "Update" }
        && tree::text(entry, "subresource") == by.subresource
}

/// Merges the oldest entries of operation Update into one a version, until they are few enough.
fn merge_oldest(entries: &mut Vec<Value>) {
    let is_update = |entry: &Value| tree::text(entry, "operation") == "Update";
    entries.sort_by(order);
    let mut updates = entries.iter().filter(|entry| is_update(entry)).count();
    let mut into: BTreeMap<String, usize> = BTreeMap::new();
    let mut at = 0;
    while updates > MAX_UPDATE_MANAGERS && at < entries.len() {
        if !is_update(&entries[at]) {
            at += 1;
            continue;
        }
        let version = tree::text(&entries[at], "apiVersion").to_owned();
        if let Some(&bucket) = into.get(&version) {
            let merged = entries.remove(at);
            let mut set = FieldSet::from_json(&entries[bucket]["fieldsV1"]);
            set.add(&FieldSet::from_json(&merged["fieldsV1"]));
            entries[bucket]["fieldsV1"] = set.to_json();
            entries[bucket]["time"] = merged["time"].clone();
            updates -= 1;
        } else {
            into.insert(version, at);
            tree::set(&mut entries[at], "manager", MERGED_MANAGER);
            tree::remove(&mut entries[at], "subresource");
            at += 1;
        }
    }
}

/// Upstream's order of entries; times are text that sorts as time does.
pub fn order(a: &Value, b: &Value) -> Ordering {
    let key = |entry: &Value, of: &str| tree::text(entry, of).to_owned();
    ["operation", "time", "manager", "apiVersion", "subresource"]
        .iter()
        .map(|of| key(a, of).cmp(&key(b, of)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
