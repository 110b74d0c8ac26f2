//! Kinds by their group: what a create fills in, what is refused, what an update may touch, and
//! what `kubectl get` shows.

mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod core;
mod evictions;
mod job_status;
mod kept;
mod networking;
mod pod;
mod policy;
mod rest;
mod service;
mod storage;

use expect_test::Expect;
use serde_json::Value;
use windlass_apiserver_registry::IncludeObject;

use crate::{at, create, kind_of, refusal, stored, text, update};

/// The object that a create makes, without its metadata of the system's.
fn created(body: &str, expected: Expect) {
    let mut object = create(body).unwrap_or_else(|status| panic!("{}", status.message));
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for key in ["managedFields", "creationTimestamp", "uid", "namespace"] {
        metadata.shift_remove(key);
    }
    expected.assert_eq(&text(&object));
}

fn refused(body: &str, expected: Expect) {
    expected.assert_eq(&refusal(create(body)));
}

/// What becomes of a change through a subresource (empty: the main one): a refusal, or `pick` of
/// the object as it is then.
fn changed(
    sub: &str,
    old: &Value,
    change: impl FnOnce(&mut Value),
    pick: &[&str],
    expected: Expect,
) {
    let result = update(sub, old, change);
    let shown = match &result {
        Ok(object) => {
            let picked = pick.iter().map(|path| {
                let value = path.split('.').fold(object, |at, part| &at[part]);
                format!("{path}: {value}\n")
            });
            picked.collect()
        }
        Err(_) => refusal(result),
    };
    expected.assert_eq(&shown);
}

/// The cells of a row, five minutes after the object was made.
fn row(object: &Value) -> String {
    let kind = kind_of(object);
    let row = kind.row(object, IncludeObject::None, at("2026-11-23T17:05:00Z"));
    let cells = row["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), kind.columns.len(), "{cells:?}");
    let texts =
        cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned));
    texts.collect::<Vec<_>>().join(" | ")
}

fn printed(body: &str, status: &str, expected: Expect) {
    let mut object = stored(body);
    if !status.is_empty() {
        object["status"] = crate::yaml(status);
    }
    expected.assert_eq(&row(&object));
}
