//! Rules of a definition's spec, in upstream's words and order.

use serde_json::Value;
use windlass_apiserver_registry::{Causes, Path, names, tree};

use super::{schema_rules, status::established};
use crate::{rules::field_path, schema::Schema};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE: usize = 8;
const APPROVED: &str = "api-approved.kubernetes.io";

/// Rules of a spec; `old` is the whole definition before an update.
pub fn validate(spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    group(spec, path, causes);
    match tree::text(spec, "scope") {
        "" => causes.required(path.child("scope"), ""),
        "Cluster" | "Namespaced" => {}
        _ => causes.not_supported(path.child("scope"), &spec["scope"], &["Cluster", "Namespaced"]),
    }
    let versions = tree::list(spec, "versions");
    let all = path.child("versions");
    for (at, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let item = all.index(at);
            let schema = item.child("schema");
            causes.required(schema.child("openAPIV3Schema"), "");
        }
    }
    for (at, version) in versions.iter().enumerate() {
        let wrong = names::label_1035(tree::text(version, "name"));
        if !wrong.is_empty() {
            let item = all.index(at);
            let name = tree::text(version, "name");
            causes.invalid_text(item.child("name"), name, wrong.join(","));
        }
        self::version(version, all.index(at), old, causes);
    }
    let seen: std::collections::BTreeSet<_> =
        versions.iter().map(|version| tree::text(version, "name")).collect();
    if seen.len() != versions.len() {
        causes.invalid(all, &spec["versions"], "must contain unique version names");
    }
    if versions.iter().filter(|version| tree::flag(version, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.invalid(all, &spec["versions"], why);
    }
    let own = path.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if tree::text(&spec["names"], key).is_empty() {
            causes.required(own.child(key), "");
        }
    }
    validate_names(&spec["names"], own, causes);
    conversion(&spec["conversion"], path.child("conversion"), causes);
    if tree::flag(spec, "preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.invalid(path.child("preserveUnknownFields"), &true.into(), why);
    }
    if let Some(old) = old {
        immutable(spec, old, causes);
    }
}

fn group(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let group = tree::text(spec, "group");
    let at = path.child("group");
    let wrong = names::subdomain(group);
    if group.is_empty() {
        causes.required(at, "");
    } else if !wrong.is_empty() {
        causes.invalid_text(at, group, wrong.join(","));
    } else if !group.contains('.') {
        causes.invalid_text(at, group, "should be a domain with at least one dot");
    }
}

fn immutable(spec: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let names = path.child("names");
    let before = &old["spec"];
    if established(old) {
        for (at, new, before) in [
            (path.child("scope"), &spec["scope"], &before["scope"]),
            (names.child("kind"), &spec["names"]["kind"], &before["names"]["kind"]),
        ] {
            if new != before {
                causes.immutable(at, new);
            }
        }
    }
    for (at, new, before) in [
        (path.child("group"), &spec["group"], &before["group"]),
        (names.child("plural"), &spec["names"]["plural"], &before["names"]["plural"]),
    ] {
        if new != before {
            causes.immutable(at, new);
        }
    }
}

/// Rules of names, as they are wanted or accepted.
pub fn validate_names(all: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["plural", "singular"] {
        let name = tree::text(all, key);
        let wrong = names::label_1035(name);
        if !name.is_empty() && !wrong.is_empty() {
            causes.invalid_text(path.child(key), name, wrong.join(","));
        }
    }
    for key in ["kind", "listKind"] {
        let name = tree::text(all, key);
        let wrong = names::label_1035(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let why = "may have mixed case, but should otherwise match: ";
            causes.invalid_text(path.child(key), name, format!("{why}{}", wrong.join(",")));
        }
    }
    let list = |key: &str, causes: &mut Causes| {
        for (at, name) in tree::list(all, key).iter().filter_map(Value::as_str).enumerate() {
            let wrong = names::label_1035(name);
            if !wrong.is_empty() {
                let own = path.child(key);
                causes.invalid_text(own.index(at), name, wrong.join(","));
            }
        }
    };
    list("shortNames", causes);
    if !tree::text(all, "kind").is_empty() && all["kind"] == all["listKind"] {
        let why = "kind and listKind may not be the same";
        causes.invalid_text(path.child("listKind"), tree::text(all, "listKind"), why);
    }
    list("categories", causes);
}

fn version(version: &Value, path: Path<'_>, old: Option<&Value>, causes: &mut Causes) {
    for why in deprecation(version) {
        causes.invalid(path.child("deprecationWarning"), &version["deprecationWarning"], why);
    }
    let json = &version["schema"]["openAPIV3Schema"];
    let has_status = version["subresources"]["status"].is_object();
    if json.is_object() {
        let schema = path.child("schema");
        let at = schema.child("openAPIV3Schema").to_string();
        schema_rules::validate(json, &at, has_status, unchanged(version, old), causes);
    }
    subresources(&version["subresources"], path.child("subresources"), causes);
    for (at, column) in tree::list(version, "additionalPrinterColumns").iter().enumerate() {
        let all = path.child("additionalPrinterColumns");
        self::column(column, all.index(at), causes);
    }
    selectable(version, path, causes);
}

/// The schema of this version is as it was: cost rules of a newer server don't refuse it.
fn unchanged(version: &Value, old: Option<&Value>) -> bool {
    let versions = old.map_or(&[][..], |old| tree::list(&old["spec"], "versions"));
    let before = versions.iter().find(|other| other["name"] == version["name"]);
    before.is_some_and(|before| before["schema"] == version["schema"])
}

fn deprecation(version: &Value) -> Vec<String> {
    let Some(text) = version["deprecationWarning"].as_str() else { return Vec::new() };
    if !tree::flag(version, "deprecated") {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut wrong = Vec::new();
    if text.len() > 256 {
        wrong.push("must be <= 256 characters long".to_owned());
    }
    if text.is_empty() {
        wrong.push("must not be an empty string".to_owned());
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        wrong.push(format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"));
    }
    wrong
}

fn subresources(all: &Value, path: Path<'_>, causes: &mut Causes) {
    let scale = &all["scale"];
    if !scale.is_object() {
        return;
    }
    for (key, under) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let name = format!("scale.{key}");
        let at = path.child(&name);
        let value = tree::text(scale, key);
        if value.is_empty() {
            causes.required(at, "");
        } else if simple_path(value, at, causes) && !value.starts_with(&format!(".{under}.")) {
            let why = format!("should be a json path under .{under}");
            causes.invalid_text(at, value, why);
        }
    }
    let selector = tree::text(scale, "labelSelectorPath");
    let at = path.child("scale.labelSelectorPath");
    let inside = selector.starts_with(".spec.") || selector.starts_with(".status.");
    if !selector.is_empty() && simple_path(selector, at, causes) && !inside {
        let why = "should be a json path under either .spec or .status";
        causes.invalid_text(at, selector, why);
    }
}

fn simple_path(value: &str, at: Path<'_>, causes: &mut Causes) -> bool {
    let fits = value.starts_with('.');
    if !fits {
        causes.invalid_text(at, value, "must be a simple json path starting with .");
    }
    fits
}

fn column(column: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::text(column, "name").is_empty() {
        causes.required(path.child("name"), "");
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    match tree::text(column, "type") {
        "" => causes.required(path.child("type"), &types),
        known if COLUMN_TYPES.contains(&known) => {}
        other => causes.invalid_text(path.child("type"), other, types),
    }
    let format = tree::text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        causes.invalid_text(path.child("format"), format, why);
    }
    match tree::text(column, "jsonPath") {
        "" => causes.required(path.child("JSONPath"), ""),
        text => drop(simple_path(text, path.child("JSONPath"), causes)),
    }
}

fn selectable(version: &Value, path: Path<'_>, causes: &mut Causes) {
    let fields = tree::list(version, "selectableFields");
    if fields.is_empty() {
        return;
    }
    let path = path.child("selectableFields");
    let json = &version["schema"]["openAPIV3Schema"];
    if !json.is_object() {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        return causes.invalid_text(path, "", why);
    }
    let schema = Schema::read(json);
    let mut seen = std::collections::BTreeSet::new();
    for (at, field) in fields.iter().enumerate() {
        let item = path.index(at);
        let at = item.child("jsonPath");
        let text = tree::text(field, "jsonPath");
        if text.is_empty() {
            causes.required(at, "");
            continue;
        }
        let (place, found) = match field_path(text, &schema, false) {
            Ok(found) => found,
            Err(why) => {
                causes.invalid_text(at, text, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if place.split('.').next() == Some("metadata") {
            causes.invalid_text(at, text, "must not point to fields in metadata");
        }
        if !["string", "boolean", "integer"].contains(&found.ty.as_str()) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            causes.invalid_text(at, text, why);
        }
        if !seen.insert(place) {
            causes.duplicate(at, &text.into());
        }
    }
    if seen.len() > MAX_SELECTABLE {
        causes.too_many(path, seen.len(), MAX_SELECTABLE);
    }
}

fn conversion(conversion: &Value, path: Path<'_>, causes: &mut Causes) {
    let at = path.child("strategy");
    match tree::text(conversion, "strategy") {
        "" => causes.required(at, ""),
        "None" => {
            if tree::has(conversion, "webhook") {
                let why = "should not be set when strategy is not set to Webhook";
                causes.forbidden(path.child("webhookClientConfig"), why);
            }
        }
        "Webhook" => {
            let why = "this version of Windlass converts custom resources only by strategy None; webhooks are not called yet";
            causes.invalid_text(at, "Webhook", why);
        }
        _ => causes.not_supported(at, &conversion["strategy"], &["None", "Webhook"]),
    }
}

/// Rules of a status as spec and status are together.
pub fn validate_status(object: &Value, causes: &mut Causes) {
    let (spec, status) = (&object["spec"], &object["status"]);
    let path = Path::Root.child("status");
    validate_names(&status["acceptedNames"], path.child("acceptedNames"), causes);
    let path = path.child("storedVersions");
    let stored = tree::list(status, "storedVersions");
    if stored.is_empty() {
        let why = "must have at least one stored version";
        return causes.invalid(path, &serde_json::json!([]), why);
    }
    let versions = tree::list(spec, "versions");
    for version in versions.iter().filter(|version| tree::flag(version, "storage")) {
        if !stored.contains(&version["name"]) {
            let why = format!("must have the storage version {}", tree::text(version, "name"));
            causes.invalid(path, &status["storedVersions"], why);
        }
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let own = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {own} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {own} and removes {own} from status.storedVersions"
            );
            causes.invalid_text(path.index(at), own, why);
        }
    }
}

/// What a definition of a group of the Kubernetes project says about its approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

/// None: the group needs no approval.
pub fn approval_of(object: &Value) -> Option<(Approval, String)> {
    let group = tree::text(&object["spec"], "group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|root| group == *root || group.strip_suffix(root).is_some_and(|g| g.ends_with('.')));
    if !protected {
        return None;
    }
    let said = object["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url = said.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/')
    });
    Some(match said {
        "" => {
            let why = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
            (Approval::Missing, why)
        }
        said if said.starts_with("unapproved") => {
            (Approval::Bypassed, format!("not approved: {said:?}"))
        }
        said if is_url => (Approval::Approved, format!("approved in {said}")),
        _ => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            (Approval::Invalid, why)
        }
    })
}

pub fn validate_approval(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let Some((state, why)) = approval_of(object) else { return };
    if old.and_then(approval_of).is_some_and(|(before, _)| before == state) {
        return;
    }
    let metadata = Path::Root.child("metadata");
    let annotations = metadata.child("annotations");
    let at = annotations.key(APPROVED);
    match state {
        Approval::Missing => causes.required(at, &why),
        Approval::Invalid => {
            causes.invalid(at, &object["metadata"]["annotations"][APPROVED], why);
        }
        Approval::Bypassed | Approval::Approved => {}
    }
}
