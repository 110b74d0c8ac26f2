//! What the kinds that make pods share: a selector, a template of pods, counts.

use serde_json::Value;
use windlass_sdk_meta::{Labels, Selector};

use crate::{
    cause::{Causes, Path},
    metadata::validate_labels,
    names, semantic, shown,
    strategies::core::pod::{self, name_warning, pod_warnings},
    table::selector_text,
    tree,
};

/// Defaults of a template's pods.
pub fn default_template(object: &mut Value) {
    let template = tree::child(tree::child(object, "spec"), "template");
    pod::default_spec(tree::child(template, "spec"));
}

/// Rules of `spec.selector` and `spec.template`, which have to fit each other.
pub fn validate_selector_and_template(object: &Value, causes: &mut Causes) {
    let (spec, path) = (&object["spec"], Path::Root.child("spec"));
    let selector = &spec["selector"];
    if !tree::has(spec, "selector") {
        causes.required(path.child("selector"), "");
    } else {
        validate_selector(selector, path.child("selector"), causes);
        if tree::is_empty(selector) {
            causes.invalid(
                path.child("selector"),
                selector,
                "empty selector is invalid for deployment",
            );
        }
    }
    labels_fit(spec, path, Some("invalid label selector"), causes);
    let (template, path) = (&spec["template"], path.child("template"));
    pod::validate_template(template, path, causes);
    runs_always(template, path, "ReplicaSet", causes);
}

/// The selector has to find the pods that the template makes. `unreadable` is what is said of a
/// selector that can't be evaluated; None: nothing.
pub fn labels_fit(spec: &Value, path: Path<'_>, unreadable: Option<&str>, causes: &mut Causes) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    let template = path.child("template");
    let metadata = template.child("metadata");
    let mut complaints = Causes::default();
    validate_selector(selector, path, &mut complaints);
    let parsed = Selector::from_json(selector).ok().filter(|_| complaints.is_empty());
    match (parsed, unreadable) {
        (None, None) => {}
        (None, Some(why)) => causes.invalid(path.child("selector"), selector, why),
        (Some(parsed), _) => {
            let fits =
                tree::has(spec, "selector") && parsed.matches_labels(&Labels::from_json(labels));
            if !fits {
                let why = "`selector` does not match template `labels`";
                causes.invalid_or_null(metadata.child("labels"), labels, why);
            }
        }
    }
}

/// Pods that are replaced when they end run always, and without a deadline.
pub fn runs_always(template: &Value, path: Path<'_>, kind: &str, causes: &mut Causes) {
    let (pods, path) = (&template["spec"], path.child("spec"));
    if tree::text(pods, "restartPolicy") != "Always" {
        causes.not_supported(path.child("restartPolicy"), &pods["restartPolicy"], &["Always"]);
    }
    if tree::has(pods, "activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        causes.forbidden(path.child("activeDeadlineSeconds"), why);
    }
}

/// What its template says and most likely doesn't mean; `named`: its name becomes that of its pods.
pub fn warnings(sub: &str, new: &Value, old: Option<&Value>, named: bool) -> Vec<String> {
    if !sub.is_empty() || !template_changed(new, old) {
        return Vec::new();
    }
    let named = named && old.is_none();
    let name = named.then(|| name_warning(new, "Pod names and hostnames")).flatten();
    let spec = Path::Root.child("spec");
    let template = pod_warnings(&new["spec"]["template"], spec.child("template"));
    name.into_iter().chain(template).collect()
}

/// As `warnings`, where the template is that of an object inside (`spec.jobTemplate.spec`).
pub fn warnings_at(sub: &str, new: &Value, old: Option<&Value>, inside: &str) -> Vec<String> {
    if !sub.is_empty() || !template_changed(new, old) {
        return Vec::new();
    }
    let named = old.is_none();
    let name = named.then(|| name_warning(new, "Pod names and hostnames")).flatten();
    let spec = Path::Root.child("spec");
    let inner = spec.child(inside);
    let inner = inner.child("spec");
    let template = pod_warnings(&new["spec"][inside]["spec"]["template"], inner.child("template"));
    name.into_iter().chain(template).collect()
}

fn template_changed(new: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| old["metadata"]["generation"] != new["metadata"]["generation"])
}

/// Rules of a `metav1.LabelSelector`.
pub fn validate_selector(selector: &Value, path: Path<'_>, causes: &mut Causes) {
    validate_labels(&selector["matchLabels"], path.child("matchLabels"), causes);
    let all = path.child("matchExpressions");
    for (at, expression) in tree::list(selector, "matchExpressions").iter().enumerate() {
        validate_operator(expression, false, all.index(at), causes);
        validate_labels_of(expression, all.index(at), causes);
    }
}

/// An expression of a selector has values where its operator takes them; `any`: also operators that
/// aren't known here.
pub fn validate_operator(expression: &Value, any: bool, path: Path<'_>, causes: &mut Causes) {
    let values = tree::list(expression, "values");
    match tree::text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            causes.required(path.child("values"), why);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            causes.forbidden(path.child("values"), why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ if any => {}
        operator => {
            let why = "not a valid selector operator";
            causes.invalid_text(path.child("operator"), operator, why);
        }
    }
}

/// An expression of a selector speaks of a label and its values.
pub fn validate_labels_of(expression: &Value, path: Path<'_>, causes: &mut Causes) {
    let key = tree::text(expression, "key");
    causes.complaints(path.child("key"), key, names::qualified(key));
    let field = path.child("values");
    let values = tree::list(expression, "values").iter().filter_map(Value::as_str);
    for (at, value) in values.enumerate() {
        causes.complaints(field.index(at), value, names::label_value(value));
    }
}

/// Numbers that may not be below zero.
pub fn not_negative(of: &Value, path: Path<'_>, keys: &[&str], causes: &mut Causes) {
    for key in keys {
        if tree::number(of, key).is_some_and(|number| number < 0) {
            causes.invalid(path.child(key), &of[*key], "must be greater than or equal to 0");
        }
    }
}

/// Rules of a status that counts pods.
pub fn validate_counts(object: &Value, keys: &[&str], causes: &mut Causes) {
    let (status, path) = (&object["status"], Path::Root.child("status"));
    not_negative(status, path, &["observedGeneration", "replicas", "terminatingReplicas"], causes);
    not_negative(status, path, keys, causes);
    let count = |key: &str| tree::number(status, key).unwrap_or(0);
    for key in keys.iter().filter(|key| **key != "unavailableReplicas" && **key != "collisionCount")
    {
        if count(key) > count("replicas") {
            causes.invalid(
                path.child(key),
                &status[*key],
                "cannot be greater than status.replicas",
            );
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        causes.invalid(path.child("availableReplicas"), &status["availableReplicas"], why);
    }
}

/// A count that says how often a name was taken never goes back.
pub fn collisions_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let of = |object: &Value| tree::number(&object["status"], "collisionCount").unwrap_or(0);
    if of(new) < of(old) {
        let path = Path::Root.child("status");
        let now = Value::from(of(new));
        causes.invalid(path.child("collisionCount"), &now, "cannot be decremented");
    }
}

/// Fields of `spec`, which is of type `of`, that never change. Absent ones are shown as null: they
/// are pointers.
pub fn spec_kept(new: &Value, old: &Value, of: &str, keys: &[&str], causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let (after, before) = (&new["spec"], &old["spec"]);
    for key in keys.iter().filter(|key| !semantic::same_in(after, before, of, key)) {
        let shown = shown::field(after, of, key);
        causes.invalid_or_null(path.child(key), &shown, "field is immutable");
    }
}

/// The selector says which pods are its own: it never changes.
pub fn selector_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let (after, before) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    if !tree::same(after, before) {
        let spec = Path::Root.child("spec");
        causes.invalid_or_null(spec.child("selector"), after, "field is immutable");
    }
}

/// The wide cells: names and images of the containers, and the selector.
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let [names, images] = container_cells(&object["spec"]["template"]);
    [names, images, Value::from(selector_cell(&object["spec"]["selector"]))]
}

/// Names and images of a template's containers.
pub fn container_cells(template: &Value) -> [Value; 2] {
    let containers = tree::list(&template["spec"], "containers");
    let of = |key: &str| {
        let all: Vec<&str> = containers.iter().map(|one| tree::text(one, key)).collect();
        Value::from(all.join(","))
    };
    [of("name"), of("image")]
}

/// A selector as cells show it.
pub fn selector_cell(selector: &Value) -> String {
    match selector_text(selector) {
        text if text.is_empty() => "<none>".to_owned(),
        text => text,
    }
}

/// Labels as cells show them.
pub fn labels_cell(labels: &Value) -> String {
    let all = labels.as_object().into_iter().flatten();
    let mut all: Vec<String> =
        all.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    all.sort_unstable();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

/// Not more than all.
pub fn at_most_all(value: &Value, path: Path<'_>, causes: &mut Causes) {
    if value.is_string() && amount(value) > 100 {
        causes.invalid(path, value, "must not be greater than 100%");
    }
}

/// A count, or a share of all of them.
pub fn count_or_percent(value: &Value, path: Path<'_>, causes: &mut Causes) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                causes.invalid(path, value, why);
            }
        }
        value if value.as_i64().is_some_and(|number| number < 0) => {
            causes.invalid(path, value, "must be greater than or equal to 0");
        }
        _ => {}
    }
}

/// The number, also of a percentage.
pub fn amount(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        value => value.as_i64().unwrap_or(0),
    }
}
