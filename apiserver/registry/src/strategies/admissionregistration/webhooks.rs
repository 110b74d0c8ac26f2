//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::{
    expressions,
    matching::{
        FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION, conditions, default_rules,
        default_selectors, rule,
    },
};
use crate::{
    cause::{Causes, Path},
    expression::Expression,
    names,
    strategies::{
        apps::workload::validate_selector,
        common::{between, one_of},
    },
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

/// A configuration of webhooks; `mutating` ones may change what they are asked about.
#[derive(Debug)]
pub struct Webhooks {
    pub mutating: bool,
}

impl Strategy for Webhooks {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn default(&self, object: &mut Value) {
        for hook in tree::list_mut(object, "webhooks") {
            tree::default(hook, "failurePolicy", "Fail");
            default_selectors(hook);
            tree::default(hook, "timeoutSeconds", 10);
            if self.mutating {
                tree::default(hook, "reinvocationPolicy", "Never");
            }
            default_rules(hook, "rules");
            let service = hook.get_mut("clientConfig").and_then(|config| config.get_mut("service"));
            if let Some(service) = service {
                tree::default(service, "port", 443);
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (hooks, path) = (tree::list(object, "webhooks"), Path::Root.child("webhooks"));
        for (at, hook) in hooks.iter().enumerate() {
            let item = path.index(at);
            self.hook(hook, item, causes);
            review_versions(hook, item.child("admissionReviewVersions"), causes);
            let own = &hook["name"];
            if own != "" && hooks[..at].iter().any(|other| other["name"] == *own) {
                causes.duplicate(item.child("name"), own);
            }
        }
    }

    fn expressions(&self, object: &Value, old: Option<&Value>) -> Vec<Expression> {
        let (path, mut all) = (Path::Root.child("webhooks"), Vec::new());
        if old.is_none_or(|old| !tree::same(&object["webhooks"], &old["webhooks"])) {
            for (at, hook) in tree::list(object, "webhooks").iter().enumerate() {
                expressions::of_conditions(hook, false, path.index(at), &mut all);
            }
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), tree::list(object, "webhooks").len().into(), age(object, now)]
    }
}

impl Webhooks {
    fn hook(&self, hook: &Value, path: Path<'_>, causes: &mut Causes) {
        full_name(tree::text(hook, "name"), path.child("name"), causes);
        let all = path.child("rules");
        for (at, one) in tree::list(hook, "rules").iter().enumerate() {
            rule(one, all.index(at), causes);
        }
        one_of(hook, "failurePolicy", &FAILURE_POLICIES, path, causes);
        one_of(hook, "matchPolicy", &MATCH_POLICIES, path, causes);
        if tree::has(hook, "sideEffects") {
            one_of(hook, "sideEffects", &SIDE_EFFECTS, path, causes);
        } else {
            let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            causes.required(path.child("sideEffects"), &why);
        }
        let why = "the timeout value must be between 1 and 30 seconds";
        between(hook, "timeoutSeconds", 1..=30, why, path, causes);
        for key in ["namespaceSelector", "objectSelector"] {
            validate_selector(&hook[key], path.child(key), causes);
        }
        if self.mutating {
            one_of(hook, "reinvocationPolicy", &REINVOCATION, path, causes);
        }
        let (config, here) = (&hook["clientConfig"], path.child("clientConfig"));
        match (config["url"].as_str(), tree::has(config, "service")) {
            (Some(_), true) | (None, false) => {
                causes.required(here, "exactly one of url or service is required");
            }
            (Some(url), false) => self::url(url, here.child("url"), causes),
            (None, true) => service(&config["service"], here.child("service"), causes),
        }
        conditions(hook, path, causes);
    }
}

fn full_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    let wrong = names::subdomain(name);
    if name.is_empty() {
        causes.required(path, "");
    } else if !wrong.is_empty() {
        causes.invalid_text(path, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        causes.invalid_text(path, name, why);
    }
}

fn review_versions(hook: &Value, path: Path<'_>, causes: &mut Causes) {
    let versions = tree::list(hook, "admissionReviewVersions");
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return causes.required(path, &format!("must specify one of {known}"));
    }
    for (at, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions[..at].contains(version) {
            causes.invalid_text(path.index(at), text, "duplicate version");
            continue;
        }
        causes.complaints(path.index(at), text, names::label_1035(text));
    }
    if !versions.iter().any(|one| one.as_str().is_some_and(|one| REVIEW_VERSIONS.contains(&one))) {
        let why = format!("must include at least one of {known}");
        causes.invalid(path, &hook["admissionReviewVersions"], why);
    }
}

fn url(url: &str, path: Path<'_>, causes: &mut Causes) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        causes.invalid_text(path, scheme, why);
    }
    if host.is_empty() {
        causes.invalid_text(path, host, format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            causes.invalid_text(path, part, what);
        }
    }
}

fn service(service: &Value, path: Path<'_>, causes: &mut Causes) {
    // Upstream's messages take one for the other.
    for (key, told) in [("name", "namespace"), ("namespace", "name")] {
        if tree::text(service, key).is_empty() {
            causes.required(path.child(told), "");
        }
    }
    let wrong = names::port_number(tree::number(service, "port").unwrap_or(0));
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        causes.invalid(path.child("port"), &service["port"], why);
    }
    let (url, field) = (tree::text(service, "path"), path.child("path"));
    if url.is_empty() || url == "/" {
        return;
    }
    if url == "//" {
        return causes.invalid_text(field, url, "segment[0] may not be empty");
    }
    if !url.starts_with('/') {
        causes.invalid_text(field, url, "must start with a '/'");
    }
    let steps = url.get(1..).unwrap_or_default();
    for (at, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            causes.invalid_text(field, url, format!("segment[{at}] may not be empty"));
            continue;
        }
        for complaint in names::subdomain(step) {
            causes.invalid_text(field, url, format!("segment[{at}]: {complaint}"));
        }
    }
}
