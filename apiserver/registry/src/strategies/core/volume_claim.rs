//! PersistentVolumeClaim: a wish for storage. Its specification also stands in StatefulSets.

use serde_json::{Value, json};
use windlass_sdk_meta::{Quantity, Timestamp};

use super::pod;
use crate::{
    cause::{Causes, Path},
    names, semantic,
    strategies::apps::workload::validate_selector,
    strategies::core::pod::claim_warnings,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

/// The annotation that named a class before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const SOURCES: [&str; 2] = ["dataSource", "dataSourceRef"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

#[derive(Debug)]
pub struct VolumeClaim;

impl Strategy for VolumeClaim {
    fn default(&self, object: &mut Value) {
        default_claim(object);
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({"phase": "Pending"}));
        one_source(tree::child(object, "spec"), &Value::Null);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub.is_empty() {
            one_source(tree::child(new, "spec"), &old["spec"]);
        }
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        validate_spec(&object["spec"], Path::Root.child("spec"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return status_rules(&new["status"], causes);
        }
        let path = Path::Root.child("spec");
        spec_rules(&new["spec"], path, causes);
        let grouped = |key: &&str| tree::has(&old["spec"][*key], "apiGroup");
        // A source of a group is not judged again.
        if !SOURCES.iter().any(grouped) {
            source_groups(&new["spec"], path, causes);
        }
        kept(new, old, causes);
    }

    fn warnings(&self, sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        let key = "volume.beta.kubernetes.io/storage-class";
        if sub.is_empty() && tree::has(&new["metadata"]["annotations"], key) {
            all.push(format!("metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"));
        }
        if sub.is_empty() {
            claim_warnings(&new["spec"], Path::Root.child("spec"), &mut all);
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let (spec, status) = (&object["spec"], &object["status"]);
        let phase = match tree::has(&object["metadata"], "deletionTimestamp") {
            true => "Terminating",
            false => tree::text(status, "phase"),
        };
        let volume = tree::text(spec, "volumeName");
        let (mut capacity, mut modes) = (String::new(), String::new());
        if !volume.is_empty() {
            capacity = storage(&status["capacity"]).map_or_else(|| "0".into(), |q| q.to_string());
            modes = modes_text(status);
        }
        let annotated = &object["metadata"]["annotations"][BETA_CLASS];
        let class = annotated.as_str().unwrap_or_else(|| tree::text(spec, "storageClassName"));
        vec![
            name(object),
            phase.into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class.into(),
            or_unset(spec, "volumeAttributesClassName"),
            age(object, now),
            or_unset(spec, "volumeMode"),
        ]
    }
}

/// Defaults of a claim, also in a template.
pub fn default_claim(claim: &mut Value) {
    tree::default(tree::child(claim, "spec"), "volumeMode", "Filesystem");
}

/// Rules of a new claim's specification.
pub fn validate_spec(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    spec_rules(spec, path, causes);
    source_groups(spec, path, causes);
}

fn spec_rules(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::list(spec, "accessModes").is_empty() {
        causes.required(path.child("accessModes"), "at least 1 access mode is required");
    }
    if tree::has(spec, "selector") {
        validate_selector(&spec["selector"], path.child("selector"), causes);
    }
    access_modes(spec, path, causes);
    let resources = path.child("resources");
    let field = resources.key("storage");
    let asked = &spec["resources"]["requests"]["storage"];
    match storage(&spec["resources"]["requests"]) {
        None => causes.required(field, ""),
        Some(amount) if amount <= Quantity::ZERO => {
            causes.invalid(field, asked, "must be greater than zero");
        }
        Some(_) => {}
    }
    class_name(spec, "storageClassName", path, causes);
    volume_mode(spec, path, causes);
    for key in SOURCES {
        if tree::has(spec, key) {
            data_source(&spec[key], path.child(key), causes);
        }
    }
    if let Some(namespace) = spec["dataSourceRef"]["namespace"].as_str().filter(|n| !n.is_empty()) {
        let here = path.child("dataSourceRef");
        causes.complaints(here.child("namespace"), namespace, names::label(namespace));
    }
    sources_agree(spec, path, causes);
    class_name(spec, "volumeAttributesClassName", path, causes);
}

/// How a volume may be mounted, of a volume or of a claim.
pub fn access_modes(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (modes, field) = (tree::list(spec, "accessModes"), path.child("accessModes"));
    let known = |mode: &Value| mode.as_str().is_some_and(|mode| ACCESS_MODES.contains(&mode));
    for mode in modes.iter().filter(|mode| !known(mode)) {
        causes.not_supported(field, mode, &ACCESS_MODES);
    }
    let alone = |mode: &&Value| **mode == "ReadWriteOncePod";
    if modes.iter().any(|mode| alone(&mode))
        && modes.iter().any(|mode| known(mode) && !alone(&mode))
    {
        causes.forbidden(field, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The form in which a volume is handed to a container.
pub fn volume_mode(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let mode = &spec["volumeMode"];
    if !mode.is_null() && !mode.as_str().is_some_and(|mode| VOLUME_MODES.contains(&mode)) {
        causes.not_supported(path.child("volumeMode"), mode, &VOLUME_MODES);
    }
}

/// The name of a class, where there is one.
pub fn class_name(spec: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    let class = tree::text(spec, key);
    if !class.is_empty() {
        causes.complaints(path.child(key), class, names::subdomain(class));
    }
}

/// The amount of storage in a list of resources.
pub fn storage(resources: &Value) -> Option<Quantity> {
    resources["storage"].as_str()?.parse().ok()
}

/// Access modes as cells show them.
pub fn modes_text(of: &Value) -> String {
    let modes = tree::list(of, "accessModes");
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown = short.iter().filter(|(mode, _)| modes.iter().any(|one| one == mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// A text field as cells show it.
pub fn or_unset(of: &Value, key: &str) -> Value {
    Value::from(of[key].as_str().unwrap_or("<unset>"))
}

fn data_source(source: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["name", "kind"] {
        if tree::text(source, key).is_empty() {
            causes.required(path.child(key), "");
        }
    }
    let (group, kind) = (tree::text(source, "apiGroup"), tree::text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        causes.invalid_text(path, kind, why);
    }
}

/// The API groups of a claim's sources are domains.
fn source_groups(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in SOURCES {
        let group = tree::text(&spec[key], "apiGroup");
        if !group.is_empty() {
            causes.complaints(path.child(key).child("apiGroup"), group, names::subdomain(group));
        }
    }
}

/// The older field can say less than the newer one; where both are there, they say the same.
fn sources_agree(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if old.is_null() || new.is_null() {
        return;
    }
    if ["apiGroup", "kind", "name"].iter().any(|key| old[*key] != new[*key]) {
        // The value is a path of upstream's own, which it prints as an empty object.
        causes.invalid(path, &json!({}), "must match dataSourceRef");
    }
}

/// Fills in the one of the two source fields that the client left out. References into other
/// namespaces are an alpha feature: they are dropped, as upstream does by default. The older field
/// alone never took anything but a claim or a snapshot: the rest of it is ignored, unless it is of a
/// claim (`old`) that has a source.
fn one_source(spec: &mut Value, old: &Value) {
    let in_use = |key: &str| tree::has(old, key);
    if !tree::text(&spec["dataSourceRef"], "namespace").is_empty() && !in_use("dataSourceRef") {
        tree::remove(spec, "dataSourceRef");
    }
    let known = |source: &Value| {
        let of = (tree::text(source, "apiGroup"), tree::text(source, "kind"));
        [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")].contains(&of)
    };
    if !in_use("dataSource")
        && !in_use("dataSourceRef")
        && !tree::has(spec, "dataSourceRef")
        && !known(&spec["dataSource"])
    {
        tree::remove(spec, "dataSource");
    }
    let (old, new) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    match (old.is_null(), new.is_null()) {
        (false, true) => tree::set(spec, "dataSourceRef", old),
        (true, false) if tree::text(&new, "namespace").is_empty() => {
            tree::set(spec, "dataSource", new);
        }
        _ => {}
    }
}

fn kept(new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let class =
        |object: &Value| tree::text(&object["metadata"]["annotations"], BETA_CLASS).to_owned();
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    if tree::text(&before, "volumeName").is_empty() {
        tree::keep(&mut before, &after, "volumeName");
    }
    let named = tree::text(&after, "storageClassName").to_owned();
    let was_unnamed =
        !tree::has(&before, "storageClassName") && tree::has(&after, "storageClassName");
    let annotated = tree::has(&old["metadata"]["annotations"], BETA_CLASS);
    let moved = was_unnamed && annotated && named == class(old);
    if !moved && class(new) != class(old) {
        let metadata = Path::Root.child("metadata");
        let annotations = metadata.child("annotations");
        causes.invalid_text(annotations.child(BETA_CLASS), &class(new), "field is immutable");
    }
    if moved || (was_unnamed && !annotated) {
        tree::remove(&mut after, "storageClassName");
    }
    if new["status"]["phase"] == "Bound" {
        let size = before["resources"]["requests"]["storage"].clone();
        if tree::has(&after["resources"], "requests") {
            tree::set(&mut after["resources"]["requests"], "storage", size);
        }
        tree::keep(&mut after, &before, "volumeAttributesClassName");
    }
    if !semantic::same_named(&after, &before, "core.v1.PersistentVolumeClaimSpec") {
        let what = pod::changed(&after, &before);
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{what}"
        );
        causes.forbidden(path, why);
    }
    let size = |of: &Value| storage(&of["spec"]["resources"]["requests"]).unwrap_or_default();
    let reached = storage(&old["status"]["capacity"]).unwrap_or_default();
    if size(new) < size(old) && size(new) <= reached {
        let (resources, why) =
            (path.child("resources"), "field can not be less than status.capacity");
        let requests = resources.child("requests");
        causes.forbidden(requests.child("storage"), why);
    }
    if new["spec"]["volumeMode"] != old["spec"]["volumeMode"] {
        causes.immutable(Path::Root.child("volumeMode"), &new["spec"]["volumeMode"]);
    }
    attributes_kept(new, old, path, causes);
}

/// A class of attributes that has been applied can be swapped, but not taken away.
fn attributes_kept(new: &Value, old: &Value, path: Path<'_>, causes: &mut Causes) {
    let key = "volumeAttributesClassName";
    let changed = !tree::same(&new["spec"][key], &old["spec"][key]);
    if !changed || !tree::has(&old["status"], "currentVolumeAttributesClassName") {
        return;
    }
    let to = match new["spec"][key].as_str() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let why = format!(
        "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    causes.forbidden(path.child(key), why);
}

fn status_rules(status: &Value, causes: &mut Causes) {
    let path = Path::Root.child("status");
    let amount = |amount: &Value, field: Path<'_>, causes: &mut Causes| {
        let parsed = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
        let units = parsed.map_or(0, |amount| amount.units());
        if units < 0 {
            causes.invalid(field, &units.into(), "must be a valid resource quantity");
        }
    };
    let field = path.child("capacity");
    for (resource, has) in tree::entries(status, "capacity") {
        amount(has, field.key(resource), causes);
    }
    let field = path.child("allocatedResourceStatuses");
    for (resource, state) in tree::entries(status, "allocatedResourceStatuses") {
        resource_key(resource, field, causes);
        if !state.as_str().is_some_and(|state| RESIZE_STATES.contains(&state)) {
            let mut known = RESIZE_STATES;
            known.sort_unstable();
            causes.not_supported(field, &resource.as_str().into(), &known);
        }
    }
    let field = path.child("allocatedResources");
    for (resource, has) in tree::entries(status, "allocatedResources") {
        if resource_key(resource, field, causes) {
            amount(has, field.key(resource), causes);
        }
    }
}

/// Of the resources that Kubernetes itself knows, a claim has only storage. False where it has not
/// this one.
fn resource_key(resource: &str, path: Path<'_>, causes: &mut Causes) -> bool {
    let complaints = names::qualified(resource);
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    if complaints.is_empty() && native && resource != "storage" {
        causes.not_supported(path, &resource.into(), &["storage"]);
        return false;
    }
    let fits = complaints.is_empty();
    causes.complaints(path, resource, complaints);
    fits
}
