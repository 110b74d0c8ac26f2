//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::{
    expressions,
    matching::{
        FAILURE_POLICIES, REINVOCATION, conditions, default_rules, default_selectors, expression,
        mutating_operations, resources,
    },
};
use crate::{
    cause::{Causes, Path},
    conditions as states,
    expression::Expression,
    names,
    strategies::common::{keep_metadata, one_of, required},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const MOST_ANNOTATIONS: usize = 20;
pub const MOST_EXPRESSION_BYTES: usize = 5 * 1024;
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A policy: what is looked at, and what is said or done about it.
#[derive(Debug)]
pub struct Policy {
    pub mutating: bool,
}

impl Strategy for Policy {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn separation(&self) -> Separation {
        match self.mutating {
            true => Separation::Generation,
            false => Separation::StatusAndGeneration,
        }
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        tree::default(spec, "failurePolicy", "Fail");
        if let Some(constraints) = spec.get_mut("matchConstraints").filter(|of| of.is_object()) {
            default_selectors(constraints);
            default_rules(constraints, "resourceRules");
            default_rules(constraints, "excludeResourceRules");
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        one_of(spec, "failurePolicy", &FAILURE_POLICIES, path, causes);
        if tree::has(spec, "paramKind") {
            param_kind(&spec["paramKind"], path.child("paramKind"), causes);
        }
        self.constraints(&spec["matchConstraints"], path.child("matchConstraints"), causes);
        conditions(spec, path, causes);
        let all = path.child("variables");
        for (at, variable) in tree::list(spec, "variables").iter().enumerate() {
            self::variable(variable, all.index(at), causes);
        }
        match self.mutating {
            true => mutations(spec, path, causes),
            false => validations(object, path, causes),
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub != "status" {
            return self.validate(new, causes);
        }
        let (status, path) = (&new["status"], Path::Root.child("status"));
        let checking = path.child("typeChecking");
        let all = checking.child("expressionWarnings");
        let warnings = tree::list(&status["typeChecking"], "expressionWarnings");
        for (at, warning) in warnings.iter().enumerate() {
            required(warning, &["warning", "fieldRef"], all.index(at), causes);
        }
        states::validate(tree::list(status, "conditions"), path.child("conditions"), causes);
    }

    fn expressions(&self, object: &Value, old: Option<&Value>) -> Vec<Expression> {
        // What was stored has been compiled.
        match old.is_some_and(|old| tree::same(&object["spec"], &old["spec"])) {
            true => Vec::new(),
            false => expressions::of_policy(&object["spec"], self.mutating),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let parts = tree::list(spec, if self.mutating { "mutations" } else { "validations" });
        let kind = &spec["paramKind"];
        let shown = match kind.is_null() {
            true => "<unset>".to_owned(),
            false => format!("{}/{}", tree::text(kind, "apiVersion"), tree::text(kind, "kind")),
        };
        vec![name(object), parts.len().into(), shown.into(), age(object, now)]
    }
}

impl Policy {
    fn constraints(&self, of: &Value, path: Path<'_>, causes: &mut Causes) {
        if of.is_null() {
            return causes.required(path, "");
        }
        resources(of, path, causes);
        let (rules, field) = (tree::list(of, "resourceRules"), path.child("resourceRules"));
        if rules.is_empty() {
            causes.required(field, "");
        }
        if self.mutating {
            mutating_operations(rules, field, causes);
        }
    }
}

fn param_kind(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (at, field) = (tree::text(of, "apiVersion"), path.child("apiVersion"));
    let (group, version) = at.split_once('/').unwrap_or(("", at));
    if at.is_empty() {
        causes.required(field, "");
    } else if version.contains('/') {
        causes.invalid_text(field, at, format!("unexpected GroupVersion string: {at}"));
    } else {
        let wrong = names::subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            causes.invalid_text(field, group, wrong.join(","));
        }
        let wrong = names::label_1035(version);
        if version.is_empty() {
            causes.invalid_text(field, at, "version must be specified");
        } else if !wrong.is_empty() {
            causes.invalid_text(field, version, wrong.join(","));
        }
    }
    let kind = tree::text(of, "kind");
    let wrong = names::label_1035(&kind.to_lowercase());
    if kind.is_empty() {
        causes.required(path.child("kind"), "");
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        causes.invalid_text(path.child("kind"), kind, why);
    }
}

fn variable(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let own = tree::text(of, "name");
    let begins = own.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let inner = own.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if own.trim().is_empty() {
        causes.required(path.child("name"), "name is not specified");
    } else if !begins || !inner || RESERVED.contains(&own) {
        causes.invalid_text(path.child("name"), own, "must be a valid CEL identifier");
    }
    expression(of, "expression", "expression is not specified", path, causes);
}

fn validations(object: &Value, path: Path<'_>, causes: &mut Causes) {
    let spec = &object["spec"];
    let (rules, notes) = (tree::list(spec, "validations"), tree::list(spec, "auditAnnotations"));
    let (of_rules, of_notes) = (path.child("validations"), path.child("auditAnnotations"));
    if rules.is_empty() && notes.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        causes.required(of_rules, why);
        return causes.required(of_notes, why);
    }
    for (at, rule) in rules.iter().enumerate() {
        validation(rule, of_rules.index(at), causes);
    }
    if notes.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        causes.invalid(of_notes, &spec["auditAnnotations"], why);
    }
    let own = tree::text(&object["metadata"], "name");
    for (at, note) in notes.iter().enumerate() {
        let item = of_notes.index(at);
        let key = format!("{own}/{}", tree::text(note, "key"));
        causes.complaints(item.child("key"), &key, names::qualified(&key));
        let value = tree::text(note, "valueExpression").trim();
        if value.len() > MOST_EXPRESSION_BYTES {
            let why = format!("must not exceed {MOST_EXPRESSION_BYTES} bytes in length");
            causes.required(item.child("valueExpression"), &why);
        }
        expression(note, "valueExpression", "valueExpression is not specified", item, causes);
        if notes[..at].iter().any(|other| other["key"] == note["key"]) {
            causes.duplicate(item.child("key"), &note["key"]);
        }
    }
}

fn validation(of: &Value, path: Path<'_>, causes: &mut Causes) {
    expression(of, "expression", "expression is not specified", path, causes);
    for key in ["messageExpression", "message"] {
        let text = tree::text(of, key);
        if !text.is_empty() && text.trim().is_empty() {
            causes.invalid_text(path.child(key), text, "must be non-empty if specified");
        } else if key == "message" && text.trim().contains(['\n', '\r']) {
            causes.invalid_text(path.child(key), text, "must not contain line breaks");
        }
    }
    one_of(of, "reason", &REASONS, path, causes);
}

fn mutations(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (list, all) = (tree::list(spec, "mutations"), path.child("mutations"));
    if list.is_empty() {
        causes.required(all, "mutations must contain at least one item");
    }
    for (at, mutation) in list.iter().enumerate() {
        self::mutation(mutation, all.index(at), causes);
    }
    match tree::text(spec, "reinvocationPolicy") {
        "" => causes.required(path.child("reinvocationPolicy"), ""),
        _ => one_of(spec, "reinvocationPolicy", &REINVOCATION, path, causes),
    }
}

fn mutation(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let sort = tree::text(of, "patchType");
    let (own, other) = match sort {
        "" => return causes.required(path.child("patchType"), ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return causes.not_supported(path.child("patchType"), &of["patchType"], &PATCH_TYPES),
    };
    if tree::has(of, own) {
        expression(&of[own], "expression", "", path.child(own), causes);
    } else {
        let why = format!("must be specified when patchType is {sort}");
        causes.required(path.child(own), &why);
    }
    if tree::has(of, other) {
        let why = format!("must not be specified when patchType is {sort}");
        causes.invalid_text(path.child(other), &format!("{{{other}}}"), why);
    }
}
