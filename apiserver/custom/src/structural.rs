//! What makes a schema structural (KEP-1002): types stand outside of junctors, junctors only restrict
//! what is specified outside of them. Everything else in this crate relies on it.

use windlass_apiserver_registry::{Causes, Path};

use crate::schema::{Additional, Schema};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Why a schema can't be read as a structural one at all; None where it can.
pub fn unreadable(schema: &Schema) -> Option<String> {
    let mut why = None;
    schema.any(&mut |schema| {
        // In upstream's order of looking.
        let known = [
            "id",
            "$schema",
            "$ref",
            "patternProperties",
            "dependencies",
            "additionalItems",
            "definitions",
        ];
        if let Some(key) = known.iter().find(|key| schema.forbidden.contains(key)) {
            let key = key.trim_start_matches("$s").trim_start_matches("chema");
            let key = if key.is_empty() { "schema" } else { key };
            why = Some(format!("OpenAPIV3Schema '{key}' is not supported"));
        } else if schema.many_items {
            why = Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
        } else if schema.preserve == Some(false) {
            why = Some(
                "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
                    .to_owned(),
            );
        }
        why.is_some()
    });
    why
}

/// What is not structural about it.
pub fn check(schema: &Schema, path: &str, causes: &mut Causes) {
    let before = causes.len();
    invariants(schema, Level::Root, path, causes);
    complete(schema, Some(schema), path, path, causes);
    causes.sort_from(before);
}

fn at<'p>(path: &'p str) -> Path<'p> {
    Path::Child(&Path::Root, path)
}

fn invariants(schema: &Schema, level: Level, path: &str, causes: &mut Causes) {
    let child = |name: &str| format!("{path}.{name}");
    if schema.ty == "array" && schema.items.is_none() {
        causes.required(at(&child("items")), "must be specified");
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, &child("items"), causes);
    }
    for (key, own) in &schema.properties {
        invariants(own, Level::Field, &format!("{path}.properties[{key}]"), causes);
    }
    if let Some(additional) = &schema.additional {
        if level == Level::Root {
            causes.forbidden(at(&child("additionalProperties")), "must not be used at the root");
        }
        if let Additional::Schema(own) = additional {
            invariants(own, Level::Field, &child("additionalProperties"), causes);
        }
    }
    extensions(schema, path, causes);
    validations(schema, is_any_pattern(schema), path, causes);
    types(schema, level, path, causes);
    resource(schema, level, path, causes);
}

fn extensions(schema: &Schema, path: &str, causes: &mut Causes) {
    let why = "must be false if x-kubernetes-int-or-string is true";
    if schema.int_or_string && schema.preserves() {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        causes.invalid(at(&path), &true.into(), why);
    }
    if schema.int_or_string && schema.embedded {
        causes.invalid(at(&format!("{path}.x-kubernetes-embedded-resource")), &true.into(), why);
    }
}

fn types(schema: &Schema, level: Level, path: &str, causes: &mut Causes) {
    let ty = format!("{path}.type");
    if schema.embedded && schema.ty != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match schema.ty.is_empty() {
            true => causes.required(at(&ty), why),
            false => causes.invalid_text(at(&ty), &schema.ty, why),
        }
    } else if schema.ty.is_empty() && !schema.int_or_string && !schema.preserves() {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        causes.required(at(&ty), why);
    }
    if schema.embedded && schema.additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        causes.forbidden(at(&format!("{path}.additionalProperties")), why);
    }
    if level == Level::Root && !schema.ty.is_empty() && schema.ty != "object" {
        causes.invalid_text(at(&ty), &schema.ty, "must be object at the root");
    }
}

/// What the metadata of an object, or of one inside of it, may be restricted to.
fn resource(schema: &Schema, level: Level, path: &str, causes: &mut Causes) {
    let is_resource = level == Level::Root || schema.embedded;
    for key in ["kind", "apiVersion"] {
        if let Some(own) = schema.properties.get(key).filter(|_| is_resource)
            && own.ty != "string"
        {
            let path = format!("{path}.properties[{key}].type");
            causes.invalid_text(at(&path), &own.ty, "must be string");
        }
    }
    if let Some(metadata) = schema.properties.get("metadata") {
        let path = format!("{path}.properties[metadata]");
        if is_resource && metadata.ty != "object" {
            causes.invalid_text(at(&format!("{path}.type")), &metadata.ty, "must be object");
        }
        if level == Level::Root && !restricts_names_only(metadata) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            causes.forbidden(at(&path), why);
        }
    }
    if schema.embedded && !schema.preserves() && schema.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        causes.required(at(&format!("{path}.properties")), why);
    }
}

fn restricts_names_only(metadata: &Schema) -> bool {
    let s = metadata;
    s.properties.keys().all(|key| key == "name" || key == "generateName")
        && (s.title.is_empty() && s.description.is_empty() && !s.nullable)
        && (s.preserve.is_none() && !s.embedded && !s.int_or_string)
        && (s.items.is_none() && s.additional.is_none() && s.rules.is_empty())
        && (s.list_type.is_none() && s.map_type.is_none() && s.list_map_keys.is_empty())
        && !has_value_validation(s)
}

fn has_value_validation(s: &Schema) -> bool {
    let counts =
        [s.max_length, s.min_length, s.max_items, s.min_items, s.max_properties, s.min_properties];
    counts.iter().any(Option::is_some)
        || s.maximum.is_some()
        || s.minimum.is_some()
        || s.multiple_of.is_some()
        || !(s.format.is_empty() && s.pattern.is_empty())
        || !(s.enums.is_empty() && s.required.is_empty())
        || !(s.all_of.is_empty() && s.any_of.is_empty() && s.one_of.is_empty())
        || s.not.is_some()
}

/// `anyOf: [{type: integer}, {type: string}]`, as generators write it beside int-or-string.
fn is_any_pattern(schema: &Schema) -> bool {
    let only = |schema: &Schema, ty: &str| {
        schema.ty == ty
            && !has_value_validation(schema)
            && schema.properties.is_empty()
            && schema.items.is_none()
    };
    matches!(schema.any_of.as_slice(), [a, b] if only(a, "integer") && only(b, "string"))
}

fn validations(schema: &Schema, skip_any: bool, path: &str, causes: &mut Causes) {
    if !skip_any {
        for (n, inner) in schema.any_of.iter().enumerate() {
            nested(inner, false, &format!("{path}.anyOf[{n}]"), causes);
        }
    }
    let first = schema.all_of.first().is_some_and(is_any_pattern);
    for (n, inner) in schema.all_of.iter().enumerate() {
        nested(inner, first && n == 0, &format!("{path}.allOf[{n}]"), causes);
    }
    for (n, inner) in schema.one_of.iter().enumerate() {
        nested(inner, false, &format!("{path}.oneOf[{n}]"), causes);
    }
    if let Some(inner) = &schema.not {
        nested(inner, false, &format!("{path}.not"), causes);
    }
    if !schema.pattern.is_empty() && schema.matches("").is_none() {
        let error = regex::Regex::new(&schema.pattern).err();
        // The last line says what is wrong; those before draw where.
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        let error = error.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
        let why = format!("must be a valid regular expression, but isn't: {error}");
        causes.invalid_text(at(&format!("{path}.pattern")), &schema.pattern, why);
    }
}

/// A schema inside of a junctor may say nothing but what values must be like.
fn nested(schema: &Schema, skip_any: bool, path: &str, causes: &mut Causes) {
    validations(schema, skip_any, path, causes);
    if let Some(items) = &schema.items {
        nested(items, false, &format!("{path}.items"), causes);
    }
    for (key, own) in &schema.properties {
        nested(own, false, &format!("{path}.properties[{key}]"), causes);
    }
    let mut forbid = |set: bool, key: &str, why: &str| {
        if set {
            let path = format!("{path}.{key}");
            causes.forbidden(at(&path), format!("must be {why} to be structural"));
        }
    };
    forbid(!schema.ty.is_empty(), "type", "empty");
    let additional = !matches!(schema.additional, None | Some(Additional::Any(false)));
    forbid(additional, "additionalProperties", "undefined");
    forbid(schema.default.is_some(), "default", "undefined");
    forbid(!schema.title.is_empty(), "title", "empty");
    forbid(!schema.description.is_empty(), "description", "empty");
    forbid(schema.nullable, "nullable", "false");
    forbid(schema.preserves(), "x-kubernetes-preserve-unknown-fields", "false");
    forbid(schema.embedded, "x-kubernetes-embedded-resource", "false");
    forbid(schema.int_or_string, "x-kubernetes-int-or-string", "false");
    forbid(!schema.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", "empty");
    forbid(schema.list_type.is_some(), "x-kubernetes-list-type", "undefined");
    forbid(schema.map_type.is_some(), "x-kubernetes-map-type", "undefined");
    forbid(!schema.rules.is_empty(), "x-kubernetes-validations", "empty");
    if schema.properties.contains_key("metadata") {
        let path = format!("{path}.properties[metadata]");
        causes.forbidden(at(&path), "must not be specified in a nested context");
    }
}

/// Whatever a junctor restricts must be specified outside of it.
fn complete(schema: &Schema, by: Option<&Schema>, path: &str, from: &str, causes: &mut Causes) {
    let Some(by) = by else {
        return causes.required(at(path), &format!("because it is defined in {from}"));
    };
    if let Some(not) = &schema.not {
        complete_nested(not, Some(by), path, &format!("{from}.not"), causes);
    }
    let junctors =
        [("allOf", &schema.all_of), ("anyOf", &schema.any_of), ("oneOf", &schema.one_of)];
    for (name, list) in junctors {
        for (n, inner) in list.iter().enumerate() {
            complete_nested(inner, Some(by), path, &format!("{from}.{name}[{n}]"), causes);
        }
    }
}

fn complete_nested(
    schema: &Schema,
    by: Option<&Schema>,
    path: &str,
    from: &str,
    causes: &mut Causes,
) {
    let Some(by) = by else {
        return causes.required(at(path), &format!("because it is defined in {from}"));
    };
    complete(schema, Some(by), path, from, causes);
    if let Some(items) = &schema.items {
        let (path, from) = (format!("{path}.items"), format!("{from}.items"));
        complete_nested(items, by.items.as_deref(), &path, &from, causes);
    }
    for (key, own) in &schema.properties {
        let path = format!("{path}.properties[{key}]");
        let from = format!("{from}.properties[{key}]");
        complete_nested(own, by.properties.get(key), &path, &from, causes);
    }
}
