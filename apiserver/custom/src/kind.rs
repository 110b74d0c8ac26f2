//! The rows of the kind table that a CustomResourceDefinition makes: one a served version, all over
//! the same stored objects. A row works in its own version; what is stored is of the version that the
//! definition says, and turning one into the other changes only `apiVersion`.

use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering as Order},
    },
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use windlass_apiserver_registry::{
    Causes, Cells, Column, Context, GroupVersion, Kind, Owned, Path, ScalePaths, Selectable,
    Separation, Strategy, Subresource, tree,
};
use windlass_sdk_meta::{Object, Timestamp};

use crate::{
    columns::{self, JsonPath},
    default, definition, lists, meta,
    owned::owned,
    prune,
    rules::{self, Rules},
    schema::Schema,
    validate,
};

const VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// While its definition is being deleted, nothing new is made.
const LAST_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];
const SUB_VERBS: [&str; 3] = ["get", "patch", "update"];
pub const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// A definition, read.
#[derive(Debug)]
pub struct Definition {
    pub group: String,
    pub kind: String,
    pub versions: Vec<Version>,
    /// Position of the version that is stored.
    storage: usize,
    /// Objects written after this revision were written under these schemas; unknown at first.
    since: AtomicU64,
    /// Nothing new is made.
    deleting: bool,
    /// Others are in its place.
    replaced: AtomicBool,
}

/// One version of a definition.
#[derive(Debug)]
pub struct Version {
    pub name: String,
    pub schema: Schema,
    /// Objects of this version may say anything.
    pub schemaless: bool,
    status: bool,
    scale: Option<Scale>,
    columns: Vec<(JsonPath, String)>,
    owned: Owned,
    rules: OnceLock<Option<Rules>>,
}

#[derive(Debug)]
struct Scale {
    spec: String,
    status: String,
    selector: String,
}

/// The strategy of one version's objects.
pub struct Custom {
    pub definition: Arc<Definition>,
    at: usize,
    api_version: String,
    /// Of the version as the definition has it, and of its names.
    fingerprint: String,
}

/// The rows of an established definition; none where it isn't served.
pub fn kinds_of(definition: &Value) -> Vec<Arc<Kind>> {
    if !definition::established(definition) {
        return Vec::new();
    }
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let deleting = tree::has(&definition["metadata"], "deletionTimestamp");
    let read = Arc::new(Definition::read(spec, deleting));
    let versions = tree::list(spec, "versions");
    let union = selectable(versions);
    let mut kinds: Vec<Arc<Kind>> = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        if !tree::flag(version, "served") {
            continue;
        }
        let strategy = Custom {
            definition: read.clone(),
            at,
            fingerprint: digest(&[version, names]),
            api_version: format!("{}/{}", read.group, read.versions[at].name),
        };
        kinds.push(Arc::new(Kind {
            served: vec![GroupVersion::new(read.group.clone(), read.versions[at].name.clone())],
            kind: owned_text(names, "kind"),
            list_kind: owned_text(names, "listKind"),
            plural: owned_text(names, "plural"),
            singular: owned_text(names, "singular"),
            short_names: owned_texts(names, "shortNames"),
            categories: owned_texts(names, "categories"),
            namespaced: tree::text(spec, "scope") == "Namespaced",
            verbs: borrowed(if deleting { &LAST_VERBS } else { &VERBS }),
            subresources: subresources(&strategy, tree::text(names, "kind")),
            selectable: offered(&union, version),
            columns: printed(version),
            create_on_update: false,
            unconditional_update: false,
            judges_base_on_update: false,
            returns_deleted: false,
            virtual_only: false,
            inert: false,
            warning: deprecation(spec, version).map(Cow::Owned),
            computed: None,
            strategy: Arc::new(strategy),
        }));
    }
    sort_kinds(&mut kinds);
    kinds
}

/// No write by these rows begins after this.
pub fn replace(rows: &[Arc<Kind>]) {
    for custom in rows.iter().filter_map(|row| Custom::of(row)) {
        custom.definition.replaced.store(true, Order::SeqCst);
    }
}

/// Whoever writes by these rows does so after a revision. What was written before is, where that
/// hasn't been said of them yet, read as of other schemas.
pub fn in_use_since(rows: &[Arc<Kind>], revision: u64) {
    for custom in rows.iter().filter_map(|row| Custom::of(row)) {
        let since = &custom.definition.since;
        let _ = since.compare_exchange(u64::MAX, revision, Order::Relaxed, Order::Relaxed);
    }
}

/// What tells one state of a custom kind's definition from others; None for kinds that are compiled
/// in.
pub fn fingerprint(kind: &Kind) -> Option<&str> {
    Some(&Custom::of(kind)?.fingerprint)
}

/// Puts rows into the order of discovery: groups by name, then their versions, the best first.
pub fn sort_kinds(kinds: &mut [Arc<Kind>]) {
    kinds.sort_by(|a, b| {
        let (a, b) = (a.storage(), b.storage());
        a.group.cmp(&b.group).then_with(|| compare_versions(&b.version, &a.version))
    });
}

/// `v2` before `v1` before `v2beta1` before `v1alpha1`, and all of these after other names.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let parse = |text: &str| {
        let rest = text.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let stage = |name: &str, rank: u8| {
            let minor = tail.strip_prefix(name)?;
            (!minor.starts_with('0')).then_some(())?;
            Some((rank, major, minor.parse::<u64>().ok()?))
        };
        if tail.is_empty() {
            return Some((2, major, 0));
        }
        stage("beta", 1).or_else(|| stage("alpha", 0))
    };
    match (parse(a), parse(b)) {
        (Some(x), Some(y)) => x.cmp(&y),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

impl Definition {
    fn read(spec: &Value, deleting: bool) -> Definition {
        let versions = tree::list(spec, "versions");
        let storage = versions.iter().position(|version| tree::flag(version, "storage"));
        Definition {
            group: tree::text(spec, "group").to_owned(),
            kind: tree::text(&spec["names"], "kind").to_owned(),
            versions: versions.iter().map(Version::read).collect(),
            storage: storage.unwrap_or(0),
            since: AtomicU64::new(u64::MAX),
            deleting,
            replaced: AtomicBool::new(false),
        }
    }

    fn version_of(&self, api_version: &str) -> Option<&Version> {
        let (group, name) = api_version.split_once('/')?;
        self.versions.iter().find(|version| group == self.group && version.name == name)
    }

    fn stored(&self) -> String {
        format!("{}/{}", self.group, self.versions[self.storage].name)
    }
}

impl Version {
    fn read(version: &Value) -> Version {
        let json = &version["schema"]["openAPIV3Schema"];
        let schema = Schema::read(json);
        let scale = &version["subresources"]["scale"];
        let path = |key: &str| tree::text(scale, key).trim_start_matches('.').to_owned();
        Version {
            name: tree::text(version, "name").to_owned(),
            schemaless: !json.is_object(),
            status: version["subresources"]["status"].is_object(),
            scale: scale.is_object().then(|| Scale {
                spec: path("specReplicasPath"),
                status: path("statusReplicasPath"),
                selector: path("labelSelectorPath"),
            }),
            columns: columns_of(version)
                .iter()
                .map(|column| {
                    // Validation has read it before.
                    let path = JsonPath::parse(tree::text(column, "jsonPath"));
                    (path.unwrap_or(JsonPath::NOWHERE), tree::text(column, "type").to_owned())
                })
                .collect(),
            owned: owned(&schema),
            rules: OnceLock::new(),
            schema,
        }
    }

    fn rules(&self) -> Option<&Rules> {
        self.rules.get_or_init(|| Rules::of(&self.schema, true)).as_ref()
    }

    /// What a reader of this version gets of an object that was written under other schemas.
    fn renew(&self, object: &mut Value) {
        if !self.schemaless {
            prune::prune(object, &self.schema);
            prune::drop_nulls(object, Some(&self.schema));
            default::fill(object, &self.schema);
        }
    }
}

impl Custom {
    /// The strategy of a row, where it is of this type.
    pub fn of(kind: &Kind) -> Option<&Custom> {
        kind.strategy.as_any()?.downcast_ref()
    }

    pub fn version(&self) -> &Version {
        &self.definition.versions[self.at]
    }

    fn check(&self, new: &Value, old: Option<&Value>, sub: &str, causes: &mut Causes) {
        let version = self.version();
        let schema = &version.schema;
        let before = causes.len();
        if sub == "status" {
            if let (Some(status), Some(own)) = (new.get("status"), schema.field("status")) {
                let old = old.and_then(|old| old.get("status"));
                validate::check_under("status", status, own, old, causes);
            }
        } else {
            validate::check(new, schema, "", old, causes);
        }
        self.check_scale(new, sub, causes);
        meta::check(new, schema, "", causes);
        let mut doubles = Causes::default();
        if let Some(old) = old {
            lists::check(old, schema, "", &mut doubles);
        }
        if doubles.is_empty() {
            lists::check(new, schema, "", causes);
        }
        let Some(rules) = version.rules() else { return };
        if causes.iter().skip(before).any(|cause| blocks_rules(&cause.reason)) {
            causes.invalid_null(Path::Child(&Path::Root, "<nil>"), UNCHECKED);
        } else {
            rules::check(new, schema, rules, "", old, causes);
        }
    }

    fn check_scale(&self, object: &Value, sub: &str, causes: &mut Causes) {
        let Some(scale) = &self.version().scale else { return };
        let spec = (sub != "status").then_some(&scale.spec);
        for path in spec.into_iter().chain([&scale.status]) {
            let value = tree::at(object, path);
            let dotted = format!(".{path}");
            let at = Path::Child(&Path::Root, &dotted);
            match value.as_i64() {
                None if value.is_null() => {}
                None => {
                    let why = format!(
                        "{dotted} accessor error: {value} is of the type {}, expected int64",
                        go_type(value)
                    );
                    causes.invalid(at, &0.into(), why);
                }
                Some(n) if n < 0 => causes.invalid(at, value, "should be a non-negative integer"),
                Some(n) if n > i64::from(i32::MAX) => {
                    causes.invalid(at, value, "should be less than or equal to 2147483647");
                }
                Some(_) => {}
            }
        }
        let selector = tree::at(object, &scale.selector);
        if !scale.selector.is_empty() && !selector.is_null() && !selector.is_string() {
            let dotted = format!(".{}", scale.selector);
            let why = format!(
                "{dotted} accessor error: {selector} is of the type {}, expected string",
                go_type(selector)
            );
            causes.invalid_text(Path::Child(&Path::Root, &dotted), "", why);
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Rules are not looked at while an object isn't what its schema says.
fn blocks_rules(reason: &str) -> bool {
    let blocking = [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    blocking.contains(&reason)
}

impl Strategy for Custom {
    fn default(&self, object: &mut Value) {
        let version = self.version();
        if !version.schemaless {
            prune::drop_nulls(object, Some(&version.schema));
            default::fill(object, &version.schema);
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            let managed = tree::remove(&mut new["metadata"], "managedFields");
            tree::keep(new, old, "metadata");
            if let Some(managed) = managed {
                tree::set(&mut new["metadata"], "managedFields", managed);
            }
        }
    }

    fn separation(&self) -> Separation {
        match self.version().status {
            true => Separation::StatusAndGeneration,
            false => Separation::Generation,
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        self.check(object, None, "", causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.check(new, Some(old), sub, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let mut cells = vec![object["metadata"]["name"].clone()];
        for (path, data_type) in &self.version().columns {
            cells.push(columns::cell(path.find(object).first().copied(), data_type, now));
        }
        cells
    }

    fn scale(&self) -> Option<ScalePaths<'_>> {
        let scale = self.version().scale.as_ref()?;
        Some(ScalePaths {
            spec_replicas: &scale.spec,
            status_replicas: &scale.status,
            selector: &scale.selector,
            plain_selector: false,
        })
    }

    fn warnings(&self, _sub: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
        let known = old.map_or(&[][..], |old| tree::list(&old["metadata"], "finalizers"));
        let all = tree::list(&object["metadata"], "finalizers").iter();
        let new = all.filter(|one| !known.contains(one)).filter_map(Value::as_str);
        let standard = ["kubernetes", "orphan", "foregroundDeletion"];
        let plain = new.filter(|one| !one.contains('/') && !standard.contains(one));
        plain
            .map(|one| {
                let path = if one.contains('.') { " including a path (/)" } else { "" };
                format!("metadata.finalizers: {one:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers")
            })
            .collect()
    }

    fn is_slow(&self) -> bool {
        self.version().schema.has_rules()
    }

    fn owned(&self) -> Option<&Owned> {
        Some(&self.version().owned)
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn coerce(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let version = self.version();
        let mut dropped = meta::coerce(object, &version.schema, true)?;
        if !version.schemaless {
            dropped.extend(prune::prune(object, &version.schema));
        }
        Ok(dropped)
    }

    fn refuses_new(&self) -> Option<&'static str> {
        let why = "create not allowed while custom resource definition is terminating";
        self.definition.deleting.then_some(why)
    }

    fn is_replaced(&self) -> bool {
        self.definition.replaced.load(Order::SeqCst)
    }

    fn serves_stored(&self, object: &Object) -> bool {
        let since = self.definition.since.load(Order::Relaxed);
        let written_under_this = object.revision > since || object.revision == 0;
        let head = format!("{{\"apiVersion\":\"{}\",", self.api_version);
        object.encoded().bytes().starts_with(head.as_bytes())
            && (written_under_this || self.version().schemaless)
    }

    fn read_stored(&self, object: &mut Value) {
        if let Some(stored) = self.definition.version_of(tree::text(object, "apiVersion")) {
            stored.renew(object);
        }
        tree::set(object, "apiVersion", self.api_version.as_str());
        tree::set(object, "kind", self.definition.kind.as_str());
        self.version().renew(object);
    }

    fn to_stored(&self, object: &mut Value) {
        tree::set(object, "apiVersion", self.definition.stored());
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.definition.kind)
    }
}

fn digest(of: &[&Value]) -> String {
    let mut hash = Sha256::new();
    of.iter().for_each(|value| hash.update(value.to_string()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn owned_text(of: &Value, key: &str) -> Cow<'static, str> {
    Cow::Owned(tree::text(of, key).to_owned())
}

fn owned_texts(of: &Value, key: &str) -> Vec<Cow<'static, str>> {
    let all = tree::list(of, key).iter().filter_map(Value::as_str);
    all.map(|text| Cow::Owned(text.to_owned())).collect()
}

fn borrowed(names: &[&'static str]) -> Vec<Cow<'static, str>> {
    names.iter().map(|name| Cow::Borrowed(*name)).collect()
}

fn subresources(strategy: &Custom, kind: &str) -> Vec<Subresource> {
    let version = strategy.version();
    let mut all = Vec::new();
    if version.status {
        all.push(Subresource {
            name: "status".into(),
            group: strategy.definition.group.clone().into(),
            version: version.name.clone().into(),
            kind: kind.to_owned().into(),
            verbs: borrowed(&SUB_VERBS),
        });
    }
    if version.scale.is_some() {
        all.push(Subresource {
            name: "scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            kind: "Scale".into(),
            verbs: borrowed(&SUB_VERBS),
        });
    }
    all
}

fn fields_of(version: &Value) -> impl Iterator<Item = &str> {
    let all = tree::list(version, "selectableFields").iter();
    all.map(|field| tree::text(field, "jsonPath").trim_start_matches('.'))
}

/// Every path that any version offers: the stored objects are the same for all.
fn selectable(versions: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = versions.iter().flat_map(fields_of).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

/// The union of all paths; those of other versions can't be asked for by any name.
fn offered(union: &[String], version: &Value) -> Vec<Selectable> {
    let own: Vec<&str> = fields_of(version).collect();
    let label =
        |path: &String| if own.contains(&path.as_str()) { path.clone() } else { String::new() };
    union.iter().map(|path| Selectable::new(label(path), path.clone(), "")).collect()
}

fn columns_of(version: &Value) -> Vec<Value> {
    let own = tree::list(version, "additionalPrinterColumns");
    match own {
        [] => vec![serde_json::json!({"name": "Age", "type": "date",
            "jsonPath": ".metadata.creationTimestamp"})],
        own => own.to_vec(),
    }
}

fn printed(version: &Value) -> Vec<Column> {
    let name = Column {
        name: "Name".into(),
        data_type: "string".into(),
        format: "name".into(),
        description: "".into(),
        priority: 0,
    };
    let own = columns_of(version).into_iter().map(|column| Column {
        name: owned_text(&column, "name"),
        data_type: owned_text(&column, "type"),
        format: owned_text(&column, "format"),
        description: match tree::text(&column, "description") {
            "" => format!(
                "Custom resource definition column (in JSONPath format): {}",
                tree::text(&column, "jsonPath")
            )
            .into(),
            text => text.to_owned().into(),
        },
        priority: tree::number(&column, "priority").and_then(|n| n.try_into().ok()).unwrap_or(0),
    });
    std::iter::once(name).chain(own).collect()
}

/// What every answer of a version that goes out of use warns of.
fn deprecation(spec: &Value, version: &Value) -> Option<String> {
    if !tree::flag(version, "deprecated") {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let (group, kind) = (tree::text(spec, "group"), tree::text(&spec["names"], "kind"));
    let name = tree::text(version, "name");
    let better = tree::list(spec, "versions")
        .iter()
        .filter(|other| tree::flag(other, "served") && !tree::flag(other, "deprecated"))
        .map(|other| tree::text(other, "name"))
        .filter(|other| compare_versions(name, other) == Ordering::Less)
        .max_by(|a, b| compare_versions(a, b));
    let instead = better.map(|better| format!("; use {group}/{better} {kind}")).unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}
