//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with
//! which parameters.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::matching::{default_rules, default_selectors, mutating_operations, resources};
use crate::{
    cause::{Causes, Path},
    names,
    strategies::{apps::workload::validate_selector, common::one_of},
    strategy::{Separation, Strategy},
    table::{Cells, age, name, selector_text},
    tree,
};

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const EXCLUSIVE: &str = "name and selector are mutually exclusive";

#[derive(Debug)]
pub struct PolicyBinding {
    pub mutating: bool,
}

impl Strategy for PolicyBinding {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        if let Some(resources) = spec.get_mut("matchResources").filter(|of| of.is_object()) {
            default_selectors(resources);
            default_rules(resources, "resourceRules");
            default_rules(resources, "excludeResourceRules");
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        match tree::text(spec, "policyName") {
            "" => causes.required(path.child("policyName"), ""),
            policy => causes.complaints(path.child("policyName"), policy, names::subdomain(policy)),
        }
        if tree::has(spec, "paramRef") {
            parameter(&spec["paramRef"], path.child("paramRef"), causes);
        }
        resources(&spec["matchResources"], path.child("matchResources"), causes);
        if !self.mutating {
            return actions(spec, path.child("validationActions"), causes);
        }
        let (of, path) = (&spec["matchResources"], path.child("matchResources"));
        mutating_operations(tree::list(of, "resourceRules"), path.child("resourceRules"), causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let parameter = &spec["paramRef"];
        let own = tree::text(parameter, "name");
        let shown = match tree::text(parameter, "namespace") {
            "" if !own.is_empty() => format!("*/{own}"),
            namespace if !own.is_empty() => format!("{namespace}/{own}"),
            _ if tree::has(parameter, "selector") => selector_text(&parameter["selector"]),
            _ => "<unset>".to_owned(),
        };
        vec![name(object), tree::text(spec, "policyName").into(), shown.into(), age(object, now)]
    }
}

fn parameter(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (own, selects) = (tree::text(of, "name"), tree::has(of, "selector"));
    if !own.is_empty() {
        causes.complaints(path.child("name"), own, names::path_segment(own));
        if selects {
            causes.forbidden(path.child("name"), EXCLUSIVE);
        }
    }
    if selects {
        validate_selector(&of["selector"], path.child("selector"), causes);
        if !own.is_empty() {
            causes.forbidden(path.child("selector"), EXCLUSIVE);
        }
    }
    if own.is_empty() && !selects {
        causes.required(path, "one of name or selector must be specified");
    }
    let key = "parameterNotFoundAction";
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        _ => one_of(of, key, &["Deny", "Allow"], path, causes),
    }
}

fn actions(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(spec, "validationActions");
    for (at, action) in all.iter().enumerate() {
        if !action.as_str().is_some_and(|action| ACTIONS.contains(&action)) {
            causes.not_supported(path.index(at), action, &ACTIONS);
        }
        if all[..at].contains(action) {
            causes.duplicate(path.index(at), action);
        }
    }
    let has = |wanted: &str| all.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        causes.invalid(path, &spec["validationActions"], why);
    }
    if all.is_empty() {
        causes.required(path, "");
    }
}
