//! PersistentVolume: storage that outlives pods. Where it lies is one of many sources; nearly all of
//! their rules say which texts must be there, so they are a table.

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

use super::{
    pod::{changed, validate_node_term},
    volume_claim::{access_modes, class_name, modes_text, or_unset, storage, volume_mode},
};
use crate::{
    cause::{Causes, Path},
    semantic, shown,
    strategies::{
        common::{between, one_of, required},
        core::volume_sources,
    },
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BETA_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];
const MODES: &str = "must specify a volume type";
const INLINE: &str = "may not be specified in the context of inline volumes";
/// Sources for which mount options may be told by an annotation.
const TAKES_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// What of a volume's specification is not about where it lies.
const NOT_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

#[derive(Debug)]
pub struct Volume;

impl Strategy for Volume {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        tree::default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        tree::default(spec, "volumeMode", "Filesystem");
    }

    fn prepare_for_create(&self, object: &mut Value, cx: &Context<'_>) {
        let now = format_time(cx.now);
        tree::set(object, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, cx: &Context<'_>) {
        if sub != "status" {
            return;
        }
        let key = "lastPhaseTransitionTime";
        let before = &old["status"];
        let status = tree::child(new, "status");
        let moved = tree::text(status, "phase") != tree::text(before, "phase");
        if !moved && !tree::has(status, key) {
            tree::keep(status, before, key);
        } else if moved && (!tree::has(status, key) || status[key] == before[key]) {
            tree::set(status, key, format_time(cx.now));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let own = tree::text(&object["metadata"], "name");
        let spec = &object["spec"];
        validate_spec(spec, own, false, Path::Root.child("spec"), causes);
        let takes_options = TAKES_OPTIONS.iter().any(|key| tree::has(spec, key));
        if !takes_options && tree::has(&object["metadata"]["annotations"], BETA_OPTIONS) {
            let metadata = Path::Root.child("metadata");
            let annotations = metadata.child("annotations");
            let why = "may not specify mount options for this volume type";
            causes.forbidden(annotations.child(BETA_OPTIONS), why);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub != "status" {
            self.validate(new, causes);
            volume_kept(&new["spec"], &old["spec"], causes);
        }
    }

    fn warnings(&self, _sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        match tree::text(&new["spec"], "persistentVolumeReclaimPolicy") {
            "Recycle" => vec![
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
                    .into(),
            ],
            _ => Vec::new(),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let (spec, status, metadata) = (&object["spec"], &object["status"], &object["metadata"]);
        let phase = match tree::has(metadata, "deletionTimestamp") {
            true => "Terminating",
            false => tree::text(status, "phase"),
        };
        let claim = &spec["claimRef"];
        let claim = match claim.is_null() {
            true => String::new(),
            false => format!("{}/{}", tree::text(claim, "namespace"), tree::text(claim, "name")),
        };
        let annotated = metadata["annotations"][BETA_CLASS].as_str();
        let class = annotated.unwrap_or_else(|| tree::text(spec, "storageClassName"));
        vec![
            name(object),
            storage(&spec["capacity"]).map_or_else(|| "0".into(), |q| q.to_string()).into(),
            modes_text(spec).into(),
            tree::text(spec, "persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            class.into(),
            or_unset(spec, "volumeAttributesClassName"),
            tree::text(status, "reason").into(),
            age(object, now),
            or_unset(spec, "volumeMode"),
        ]
    }
}

/// Rules of a volume's specification; `inline`: it stands in a VolumeAttachment.
pub fn validate_spec(
    spec: &Value,
    own_name: &str,
    inline: bool,
    path: Path<'_>,
    causes: &mut Causes,
) {
    if inline {
        for key in ["claimRef", "capacity"] {
            if !tree::is_empty(&spec[key]) {
                causes.forbidden(path.child(key), INLINE);
            }
        }
        if !tree::has(spec, "csi") {
            let why = "has to be specified in the context of inline volumes";
            causes.required(path.child("csi"), why);
        }
    }
    if tree::list(spec, "accessModes").is_empty() {
        causes.required(path.child("accessModes"), "");
    }
    access_modes(spec, path, causes);
    if !inline {
        capacity(spec, path.child("capacity"), causes);
    }
    reclaim_policy(spec, inline, path, causes);
    node_affinity(spec, inline, path.child("nodeAffinity"), causes);
    sources(spec, own_name, path, causes);
    let root = tree::text(&spec["hostPath"], "path");
    let is_root = root.starts_with('/') && root.split('/').all(|part| matches!(part, "" | "."));
    if is_root && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        causes.forbidden(path.child("persistentVolumeReclaimPolicy"), why);
    }
    classes_and_mode(spec, inline, path, causes);
}

fn capacity(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let amounts: Vec<_> = tree::entries(spec, "capacity").collect();
    if amounts.is_empty() {
        causes.required(path, "");
    }
    if amounts.len() != 1 || storage(&spec["capacity"]).is_none() {
        // Upstream shows Go's form of the map here.
        let shown = match amounts.is_empty() {
            true => Value::Null,
            false => spec["capacity"].clone(),
        };
        causes.not_supported_or_null(path, &shown, &["storage"]);
    }
    for (resource, amount) in amounts {
        let parsed = super::resource_names::quantity(amount).unwrap_or_default();
        let field = path.key(resource);
        if parsed.is_negative() {
            causes.invalid(field, &parsed.units().into(), "must be a valid resource quantity");
        }
        if parsed <= windlass_sdk_meta::Quantity::ZERO {
            causes.invalid(field, amount, "must be greater than zero");
        }
    }
}

fn reclaim_policy(spec: &Value, inline: bool, path: Path<'_>, causes: &mut Causes) {
    let key = "persistentVolumeReclaimPolicy";
    match tree::text(spec, key) {
        "" => {}
        "Retain" if inline => {}
        _ if inline => {
            let why = "may only be Retain in the context of inline volumes";
            causes.forbidden(path.child(key), why);
        }
        _ => one_of(spec, key, &RECLAIM, path, causes),
    }
}

fn node_affinity(spec: &Value, inline: bool, path: Path<'_>, causes: &mut Causes) {
    let affinity = &spec["nodeAffinity"];
    if affinity.is_null() {
        return;
    }
    if inline {
        return causes.forbidden(path, INLINE);
    }
    let required = path.child("required");
    if !tree::has(affinity, "required") {
        return causes.required(required, "must specify required node constraints");
    }
    let terms = tree::list(&affinity["required"], "nodeSelectorTerms");
    let all = required.child("nodeSelectorTerms");
    if terms.is_empty() {
        causes.required(all, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        validate_node_term(term, true, all.index(at), causes);
    }
}

/// The first source counts; others are one too many.
fn sources(spec: &Value, own_name: &str, path: Path<'_>, causes: &mut Causes) {
    let mut found = false;
    for source in &volume_sources::SOURCES {
        let of = &spec[source.key];
        if of.is_null() {
            continue;
        }
        if found && source.key != "flexVolume" {
            causes.forbidden(
                path.child(source.key_alone()),
                "may not specify more than 1 volume type",
            );
            continue;
        }
        found = true;
        let here = path.child(source.shown);
        required(of, source.texts, here, causes);
        volume_sources::rules(source.key, of, own_name, here, causes);
        if source.key == "local" && !tree::has(spec, "nodeAffinity") {
            let why = "Local volume requires node affinity";
            causes.required(path.child("nodeAffinity"), why);
        }
    }
    if !found {
        causes.required(path, MODES);
    }
}

fn classes_and_mode(spec: &Value, inline: bool, path: Path<'_>, causes: &mut Causes) {
    let mode = &spec["volumeMode"];
    if inline {
        if !tree::text(spec, "storageClassName").is_empty() {
            causes.forbidden(path.child("storageClassName"), INLINE);
        }
        if !mode.is_null() && mode != "Filesystem" {
            let why =
                "may not specify volumeMode other than Filesystem in the context of inline volumes";
            causes.forbidden(path.child("volumeMode"), why);
        }
    } else {
        class_name(spec, "storageClassName", path, causes);
        volume_mode(spec, path, causes);
    }
    let key = "volumeAttributesClassName";
    if let Some(class) = spec[key].as_str() {
        if class.is_empty() {
            causes.required(path.child(key), "an empty string is disallowed");
        }
        class_name(spec, key, path, causes);
        if !tree::has(spec, "csi") {
            let why = "has to be specified when using volumeAttributesClassName";
            causes.required(path.child("csi"), why);
        }
    }
}

const AFFINITY: &str = "core.v1.VolumeNodeAffinity";

fn volume_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let source = |spec: &Value| {
        let mut source = spec.clone();
        NOT_SOURCE.iter().for_each(|key| drop(tree::remove(&mut source, key)));
        source
    };
    let (mut after, before) = (source(new), source(old));
    let key = "controllerExpandSecretRef";
    if tree::has(&before, "csi") && !tree::has(&before["csi"], key) {
        after.get_mut("csi").and_then(|csi| tree::remove(csi, key));
    }
    let path = Path::Root.child("spec");
    if !semantic::same_named(&after, &before, "core.v1.PersistentVolumeSpec") {
        let what = changed(&after, &before);
        let why = format!("spec.persistentvolumesource is immutable after creation\n{what}");
        causes.forbidden(path.child("persistentvolumesource"), why);
    }
    for key in ["volumeMode", "nodeAffinity"] {
        let same = match key {
            "volumeMode" => new[key] == old[key],
            _ => semantic::same_named(&new[key], &old[key], AFFINITY),
        };
        if same || (key == "nodeAffinity" && !tree::has(old, key)) {
            continue;
        }
        let why = match key {
            "volumeMode" => "field is immutable",
            _ => "field is immutable, except for updating from beta label to GA",
        };
        let shown = match &new[key] {
            Value::Object(_) => &shown::internal(&new[key], AFFINITY),
            other => other,
        };
        causes.invalid_or_null(Path::Root.child(key), shown, why);
    }
    let key = "volumeAttributesClassName";
    if tree::has(old, key) && !tree::has(new, key) {
        causes.forbidden(path.child(key), "update from non-nil value to nil is forbidden");
    }
}

/// A disk's number as some sources have it.
pub fn partition(of: &Value, path: Path<'_>, causes: &mut Causes) {
    between(of, "partition", 0..=255, "must be between 1 and 255, inclusive", path, causes);
}
