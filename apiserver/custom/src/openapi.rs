//! What the OpenAPI documents say about a custom kind: its schema as clients of that version of
//! OpenAPI can read it, with what every object has added.

use serde_json::{Map, Value, json};
use windlass_apiserver_registry::Kind;

use crate::{
    kind::Custom,
    schema::{Additional, Schema},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// Which document it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V3,
}

/// The names of a kind's schemas (of an object, of a list), and the schemas by name. None for kinds
/// that are compiled in. They refer to `ObjectMeta` and `ListMeta` of the document they are put into.
pub fn definitions(kind: &Kind, dialect: Dialect) -> Option<(String, String, Map<String, Value>)> {
    let custom = Custom::of(kind)?;
    let at = kind.storage();
    let group: Vec<&str> = at.group.split('.').rev().collect();
    let prefix = format!("{}.{}", group.join("."), at.version);
    let (name, list) = (format!("{prefix}.{}", kind.kind), format!("{prefix}.{}", kind.list_kind));
    let gvk = |kind: &str| json!([{"group": at.group, "version": at.version, "kind": kind}]);
    let version = custom.version();
    let mut object = match version.schemaless {
        true => Map::from_iter([("type".to_owned(), json!("object"))]),
        false if dialect == Dialect::V2 && version.schema.preserves() => {
            Map::from_iter([("type".to_owned(), json!("object"))])
        }
        false => {
            let mut object = written(&version.schema, dialect);
            add_meta(&mut object, dialect);
            object
        }
    };
    object.insert("x-kubernetes-group-version-kind".to_owned(), gvk(&kind.kind));
    let selectable: Vec<Value> = kind
        .selectable
        .iter()
        .filter(|field| !field.label.is_empty())
        .map(|field| json!({"fieldPath": field.label}))
        .collect();
    if !selectable.is_empty() {
        object.insert("x-kubernetes-selectable-fields".to_owned(), selectable.into());
    }
    let mut items = json!({"description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object", "required": ["items"], "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "items": {"type": "array", "items": reference(&name),
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", kind.plural)},
            "kind": {"type": "string", "description": KIND},
            "metadata": reference(LIST_META)}});
    items["x-kubernetes-group-version-kind"] = gvk(&kind.list_kind);
    let all = Map::from_iter([(name.clone(), Value::Object(object)), (list.clone(), items)]);
    Some((name, list, all))
}

/// As version 3 writes it: whoever writes version 2 turns all references of a document.
fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn add_meta(object: &mut Map<String, Value>, dialect: Dialect) {
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    properties["kind"] = json!({"type": "string", "description": KIND});
    let metadata = reference(OBJECT_META);
    properties["metadata"] = match dialect {
        Dialect::V2 => metadata,
        Dialect::V3 => {
            json!({"allOf": [metadata], "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"})
        }
    };
}

/// A schema as JSON; version 2 can't say everything.
fn written(schema: &Schema, dialect: Dialect) -> Map<String, Value> {
    let v2 = dialect == Dialect::V2;
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
    if !schema.description.is_empty() {
        set("description", schema.description.as_str().into());
    }
    // What kubectl can't read of version 2: untyped values with a form, and lists without items.
    let formless = v2 && (schema.nullable || schema.preserves());
    let untyped = v2
        && (schema.nullable
            || (schema.preserves() && schema.ty == "object")
            || (schema.ty == "array" && (formless || schema.items.is_none())));
    if !schema.ty.is_empty() && !untyped {
        set("type", schema.ty.as_str().into());
    }
    if schema.nullable && !v2 {
        set("nullable", true.into());
    }
    for (key, text) in
        [("title", &schema.title), ("format", &schema.format), ("pattern", &schema.pattern)]
    {
        if !text.is_empty() {
            set(key, text.as_str().into());
        }
    }
    for (key, value) in [
        ("default", &schema.default),
        ("example", &schema.example),
        ("externalDocs", &schema.external_docs),
    ] {
        if let Some(value) = value {
            set(key, value.clone());
        }
    }
    for (key, count) in [
        ("maxLength", schema.max_length),
        ("minLength", schema.min_length),
        ("maxItems", schema.max_items),
        ("minItems", schema.min_items),
        ("maxProperties", schema.max_properties),
        ("minProperties", schema.min_properties),
    ] {
        if let Some(count) = count {
            set(key, count.into());
        }
    }
    for (key, exclusive, bound) in [
        ("maximum", "exclusiveMaximum", schema.maximum),
        ("minimum", "exclusiveMinimum", schema.minimum),
    ] {
        if let Some(bound) = bound {
            set(key, number(bound.value));
            if bound.exclusive {
                set(exclusive, true.into());
            }
        }
    }
    if let Some(factor) = schema.multiple_of {
        set("multipleOf", number(factor));
    }
    if !schema.enums.is_empty() {
        set("enum", schema.enums.clone().into());
    }
    inner(schema, dialect, formless, &mut out);
    extensions(schema, &mut out);
    if schema.embedded && !(v2 && schema.preserves()) {
        add_meta(&mut out, dialect);
        let mut required = schema.required.clone();
        for key in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == key) {
                required.push(key.to_owned());
            }
        }
        out.insert("required".to_owned(), required.into());
    }
    out
}

/// What is inside of a schema.
fn inner(schema: &Schema, dialect: Dialect, formless: bool, out: &mut Map<String, Value>) {
    let v2 = dialect == Dialect::V2;
    let own = |schema: &Schema| Value::Object(written(schema, dialect));
    let mut set = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
    let nullable = |key: &String| schema.properties.get(key).is_some_and(|own| own.nullable);
    let required: Vec<&String> =
        schema.required.iter().filter(|key| !(v2 && nullable(key))).collect();
    if !required.is_empty() {
        set("required", json!(required));
    }
    if !formless {
        if let Some(items) = &schema.items {
            set("items", own(items));
        }
        if !schema.properties.is_empty() {
            let all = schema.properties.iter().map(|(key, schema)| (key.clone(), own(schema)));
            set("properties", Value::Object(all.collect()));
        }
    }
    match &schema.additional {
        Some(Additional::Any(any)) => set("additionalProperties", (*any).into()),
        Some(Additional::Schema(schema)) => set("additionalProperties", own(schema)),
        None => {}
    }
    if v2 {
        return;
    }
    for (key, list) in
        [("allOf", &schema.all_of), ("anyOf", &schema.any_of), ("oneOf", &schema.one_of)]
    {
        if !list.is_empty() {
            set(key, list.iter().map(own).collect());
        }
    }
    if schema.int_or_string && schema.any_of.is_empty() && schema.all_of.is_empty() {
        set("anyOf", json!([{"type": "integer"}, {"type": "string"}]));
    }
    if let Some(not) = &schema.not {
        set("not", own(not));
    }
}

fn extensions(schema: &Schema, out: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Value| drop(out.insert(format!("x-kubernetes-{key}"), value));
    if schema.preserves() {
        set("preserve-unknown-fields", true.into());
    }
    if schema.embedded {
        set("embedded-resource", true.into());
    }
    if schema.int_or_string {
        set("int-or-string", true.into());
    }
    if let Some(list_type) = &schema.list_type {
        set("list-type", list_type.as_str().into());
    }
    if !schema.list_map_keys.is_empty() {
        set("list-map-keys", schema.list_map_keys.clone().into());
    }
    if let Some(map_type) = &schema.map_type {
        set("map-type", map_type.as_str().into());
    }
    if !schema.rules.is_empty() {
        let rules = schema.rules.iter().map(|rule| {
            let mut out = json!({"rule": rule.rule});
            for (key, text) in [
                ("message", &rule.message),
                ("messageExpression", &rule.message_expression),
                ("fieldPath", &rule.field_path),
            ] {
                if !text.is_empty() {
                    out[key] = text.as_str().into();
                }
            }
            if let Some(reason) = &rule.reason {
                out["reason"] = reason.as_str().into();
            }
            if let Some(optional) = rule.optional_old_self {
                out["optionalOldSelf"] = optional.into();
            }
            out
        });
        set("validations", rules.collect());
    }
}

/// Whole numbers without a fraction.
fn number(number: f64) -> Value {
    match number {
        whole if whole.fract() == 0.0 && whole.abs() < 9e15 => Value::from(whole as i64),
        other => Value::from(other),
    }
}
