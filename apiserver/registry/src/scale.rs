//! `/scale`: an autoscaling/v1 Scale is a view of three fields of its object, the same for every
//! kind that has it.

mod owned;

use serde_json::{Value, json};
use windlass_sdk_meta::{GroupVersionKind, Status, Timestamp};

pub use owned::{apply_config, write_owned};

use crate::{
    cause::{Causes, Path},
    kind::{Column, Kind},
    strategy::ScalePaths,
    table::{self, IncludeObject, selector_text},
    tree,
};

const API_VERSION: &str = "autoscaling/v1";

/// The view of an object (with `resourceVersion`). Errors: 404 where the kind has no `/scale`, 500
/// where an object of a custom kind has no replicas.
pub fn read(kind: &Kind, object: &Value) -> Result<Value, Status> {
    let paths = kind.strategy.scale().ok_or_else(Status::unknown_path)?;
    if kind.is_custom() && tree::at(object, paths.spec_replicas).is_null() {
        let why = format!("the spec replicas field \".{}\" does not exist", paths.spec_replicas);
        return Err(Status::internal(why));
    }
    let from = &object["metadata"];
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if tree::has(from, key) {
            tree::keep(&mut metadata, from, key);
        }
    }
    let number = |path: &str| tree::at(object, path).as_i64().unwrap_or(0);
    let mut spec = json!({});
    if number(paths.spec_replicas) != 0 {
        spec = json!({"replicas": number(paths.spec_replicas)});
    }
    let mut status = json!({"replicas": number(paths.status_replicas)});
    let selector = match tree::at(object, paths.selector) {
        // A ReplicationController's: labels, all of which a pod has.
        labels if paths.plain_selector => selector_text(&json!({"matchLabels": labels})),
        // A custom kind's is a text already.
        Value::String(text) => text.clone(),
        selector => selector_text(selector),
    };
    if !selector.is_empty() {
        tree::set(&mut status, "selector", selector);
    }
    Ok(json!({"kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata,
        "spec": spec, "status": status}))
}

/// The Table of one Scale, as [`read`] gives it.
pub fn table(scale: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let column = |name: &'static str, data_type: &'static str, description: &'static str| Column {
        name: name.into(),
        data_type: data_type.into(),
        format: "".into(),
        description: description.into(),
        priority: 0,
    };
    let columns = [
        column("Name", "string", "The object that is scaled."),
        column("Desired", "integer", "How many replicas are wished for."),
        column("Available", "integer", "How many replicas there are."),
        column("Age", "string", "How long the object has been there."),
    ];
    let count = |part: &str| tree::number(&scale[part], "replicas").unwrap_or(0).into();
    let cells = vec![table::name(scale), count("spec"), count("status"), table::age(scale, now)];
    let metadata = json!({"resourceVersion": scale["metadata"]["resourceVersion"]});
    let row = table::row(cells, scale, include);
    table::table(vec![row], metadata, table::column_definitions(&columns))
}

/// Writes a Scale's wish into a copy of the object. Errors: 409 where the Scale is of an older
/// state or another object, 422 where its replicas are negative.
pub fn write(kind: &Kind, object: &mut Value, scale: &Value) -> Result<(), Status> {
    let Some(ScalePaths { spec_replicas, .. }) = kind.strategy.scale() else {
        return Err(Status::unknown_path());
    };
    let (said, own) = (&scale["metadata"], &object["metadata"]);
    let name = tree::text(own, "name");
    for key in ["uid", "resourceVersion"] {
        let wanted = tree::text(said, key);
        if !wanted.is_empty() && wanted != tree::text(own, key) {
            return Err(Status::modified(&kind.group_resource(), name));
        }
    }
    let replicas = tree::number(&scale["spec"], "replicas").unwrap_or(0);
    if replicas < 0 {
        let mut causes = Causes::default();
        let spec = Path::Root.child("spec");
        let why = "must be greater than or equal to 0";
        causes.invalid(spec.child("replicas"), &Value::from(replicas), why);
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        return Err(Status::invalid(&kind, name, causes.into_vec()));
    }
    let (parents, leaf) = spec_replicas.rsplit_once('.').unwrap_or(("spec", spec_replicas));
    let parent = parents.split('.').fold(object, tree::child);
    tree::set(parent, leaf, replicas);
    Ok(())
}
