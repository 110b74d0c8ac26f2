//! VolumeAttachment: a volume shall be, and is, attached to a node.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names, semantic,
    strategies::{
        common::{driver_name, keep_metadata, new_driver_name},
        core::validate_volume_spec,
    },
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const MOST_METADATA_BYTES: usize = 256 * 1024;
const MOST_MESSAGE_BYTES: usize = 1024;

#[derive(Debug)]
pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({"attached": false}));
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (attacher, path) = (&object["spec"]["attacher"], Path::Root.child("spec"));
        let attacher = attacher.as_str().unwrap_or_default();
        new_driver_name(attacher, path.child("attacher"), causes);
        rules(object, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        let (attacher, path) = (tree::text(&new["spec"], "attacher"), Path::Root.child("spec"));
        driver_name(attacher, path.child("attacher"), causes);
        rules(new, causes);
        if !semantic::same_named(&new["spec"], &old["spec"], "storage.v1.VolumeAttachmentSpec") {
            causes.invalid_null(Path::Root.child("spec"), "field is immutable");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        vec![
            name(object),
            tree::text(spec, "attacher").into(),
            tree::text(&spec["source"], "persistentVolumeName").into(),
            tree::text(spec, "nodeName").into(),
            tree::flag(&object["status"], "attached").into(),
            age(object, now),
        ]
    }
}

/// What doesn't depend on whether the object is new.
fn rules(object: &Value, causes: &mut Causes) {
    let (spec, path) = (&object["spec"], Path::Root.child("spec"));
    source(&spec["source"], path.child("source"), causes);
    let node = tree::text(spec, "nodeName");
    causes.complaints(path.child("nodeName"), node, names::subdomain(node));
    status(&object["status"], Path::Root.child("status"), causes);
    if let Some(volume) = spec["source"]["persistentVolumeName"].as_str() {
        let source = path.child("source");
        let field = source.child("persistentVolumeName");
        causes.complaints(field, volume, names::subdomain(volume));
    }
}

fn source(source: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let inline = &source["inlineVolumeSpec"];
    match (inline.is_null(), source["persistentVolumeName"].as_str()) {
        (true, None) => causes.required(path, why),
        (false, Some(_)) => causes.forbidden(path, why),
        (true, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            causes.required(path.child("persistentVolumeName"), why);
        }
        (true, Some(_)) => {}
        (false, None) => {
            validate_volume_spec(inline, "", true, path.child("inlineVolumeSpec"), causes);
        }
    }
}

fn status(status: &Value, path: Path<'_>, causes: &mut Causes) {
    let entries = tree::entries(status, "attachmentMetadata");
    let bytes: usize =
        entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MOST_METADATA_BYTES {
        causes.too_long(path.child("attachmentMetadata"), MOST_METADATA_BYTES);
    }
    for key in ["attachError", "detachError"] {
        let (error, path) = (&status[key], path.child(key));
        if tree::text(error, "message").len() > MOST_MESSAGE_BYTES {
            causes.too_long(path.child("message"), MOST_MESSAGE_BYTES);
        }
        if tree::number(error, "errorCode").is_some_and(|code| code < 0) {
            let why = "must be between 0 and 2147483647, inclusive";
            causes.invalid(path.child("errorCode"), &error["errorCode"], why);
        }
    }
}
