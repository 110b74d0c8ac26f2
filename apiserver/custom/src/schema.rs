//! A schema as a CustomResourceDefinition carries it (`JSONSchemaProps`), read into a tree. Reading
//! never fails: what can't be meant is noted, for validation to refuse.

use std::{collections::BTreeMap, sync::OnceLock};

use regex::Regex;
use serde_json::Value;

/// Keys of JSON Schema that structural schemas don't know.
const FORBIDDEN: [&str; 7] = [
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
    "$schema",
];

#[derive(Debug, Default)]
pub struct Schema {
    pub ty: String,
    pub title: String,
    pub description: String,
    pub format: String,
    pub nullable: bool,
    pub default: Option<Value>,
    pub example: Option<Value>,
    pub external_docs: Option<Value>,
    pub maximum: Option<Bound>,
    pub minimum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub unique_items: bool,
    pub pattern: String,
    pub enums: Vec<Value>,
    pub required: Vec<String>,
    pub items: Option<Box<Schema>>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
    pub preserve: Option<bool>,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: Option<String>,
    pub map_type: Option<String>,
    pub list_map_keys: Vec<String>,
    pub rules: Vec<Rule>,
    /// Keys that no structural schema has.
    pub forbidden: Vec<&'static str>,
    /// `items` is a list of schemas.
    pub many_items: bool,
    regex: OnceLock<Option<Regex>>,
}

#[derive(Debug)]
pub enum Additional {
    Any(bool),
    Schema(Box<Schema>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

/// One of `x-kubernetes-validations`.
#[derive(Debug, Default)]
pub struct Rule {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    pub reason: Option<String>,
    pub field_path: String,
    pub optional_old_self: Option<bool>,
}

impl Schema {
    pub fn read(json: &Value) -> Schema {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let flag = |key: &str| json[key].as_bool().unwrap_or(false);
        let count = |key: &str| json[key].as_i64();
        let some = |key: &str| json.get(key).filter(|value| !value.is_null()).cloned();
        let bound = |key: &str, exclusive: &str| {
            json[key].as_f64().map(|value| Bound { value, exclusive: flag(exclusive) })
        };
        let all = |key: &str| -> Vec<Schema> {
            json[key].as_array().into_iter().flatten().map(Schema::read).collect()
        };
        let texts = |key: &str| -> Vec<String> {
            let list = json[key].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let present = |key: &&'static str| match &json[*key] {
            Value::Null => false,
            Value::String(text) => !text.is_empty() || *key == "$ref",
            Value::Object(map) => !map.is_empty() || *key == "dependencies",
            _ => true,
        };
        Schema {
            ty: text("type"),
            title: text("title"),
            description: text("description"),
            format: text("format"),
            nullable: flag("nullable"),
            default: some("default"),
            example: some("example"),
            external_docs: some("externalDocs"),
            maximum: bound("maximum", "exclusiveMaximum"),
            minimum: bound("minimum", "exclusiveMinimum"),
            multiple_of: json["multipleOf"].as_f64(),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            unique_items: flag("uniqueItems"),
            pattern: text("pattern"),
            enums: json["enum"].as_array().cloned().unwrap_or_default(),
            required: texts("required"),
            items: json["items"].is_object().then(|| Box::new(Schema::read(&json["items"]))),
            properties: read_map(&json["properties"]),
            additional: match &json["additionalProperties"] {
                Value::Bool(any) => Some(Additional::Any(*any)),
                schema @ Value::Object(_) => {
                    Some(Additional::Schema(Box::new(Schema::read(schema))))
                }
                _ => None,
            },
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: json["not"].is_object().then(|| Box::new(Schema::read(&json["not"]))),
            preserve: json["x-kubernetes-preserve-unknown-fields"].as_bool(),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: some("x-kubernetes-list-type").and_then(|v| v.as_str().map(str::to_owned)),
            map_type: some("x-kubernetes-map-type").and_then(|v| v.as_str().map(str::to_owned)),
            list_map_keys: texts("x-kubernetes-list-map-keys"),
            rules: json["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Rule::read)
                .collect(),
            forbidden: FORBIDDEN.iter().filter(|key| present(key)).copied().collect(),
            many_items: json["items"].as_array().is_some_and(|items| !items.is_empty()),
            regex: OnceLock::new(),
        }
    }

    /// Whether the text is of the pattern; None where the pattern can't be read.
    pub fn matches(&self, text: &str) -> Option<bool> {
        let regex = self.regex.get_or_init(|| Regex::new(&self.pattern).ok());
        regex.as_ref().map(|regex| regex.is_match(text))
    }

    pub fn preserves(&self) -> bool {
        self.preserve == Some(true)
    }

    /// The schema of entries that no property names.
    pub fn additional_schema(&self) -> Option<&Schema> {
        match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// The schema of one entry.
    pub fn field(&self, key: &str) -> Option<&Schema> {
        self.properties.get(key).or_else(|| self.additional_schema())
    }

    /// Every schema of the tree, junctors included.
    pub fn any(&self, test: &mut dyn FnMut(&Schema) -> bool) -> bool {
        if test(self) {
            return true;
        }
        let junctors = self.all_of.iter().chain(&self.any_of).chain(&self.one_of);
        let inner = self.properties.values().chain(self.items.as_deref());
        let inner = inner.chain(self.additional_schema()).chain(self.not.as_deref());
        inner.chain(junctors).any(|schema| schema.any(test))
    }

    /// Whether a tree has a rule where rules are evaluated.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.items.as_ref().is_some_and(|items| items.has_rules())
            || self.additional_schema().is_some_and(Schema::has_rules)
            || self.properties.values().any(Schema::has_rules)
    }
}

impl Rule {
    fn read(json: &Value) -> Rule {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        Rule {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: json["reason"].as_str().map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: json["optionalOldSelf"].as_bool(),
        }
    }
}

fn read_map(json: &Value) -> BTreeMap<String, Schema> {
    let map = json.as_object().into_iter().flatten();
    map.map(|(key, schema)| (key.clone(), Schema::read(schema))).collect()
}
