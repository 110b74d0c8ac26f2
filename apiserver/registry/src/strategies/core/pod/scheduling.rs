//! Rules of where a pod may run: tolerations, affinity, spreading.

use serde_json::{Value, json};

use crate::{
    cause::{Causes, Path},
    names,
    strategies::apps::workload::validate_selector,
    tree,
};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Rules of tolerations, of a pod or of an update of it.
pub fn validate_tolerations(tolerations: &[Value], path: Path<'_>, causes: &mut Causes) {
    for (at, toleration) in tolerations.iter().enumerate() {
        let item = path.index(at);
        let (key, operator) = (tree::text(toleration, "key"), tree::text(toleration, "operator"));
        let (value, effect) = (tree::text(toleration, "value"), tree::text(toleration, "effect"));
        if !key.is_empty() {
            causes.complaints(item.child("key"), key, names::qualified(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.invalid_text(item.child("operator"), operator, why);
        }
        if tree::has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.invalid_text(item.child("effect"), effect, why);
        }
        match operator {
            "" | "Equal" => {
                let complaints = names::label_value(value);
                if !complaints.is_empty() {
                    causes.invalid_text(item.child("operator"), value, complaints.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                causes.invalid_text(item.child("operator"), value, why);
            }
            "Exists" => {}
            _ => {
                // Those of a feature that is off are told to who asks for them.
                let all = ["Equal", "Exists", "Lt", "Gt"];
                let known = if all.contains(&operator) { &all[..] } else { &all[..2] };
                causes.not_supported(item.child("operator"), &toleration["operator"], known);
            }
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            causes.not_supported(item.child("effect"), &toleration["effect"], &EFFECTS);
        }
    }
}

/// What terms and constraints take from the incoming pod's labels becomes part of their selectors
/// (KEP-3633, KEP-3243).
pub fn merge_label_keys(spec: &mut Value, labels: &Value) {
    for constraint in tree::list_mut(spec, "topologySpreadConstraints") {
        merge(constraint, "matchLabelKeys", "In", labels);
    }
    let Some(affinity) = spec.get_mut("affinity").filter(|one| one.is_object()) else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(of) = affinity.get_mut(kind).filter(|one| one.is_object()) else { continue };
        for term in tree::list_mut(of, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge(term, "matchLabelKeys", "In", labels);
            merge(term, "mismatchLabelKeys", "NotIn", labels);
        }
        for weighted in tree::list_mut(of, "preferredDuringSchedulingIgnoredDuringExecution") {
            let Some(term) = weighted.get_mut("podAffinityTerm") else { continue };
            merge(term, "matchLabelKeys", "In", labels);
            merge(term, "mismatchLabelKeys", "NotIn", labels);
        }
    }
}

fn merge(of: &mut Value, list: &str, operator: &str, labels: &Value) {
    let keys = tree::list(of, list).to_vec();
    let Some(selector) = of.get_mut("labelSelector").filter(|one| one.is_object()) else { return };
    let mut all = tree::list(selector, "matchExpressions").to_vec();
    for key in keys.iter().filter_map(Value::as_str) {
        if let Some(value) = labels.get(key) {
            all.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
    if !all.is_empty() {
        tree::set(selector, "matchExpressions", all);
    }
}

/// Rules of `affinity`.
pub fn validate_affinity(affinity: &Value, path: Path<'_>, causes: &mut Causes) {
    let (node, here) = (&affinity["nodeAffinity"], path.child("nodeAffinity"));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if tree::has(node, required) {
        let here = here.child(required);
        let terms = tree::list(&node[required], "nodeSelectorTerms");
        let all = here.child("nodeSelectorTerms");
        if terms.is_empty() {
            causes.required(all, "must have at least one node selector term");
        }
        for (at, term) in terms.iter().enumerate() {
            node_term(term, true, all.index(at), causes);
        }
    }
    let preferred = here.child("preferredDuringSchedulingIgnoredDuringExecution");
    let list = tree::list(node, "preferredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in list.iter().enumerate() {
        let item = preferred.index(at);
        weight(term, item.child("weight"), causes);
        node_term(&term["preference"], false, item.child("preference"), causes);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (of, here) = (&affinity[kind], path.child(kind));
        let all = here.child(required);
        for (at, term) in tree::list(of, required).iter().enumerate() {
            pod_term(term, all.index(at), causes);
        }
        let key = "preferredDuringSchedulingIgnoredDuringExecution";
        let all = here.child(key);
        for (at, weighted) in tree::list(of, key).iter().enumerate() {
            let item = all.index(at);
            weight(weighted, item.child("weight"), causes);
            pod_term(&weighted["podAffinityTerm"], item.child("podAffinityTerm"), causes);
        }
    }
}

fn weight(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let weight = tree::number(of, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        causes.invalid(path, &Value::from(weight), "must be in the range 1-100");
    }
}

fn pod_term(term: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["labelSelector", "namespaceSelector"] {
        validate_selector(&term[key], path.child(key), causes);
    }
    for name in tree::list(term, "namespaces").iter().filter_map(Value::as_str) {
        causes.complaints(path.child("namespace"), name, names::label(name));
    }
    label_keys(term, path, causes);
    let key = tree::text(term, "topologyKey");
    if key.is_empty() {
        causes.required(path.child("topologyKey"), "can not be empty");
    }
    causes.complaints(path.child("topologyKey"), key, names::qualified(key));
}

/// Rules of the labels of the incoming pod that a term or a constraint goes by.
fn label_keys(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let selector = &of["labelSelector"];
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let here = path.child(list);
        let keys = tree::list(of, list);
        if !keys.is_empty() && selector.is_null() {
            causes.forbidden(here, "must not be specified when labelSelector is not set");
            continue;
        }
        for (at, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            causes.complaints(here.index(at), key, names::qualified(key));
        }
    }
    let matched = tree::list(of, "matchLabelKeys");
    let mut known: Vec<&str> =
        tree::entries(selector, "matchLabels").map(|(key, _)| key.as_str()).collect();
    for expression in tree::list(selector, "matchExpressions") {
        let key = tree::text(expression, "key");
        // Upstream writes them into the selector itself: only a second mention is a clash.
        if known.contains(&key)
            && let Some(at) = matched.iter().rposition(|one| one == key)
        {
            let why = "exists in both matchLabelKeys and labelSelector";
            causes.invalid_text(path.index(at), key, why);
        }
        known.push(key);
    }
    let here = path.child("matchLabelKeys");
    for (at, key) in matched.iter().enumerate() {
        if tree::list(of, "mismatchLabelKeys").contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            causes.invalid(here.index(at), key, why);
        }
    }
}

/// Rules of a term of a node selector. What is preferred may hold values that no label can have.
pub fn node_term(term: &Value, strict: bool, path: Path<'_>, causes: &mut Causes) {
    let all = path.child("matchExpressions");
    for (at, expression) in tree::list(term, "matchExpressions").iter().enumerate() {
        let item = all.index(at);
        let values = tree::list(expression, "values");
        match tree::text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.required(item.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.forbidden(item.child("values"), why);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                causes.required(item.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            operator => {
                let why = "not a valid selector operator";
                causes.invalid_text(item.child("operator"), operator, why);
            }
        }
        let key = tree::text(expression, "key");
        causes.complaints(item.child("key"), key, names::qualified(key));
        let here = item.child("values");
        for (at, value) in values.iter().filter_map(Value::as_str).enumerate() {
            if strict {
                causes.complaints(here.index(at), value, names::label_value(value));
            }
        }
    }
    node_fields(term, path.child("matchFields"), causes);
}

fn node_fields(term: &Value, path: Path<'_>, causes: &mut Causes) {
    for (at, expression) in tree::list(term, "matchFields").iter().enumerate() {
        let item = path.index(at);
        let values = tree::list(expression, "values");
        match tree::text(expression, "operator") {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                causes.required(item.child("values"), why);
            }
            "In" | "NotIn" => {}
            operator => {
                let why = "not a valid selector operator";
                causes.invalid_text(item.child("operator"), operator, why);
            }
        }
        let (key, here) = (tree::text(expression, "key"), item.child("values"));
        if key != "metadata.name" {
            let why = "not a valid field selector key";
            causes.invalid_text(item.child("key"), key, why);
            continue;
        }
        for (at, value) in values.iter().filter_map(Value::as_str).enumerate() {
            causes.complaints(here.index(at), value, names::subdomain(value));
        }
    }
}

/// Rules of `topologySpreadConstraints`.
pub fn validate_spread(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(spec, "topologySpreadConstraints");
    for (at, constraint) in all.iter().enumerate() {
        let item = path.index(at);
        let (key, action) =
            (tree::text(constraint, "topologyKey"), tree::text(constraint, "whenUnsatisfiable"));
        let skew = tree::number(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            causes.invalid(item.child("maxSkew"), &Value::from(skew), "must be greater than zero");
        }
        if key.is_empty() {
            causes.required(item.child("topologyKey"), "can not be empty");
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&action) {
            causes.not_supported(item.child("whenUnsatisfiable"), &action.into(), &known);
        }
        let again = all[at + 1..].iter().any(|other| {
            tree::text(other, "topologyKey") == key
                && tree::text(other, "whenUnsatisfiable") == action
        });
        if again {
            let shown = Value::from(format!("{{{key}, {action}}}"));
            causes.duplicate(item.child("{topologyKey, whenUnsatisfiable}"), &shown);
        }
        let here = item.child("minDomains");
        if let Some(least) = tree::number(constraint, "minDomains") {
            if least <= 0 {
                causes.invalid(here, &Value::from(least), "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                causes.invalid(here, &Value::from(least), why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let known = ["Honor", "Ignore"];
            if tree::has(constraint, key) && !known.contains(&tree::text(constraint, key)) {
                causes.not_supported(item.child(key), &constraint[key], &known);
            }
        }
        label_keys(constraint, item, causes);
        validate_selector(&constraint["labelSelector"], item.child("labelSelector"), causes);
    }
}
