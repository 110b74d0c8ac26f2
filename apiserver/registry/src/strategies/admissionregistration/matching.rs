//! Which requests a webhook or a policy is about: rules that all kinds of the group share.

use serde_json::{Value, json};

use crate::{
    cause::{Causes, Path},
    names,
    strategies::{apps::workload::validate_selector, common::one_of},
    tree,
};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
pub const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub const REINVOCATION: [&str; 2] = ["IfNeeded", "Never"];
const MOST_CONDITIONS: usize = 64;

/// Defaults of `matchConstraints`, `matchResources` or a webhook.
pub fn default_selectors(of: &mut Value) {
    tree::default(of, "matchPolicy", "Equivalent");
    for key in ["namespaceSelector", "objectSelector"] {
        tree::default(of, key, json!({}));
    }
}

pub fn default_rules(of: &mut Value, key: &str) {
    for rule in tree::list_mut(of, key) {
        tree::default(rule, "scope", "*");
    }
}

/// Rules of `matchConstraints` and `matchResources`.
pub fn resources(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return;
    }
    one_of(of, "matchPolicy", &MATCH_POLICIES, path, causes);
    for key in ["namespaceSelector", "objectSelector"] {
        validate_selector(&of[key], path.child(key), causes);
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        let all = path.child(key);
        for (at, rule) in tree::list(of, key).iter().enumerate() {
            named_rule(rule, all.index(at), causes);
        }
    }
}

fn named_rule(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let (own, all) = (tree::list(rule, "resourceNames"), path.child("resourceNames"));
    for (at, name) in own.iter().enumerate() {
        let text = name.as_str().unwrap_or_default();
        causes.complaints(all.index(at), text, names::path_segment(text));
        if own[..at].contains(name) {
            causes.duplicate(all.index(at), name);
        }
    }
    self::rule(rule, path, causes);
}

/// What is deleted can't be changed: operations of the rules that pick what a policy mutates.
pub fn mutating_operations(rules: &[Value], path: Path<'_>, causes: &mut Causes) {
    for operation in rules.iter().flat_map(|rule| tree::list(rule, "operations")) {
        if !operation.as_str().is_some_and(|one| MUTATING_OPERATIONS.contains(&one)) {
            causes.not_supported(path.child("operations"), operation, &MUTATING_OPERATIONS);
        }
    }
}

/// Rules of operations, groups, versions, resources and scope.
pub fn rule(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    list(rule, "operations", "operations", path, causes);
    let all = path.child("operations");
    for (at, operation) in tree::list(rule, "operations").iter().enumerate() {
        if !operation.as_str().is_some_and(|one| OPERATIONS.contains(&one)) {
            causes.not_supported(all.index(at), operation, &OPERATIONS);
        }
    }
    list(rule, "apiGroups", "API groups", path, causes);
    list(rule, "apiVersions", "API versions", path, causes);
    let all = path.child("apiVersions");
    for (at, version) in tree::list(rule, "apiVersions").iter().enumerate() {
        if version == "" {
            causes.required(all.index(at), "");
        }
    }
    rule_resources(rule, path.child("resources"), causes);
    one_of(rule, "scope", &SCOPES, path, causes);
}

/// A list that is not empty and holds nothing beside a `*`.
fn list(of: &Value, key: &str, others: &str, path: Path<'_>, causes: &mut Causes) {
    let items = tree::list(of, key);
    if items.is_empty() {
        causes.required(path.child(key), "");
    }
    if items.len() > 1 && items.iter().any(|item| item == "*") {
        let why = format!("if '*' is present, must not specify other {others}");
        causes.invalid(path.child(key), &of[key], why);
    }
}

fn rule_resources(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let items = tree::list(rule, "resources");
    if items.is_empty() {
        causes.required(path, "");
    }
    let texts: Vec<&str> = items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
    for (at, text) in texts.iter().enumerate() {
        if text.is_empty() {
            causes.required(path.index(at), "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else { continue };
        let before = &texts[..at];
        if before.contains(&&*format!("{resource}/*")) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            causes.invalid_text(path.index(at), text, why);
        }
        if before.contains(&&*format!("*/{sub}")) {
            let why = format!("if '*/{sub}' is present, must not specify {text}");
            causes.invalid_text(path.index(at), text, why);
        }
    }
    if texts.len() > 1 && texts.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        causes.invalid(path, &rule["resources"], why);
    }
    // As upstream, which looks at the last one without a subresource.
    let last = texts.iter().rev().find(|text| !text.is_empty() && !text.contains('/'));
    if texts.contains(&"*") && last.is_some_and(|last| *last != "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        causes.invalid(path, &rule["resources"], why);
    }
}

/// Rules of `matchConditions`.
pub fn conditions(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (all, path) = (tree::list(of, "matchConditions"), path.child("matchConditions"));
    if all.len() > MOST_CONDITIONS {
        causes.too_many(path, all.len(), MOST_CONDITIONS);
    }
    for (at, condition) in all.iter().enumerate() {
        let item = path.index(at);
        expression(condition, "expression", "", item, causes);
        match tree::text(condition, "name") {
            "" => causes.required(item.child("name"), ""),
            name => {
                causes.complaints(item.child("name"), name, names::qualified(name));
                if all[..at].iter().any(|other| other["name"] == condition["name"]) {
                    causes.duplicate(item.child("name"), &condition["name"]);
                }
            }
        }
    }
}

/// An expression that must be there.
pub fn expression(of: &Value, key: &str, why: &str, path: Path<'_>, causes: &mut Causes) {
    if tree::text(of, key).trim().is_empty() {
        causes.required(path.child(key), why);
    }
}
