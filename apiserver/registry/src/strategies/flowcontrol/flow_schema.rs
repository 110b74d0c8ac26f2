//! FlowSchema: which requests go to which priority level.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::bootstrap::mandatory;
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::common::{condition_types, keep_metadata, required},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const HIGHEST_PRECEDENCE: i64 = 10_000;
const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// A subject's kind, and the field that says the rest.
const SUBJECTS: [(&str, &str); 3] =
    [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

#[derive(Debug)]
pub struct FlowSchema;

impl Strategy for FlowSchema {
    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        if tree::number(spec, "matchingPrecedence").unwrap_or(0) == 0 {
            tree::set(spec, "matchingPrecedence", 1000);
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let own = tree::text(&object["metadata"], "name");
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        precedence(spec, own, path.child("matchingPrecedence"), causes);
        let method = &spec["distinguisherMethod"];
        if !method.is_null() && !METHODS.contains(&tree::text(method, "type")) {
            let field = path.child("distinguisherMethod");
            let shown = shown::internal(method, "flowcontrol.v1.FlowDistinguisherMethod");
            causes.not_supported(field.child("type"), &shown, &METHODS);
        }
        let level = tree::text(&spec["priorityLevelConfiguration"], "name");
        let field = path.child("priorityLevelConfiguration");
        match level {
            "" => causes.required(field.child("name"), "must reference a priority level"),
            level => causes.complaints(field.child("name"), level, names::subdomain(level)),
        }
        let all = path.child("rules");
        for (at, rule) in tree::list(spec, "rules").iter().enumerate() {
            rule_rules(rule, all.index(at), causes);
        }
        if mandatory("FlowSchema", own).is_some_and(|wanted| !tree::same(spec, &wanted)) {
            causes.invalid(path, spec, format!("spec of '{own}' must equal the fixed value"));
        }
        condition_types(&object["status"], Path::Root.child("status"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        match sub {
            "status" => condition_types(&new["status"], Path::Root.child("status"), causes),
            _ => self.validate(new, causes),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let conditions = tree::list(&object["status"], "conditions");
        let dangling = conditions.iter().find(|one| one["type"] == "Dangling");
        vec![
            name(object),
            tree::text(&spec["priorityLevelConfiguration"], "name").into(),
            tree::number(spec, "matchingPrecedence").unwrap_or(0).into(),
            spec["distinguisherMethod"]["type"].as_str().unwrap_or("<none>").into(),
            age(object, now),
            dangling.map_or("?", |one| tree::text(one, "status")).into(),
        ]
    }
}

fn precedence(spec: &Value, own: &str, path: Path<'_>, causes: &mut Causes) {
    let precedence = tree::number(spec, "matchingPrecedence").unwrap_or(0);
    let shown = Value::from(precedence);
    if precedence <= 0 {
        causes.invalid(path, &shown, "must be a positive value");
    }
    if precedence > HIGHEST_PRECEDENCE {
        causes.invalid(path, &shown, format!("must not be greater than {HIGHEST_PRECEDENCE}"));
    }
    if precedence == 1 && own != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        causes.invalid(path, &shown, why);
    }
}

fn rule_rules(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let (subjects, all) = (tree::list(rule, "subjects"), path.child("subjects"));
    if subjects.is_empty() {
        causes.required(all, "subjects must contain at least one value");
    }
    for (at, subject) in subjects.iter().enumerate() {
        subject_rules(subject, all.index(at), causes);
    }
    let resources = tree::list(rule, "resourceRules");
    let others = tree::list(rule, "nonResourceRules");
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        causes.required(path, why);
    }
    let all = path.child("resourceRules");
    for (at, rule) in resources.iter().enumerate() {
        resource_rule(rule, all.index(at), causes);
    }
    let all = path.child("nonResourceRules");
    for (at, rule) in others.iter().enumerate() {
        path_rule(rule, all.index(at), causes);
    }
}

fn subject_rules(subject: &Value, path: Path<'_>, causes: &mut Causes) {
    let kind = tree::text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        let known = SUBJECTS.map(|(kind, _)| kind);
        return causes.not_supported(path.child("kind"), &subject["kind"], &known);
    };
    let (of, here) = (&subject[*own], path.child(own));
    if of.is_null() {
        causes.required(here, &format!("{own} is required when subject kind is '{kind}'"));
    } else {
        required(of, &["name"], here, causes);
        if *own == "serviceAccount" {
            account(of, here, causes);
        }
    }
    // Upstream's order.
    for other in ["serviceAccount", "user", "group"] {
        if other != *own && tree::has(subject, other) {
            let of_kind = SUBJECTS.iter().find(|(_, key)| *key == other).map_or("", |row| row.0);
            let why = format!("{other} is forbidden when subject kind is not '{of_kind}'");
            causes.forbidden(path.child(other), why);
        }
    }
}

fn account(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (own, namespace) = (tree::text(of, "name"), tree::text(of, "namespace"));
    if !own.is_empty() && own != "*" {
        causes.complaints(path.child("name"), own, names::subdomain(own));
    }
    if namespace.is_empty() {
        let why = "must specify namespace for service account";
        return causes.required(path.child("namespace"), why);
    }
    causes.complaints(path.child("namespace"), namespace, names::label(namespace));
}

/// A list that is not empty, and holds nothing beside a `*`; false where it is not worth a closer
/// look.
fn list(
    of: &Value,
    key: &str,
    empty: &str,
    others: &str,
    path: Path<'_>,
    causes: &mut Causes,
) -> bool {
    let items = tree::list(of, key);
    let wild = items.iter().any(|item| item == "*");
    if items.is_empty() {
        causes.required(path.child(key), empty);
    } else if wild && items.len() > 1 {
        let why = format!("if '*' is present, must not specify other {others}");
        causes.invalid(path.child(key), &of[key], why);
    }
    !items.is_empty() && !wild
}

fn verbs(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let empty = "verbs must contain at least one value";
    let known = |verb: &Value| verb.as_str().is_some_and(|verb| VERBS.contains(&verb));
    if list(rule, "verbs", empty, "verbs", path, causes)
        && !tree::list(rule, "verbs").iter().all(known)
    {
        causes.not_supported(path.child("verbs"), &rule["verbs"], &VERBS);
    }
}

fn resource_rule(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    verbs(rule, path, causes);
    let empty = "resource rules must supply at least one api group";
    list(rule, "apiGroups", empty, "api groups", path, causes);
    let empty = "resource rules must supply at least one resource";
    list(rule, "resources", empty, "resources", path, causes);
    if tree::list(rule, "namespaces").is_empty() && tree::flag(rule, "clusterScope") {
        return;
    }
    let empty = "resource rules that are not cluster scoped must supply at least one namespace";
    if list(rule, "namespaces", empty, "namespaces", path, causes) {
        let field = path.child("namespaces");
        for (at, namespace) in tree::list(rule, "namespaces").iter().enumerate() {
            let namespace = namespace.as_str().unwrap_or_default();
            for complaint in names::label(namespace) {
                let why = format!(
                    "each member of this list must be '*' or a DNS-1123 label; {complaint}"
                );
                causes.invalid_text(field.index(at), namespace, why);
            }
        }
    }
}

fn path_rule(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    verbs(rule, path, causes);
    let empty = "nonResourceURLs must contain at least one value";
    let key = "nonResourceURLs";
    if !list(rule, key, empty, "non-resource URLs", path, causes) {
        return;
    }
    let field = path.child(key);
    for (at, url) in tree::list(rule, key).iter().enumerate() {
        let url = url.as_str().unwrap_or_default();
        let wild = url.matches('*').count();
        let why = match url {
            "" => "must not be empty",
            "/" => continue,
            url if !url.starts_with('/') => "must start with slash",
            url if url.contains(' ') => "must not contain white-space",
            url if url.contains("//") => "must not contain double slash",
            url if wild > 1 || (wild == 1 && !url.ends_with("/*")) => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        causes.invalid_text(field.index(at), url, why);
    }
}
