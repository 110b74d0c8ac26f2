//! ResourceQuota: what a namespace may use together.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::resource_names::{self, is_standard_quota};
use crate::{
    cause::{Causes, Path},
    shown,
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const OPPOSITES: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const MUST_EXIST: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

#[derive(Debug)]
pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        resource_names::quota(spec, "hard", path, causes);
        scopes(spec, path.child("scopes"), causes);
        let selector = path.child("scopeSelector");
        scope_selector(spec, selector.child("matchExpressions"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            let path = Path::Root.child("status");
            resource_names::quota(&new["status"], "hard", path, causes);
            return resource_names::quota(&new["status"], "used", path, causes);
        }
        self.validate(new, causes);
        let sorted = |object: &Value| {
            let mut all: Vec<String> =
                tree::list(&object["spec"], "scopes").iter().map(Value::to_string).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        if sorted(new) != sorted(old) {
            let path = Path::Root.child("spec");
            let scopes = &new["spec"]["scopes"];
            causes.invalid_or_null(path.child("scopes"), scopes, "field is immutable");
        }
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        if !sub.is_empty() || old.is_some() {
            return Vec::new();
        }
        let hard = &new["spec"]["hard"];
        let mut all = Vec::new();
        for name in ["cpu", "memory", "ephemeral-storage"] {
            let (request, limit) = (format!("requests.{name}"), format!("limits.{name}"));
            let bare = name != "ephemeral-storage" && !tree::has(hard, &request);
            let request = if bare { name.to_owned() } else { request };
            let of = |key: &str| resource_names::quantity(&hard[key]);
            if let (Some(asked), Some(most)) = (of(&request), of(&limit))
                && asked > most
            {
                let shown = |key: &str| hard[key].as_str().unwrap_or_default().to_owned();
                all.push(format!(
                    "ResourceQuota {request} ({}) should be less than {limit} ({})",
                    shown(&request),
                    shown(&limit)
                ));
            }
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let status = &object["status"];
        let mut names: Vec<&String> = tree::entries(status, "hard").map(|(name, _)| name).collect();
        names.sort_unstable();
        let cell = |limits: bool| {
            let some = names.iter().filter(|name| name.starts_with("limits.") == limits);
            let each = some.map(|name| {
                let used = status["used"][name.as_str()].as_str().unwrap_or("0");
                let hard = status["hard"][name.as_str()].as_str().unwrap_or("0");
                format!("{name}: {used}/{hard}")
            });
            Value::from(each.collect::<Vec<_>>().join(", "))
        };
        vec![name(object), cell(false), cell(true), age(object, now)]
    }
}

fn scopes(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(spec, "scopes");
    for scope in all.iter().map(|scope| scope.as_str().unwrap_or_default()) {
        if !SCOPES.contains(&scope) {
            causes.invalid(path, &spec["scopes"], "unsupported scope");
        }
        for _ in bounded(spec).filter(|name| !fits(scope, name)) {
            causes.invalid(path, &spec["scopes"], "unsupported scope applied to resource");
        }
    }
    for pair in OPPOSITES {
        if pair.iter().all(|one| all.iter().any(|scope| scope == one)) {
            causes.invalid(path, &spec["scopes"], "conflicting scopes");
        }
    }
}

fn scope_selector(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let expressions = tree::list(&spec["scopeSelector"], "matchExpressions");
    for expression in expressions {
        let scope = tree::text(expression, "scopeName");
        let (operator, values) =
            (tree::text(expression, "operator"), tree::list(expression, "values"));
        if !SCOPES.contains(&scope) {
            causes.invalid_text(path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in bounded(spec).filter(|name| !fits(scope, name)) {
            let shown = shown::internal(&spec["scopeSelector"], "core.v1.ScopeSelector");
            causes.invalid(path, &shown, "unsupported scope applied to resource");
        }
        let valued = scope == "PriorityClass" || scope == "VolumeAttributesClass";
        if SCOPES.contains(&scope) && !valued && operator != "Exists" {
            causes.invalid_text(path.child("operator"), operator, MUST_EXIST);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                causes.required(path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                causes.invalid(path.child("values"), &expression["values"], why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                causes.invalid_text(path.child("operator"), operator, why);
            }
        }
    }
    let named = |scope: &str| expressions.iter().any(|one| tree::text(one, "scopeName") == scope);
    for pair in OPPOSITES {
        if pair.iter().all(|scope| named(scope)) {
            causes.invalid_or_null(path, &spec["scopes"], "conflicting scopes");
        }
    }
}

/// The standard resources that the quota bounds.
fn bounded(spec: &Value) -> impl Iterator<Item = &String> {
    tree::entries(spec, "hard").map(|(name, _)| name).filter(|name| is_standard_quota(name))
}

/// Whether a resource is used by what the scope is about: pods, or claims.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            resource == "persistentvolumeclaims" || resource == "requests.storage"
        }
        _ if SCOPES.contains(&scope) => resource == "pods" || COMPUTE.contains(&resource),
        _ => true,
    }
}
