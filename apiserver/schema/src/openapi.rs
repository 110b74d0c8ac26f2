//! OpenAPI v3 documents, one a group-version, out of the type table, and what version 2 makes of them.
//! A document is made path by path and schema by schema, each written before the next is made: as a
//! tree, one would take ten times its size.
//!
//! What reads them: `kubectl explain` finds the kind by the `get` of a path, follows `$ref`s and prints
//! descriptions, enums and what is required; `kubectl apply` takes a strategic merge patch only where
//! the kind's PATCH accepts `application/strategic-merge-patch+json`, and computes it from the
//! `x-kubernetes-patch-*` extensions; `--validate` wants the query parameter `fieldValidation` on that
//! PATCH; server-side apply clients read list types and map keys.

use serde_json::{Map, Value, json};

use crate::facts::{Field, META_GROUP, ResourceFacts, Schema, Shape, Type};

mod gnostic;
mod paths;
mod v2;

pub use v2::OpenApiV2;

/// Tells what is served in one group-version, piece by piece: all paths, then the schemas that they
/// reach, and no others. `group` is empty for the core group.
pub fn describe(
    group: &str,
    version: &str,
    paths: &[ResourcePath<'_>],
    descriptions: &dyn Descriptions,
    pieces: &mut dyn Pieces,
) {
    let mut document = paths::Document::new(group, version, descriptions);
    for path in paths {
        document.add(path);
    }
    document.finish(pieces);
}

/// Takes the pieces of a description, in OpenAPI v3.
pub trait Pieces {
    /// What can be done at a path; each path comes once, in order.
    fn path(&mut self, path: &str, item: Value);
    /// A component schema; each name comes once, in order.
    fn schema(&mut self, name: &str, schema: Value);
}

/// The document of one group-version, as JSON.
pub fn openapi_v3(
    group: &str,
    version: &str,
    paths: &[ResourcePath<'_>],
    descriptions: &dyn Descriptions,
) -> Vec<u8> {
    let info = json!({"title": "Kubernetes", "version": Schema::builtin().version()});
    let start = format!(r#"{{"openapi":"3.0.0","info":{info},"paths":{{"#);
    let mut json = Json { out: start.into_bytes(), in_schemas: false, first: true };
    describe(group, version, paths, descriptions, &mut json);
    json.enter_schemas();
    json.out.extend_from_slice(b"}}}");
    json.out
}

/// Writes the pieces as one JSON document.
struct Json {
    out: Vec<u8>,
    in_schemas: bool,
    /// Nothing was written yet in the object that is open.
    first: bool,
}

impl Json {
    fn enter_schemas(&mut self) {
        if !std::mem::replace(&mut self.in_schemas, true) {
            self.out.extend_from_slice(br#"},"components":{"schemas":{"#);
            self.first = true;
        }
    }

    fn member(&mut self, name: &str, value: &Value) {
        put_member(&mut self.out, &mut self.first, name, value);
    }
}

impl Pieces for Json {
    fn path(&mut self, path: &str, item: Value) {
        self.member(path, &item);
    }

    fn schema(&mut self, name: &str, schema: Value) {
        self.enter_schemas();
        self.member(name, &schema);
    }
}

/// A member of a JSON object that is being written.
fn put_member(out: &mut Vec<u8>, first: &mut bool, name: &str, value: &Value) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    // Writing JSON of a tree into memory has no way to fail.
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
    let _ = serde_json::to_writer(out, value);
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
    /// Where the type table doesn't have the kind: what describes it.
    pub own: Option<OwnSchema<'a>>,
}

/// The description of a kind that came at run time.
#[derive(Debug, Clone, Copy)]
pub struct OwnSchema<'a> {
    /// OpenAPI's name of the kind, e.g. `com.example.stable.v1.CronTab`.
    pub name: &'a str,
    /// OpenAPI's name of its list.
    pub list: &'a str,
    /// Both schemas by name, with references as version 3 writes them. They may refer to the built-in
    /// `ObjectMeta` and `ListMeta`.
    pub schemas: &'a Map<String, Value>,
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
            own: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn document(group: &str, version: &str) -> Value {
        let all = Schema::builtin().resources().iter();
        let own = all.filter(|r| r.group == group && r.version == version);
        let paths: Vec<ResourcePath<'_>> = own.map(ResourcePath::from).collect();
        let document = openapi_v3(group, version, &paths, &NoDescriptions);
        serde_json::from_slice(&document).unwrap()
    }

    fn check(group: &str, pointer: &str, expected: Expect) {
        let document = document(group, "v1");
        let found = document.pointer(pointer).map_or("absent".into(), Value::to_string);
        expected.assert_eq(&found);
    }

    #[test]
    fn what_kubectl_reads() {
        let patch = "/paths/~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments~1{name}/patch";
        check(
            "apps",
            patch,
            expect![[
                r##"{"operationId":"patchAppsV1NamespacedDeployment","tags":["apps_v1"],"responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/io.k8s.api.apps.v1.Deployment"}}}}},"x-kubernetes-action":"patch","x-kubernetes-group-version-kind":{"group":"apps","kind":"Deployment","version":"v1"},"parameters":[{"name":"dryRun","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"fieldManager","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"fieldValidation","in":"query","schema":{"type":"string","uniqueItems":true}},{"name":"force","in":"query","schema":{"type":"boolean","uniqueItems":true}}],"requestBody":{"content":{"application/apply-patch+yaml":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/json-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/merge-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},"application/strategic-merge-patch+json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}}},"required":true}}"##
            ]],
        );
        check(
            "",
            "/paths/~1api~1v1~1namespaces~1{namespace}~1pods~1{name}~1exec/get",
            expect![[
                r#"{"operationId":"connectCoreV1GetNamespacedPodExec","tags":["core_v1"],"responses":{"200":{"description":"OK"}},"x-kubernetes-action":"connect","x-kubernetes-group-version-kind":{"group":"","kind":"PodExecOptions","version":"v1"}}"#
            ]],
        );
        let spec = "/components/schemas/io.k8s.api.apps.v1.DeploymentSpec";
        check(
            "apps",
            spec,
            expect![[
                r##"{"properties":{"minReadySeconds":{"type":"integer","format":"int32"},"paused":{"type":"boolean"},"progressDeadlineSeconds":{"type":"integer","format":"int32"},"replicas":{"type":"integer","format":"int32"},"revisionHistoryLimit":{"type":"integer","format":"int32"},"selector":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"},"strategy":{"default":{},"x-kubernetes-patch-strategy":"retainKeys","allOf":[{"$ref":"#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]},"template":{"default":{},"allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"}]}},"required":["selector","template"],"type":"object"}"##
            ]],
        );
        let ports = "/components/schemas/io.k8s.api.core.v1.Container/properties/ports";
        check(
            "apps",
            ports,
            expect![[
                r##"{"type":"array","items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.ContainerPort"},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-patch-strategy":"merge","x-kubernetes-patch-merge-key":"containerPort"}"##
            ]],
        );
        check(
            "apps",
            "/components/schemas/io.k8s.api.apps.v1.Deployment/required",
            expect![[r#"["spec"]"#]],
        );
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
