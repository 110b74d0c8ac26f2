//! Server-side apply to `/scale`. Who owns the replicas is written down at the object: for the apply
//! it is told of the Scale's field instead, and carried back afterwards.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use windlass_sdk_meta::{Status, Timestamp};

use super::{API_VERSION, read, write};
use crate::{
    apply::apply,
    fieldset::FieldSet,
    kind::{GroupVersion, Kind},
    managed::{Manager, order},
    strategy::Strategy,
    table::Cells,
    tree,
};

const REPLICAS: &str = "spec.replicas";

/// The Scale as a kind of its own, which is served nowhere but at other kinds.
static SCALE: LazyLock<Kind> = LazyLock::new(|| Kind {
    served: vec![GroupVersion::new("autoscaling", "v1")],
    kind: "Scale".into(),
    list_kind: "".into(),
    plural: "scales".into(),
    singular: "".into(),
    short_names: Vec::new(),
    categories: Vec::new(),
    namespaced: true,
    verbs: Vec::new(),
    subresources: Vec::new(),
    selectable: Vec::new(),
    columns: Vec::new(),
    create_on_update: false,
    unconditional_update: true,
    judges_base_on_update: false,
    returns_deleted: false,
    virtual_only: true,
    inert: false,
    warning: None,
    computed: None,
    strategy: Arc::new(Scale),
});

#[derive(Debug)]
struct Scale;

impl Strategy for Scale {
    fn cells(&self, _object: &Value, _now: Timestamp) -> Cells {
        Cells::new()
    }
}

/// What `config` makes of the Scale of a stored object; the result carries who owns its replicas.
/// Errors: 400 for a config that can't be one, 409 where somebody else owns the replicas.
pub fn apply_config(
    kind: &Kind,
    object: &Value,
    config: &Value,
    by: Manager<'_>,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    let metadata = &object["metadata"];
    let (namespace, name) = (tree::text(metadata, "namespace"), tree::text(metadata, "name"));
    let mut config = config.clone();
    SCALE.identify(&mut config, SCALE.storage(), namespace, None)?;
    tree::default_text(tree::child(&mut config, "metadata"), "name", name);
    let mut scale = read(kind, object)?;
    let replicas = replicas_of(kind)?;
    let entries = tree::list(metadata, "managedFields").iter();
    let entries = entries.filter(|entry| owns(entry, &replicas)).map(|entry| {
        let mut entry = entry.clone();
        tree::set(&mut entry, "apiVersion", API_VERSION);
        tree::set(&mut entry, "fieldsV1", leaf(REPLICAS).to_json());
        entry
    });
    tree::set(&mut scale["metadata"], "managedFields", entries.collect::<Vec<_>>());
    let mut scale = apply(&SCALE, Some(&scale), &config, by, force, now)?;
    SCALE.identify(&mut scale, SCALE.storage(), namespace, Some(name))?;
    Ok(scale)
}

/// As [`write`], for a Scale that an apply made: its owners become those of the object's replicas.
pub fn write_owned(kind: &Kind, object: &mut Value, scale: &Value) -> Result<(), Status> {
    write(kind, object, scale)?;
    let replicas = replicas_of(kind)?;
    let api_version = object["apiVersion"].clone();
    let mut owners = tree::list(&scale["metadata"], "managedFields").to_vec();
    let mut entries = Vec::new();
    for entry in tree::list(&object["metadata"], "managedFields") {
        let mut entry = entry.clone();
        let still = owners.iter().position(|owner| same_manager(owner, &entry));
        if owns(&entry, &replicas) && still.is_none() {
            let mut set = FieldSet::from_json(&entry["fieldsV1"]);
            set.subtract(&replicas);
            tree::set(&mut entry, "fieldsV1", set.to_json());
            if set.is_empty() {
                continue;
            }
        } else if let (true, Some(at)) = (owns(&entry, &replicas), still) {
            owners.remove(at);
        }
        entries.push(entry);
    }
    entries.extend(owners.into_iter().map(|mut owner| {
        tree::set(&mut owner, "apiVersion", api_version.clone());
        tree::set(&mut owner, "fieldsV1", replicas.to_json());
        // As upstream, which looks for the time where the owner is not yet.
        tree::remove(&mut owner, "time");
        owner
    }));
    entries.sort_by(order);
    let metadata = tree::child(object, "metadata");
    match entries.is_empty() {
        true => drop(tree::remove(metadata, "managedFields")),
        false => tree::set(metadata, "managedFields", entries),
    }
    Ok(())
}

fn replicas_of(kind: &Kind) -> Result<FieldSet, Status> {
    let paths = kind.strategy.scale().ok_or_else(Status::unknown_path)?;
    Ok(leaf(paths.spec_replicas))
}

/// The set of one field.
fn leaf(path: &str) -> FieldSet {
    path.rsplit('.').fold(FieldSet { member: true, ..FieldSet::default() }, |inner, name| {
        let children = [(format!("f:{name}"), inner)].into();
        FieldSet { member: false, children }
    })
}

fn owns(entry: &Value, replicas: &FieldSet) -> bool {
    !FieldSet::from_json(&entry["fieldsV1"]).common(replicas).is_empty()
}

fn same_manager(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "subresource"]
        .iter()
        .all(|key| tree::text(a, key) == tree::text(b, key))
}
