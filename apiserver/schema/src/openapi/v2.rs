//! OpenAPI version 2, made of version 3's pieces. Old clients read it (kubectl up to 1.26, generators of
//! client libraries), and so do current ones where a version 3 document doesn't tell. One document
//! describes everything that is served, so it is put together of all group-versions.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Map, Value, json};

use super::{Pieces, gnostic, put_member};
use crate::facts::Schema;

/// The document while it is being made: each piece is held as the bytes it will be.
pub struct OpenApiV2 {
    binary: bool,
    paths: BTreeMap<String, Vec<u8>>,
    definitions: BTreeMap<String, Vec<u8>>,
}

/// What answers can be written in, as upstream lists it.
const PRODUCES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PRODUCES_STREAMS: [&str; 5] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

impl OpenApiV2 {
    /// `binary`: in gnostic's protobuf, else in JSON.
    pub fn new(binary: bool) -> OpenApiV2 {
        OpenApiV2 { binary, paths: BTreeMap::new(), definitions: BTreeMap::new() }
    }

    /// The document, once all group-versions are described.
    pub fn finish(self) -> Vec<u8> {
        let rest = json!({
            "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization",
                "in": "header", "description": "Bearer Token authentication"}},
            "security": [{"BearerToken": []}],
        });
        let info = json!({"title": "Kubernetes", "version": Schema::builtin().version()});
        if self.binary {
            return gnostic::document(&info, self.paths, self.definitions, &rest);
        }
        let mut out = format!(r#"{{"swagger":"2.0","info":{info}"#).into_bytes();
        for (name, pieces) in [("paths", self.paths), ("definitions", self.definitions)] {
            out.extend_from_slice(format!(",{name:?}:{{").as_bytes());
            for (at, (_, piece)) in pieces.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&piece);
            }
            out.push(b'}');
        }
        for (name, value) in rest.as_object().into_iter().flatten() {
            put_member(&mut out, &mut false, name, value);
        }
        out.push(b'}');
        out
    }

    fn bytes(&self, name: &str, piece: &Value, binary: fn(&str, &Value) -> Vec<u8>) -> Vec<u8> {
        if self.binary {
            return binary(name, piece);
        }
        let mut out = Vec::new();
        put_member(&mut out, &mut true, name, piece);
        out
    }
}

impl Pieces for OpenApiV2 {
    fn path(&mut self, path: &str, item: Value) {
        let bytes = self.bytes(path, &path_item(item), gnostic::path);
        self.paths.insert(path.to_owned(), bytes);
    }

    fn schema(&mut self, name: &str, schema: Value) {
        // Many group-versions use the same types.
        if self.definitions.contains_key(name) {
            return;
        }
        let bytes = self.bytes(name, &definition(schema), gnostic::definition);
        if let Entry::Vacant(place) = self.definitions.entry(name.to_owned()) {
            place.insert(bytes);
        }
    }
}

fn path_item(mut item: Value) -> Value {
    let parameters = item["parameters"].take();
    let mut out = Map::new();
    for method in METHODS {
        let operation = item[method].take();
        if !operation.is_null() {
            out.insert(method.into(), operation_v2(operation));
        }
    }
    if let Value::Array(parameters) = parameters {
        out.insert("parameters".into(), parameters.into_iter().map(parameter).collect());
    }
    Value::Object(out)
}

fn operation_v2(operation: Value) -> Value {
    let Value::Object(mut operation) = operation else { return operation };
    let mut parameters = Vec::new();
    if let Some(body) = operation.remove("requestBody") {
        let (types, schema) = content(&body);
        operation.insert("consumes".into(), types.into());
        parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
    }
    if let Some(Value::Array(queried)) = operation.remove("parameters") {
        parameters.extend(queried.into_iter().map(parameter));
    }
    if !parameters.is_empty() {
        operation.insert("parameters".into(), parameters.into());
    }
    let lists = operation.get("x-kubernetes-action").is_some_and(|action| action == "list");
    let produces = if lists { &PRODUCES_STREAMS[..] } else { &PRODUCES[..] };
    operation.insert("produces".into(), produces.into());
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        for response in responses.values_mut() {
            let (_, schema) = content(response);
            if let Some(response) = response.as_object_mut() {
                response.remove("content");
                if !schema.is_null() {
                    response.insert("schema".into(), schema);
                }
            }
        }
    }
    Value::Object(operation)
}

/// The media types of a body, and the schema that they share.
fn content(body: &Value) -> (Vec<String>, Value) {
    let content = body["content"].as_object();
    let types = content.into_iter().flatten().map(|(media, _)| media.clone()).collect();
    let schema = content.and_then(|all| all.values().next()).map(|one| one["schema"].clone());
    (types, schema.map(definition).unwrap_or_default())
}

/// A parameter of a path or query: what version 3 says of its schema stands beside its name.
fn parameter(parameter: Value) -> Value {
    let Value::Object(mut parameter) = parameter else { return parameter };
    if let Some(Value::Object(schema)) = parameter.remove("schema") {
        parameter.extend(schema);
    }
    Value::Object(parameter)
}

/// Words of version 3 that version 2 doesn't have.
const DROPPED: [&str; 6] = ["oneOf", "anyOf", "not", "nullable", "writeOnly", "deprecated"];

fn definition(schema: Value) -> Value {
    let Value::Object(schema) = schema else { return schema };
    let mut out = Map::new();
    let free = schema.contains_key("oneOf") && !schema.contains_key("type");
    for (word, value) in schema {
        match (word.as_str(), value) {
            (word, _) if DROPPED.contains(&word) => {}
            ("$ref", Value::String(to)) => {
                let to = to.replace("#/components/schemas/", "#/definitions/");
                out.insert(word, to.into());
            }
            // What stands beside a reference in version 3 is told by a list of one.
            ("allOf", Value::Array(all)) if all.len() == 1 => {
                if let Some(Value::Object(only)) = all.into_iter().next().map(definition) {
                    out.extend(only);
                }
            }
            ("allOf", Value::Array(all)) => {
                out.insert(word, all.into_iter().map(definition).collect());
            }
            ("properties", Value::Object(properties)) => {
                let each = properties.into_iter().map(|(name, of)| (name, definition(of)));
                out.insert(word, Value::Object(each.collect()));
            }
            ("items" | "additionalProperties", value) => {
                out.insert(word, definition(value));
            }
            (_, value) => {
                out.insert(word, value);
            }
        }
    }
    // A quantity, or a number or name of a port: text, as far as version 2 can say.
    if free && !out.contains_key("x-kubernetes-int-or-string") {
        out.insert("type".into(), "string".into());
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::{NoDescriptions, OwnSchema, ResourcePath, describe, openapi_v3};
    use expect_test::{Expect, expect};

    fn whole(binary: bool) -> Vec<u8> {
        let mut document = OpenApiV2::new(binary);
        for (group, version) in [("", "v1"), ("apps", "v1")] {
            let all = Schema::builtin().resources().iter();
            let own = all.filter(|r| r.group == group && r.version == version);
            let paths: Vec<ResourcePath<'_>> = own.map(ResourcePath::from).collect();
            describe(group, version, &paths, &NoDescriptions, &mut document);
        }
        document.finish()
    }

    fn check(pointer: &str, expected: Expect) {
        let document: Value = serde_json::from_slice(&whole(false)).unwrap();
        let found = document.pointer(pointer).map_or("absent".into(), Value::to_string);
        expected.assert_eq(&found);
    }

    #[test]
    fn what_old_clients_read() {
        let item = "/paths/~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments~1{name}";
        check(
            &format!("{item}/parameters"),
            expect![[
                r#"[{"name":"name","in":"path","required":true,"type":"string","uniqueItems":true},{"name":"namespace","in":"path","required":true,"type":"string","uniqueItems":true},{"name":"pretty","in":"query","type":"string","uniqueItems":true}]"#
            ]],
        );
        check(
            &format!("{item}/patch"),
            expect![[
                r##"{"operationId":"patchAppsV1NamespacedDeployment","tags":["apps_v1"],"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/io.k8s.api.apps.v1.Deployment"}}},"x-kubernetes-action":"patch","x-kubernetes-group-version-kind":{"group":"apps","kind":"Deployment","version":"v1"},"consumes":["application/apply-patch+yaml","application/json-patch+json","application/merge-patch+json","application/strategic-merge-patch+json"],"parameters":[{"name":"body","in":"body","required":true,"schema":{"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}},{"name":"dryRun","in":"query","type":"string","uniqueItems":true},{"name":"fieldManager","in":"query","type":"string","uniqueItems":true},{"name":"fieldValidation","in":"query","type":"string","uniqueItems":true},{"name":"force","in":"query","type":"boolean","uniqueItems":true}],"produces":["application/json","application/yaml","application/vnd.kubernetes.protobuf"]}"##
            ]],
        );
        check(
            "/paths/~1api~1v1~1pods/get/produces",
            expect![[
                r#"["application/json","application/yaml","application/vnd.kubernetes.protobuf","application/json;stream=watch","application/vnd.kubernetes.protobuf;stream=watch"]"#
            ]],
        );
        check(
            "/definitions/io.k8s.api.apps.v1.DeploymentSpec",
            expect![[
                r##"{"properties":{"minReadySeconds":{"type":"integer","format":"int32"},"paused":{"type":"boolean"},"progressDeadlineSeconds":{"type":"integer","format":"int32"},"replicas":{"type":"integer","format":"int32"},"revisionHistoryLimit":{"type":"integer","format":"int32"},"selector":{"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"},"strategy":{"default":{},"x-kubernetes-patch-strategy":"retainKeys","$ref":"#/definitions/io.k8s.api.apps.v1.DeploymentStrategy"},"template":{"default":{},"$ref":"#/definitions/io.k8s.api.core.v1.PodTemplateSpec"}},"required":["selector","template"],"type":"object"}"##
            ]],
        );
        check(
            "/definitions/io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            expect![[r#"{"format":"int-or-string","type":"string"}"#]],
        );
        check(
            "/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity",
            expect![[r#"{"type":"string"}"#]],
        );
    }

    /// A kind that comes at run time, in both versions.
    #[test]
    fn kinds_that_describe_themselves() {
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let schema = json!({"type": "object", "properties": {
            "metadata": {"$ref": format!("#/components/schemas/{meta}")},
            "spec": {"type": "object", "nullable": true, "anyOf": [{"required": ["a"]}],
                "properties": {"a": {"x-kubernetes-int-or-string": true, "oneOf": []}}}},
            "x-kubernetes-group-version-kind":
                [{"group": "example.com", "kind": "CronTab", "version": "v1"}]});
        let (name, list) = ("com.example.v1.CronTab", "com.example.v1.Tabs");
        let items = json!({"type": "object", "properties": {
            "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}}}});
        let schemas = Map::from_iter([(name.into(), schema.clone()), (list.into(), items)]);
        let own = Some(OwnSchema { name, list, schemas: &schemas });
        let path = ResourcePath {
            plural: "crontabs",
            subresource: None,
            kind_group: "example.com",
            kind_version: "v1",
            kind: "CronTab",
            namespaced: true,
            verbs: &["create", "list", "patch"],
            own,
        };
        let three = openapi_v3("example.com", "v1", &[path], &NoDescriptions);
        let three: Value = serde_json::from_slice(&three).unwrap();
        let schemas = three["components"]["schemas"].as_object().unwrap();
        assert_eq!(schemas["com.example.v1.CronTab"], schema);
        assert!(schemas.contains_key(list) && schemas.contains_key(meta));
        let mut two = OpenApiV2::new(false);
        describe("example.com", "v1", &[path], &NoDescriptions, &mut two);
        let two: Value = serde_json::from_slice(&two.finish()).unwrap();
        expect![[r##"{"type":"object","properties":{"metadata":{"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},"spec":{"type":"object","properties":{"a":{"x-kubernetes-int-or-string":true}}}},"x-kubernetes-group-version-kind":[{"group":"example.com","kind":"CronTab","version":"v1"}]}"##]].assert_eq(&two["definitions"]["com.example.v1.CronTab"].to_string());
    }

    #[test]
    fn the_binary_form_names_what_json_names() {
        let (binary, json) = (whole(true), whole(false));
        let document: Value = serde_json::from_slice(&json).unwrap();
        for name in document["definitions"].as_object().unwrap().keys() {
            assert!(binary.windows(name.len()).any(|w| w == name.as_bytes()), "{name}");
        }
    }
}
