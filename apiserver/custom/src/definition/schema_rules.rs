//! Rules of a version's schema: what it may say, that it is structural, that its defaults are of it,
//! and that its rules compile and can't cost too much.

use std::sync::Arc;

use serde_json::Value;
use windlass_apiserver_cel::Decl;
use windlass_apiserver_registry::{Causes, Path};

use super::{
    defaults,
    rule_text::{shown, too_costly, written},
};
use crate::{
    prune,
    rules::{Compiled, compile, decl_of},
    schema::{Additional, Rule, Schema},
    structural,
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Upstream's budgets: of one expression, and of all in a schema.
const EXPRESSION_COST: u64 = 10_000_000;
const SCHEMA_COST: u64 = 100_000_000;
/// What may stand beside `status` where it is kept apart.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// Rules of a schema at a path; `unchanged`: it is as it was before this update.
pub fn validate(json: &Value, path: &str, has_status: bool, unchanged: bool, causes: &mut Causes) {
    let schema = Schema::read(json);
    let before = causes.len();
    if has_status {
        root(json, &schema, path, causes);
    }
    if schema.nullable {
        causes.forbidden(at(&format!("{path}.nullable")), "nullable cannot be true at the root");
    }
    let unreadable = structural::unreadable(&schema);
    let mut is_structural = false;
    if unreadable.is_none() {
        let count = causes.len();
        structural::check(&schema, path, causes);
        if causes.len() == count {
            defaults::check(&schema, path, causes);
            is_structural = causes.len() == count;
        }
    }
    let mut walk = Walk { causes, cel: Vec::new(), total: 0, expensive: Vec::new(), unchanged };
    let context = is_structural.then_some(Context {
        decl: None,
        in_scope: !schema.rules.is_empty(),
        cardinality: Some(1),
    });
    let inside = Inside { root: true, ..Inside::default() };
    walk.visit(&schema, path, inside, context.as_ref());
    let Walk { cel, total, expensive, .. } = walk;
    cel.into_iter().for_each(|found| causes.extend(found));
    if let (true, Some(why)) = (causes.len() == before, unreadable) {
        causes.invalid_text(at(path), "", why);
    }
    if total > SCHEMA_COST {
        for (place, _) in expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            causes.forbidden(at(&place), why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        causes.forbidden(at(path), too_costly(what, total, SCHEMA_COST));
    }
}

fn at(path: &str) -> Path<'_> {
    Path::Child(&Path::Root, path)
}

/// What the root may say where the status is validated on its own.
fn root(json: &Value, schema: &Schema, path: &str, causes: &mut Causes) {
    if schema.ty != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        if !schema.ty.is_empty() {
            causes.invalid_text(at(&format!("{path}.type")), &schema.ty, why);
            return;
        }
    }
    let other = !schema.enums.is_empty()
        || schema.max_properties.is_some()
        || schema.min_properties.is_some()
        || schema.additional.is_some()
        || schema.not.is_some()
        || !(schema.all_of.is_empty() && schema.any_of.is_empty() && schema.one_of.is_empty())
        || schema.default.is_some()
        || schema.nullable
        || schema.embedded
        || schema.int_or_string
        || schema.list_type.is_some()
        || schema.map_type.is_some()
        || !schema.list_map_keys.is_empty()
        || !schema.forbidden.is_empty();
    if other {
        let why = format!(
            "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        causes.invalid(at(path), json, why);
    }
}

/// What is known about where a schema stands.
#[derive(Clone, Default)]
struct Inside {
    root: bool,
    /// Defaults are refused, for this reason.
    no_defaults: Option<String>,
    meta: bool,
    /// Values inside of here have no counterpart before a write.
    uncorrelated: Option<String>,
}

/// What rules at a schema see, and how often they may run.
struct Context {
    decl: Option<Arc<Decl>>,
    /// Here or above are rules.
    in_scope: bool,
    /// None: nothing limits it.
    cardinality: Option<u64>,
}

struct Walk<'c> {
    causes: &'c mut Causes,
    cel: Vec<Causes>,
    total: u64,
    expensive: Vec<(String, u64)>,
    unchanged: bool,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Schema, path: &str, inside: Inside, context: Option<&Context>) {
        let before = self.causes.len();
        self.forbidden(schema, path, &inside);
        let decl = context.and_then(|context| self.decl(schema, &inside, context));
        let context = context.map(|context| Context {
            decl,
            in_scope: context.in_scope || !schema.rules.is_empty(),
            cardinality: context.cardinality,
        });
        let context = context.as_ref();
        self.children(schema, path, &inside, context);
        self.junctors(schema, path, &inside);
        self.extensions(schema, path);
        self.lists(schema, path);
        self.written_rules(schema, path);
        if self.causes.len() == before
            && let Some(context) = context.filter(|_| !schema.rules.is_empty())
        {
            self.compiled(schema, path, &inside, context);
        }
    }

    fn decl(&self, schema: &Schema, inside: &Inside, context: &Context) -> Option<Arc<Decl>> {
        if !context.in_scope && schema.rules.is_empty() {
            return None;
        }
        // The parent's declaration holds this one; it is handed down by `children`.
        match &context.decl {
            Some(decl) => Some(decl.clone()),
            None => decl_of(schema, inside.root || schema.embedded),
        }
    }

    fn forbidden(&mut self, schema: &Schema, path: &str, inside: &Inside) {
        let child = |name: &str| format!("{path}.{name}");
        let causes = &mut *self.causes;
        if !schema.ty.is_empty() && !TYPES.contains(&schema.ty.as_str()) {
            causes.not_supported(at(&child("type")), &schema.ty.as_str().into(), &TYPES);
        }
        if let (Some(_), Some(why)) = (&schema.default, &inside.no_defaults) {
            causes.forbidden(at(&child("default")), format!("must not be set {why}"));
        }
        for key in
            ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
        {
            if schema.forbidden.contains(&key) {
                causes.forbidden(at(&child(key)), format!("{key} is not supported"));
            }
        }
        if schema.ty == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            causes.forbidden(at(&child("type")), why);
        }
        if schema.many_items {
            causes.forbidden(at(&child("items")), "items must be a schema object and not an array");
        }
        if inside.meta && schema.embedded {
            let why = "must not be used inside of resource meta";
            causes.forbidden(at(&child("x-kubernetes-embedded-resource")), why);
        }
        if schema.unique_items {
            let why =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            causes.forbidden(at(&child("uniqueItems")), why);
        }
    }

    fn children(
        &mut self,
        schema: &Schema,
        path: &str,
        inside: &Inside,
        context: Option<&Context>,
    ) {
        let below = |decl: Option<Arc<Decl>>, most: Option<u64>| {
            context.map(|context| Context {
                decl,
                in_scope: context.in_scope,
                cardinality: context.cardinality.zip(most).map(|(a, b)| a.saturating_mul(b)),
            })
        };
        let own = context.and_then(|context| context.decl.as_ref());
        let element = own.and_then(|decl| decl.element().cloned());
        let most = |most: Option<i64>| most.map(|most| u64::try_from(most).unwrap_or(0));
        let each = match (schema.ty.as_str(), &schema.additional) {
            ("object", Some(_)) => most(schema.max_properties),
            ("array", _) => most(schema.max_items),
            _ => Some(1),
        };
        if let Some(additional) = &schema.additional {
            let also = matches!(additional, Additional::Any(false) | Additional::Schema(_));
            if !schema.properties.is_empty() && also {
                let why = "additionalProperties and properties are mutual exclusive";
                self.causes.forbidden(at(&format!("{path}.additionalProperties")), why);
            }
        }
        if let Some(additional) = schema.additional_schema() {
            let mut inner = Inside { root: false, ..inside.clone() };
            if inside.meta {
                let why = "inside additionalProperties applying to object metadata";
                inner.no_defaults = Some(why.to_owned());
            }
            let context = below(element.clone(), each);
            let path = format!("{path}.additionalProperties");
            self.visit(additional, &path, inner, context.as_ref());
        }
        let correlatable = matches!(schema.map_type.as_deref(), None | Some("granular" | "atomic"));
        for (key, property) in &schema.properties {
            let mut inner = Inside { root: false, ..inside.clone() };
            if !correlatable && inner.uncorrelated.is_none() {
                inner.uncorrelated = Some(path.to_owned());
            }
            if (inside.root || schema.embedded) && prune::META_FIELDS.contains(&key.as_str()) {
                inner.meta = true;
                if inside.root {
                    inner.no_defaults = Some(format!("in top-level {key}"));
                }
            }
            let decl = own.and_then(|decl| match &decl.form {
                windlass_apiserver_cel::Form::Object(fields) => {
                    let name = windlass_apiserver_cel::escape(key)?;
                    fields.get(name.as_str()).map(|field| field.decl.clone())
                }
                _ => None,
            });
            let context = below(decl, each);
            let path = format!("{path}.properties[{key}]");
            self.visit(property, &path, inner, context.as_ref());
        }
        if let Some(items) = &schema.items {
            let mut inner = Inside { root: false, ..inside.clone() };
            if schema.list_type.as_deref() != Some("map") && inner.uncorrelated.is_none() {
                inner.uncorrelated = Some(path.to_owned());
            }
            let context = below(element, each);
            self.visit(items, &format!("{path}.items"), inner, context.as_ref());
        }
    }

    fn junctors(&mut self, schema: &Schema, path: &str, inside: &Inside) {
        let inner = Inside { root: false, ..inside.clone() };
        if let Some(not) = &schema.not {
            self.visit(not, &format!("{path}.not"), inner.clone(), None);
        }
        let all = [("allOf", &schema.all_of), ("oneOf", &schema.one_of), ("anyOf", &schema.any_of)];
        for (name, list) in all {
            for (n, own) in list.iter().enumerate() {
                self.visit(own, &format!("{path}.{name}[{n}]"), inner.clone(), None);
            }
        }
    }

    fn extensions(&mut self, schema: &Schema, path: &str) {
        let causes = &mut *self.causes;
        let child = |name: &str| format!("{path}.{name}");
        if schema.preserve == Some(false) {
            let path = child("x-kubernetes-preserve-unknown-fields");
            causes.invalid(at(&path), &false.into(), "must be true or undefined");
        }
        let mut must_be = |wanted: &str, key: &str| {
            let (path, why) = (child("type"), format!("must be {wanted} if {key} is specified"));
            match schema.ty.as_str() {
                "" => causes.required(at(&path), &why),
                ty if ty != wanted => causes.invalid_text(at(&path), ty, why),
                _ => {}
            }
        };
        if schema.map_type.is_some() {
            must_be("object", "x-kubernetes-map-type");
        }
        if schema.list_type.is_some() {
            must_be("array", "x-kubernetes-list-type");
        }
        let mut known = |found: &Option<String>, key: &str, values: &[&str]| {
            if let Some(found) = found.as_deref().filter(|found| !values.contains(found)) {
                causes.not_supported(at(&child(key)), &found.into(), values);
            }
        };
        known(&schema.map_type, "x-kubernetes-map-type", &["atomic", "granular"]);
        if schema.list_type.as_deref() == Some("set")
            && schema.ty == "array"
            && let Some(items) = &schema.items
        {
            self.set(items, path);
            return self.known_list(schema, path);
        }
        self.known_list(schema, path);
    }

    fn known_list(&mut self, schema: &Schema, path: &str) {
        let values = ["atomic", "set", "map"];
        if let Some(found) = schema.list_type.as_deref().filter(|found| !values.contains(found)) {
            let path = format!("{path}.x-kubernetes-list-type");
            self.causes.not_supported(at(&path), &found.into(), &values);
        }
    }

    fn set(&mut self, items: &Schema, path: &str) {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let shown = items.list_type.as_deref().map_or(Value::Null, Value::from);
        let (list, map) = (items.list_type.as_deref(), items.map_type.as_deref());
        match items.ty.as_str() {
            "array" if !matches!(list, None | Some("atomic")) => {
                let path = format!("{path}.items.x-kubernetes-list-type");
                self.causes.invalid(at(&path), &shown, why);
            }
            "object" if map != Some("atomic") => {
                let path = format!("{path}.items.x-kubernetes-map-type");
                self.causes.invalid_or_null(at(&path), &shown, why);
            }
            _ => {}
        }
    }

    fn lists(&mut self, schema: &Schema, path: &str) {
        let causes = &mut *self.causes;
        let child = |name: &str| format!("{path}.{name}");
        let list_type = schema.list_type.as_deref();
        let keys = Value::from(schema.list_map_keys.clone());
        if !schema.list_map_keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            let path = child("x-kubernetes-list-type");
            match list_type {
                None => causes.required(at(&path), why),
                Some("map") => {}
                Some(other) => causes.invalid_text(at(&path), other, why),
            }
        }
        if list_type == Some("map") {
            if schema.list_map_keys.is_empty() {
                let why = "must not be empty if x-kubernetes-list-type is map";
                causes.required(at(&child("x-kubernetes-list-map-keys")), why);
            }
            match &schema.items {
                None => {
                    let why = "must have a schema if x-kubernetes-list-type is map";
                    causes.required(at(&child("items")), why);
                }
                Some(items) if items.ty != "object" => {
                    let why = "must be object if parent array's x-kubernetes-list-type is map";
                    causes.invalid_text(at(&child("items.type")), &items.ty, why);
                }
                Some(items) => keys_of(schema, items, &keys, path, causes),
            }
        }
        let Some(items) = &schema.items else { return };
        let Some(kind) = list_type.filter(|kind| ["set", "map"].contains(kind)) else { return };
        if items.nullable {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
            causes.forbidden(at(&child("items.nullable")), why);
        }
        for key in schema.list_map_keys.iter().filter(|_| kind == "map") {
            let Some(own) = items.properties.get(key) else { continue };
            if !items.required.contains(key) && own.default.is_none() {
                let path = format!("{path}.items.properties[{key}].default");
                causes.required(at(&path), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
            }
            if own.nullable {
                let path = format!("{path}.items.properties[{key}].nullable");
                causes.forbidden(
                    at(&path),
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                );
            }
        }
    }

    fn written_rules(&mut self, schema: &Schema, path: &str) {
        for (n, rule) in schema.rules.iter().enumerate() {
            written(rule, schema, &format!("{path}.x-kubernetes-validations[{n}]"), self.causes);
        }
    }

    /// Compiles the rules of a schema, and counts what they may cost.
    fn compiled(&mut self, schema: &Schema, path: &str, inside: &Inside, context: &Context) {
        let mut causes = Causes::default();
        let Some(decl) = &context.decl else {
            let path = format!("{path}.x-kubernetes-validations");
            causes.internal(at(&path), "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations");
            return self.cel.push(causes);
        };
        let times = context.cardinality.unwrap_or_else(|| decl.max_cardinality());
        for (n, rule) in schema.rules.iter().enumerate() {
            let own = format!("{path}.x-kubernetes-validations[{n}]");
            let compiled = compile(rule, schema, decl);
            self.priced(rule, &compiled, &own, times, &mut causes);
            self.correlated(rule, &compiled, &own, inside, &mut causes);
        }
        self.cel.push(causes);
    }

    fn priced(
        &mut self,
        rule: &Rule,
        compiled: &Compiled,
        own: &str,
        times: u64,
        causes: &mut Causes,
    ) {
        let place = format!("{own}.rule");
        match &compiled.program {
            Err(why) => causes.invalid(at(&place), &shown(rule), why),
            Ok(program) => {
                let cost = program.max_cost.saturating_mul(times);
                if !self.unchanged && cost > EXPRESSION_COST {
                    let why = too_costly("estimated rule cost", cost, EXPRESSION_COST);
                    causes.forbidden(at(&place), why);
                }
                self.observe(place, cost);
            }
        }
        let place = format!("{own}.messageExpression");
        match &compiled.message {
            Some(Err(why)) => causes.invalid(at(&place), &shown(rule), why),
            Some(Ok(program)) => {
                let cost = program.max_cost;
                if !self.unchanged && cost > EXPRESSION_COST {
                    let what = "estimated messageExpression cost";
                    causes.forbidden(at(&place), too_costly(what, cost, EXPRESSION_COST));
                }
                self.observe(place, cost);
            }
            None => {}
        }
    }

    fn correlated(
        &mut self,
        rule: &Rule,
        compiled: &Compiled,
        own: &str,
        inside: &Inside,
        causes: &mut Causes,
    ) {
        let uses = compiled.program.as_ref().is_ok_and(|program| program.uses_old_self);
        match (&inside.uncorrelated, rule.optional_old_self) {
            (Some(within), _) if uses => {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                );
                causes.invalid_text(at(&format!("{own}.rule")), &rule.rule, why);
            }
            (_, Some(optional)) if !uses => {
                let why = "may not be set if oldSelf is not used in rule";
                causes.invalid(at(&format!("{own}.optionalOldSelf")), &optional.into(), why);
            }
            _ => {}
        }
    }

    fn observe(&mut self, place: String, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_COST / 100 {
            self.expensive.push((place, cost));
            self.expensive.sort_by_key(|one| std::cmp::Reverse(one.1));
            self.expensive.truncate(4);
        }
    }
}

fn keys_of(schema: &Schema, items: &Schema, keys: &Value, path: &str, causes: &mut Causes) {
    for (n, key) in schema.list_map_keys.iter().enumerate() {
        let place = format!("{path}.x-kubernetes-list-map-keys");
        match items.properties.get(key) {
            Some(own) if own.ty == "array" || own.ty == "object" => {
                let path = format!("{path}.items.properties[{key}].type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                causes.invalid_text(at(&path), &items.ty, why);
            }
            Some(_) => {}
            None => {
                causes.invalid(at(&place), keys, "entries must all be names of item properties");
            }
        }
        if schema.list_map_keys[..n].contains(key) {
            causes.invalid(at(&place), keys, "must not contain duplicate entries");
        }
    }
}
