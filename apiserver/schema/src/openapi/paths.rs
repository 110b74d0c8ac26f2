//! The paths of a document and their operations, in upstream's names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    Descriptions, Pieces, ResourcePath, gvk, innermost, is_special, reference, special_name,
    special_schema, type_schema,
};
use crate::facts::{Schema, Shape, Type};

const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Verbs and the methods that open a stream under them.
const CONNECTIONS: [(&str, &str); 5] = [
    ("get", "get"),
    ("create", "post"),
    ("update", "put"),
    ("patch", "patch"),
    ("delete", "delete"),
];

pub(super) struct Document<'a> {
    group: &'a str,
    version: &'a str,
    prefix: String,
    descriptions: &'a dyn Descriptions,
    paths: BTreeMap<String, Value>,
    /// Names of the schemas that operations refer to.
    needed: BTreeSet<String>,
    /// Schemas that the type table doesn't have.
    own: BTreeMap<String, Value>,
}

/// One operation of a path.
struct Operation<'a> {
    method: &'static str,
    action: &'static str,
    id: String,
    parameters: &'static [(&'static str, &'static str)],
    body: Option<Body>,
    answer: Option<&'a str>,
}

enum Body {
    Patch,
    Of(String),
}

const WRITE: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCHING: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETING: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETING_MANY: [(&str, &str); 12] = [
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
const LISTING: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

impl<'a> Document<'a> {
    pub(super) fn new(
        group: &'a str,
        version: &'a str,
        descriptions: &'a dyn Descriptions,
    ) -> Document<'a> {
        let prefix = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let (paths, needed, own) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Document { group, version, prefix, descriptions, paths, needed, own }
    }

    pub(super) fn add(&mut self, path: &ResourcePath<'_>) {
        let schema = Schema::builtin();
        let named = |kind: &str| schema.kind(path.kind_group, path.kind_version, kind);
        let own = path.own.map(|own| (own.name, own.list));
        let object = own.map(|(name, _)| name).or(named(path.kind).map(|ty| ty.name));
        let list = named(&format!("{}List", path.kind)).map(|ty| ty.name);
        let list = own.map(|(_, list)| list).or(list);
        for (name, schema) in path.own.iter().flat_map(|own| own.schemas) {
            self.own.insert(name.clone(), schema.clone());
        }
        let scope = if path.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{}{scope}/{}", self.prefix, path.plural);
        let item = format!("{collection}/{{name}}");
        match path.subresource {
            Some(subresource) if path.kind.ends_with("Options") => {
                let operations = self.connections(path);
                self.put(&format!("{item}/{subresource}"), path, operations);
            }
            Some(subresource) => {
                let at = format!("{item}/{subresource}");
                let operations = self.item_operations(path, object);
                self.put(&at, path, operations);
                // `create` on a subresource posts to it (binding, eviction, token).
                let create = self.create(path, object);
                self.put(&at, path, create.into_iter().collect());
            }
            None => {
                let mut operations: Vec<Operation<'_>> =
                    self.create(path, object).into_iter().collect();
                operations.extend(self.list(path, list, ""));
                if path.verbs.contains(&"deletecollection") {
                    operations.push(Operation {
                        method: "delete",
                        action: "deletecollection",
                        id: self.id("delete", "Collection", path, ""),
                        parameters: &DELETING_MANY,
                        body: Some(Body::Of(DELETE_OPTIONS.into())),
                        answer: Some(STATUS),
                    });
                }
                self.put(&collection, path, operations);
                let operations = self.item_operations(path, object);
                self.put(&item, path, operations);
                if path.namespaced {
                    let all = format!("{}/{}", self.prefix, path.plural);
                    let operations = self.list(path, list, "ForAllNamespaces");
                    self.put(&all, path, operations.into_iter().collect());
                }
            }
        }
    }

    /// What a stream is opened with (exec, attach, port-forward, proxy): no body, no schema.
    fn connections<'t>(&self, path: &ResourcePath<'_>) -> Vec<Operation<'t>> {
        CONNECTIONS
            .iter()
            .filter(|(verb, _)| path.verbs.contains(verb))
            .map(|(_, method)| Operation {
                id: self.id("connect", &capitalised(method), path, ""),
                ..operation(method, "connect", &[], None, None)
            })
            .collect()
    }

    fn create<'t>(
        &self,
        path: &ResourcePath<'_>,
        object: Option<&'t str>,
    ) -> Option<Operation<'t>> {
        path.verbs.contains(&"create").then(|| Operation {
            method: "post",
            action: "post",
            id: self.id("create", "", path, ""),
            parameters: &WRITE,
            body: object.map(|name| Body::Of(name.into())),
            answer: object,
        })
    }

    fn list<'t>(
        &self,
        path: &ResourcePath<'_>,
        list: Option<&'t str>,
        suffix: &str,
    ) -> Option<Operation<'t>> {
        path.verbs.contains(&"list").then(|| Operation {
            method: "get",
            action: "list",
            id: self.id("list", "", path, suffix),
            parameters: &LISTING,
            body: None,
            answer: list,
        })
    }

    fn item_operations<'t>(
        &self,
        path: &ResourcePath<'_>,
        object: Option<&'t str>,
    ) -> Vec<Operation<'t>> {
        let of = || object.map(|name| Body::Of(name.into()));
        let rows: [(&str, Operation<'t>); 4] = [
            ("get", operation("get", "get", &[], None, object)),
            ("update", operation("put", "put", &WRITE, of(), object)),
            ("patch", operation("patch", "patch", &PATCHING, Some(Body::Patch), object)),
            ("delete", {
                let body = Some(Body::Of(DELETE_OPTIONS.into()));
                operation("delete", "delete", &DELETING, body, Some(STATUS))
            }),
        ];
        let names = ["read", "replace", "patch", "delete"];
        rows.into_iter()
            .zip(names)
            .filter(|((verb, _), _)| path.verbs.contains(verb))
            .map(|((_, operation), name)| Operation {
                id: self.id(name, "", path, ""),
                ..operation
            })
            .collect()
    }

    /// An operation's id in upstream's form, e.g. `patchAppsV1NamespacedDeploymentStatus`.
    fn id(&self, verb: &str, infix: &str, path: &ResourcePath<'_>, suffix: &str) -> String {
        let group = capitalised(&group_word(self.group));
        let scope = if path.namespaced && suffix.is_empty() { "Namespaced" } else { "" };
        let subresource = path.subresource.map(capitalised).unwrap_or_default();
        // The kind of the resource itself, also for a subresource of another kind.
        let kind = Schema::builtin()
            .resource(self.group, self.version, path.plural, None)
            .map_or(path.kind, |resource| resource.kind);
        let version = capitalised(self.version);
        format!("{verb}{group}{version}{infix}{scope}{kind}{subresource}{suffix}")
    }

    fn put(&mut self, at: &str, path: &ResourcePath<'_>, operations: Vec<Operation<'_>>) {
        for operation in operations {
            let entry = self.paths.entry(at.to_owned()).or_insert_with(|| {
                let mut parameters = Vec::new();
                for name in ["name", "namespace"] {
                    if at.contains(&format!("{{{name}}}")) {
                        parameters.push(parameter(name, "path", "string"));
                    }
                }
                parameters.push(parameter("pretty", "query", "string"));
                json!({ "parameters": parameters })
            });
            let written = written(&operation, path, self.group, self.version);
            entry[operation.method] = written;
            let body = match &operation.body {
                Some(Body::Of(name)) => Some(name.as_str()),
                _ => None,
            };
            self.needed.extend(body.into_iter().chain(operation.answer).map(str::to_string));
        }
    }

    /// Hands over the paths, then every schema that their operations reach.
    pub(super) fn finish(self, pieces: &mut dyn Pieces) {
        for (path, item) in self.paths {
            pieces.path(&path, item);
        }
        let mut waiting: Vec<String> = self.needed.into_iter().collect();
        let mut found: BTreeMap<String, Found<'_>> = BTreeMap::new();
        found.insert(PATCH.into(), Found::Patch);
        while let Some(name) = waiting.pop() {
            if found.contains_key(&name) {
                continue;
            }
            if let Some(own) = self.own.get(&name) {
                references(own, &mut waiting);
                found.insert(name, Found::Own(own));
                continue;
            }
            let Some(ty) = Schema::builtin().type_named(&name) else { continue };
            for field in ty.properties() {
                match innermost(&field.shape) {
                    Shape::Struct(id) => waiting.push(id.get().name.into()),
                    special if is_special(special) => {
                        let at = special_name(special).to_owned();
                        found.entry(at).or_insert_with(|| Found::Special(special.clone()));
                    }
                    _ => {}
                }
            }
            found.insert(name, Found::Type(ty));
        }
        for (name, found) in found {
            let schema = match found {
                Found::Patch => json!({"type": "object"}),
                Found::Own(schema) => schema.clone(),
                Found::Type(ty) => type_schema(ty, self.descriptions),
                Found::Special(shape) => {
                    let mut schema = special_schema(&shape);
                    if let Some(text) = self.descriptions.type_description(&name) {
                        schema["description"] = text.into();
                    }
                    schema
                }
            };
            pieces.schema(&name, schema);
        }
    }
}

/// Where a schema comes from.
enum Found<'a> {
    /// Anything may stand in a patch.
    Patch,
    Type(&'static Type),
    /// A type that writes its own JSON.
    Special(Shape),
    Own(&'a Value),
}

/// The names of the schemas that a schema refers to.
fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let to = members.get("$ref").and_then(Value::as_str);
            names.extend(to.and_then(|to| to.strip_prefix(&reference(""))).map(str::to_owned));
            members.values().for_each(|value| references(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

fn operation<'t>(
    method: &'static str,
    action: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    body: Option<Body>,
    answer: Option<&'t str>,
) -> Operation<'t> {
    Operation { method, action, id: String::new(), parameters, body, answer }
}

fn written(
    operation: &Operation<'_>,
    path: &ResourcePath<'_>,
    group: &str,
    version: &str,
) -> Value {
    let answer = operation.answer.map_or_else(
        || json!({"description": "OK"}),
        |name| json!({"description": "OK", "content": {"application/json": {"schema": {"$ref": reference(name)}}}}),
    );
    let first = group_word(group);
    let mut out = json!({
        "operationId": operation.id,
        "tags": [format!("{first}_{version}")],
        "responses": {"200": answer},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(path.kind_group, path.kind_version, path.kind),
    });
    if !operation.parameters.is_empty() {
        let rows = operation.parameters.iter();
        out["parameters"] = rows.map(|(name, ty)| parameter(name, "query", ty)).collect();
    }
    let content = |types: &[&str], name: &str| {
        let schema = json!({"schema": {"$ref": reference(name)}});
        let rows = types.iter().map(|ty| (ty.to_string(), schema.clone()));
        json!({"content": rows.collect::<Map<_, _>>(), "required": true})
    };
    match &operation.body {
        Some(Body::Patch) => {
            // Of a kind that came at run time no merge keys are known.
            let types = if path.own.is_some() { &PATCH_TYPES[..3] } else { &PATCH_TYPES };
            out["requestBody"] = content(types, PATCH);
        }
        Some(Body::Of(name)) => out["requestBody"] = content(&["*/*"], name),
        None => {}
    }
    out
}

/// A group as operation ids and tags write it: `rbac.authorization.k8s.io` is `rbacAuthorization`.
fn group_word(group: &str) -> String {
    let mut words = group.trim_end_matches(".k8s.io").split('.');
    match words.next().filter(|first| !first.is_empty()) {
        Some(first) => words.fold(first.into(), |all: String, word| all + &capitalised(word)),
        None => "core".into(),
    }
}

fn parameter(name: &str, place: &str, ty: &str) -> Value {
    let mut out = json!({"name": name, "in": place, "schema": {"type": ty, "uniqueItems": true}});
    if place == "path" {
        out["required"] = true.into();
    }
    out
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
}
