//! OpenAPI v3 documents, one a group-version, out of the type table.
//!
//! What reads them: `kubectl explain` finds the kind by the `get` of a path, follows `$ref`s and prints
//! descriptions, enums and what is required; `kubectl apply` takes a strategic merge patch only where
//! the kind's PATCH accepts `application/strategic-merge-patch+json`, and computes it from the
//! `x-kubernetes-patch-*` extensions; `--validate` wants the query parameter `fieldValidation` on that
//! PATCH; server-side apply clients read list types and map keys.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::facts::{Field, META_GROUP, ResourceFacts, Schema, Shape, Type};

/// The document of one group-version. `group` is empty for the core group. It holds the schemas that
/// the paths reach, and no others.
pub fn openapi_v3(
    group: &str,
    version: &str,
    paths: &[ResourcePath<'_>],
    descriptions: &dyn Descriptions,
) -> Value {
    let prefix = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let mut document = Document {
        group,
        version,
        prefix,
        descriptions,
        paths: Map::new(),
        needed: BTreeSet::new(),
    };
    for path in paths {
        document.add(path);
    }
    document.finish()
}

/// A served resource or subresource.
#[derive(Debug, Clone, Copy)]
pub struct ResourcePath<'a> {
    pub plural: &'a str,
    pub subresource: Option<&'a str>,
    /// What is read and written there.
    pub kind_group: &'a str,
    pub kind_version: &'a str,
    pub kind: &'a str,
    pub namespaced: bool,
    /// Discovery's verbs.
    pub verbs: &'a [&'a str],
}

impl<'a> From<&'a ResourceFacts> for ResourcePath<'a> {
    fn from(facts: &'a ResourceFacts) -> ResourcePath<'a> {
        ResourcePath {
            plural: facts.plural,
            subresource: facts.subresource,
            kind_group: facts.kind_group,
            kind_version: facts.kind_version,
            kind: facts.kind,
            namespaced: facts.namespaced,
            verbs: &facts.verbs,
        }
    }
}

/// Where the sentences of `kubectl explain` come from; the binary hands them in as data.
pub trait Descriptions {
    /// `type_name` is OpenAPI's, e.g. `io.k8s.api.core.v1.PodSpec`.
    fn type_description(&self, type_name: &str) -> Option<&str>;
    /// `json_field` is the property's name.
    fn field_description(&self, type_name: &str, json_field: &str) -> Option<&str>;
}

/// No sentences at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDescriptions;

impl Descriptions for NoDescriptions {
    fn type_description(&self, _: &str) -> Option<&str> {
        None
    }

    fn field_description(&self, _: &str, _: &str) -> Option<&str> {
        None
    }
}

/// The component schema of a type, without those it refers to.
pub fn type_schema(ty: &Type, descriptions: &dyn Descriptions) -> Value {
    let mut properties = Map::new();
    for field in ty.properties() {
        let description = descriptions.field_description(ty.name, field.json);
        properties.insert(field.json.into(), property(field, description));
    }
    let mut out = Map::new();
    if let Some(text) = descriptions.type_description(ty.name) {
        out.insert("description".into(), text.into());
    }
    let mut set = |key: &str, value: Value| drop(out.insert(key.into(), value));
    if !properties.is_empty() {
        set("properties", Value::Object(properties));
    }
    let required = required(ty);
    if !required.is_empty() {
        set("required", required.into());
    }
    set("type", "object".into());
    let kinds = group_version_kinds(ty);
    if !kinds.is_empty() {
        set("x-kubernetes-group-version-kind", kinds.into());
    }
    if let Some(map_type) = ty.map_type {
        set("x-kubernetes-map-type", map_type.into());
    }
    Value::Object(out)
}

/// The required properties in Go's order, embedded structs included.
fn required(ty: &Type) -> Vec<&'static str> {
    let mut out = Vec::new();
    for field in &ty.fields {
        match &field.shape {
            Shape::Struct(inner) if field.inline => out.extend(required(inner.get())),
            _ if field.required => out.push(field.json),
            _ => {}
        }
    }
    out
}

/// The kinds of a type. Kinds of every group are named under the core group, where clients look.
fn group_version_kinds(ty: &Type) -> Vec<Value> {
    ty.kinds()
        .filter(|k| k.group != META_GROUP || TRAVELLING.contains(&k.kind))
        .map(|k| {
            let group = if k.group == META_GROUP { "" } else { k.group };
            gvk(group, k.version, k.kind)
        })
        .collect()
}

/// Kinds of meta/v1 that documents name as kinds.
const TRAVELLING: [&str; 3] = ["DeleteOptions", "Status", "WatchEvent"];

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "kind": kind, "version": version})
}

fn property(field: &Field, description: Option<&str>) -> Value {
    let mut out = match shape_schema(&field.shape) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let reference = out.shift_remove("$ref");
    if let Some(text) = description {
        out.insert("description".into(), text.into());
    }
    if let Some(default) = default(field) {
        out.insert("default".into(), default);
    }
    if !field.enums.is_empty() {
        out.insert("enum".into(), field.enums.clone().into());
    }
    if let Some(format) = field.format {
        out.insert("format".into(), format.into());
    }
    extensions(field, &mut out);
    match reference {
        // A reference can't have siblings in OpenAPI 3.0.
        Some(reference) if out.is_empty() => out.insert("$ref".into(), reference),
        Some(reference) => out.insert("allOf".into(), json!([{ "$ref": reference }])),
        None => None,
    };
    Value::Object(out)
}

fn extensions(field: &Field, out: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Value| drop(out.insert(format!("x-kubernetes-{key}"), value));
    if let Some(list_type) = field.list_type {
        set("list-type", list_type.into());
    }
    if !field.list_map_keys.is_empty() {
        set("list-map-keys", field.list_map_keys.clone().into());
    }
    if let Some(map_type) = field.map_type {
        set("map-type", map_type.into());
    }
    if let Some(strategy) = field.patch_strategy {
        set("patch-strategy", strategy.into());
    }
    if let Some(key) = field.patch_merge_key {
        set("patch-merge-key", key.into());
    }
}

/// What the table publishes, else the zero value of a field that Go always writes.
fn default(field: &Field) -> Option<Value> {
    if let Some(default) = field.default.filter(|d| d.published) {
        return serde_json::from_str(default.json).ok();
    }
    if field.pointer {
        return None;
    }
    match &field.shape {
        Shape::Struct(_) => Some(json!({})),
        _ if field.omitempty => None,
        Shape::String => Some("".into()),
        Shape::Bool => Some(false.into()),
        Shape::Int32 | Shape::Int64 | Shape::Float64 => Some(0.into()),
        _ => None,
    }
}

fn shape_schema(shape: &Shape) -> Value {
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Float64 => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Any => json!({"type": "object"}),
        Shape::List(inner) | Shape::Wrapped(inner) => {
            json!({"type": "array", "items": shape_schema(inner)})
        }
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": shape_schema(inner)}),
        Shape::Struct(id) => json!({"$ref": reference(id.get().name)}),
        special => json!({"$ref": reference(special_name(special))}),
    }
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// OpenAPI's name of a type that writes its own JSON.
fn special_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Shape::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Shape::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Shape::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Shape::SchemaOrArray => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        }
        Shape::SchemaOrBool => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        }
        Shape::SchemaOrStrings => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    }
}

fn special_schema(shape: &Shape) -> Value {
    match shape {
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::Duration => json!({"type": "string"}),
        Shape::FieldsV1 | Shape::Raw => json!({"type": "object"}),
        Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Shape::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        // Anything may stand there.
        _ => json!({}),
    }
}

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

struct Document<'a> {
    group: &'a str,
    version: &'a str,
    prefix: String,
    descriptions: &'a dyn Descriptions,
    paths: Map<String, Value>,
    /// Names of the schemas that operations refer to.
    needed: BTreeSet<String>,
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

impl Document<'_> {
    fn add(&mut self, path: &ResourcePath<'_>) {
        let schema = Schema::builtin();
        let named = |kind: &str| schema.kind(path.kind_group, path.kind_version, kind);
        let object = named(path.kind).map(|ty| ty.name);
        let list = named(&format!("{}List", path.kind)).map(|ty| ty.name);
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
            let entry = self.paths.entry(at).or_insert_with(|| {
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

    fn finish(self) -> Value {
        let mut schemas = Map::new();
        schemas.insert(PATCH.into(), json!({"type": "object"}));
        let mut waiting: Vec<String> = self.needed.into_iter().collect();
        let mut specials: Vec<Shape> = Vec::new();
        while let Some(name) = waiting.pop() {
            if schemas.contains_key(&name) {
                continue;
            }
            let Some(ty) = Schema::builtin().type_named(&name) else { continue };
            for field in ty.properties() {
                match innermost(&field.shape) {
                    Shape::Struct(id) => waiting.push(id.get().name.into()),
                    special => specials.push(special.clone()),
                }
            }
            schemas.insert(name, type_schema(ty, self.descriptions));
        }
        for special in specials.into_iter().filter(is_special) {
            let name = special_name(&special);
            if schemas.contains_key(name) {
                continue;
            }
            let mut schema = special_schema(&special);
            if let Some(text) = self.descriptions.type_description(name) {
                schema["description"] = text.into();
            }
            schemas.insert(name.into(), schema);
        }
        schemas.sort_keys();
        let mut paths = self.paths;
        paths.sort_keys();
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": Schema::builtin().version()},
            "paths": paths,
            "components": {"schemas": schemas},
        })
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
        Some(Body::Patch) => out["requestBody"] = content(&PATCH_TYPES, PATCH),
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

fn innermost(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(inner) | Shape::Wrapped(inner) | Shape::Map(inner) => innermost(inner),
        other => other,
    }
}

/// Whether a shape is a schema of its own.
fn is_special(shape: &Shape) -> bool {
    shape_schema(shape).get("$ref").is_some()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn document(group: &str, version: &str) -> Value {
        let all = Schema::builtin().resources().iter();
        let own = all.filter(|r| r.group == group && r.version == version);
        let paths: Vec<ResourcePath<'_>> = own.map(ResourcePath::from).collect();
        openapi_v3(group, version, &paths, &NoDescriptions)
    }

    fn check(group: &str, pointer: &str, expected: Expect) {
        let document = document(group, "v1");
        let found = document.pointer(pointer).map_or("absent".into(), Value::to_string);
        expected.assert_eq(&found);
    }

    #[test]
    fn what_kubectl_reads() {
        let patch = "/paths/~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments~1{name}/patch";
        check("apps", patch, expect![[r##"{"operationId":"patchAppsV1NamespacedDeployment","tags":["apps_v1"],"responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/io.k8s.api.apps.v1.Deployment"}}}}},"x-kubernetes-action":"patch","x-kubernetes-group-version-kind":{"group":"apps","kind":"Deployment","version":"v1"},"parameters":[{"name":"dryRun","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"fieldManager","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"fieldValidation","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"force","in":"query","schema":{"type":"boolean","uniqueItems":true}}],"requestBody":{"content":{"application/apply-patch+yaml":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/json-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/merge-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/strategic-merge-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}}},"required":true}}"##]]);
        check(
            "",
            "/paths/~1api~1v1~1namespaces~1{namespace}~1pods~1{name}~1exec/get",
            expect![[r#"{"operationId":"connectCoreV1GetNamespacedPodExec","tags":["core_v1"],"responses":{"200":{"description":"OK"}},"x-kubernetes-action":"connect","x-kubernetes-group-version-kind":{"group":"","kind":"PodExecOptions","version":"v1"}}"#]],
        );
        let spec = "/components/schemas/io.k8s.api.apps.v1.DeploymentSpec";
        check("apps", spec, expect![[r##"{"properties":{"minReadySeconds":{"type":"integer","format":"int32"},"paused":{"type":"boolean"},"progressDeadlineSeconds":{"type":"integer","format":"int32"},"replicas":{"type":"integer","format":"int32"},"revisionHistoryLimit":{"type":"integer","format":"int32"},"selector":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"},"strategy":{"default":{},"x-kubernetes-patch-strategy":"retainKeys","allOf":[{"$ref":"#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]},"template":{"default":{},"allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"}]}},"required":["selector","template"],"type":"object"}"##]]);
        let ports = "/components/schemas/io.k8s.api.core.v1.Container/properties/ports";
        check("apps", ports, expect![[r##"{"type":"array","items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.ContainerPort"},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-patch-strategy":"merge","x-kubernetes-patch-merge-key":"containerPort"}"##]]);
        check("apps", "/components/schemas/io.k8s.api.apps.v1.Deployment/required", expect![[r#"["spec"]"#]]);
        check("apps", "/components/schemas/io.k8s.api.batch.v1.Job", expect!["absent"]);
    }

    #[test]
    fn every_reference_resolves() {
        for group in ["", "apps", "apiextensions.k8s.io", "rbac.authorization.k8s.io"] {
            let document = document(group, "v1");
            let schemas = document["components"]["schemas"].as_object().unwrap();
            let text = document.to_string();
            for part in text.split("\"#/components/schemas/").skip(1) {
                let name = part.split('"').next().unwrap();
                assert!(schemas.contains_key(name), "{name} in {group}");
            }
        }
    }

    struct Words;

    impl Descriptions for Words {
        fn type_description(&self, name: &str) -> Option<&str> {
            name.ends_with("PodSpec").then_some("A pod.")
        }

        fn field_description(&self, name: &str, field: &str) -> Option<&str> {
            (name.ends_with("PodSpec") && field == "os").then_some("Its system.")
        }
    }

    #[test]
    fn descriptions_come_from_outside() {
        let ty = Schema::builtin().type_named("io.k8s.api.core.v1.PodSpec").unwrap();
        let schema = type_schema(ty, &Words);
        assert_eq!(schema["description"], "A pod.");
        expect![[r##"{"description":"Its system.","allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.PodOS"}]}"##]].assert_eq(&schema["properties"]["os"].to_string());
    }
}
