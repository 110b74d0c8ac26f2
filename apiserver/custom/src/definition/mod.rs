//! CustomResourceDefinition, the kind that makes kinds: its defaults, rules and what a deletion does.

mod defaults;
mod rule_text;
mod schema_rules;
mod spec;
mod status;

pub use status::{conditions, established, names_status};

use std::sync::Arc;

use serde_json::{Value, json};
use windlass_apiserver_registry::{
    Causes, Cells, Context, GroupVersion, Kind, Path, Separation, Strategy, Subresource,
    conditions as set_condition, tree,
};
use windlass_apiserver_schema::{ResourceFacts, Schema as Facts};
use windlass_sdk_meta::{Timestamp, format_time, parse_time};

use crate::{formats, schema::Schema};

pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";
/// The finalizer behind which instances are deleted.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The kind's row.
pub fn definition_kind() -> Kind {
    let facts = |sub| Facts::builtin().resource(GROUP, "v1", PLURAL, sub);
    let words = |facts: Option<&'static ResourceFacts>| facts.map(|f| f.verbs.clone());
    let borrowed = |words: Vec<&'static str>| words.into_iter().map(Into::into).collect();
    let status = Subresource {
        name: "status".into(),
        group: GROUP.into(),
        version: "v1".into(),
        kind: "CustomResourceDefinition".into(),
        verbs: borrowed(words(facts(Some("status"))).unwrap_or_default()),
    };
    let column = |name: &'static str, data_type: &'static str, priority: i32| {
        windlass_apiserver_registry::Column {
            name: name.into(),
            data_type: data_type.into(),
            format: if name == "Name" { "name".into() } else { "".into() },
            description: "".into(),
            priority,
        }
    };
    Kind {
        served: vec![GroupVersion::new(GROUP, "v1")],
        kind: "CustomResourceDefinition".into(),
        list_kind: "CustomResourceDefinitionList".into(),
        plural: PLURAL.into(),
        singular: "customresourcedefinition".into(),
        short_names: borrowed(vec!["crd", "crds"]),
        categories: borrowed(vec!["api-extensions"]),
        namespaced: false,
        verbs: borrowed(words(facts(None)).unwrap_or_default()),
        subresources: vec![status],
        selectable: Vec::new(),
        columns: vec![
            column("Name", "string", 0),
            column("Scope", "string", 0),
            column("Versions", "string", 0),
            column("Created At", "date", 0),
            column("Group", "string", 1),
            column("Kind", "string", 1),
            column("ShortNames", "string", 1),
            column("Established", "boolean", 1),
        ],
        create_on_update: false,
        unconditional_update: false,
        returns_deleted: false,
        virtual_only: false,
        inert: false,
        judges_base_on_update: false,
        warning: None,
        computed: None,
        strategy: Arc::new(Definition),
    }
}

/// The kind's strategy.
#[derive(Debug)]
pub struct Definition;

impl Strategy for Definition {
    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        let names = tree::child(spec, "names");
        let kind = tree::text(names, "kind").to_owned();
        tree::default_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            tree::default_text(names, "listKind", &format!("{kind}List"));
        }
        tree::default(spec, "conversion", json!({"strategy": "None"}));
        if tree::list(&object["status"], "storedVersions").is_empty() {
            let stored: Vec<Value> = stored_version(object).into_iter().collect();
            tree::set(tree::child(object, "status"), "storedVersions", stored);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let stored: Vec<Value> = stored_version(object).into_iter().collect();
        let status = json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored});
        tree::set(object, "status", status);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, _old: &Value, _cx: &Context<'_>) {
        if sub.is_empty()
            && let Some(version) = stored_version(new)
        {
            let status = tree::child(new, "status");
            let mut all = tree::list(status, "storedVersions").to_vec();
            if !all.contains(&version) {
                all.push(version);
                tree::set(status, "storedVersions", all);
            }
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = &object["spec"];
        let wanted =
            format!("{}.{}", tree::text(&spec["names"], "plural"), tree::text(spec, "group"));
        for key in ["generateName", "name"] {
            let name = tree::text(&object["metadata"], key);
            if !name.is_empty() && name != wanted {
                let metadata = Path::Root.child("metadata");
                let why = "must be spec.names.plural+\".\"+spec.group";
                causes.invalid_text(metadata.child(key), name, why);
            }
        }
        spec::validate(spec, None, causes);
        spec::validate_status(object, causes);
        spec::validate_approval(object, None, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            let path = Path::Root.child("status");
            return spec::validate_names(
                &new["status"]["acceptedNames"],
                path.child("acceptedNames"),
                causes,
            );
        }
        // What a deletion or a controller's finalizer leaves alone needn't be looked at again.
        if !tree::same(&new["spec"], &old["spec"]) {
            spec::validate(&new["spec"], Some(old), causes);
        }
        spec::validate_status(new, causes);
        spec::validate_approval(new, Some(old), causes);
    }

    fn warnings(&self, _sub: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
        let before = old.map(schema_warnings).unwrap_or_default();
        let now = schema_warnings(object);
        now.into_iter().filter(|warning| !before.contains(warning)).collect()
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let created = object["metadata"]["creationTimestamp"].as_str().and_then(parse_time);
        let created = created.map(format_time).unwrap_or_default();
        let (spec, names) = (&object["spec"], &object["spec"]["names"]);
        let short = tree::list(names, "shortNames").iter().filter_map(Value::as_str);
        vec![
            object["metadata"]["name"].clone(),
            tree::text(spec, "scope").into(),
            served_versions(spec).join(",").into(),
            created.into(),
            tree::text(spec, "group").into(),
            tree::text(names, "kind").into(),
            short.collect::<Vec<_>>().join(",").into(),
            established(object).into(),
        ]
    }

    fn owns_deletion(&self) -> bool {
        true
    }

    /// A definition stays until its instances are gone.
    fn held(&self, object: &Value) -> bool {
        !tree::has(&object["metadata"], "deletionTimestamp")
    }

    fn prepare_for_deletion(&self, object: &mut Value) {
        let metadata = tree::child(object, "metadata");
        let mut finalizers = tree::list(metadata, "finalizers").to_vec();
        if !finalizers.iter().any(|one| one == CLEANUP) {
            finalizers.push(CLEANUP.into());
            tree::set(metadata, "finalizers", finalizers);
        }
        let at = metadata["deletionTimestamp"].as_str().and_then(parse_time);
        let condition = json!({"type": "Terminating", "status": "True",
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"});
        set_condition::set(tree::child(object, "status"), condition, at.unwrap_or_default());
    }
}

fn served_versions(spec: &Value) -> Vec<String> {
    let served = tree::list(spec, "versions").iter().filter(|one| tree::flag(one, "served"));
    let told = |version: &Value| {
        let mark = if tree::flag(version, "storage") { "(storage)" } else { "" };
        format!("{}{mark}", tree::text(version, "name"))
    };
    let mut all: Vec<String> = served.map(told).collect();
    all.sort();
    all
}

fn stored_version(object: &Value) -> Option<Value> {
    let versions = tree::list(&object["spec"], "versions").iter();
    let stored = versions.clone().find(|version| tree::flag(version, "storage"));
    stored.map(|version| version["name"].clone())
}

/// What of the schemas is only written down.
fn schema_warnings(object: &Value) -> Vec<String> {
    let (mut formats, mut sets) = (Vec::new(), Vec::new());
    for version in tree::list(&object["spec"], "versions") {
        let schema = Schema::read(&version["schema"]["openAPIV3Schema"]);
        schema.any(&mut |schema| {
            if formats::unrecognized(&schema.ty, &schema.format) {
                formats.push(format!("unrecognized format {:?}", schema.format));
            }
            let items = schema.items.as_deref().filter(|items| ["object", "array"].contains(&items.ty.as_str()));
            if let Some(items) = items.filter(|_| schema.list_type.as_deref() == Some("set")) {
                sets.push(format!("x-kubernetes-list-type: set for items of type {:?} is not supported by server-side apply or CEL validation rules", items.ty));
            }
            false
        });
    }
    sets.sort();
    sets.dedup();
    formats.extend(sets);
    formats
}
