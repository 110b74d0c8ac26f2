//! Server-side apply (KEP-555): a client says which fields it wants, and owns exactly these. What it
//! named before and names no more goes, unless somebody else owns it; what somebody else owns with
//! another value is a conflict, unless the client forces it. The other writes' side of ownership is
//! in `managed`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use windlass_apiserver_schema::{Shape, Type};
use windlass_sdk_meta::{Reason, Status, Timestamp, format_time};

use crate::{
    fieldset::{Delta, FieldSet, SYSTEM_METADATA},
    kind::{GroupVersion, Kind},
    managed::{Manager, api_version_of, is_of, order},
    strategy::Separation,
    tree,
    typed::{Untyped, check, fields_of, merge, with_named, without},
    versions::{Deltas, version_of},
};

/// The annotation of `kubectl apply` without `--server-side`, and the manager that hands over.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const KUBECTL: &str = "kubectl";
/// The manager of what stood there before ownership was recorded.
const BEFORE_FIRST: &str = "before-first-apply";
const CONFLICT: &str = "FieldManagerConflict";

/// As [`apply`], in the words of the version that the applier speaks: so is `config`, while `live` and
/// the result are in the stored one.
pub fn apply_at(
    kind: &Kind,
    at: &GroupVersion,
    live: Option<&Value>,
    config: &Value,
    by: Manager<'_>,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    if at == kind.storage() {
        return apply(kind, live, config, by, force, now);
    }
    let shown = kind.stored_in(at);
    let live = live.map(|live| shown.converted(live));
    let object = apply(&shown, live.as_ref(), config, by, force, now)?;
    Ok(kind.converted(&object))
}

/// What `config` (in the stored version, identified) makes of `live`; None where there is nothing
/// yet. The result carries the new `managedFields`. Errors: 400 for a config that can't be one, 409
/// with a cause for each field that somebody else owns.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    by: Manager<'_>,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    if tree::has(&config["metadata"], "managedFields") {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let root = kind.ownership();
    check(config, root, "").map_err(|Untyped(why)| {
        let metadata = &config["metadata"];
        let (namespace, name) = (tree::text(metadata, "namespace"), tree::text(metadata, "name"));
        let of = format!("{namespace}/{name}; {}", kind.gvk());
        Status::bad_request(format!("failed to create typed patch object ({of}): {why}"))
    })?;
    let Some(live) = live else {
        let mut object = config.clone();
        own(&mut object, Vec::new(), wanted_by(kind, config, by), kind, by, now);
        return Ok(object);
    };
    let mut others = tree::list(&live["metadata"], "managedFields").to_vec();
    if others.is_empty() {
        others.extend(before_first(kind, live));
    }
    let at = others.iter().position(|entry| is_of(entry, by));
    let last_entry = at.map(|at| others.remove(at));
    let wanted = wanted_by(kind, config, by);
    let merged = merge(live, config, root);
    let mut object = match &last_entry {
        Some(last) => prune(kind, &merged, last, &named_by(kind, config, by), &others),
        None => merged,
    };
    drop_nulls(&mut object);
    let mut deltas = Deltas::between(kind, live, &object, by.subresource);
    settle(kind, live, &mut others, &mut deltas, by, force)?;
    if by.name == KUBECTL {
        renew_last_applied(&mut object, config);
    }
    own(&mut object, others, wanted, kind, by, now);
    let says_nothing = kind.schema().is_some_and(|of| says_nothing(config, of));
    if !says_nothing && same_but_ownership(&object, live) {
        // Nothing happened at this time but that somebody agreed.
        keep_time(&mut object, last_entry.as_ref(), by);
    }
    Ok(object)
}

/// What an object that nobody's ownership is known of belongs to.
fn before_first(kind: &Kind, live: &Value) -> Option<Value> {
    let nobody = Manager { name: BEFORE_FIRST, subresource: "", applies: false };
    let all = wanted_by(kind, live, nobody);
    (!all.is_empty()).then(|| {
        json!({"manager": BEFORE_FIRST, "operation": "Update", "apiVersion": api_version_of(kind),
            "fieldsType": "FieldsV1", "fieldsV1": all.to_json()})
    })
}

/// The config has a zero where Go writes none, as in `subjects: []`: upstream takes that for a change
/// of what is there, every time.
fn says_nothing(config: &Value, of: &'static Type) -> bool {
    fn inside(value: &Value, shape: &'static Shape) -> bool {
        match (shape, value) {
            (Shape::Struct(of), value) => says_nothing(value, of.get()),
            (Shape::List(inner) | Shape::Wrapped(inner), Value::Array(items)) => {
                items.iter().any(|item| inside(item, inner))
            }
            (Shape::Map(inner), Value::Object(map)) => map.values().any(|v| inside(v, inner)),
            _ => false,
        }
    }
    of.properties().any(|field| match config.get(field.json) {
        None | Some(Value::Null) => false,
        Some(value) => {
            let plain = field.omitempty && !field.pointer;
            let is_struct = matches!(field.shape, Shape::Struct(_));
            let zero = tree::is_empty(value) || value.as_f64() == Some(0.0);
            (plain && !is_struct && zero) || inside(value, &field.shape)
        }
    })
}

fn same_but_ownership(object: &Value, live: &Value) -> bool {
    let bare = |of: &Value| {
        let mut of = of.clone();
        tree::remove(tree::child(&mut of, "metadata"), "managedFields");
        of
    };
    tree::same(&bare(object), &bare(live))
}

fn keep_time(object: &mut Value, last: Option<&Value>, by: Manager<'_>) {
    let entries = tree::list_mut(&mut object["metadata"], "managedFields");
    for entry in entries.iter_mut().filter(|entry| is_of(entry, by)) {
        match last.and_then(|last| last.get("time")) {
            Some(time) => tree::set(entry, "time", time.clone()),
            None => drop(tree::remove(entry, "time")),
        }
    }
    entries.sort_by(order);
}

/// The fields that a config names, without what this subresource doesn't write.
fn named_by(kind: &Kind, config: &Value, by: Manager<'_>) -> FieldSet {
    let mut named = fields_of(config, kind.ownership());
    let separation = kind.strategy.separation();
    let has_status = matches!(separation, Separation::Status | Separation::StatusAndGeneration);
    named.children.retain(|key, _| match (key.as_str(), by.subresource) {
        ("f:status", "") => !has_status,
        ("f:spec", _) if kind.strategy.spec_stays() => false,
        ("f:apiVersion" | "f:kind" | "f:metadata" | "f:status", _) => true,
        (_, sub) => sub != "status",
    });
    named
}

/// Of these the ones that are owned: not what no client owns.
fn wanted_by(kind: &Kind, config: &Value, by: Manager<'_>) -> FieldSet {
    let mut wanted = named_by(kind, config, by);
    wanted.children.retain(|key, _| !["f:apiVersion", "f:kind"].contains(&key.as_str()));
    if let Some(metadata) = wanted.children.get_mut("f:metadata") {
        let is_system =
            |path: &str| path.strip_prefix("f:").is_some_and(|key| SYSTEM_METADATA.contains(&key));
        metadata.children.retain(|path, _| !is_system(path));
        if metadata.children.is_empty() {
            wanted.children.remove("f:metadata");
        }
    }
    wanted
}

/// Takes out what this applier named last time and neither it names now nor anybody else owns. What is
/// left inside of it goes with it, unless it is somebody's. `named` holds also what nobody owns, such
/// as the name: metadata of which nothing is owned any more stays.
fn prune(kind: &Kind, merged: &Value, last: &Value, named: &FieldSet, others: &[Value]) -> Value {
    let last_version = version_of(last);
    let last = FieldSet::from_json(&last["fieldsV1"]);
    let Some(mut pruned) = kind.seen_in(last_version, (merged, merged), |kind, merged, _| {
        without(merged, &with_named(&last, kind.ownership()), kind.ownership())
    }) else {
        return merged.clone();
    };
    // Back comes what somebody owns, in whatever words ...
    let own_version = api_version_of(kind);
    let versions = others.iter().map(version_of).chain([own_version.as_str()]);
    for version in versions.collect::<BTreeSet<_>>() {
        let of_version = || others.iter().filter(|entry| version_of(entry) == version);
        let back = kind.seen_in(version, (merged, &pruned), |shown, merged, pruned| {
            let root = shown.ownership();
            let mut gone = fields_gone(shown, merged, pruned);
            for entry in of_version() {
                gone.subtract(&with_named(&FieldSet::from_json(&entry["fieldsV1"]), root));
            }
            if version == own_version {
                gone.subtract(&with_named(named, root));
            }
            without(merged, &gone, root)
        });
        pruned = back.unwrap_or(pruned);
    }
    // ... and what went only because it stood inside of something that went.
    let back = kind.seen_in(last_version, (merged, &pruned), |kind, merged, pruned| {
        let root = kind.ownership();
        let gone = fields_gone(kind, merged, pruned).common(&with_named(&last, root));
        without(merged, &gone, root)
    });
    back.unwrap_or(pruned)
}

/// The fields of one tree that another one lacks.
fn fields_gone(kind: &Kind, before: &Value, after: &Value) -> FieldSet {
    let root = kind.ownership();
    let mut gone = with_named(&fields_of(before, root), root);
    gone.subtract(&with_named(&fields_of(after, root), root));
    gone
}

/// A null in a config wants nothing there.
fn drop_nulls(tree: &mut Value) {
    match tree {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Takes from the other managers what this apply changes, if it may, and what it removes.
fn settle(
    kind: &Kind,
    live: &Value,
    others: &mut Vec<Value>,
    deltas: &mut Deltas<'_>,
    by: Manager<'_>,
    force: bool,
) -> Result<(), Status> {
    // What kubectl applied before on its own side is not somebody else's.
    let handed_over = match by.name {
        KUBECTL => handed_over(kind, live),
        _ => FieldSet::default(),
    };
    let mut conflicts = Vec::new();
    for entry in others.iter() {
        let Some(delta) = deltas.in_version(version_of(entry)) else { continue };
        let mut common = FieldSet::from_json(&entry["fieldsV1"]).common(&delta.changed);
        common.subtract(&handed_over);
        conflicts.extend(common.paths().into_iter().map(|path| (manager_text(entry), path)));
    }
    if !force && !conflicts.is_empty() {
        return Err(conflict(conflicts));
    }
    others.retain_mut(|entry| {
        let Some(delta) = deltas.in_version(version_of(entry)) else { return false };
        let mut set = FieldSet::from_json(&entry["fieldsV1"]);
        set.subtract(&delta.changed);
        set.subtract(&delta.removed);
        entry["fieldsV1"] = set.to_json();
        !set.is_empty()
    });
    Ok(())
}

/// The fields of the last configuration of client-side apply whose values still stand.
fn handed_over(kind: &Kind, live: &Value) -> FieldSet {
    let said = live["metadata"]["annotations"].get(LAST_APPLIED).and_then(Value::as_str);
    let config = said.and_then(|said| serde_json::from_str::<Value>(said).ok());
    let Some(config) = config.filter(Value::is_object) else { return FieldSet::default() };
    let root = kind.ownership();
    let mut fields = fields_of(&config, root);
    let drifted = Delta::between(kind, &merge(live, &config, root), live, "");
    fields.subtract(&drifted.changed);
    fields.subtract(&drifted.removed);
    fields
}

/// `kubectl apply` without `--server-side` must find what was applied last.
fn renew_last_applied(object: &mut Value, config: &Value) {
    let annotations = &mut object["metadata"]["annotations"];
    if !tree::has(annotations, LAST_APPLIED) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config["metadata"].get_mut("annotations") {
        tree::remove(annotations, LAST_APPLIED);
    }
    tree::set(annotations, LAST_APPLIED, config.to_string());
}

/// The applier's entry beside those of the others; none for one that names nothing.
fn own(
    object: &mut Value,
    mut entries: Vec<Value>,
    wanted: FieldSet,
    kind: &Kind,
    by: Manager<'_>,
    now: Timestamp,
) {
    let mut entry = json!({
        "manager": by.name, "operation": "Apply", "apiVersion": api_version_of(kind),
        "time": format_time(now), "fieldsType": "FieldsV1", "fieldsV1": wanted.to_json(),
    });
    if !by.subresource.is_empty() {
        tree::set(&mut entry, "subresource", by.subresource);
    }
    if !wanted.is_empty() {
        entries.push(entry);
    }
    entries.sort_by(order);
    tree::set(tree::child(object, "metadata"), "managedFields", entries);
}

/// A manager as conflicts name it.
fn manager_text(entry: &Value) -> String {
    let mut text = format!("{:?}", tree::text(entry, "manager"));
    let subresource = tree::text(entry, "subresource");
    if !subresource.is_empty() {
        text = format!("{text} with subresource {subresource:?}");
    }
    if tree::text(entry, "operation") == "Update" {
        text = format!("{text} using {}", tree::text(entry, "apiVersion"));
    }
    text
}

fn conflict(conflicts: Vec<(String, String)>) -> Status {
    let message = match &conflicts[..] {
        [(manager, path)] => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
        }
        all => {
            let mut managers: Vec<&String> = all.iter().map(|(manager, _)| manager).collect();
            managers.sort();
            managers.dedup();
            let of = |manager: &&String| {
                let paths = all.iter().filter(|(of, _)| of == *manager);
                let paths: Vec<String> = paths.map(|(_, path)| format!("- {path}")).collect();
                format!("conflicts with {manager}:\n{}", paths.join("\n"))
            };
            let lines: Vec<String> = managers.iter().map(of).collect();
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    conflicts.into_iter().fold(Status::new(Reason::Conflict, message), |status, (manager, path)| {
        status.with_cause(CONFLICT, format!("conflict with {manager}"), &path)
    })
}
