//! Rules of what a job makes of pods that fail and of indexes that succeed.

use serde_json::Value;

use super::indexes;
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::apps::workload::not_negative,
    tree,
};

const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_PATTERNS: usize = 20;
const MOST_INDEX_BYTES: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATES: [&str; 3] = ["False", "True", "Unknown"];
const REPLACEMENTS: [&str; 2] = ["Failed", "TerminatingOrFailed"];

pub fn validate(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let failure = tree::has(spec, "podFailurePolicy");
    if failure {
        let here = path.child("podFailurePolicy");
        failure_policy(spec, here.child("rules"), causes);
    }
    if tree::has(spec, "successPolicy") {
        let here = path.child("successPolicy");
        if spec["completionMode"] == "Indexed" {
            success_policy(spec, here.child("rules"), causes);
        } else {
            let shown = shown::internal(&spec["successPolicy"], "batch.v1.SuccessPolicy");
            causes.invalid(here, &shown, "requires indexed completion mode");
        }
    }
    let (replacement, field) = (&spec["podReplacementPolicy"], path.child("podReplacementPolicy"));
    let known: &[&str] = if failure { &REPLACEMENTS[..1] } else { &REPLACEMENTS };
    if replacement.as_str().is_some_and(|text| !known.contains(&text)) {
        causes.not_supported(field, replacement, known);
    }
}

fn failure_policy(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let rules = tree::list(&spec["podFailurePolicy"], "rules");
    if rules.len() > MOST_RULES {
        causes.too_many(path, rules.len(), MOST_RULES);
    }
    for (at, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, path.index(at), causes);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let field = path.child("action");
    match tree::text(rule, "action") {
        "" => causes.required(field, &valid(&ACTIONS)),
        "FailIndex" if !tree::has(spec, "backoffLimitPerIndex") => {
            let why = "requires the backoffLimitPerIndex to be set";
            causes.invalid(field, &rule["action"], why);
        }
        action if ACTIONS.contains(&action) => {}
        _ => causes.not_supported(field, &rule["action"], &ACTIONS),
    }
    let codes = tree::has(rule, "onExitCodes");
    if codes {
        exit_codes(spec, &rule["onExitCodes"], path.child("onExitCodes"), causes);
    }
    let patterns = tree::list(rule, "onPodConditions");
    conditions(patterns, path.child("onPodConditions"), causes);
    match (codes, patterns.is_empty()) {
        (true, false) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            causes.invalid_whole(path, why);
        }
        (false, true) => {
            let why = "specifying one of OnExitCodes and OnPodConditions is required";
            causes.invalid_whole(path, why);
        }
        _ => {}
    }
}

fn conditions(patterns: &[Value], path: Path<'_>, causes: &mut Causes) {
    if patterns.len() > MOST_PATTERNS {
        causes.too_many(path, patterns.len(), MOST_PATTERNS);
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let item = path.index(at);
        let kind = tree::text(pattern, "type");
        causes.complaints(item.child("type"), kind, names::qualified(kind));
        match tree::text(pattern, "status") {
            "" => causes.required(item.child("status"), &valid(&STATES)),
            status if STATES.contains(&status) => {}
            _ => causes.not_supported(item.child("status"), &pattern["status"], &STATES),
        }
    }
}

fn exit_codes(spec: &Value, rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let operator = tree::text(rule, "operator");
    match operator {
        "" => causes.required(path.child("operator"), &valid(&OPERATORS)),
        known if OPERATORS.contains(&known) => {}
        _ => causes.not_supported(path.child("operator"), &rule["operator"], &OPERATORS),
    }
    if let Some(name) = rule["containerName"].as_str() {
        let pods = &spec["template"]["spec"];
        let lists = ["containers", "initContainers"];
        let mut all = lists.iter().flat_map(|list| tree::list(pods, list));
        if !all.any(|container| tree::text(container, "name") == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            causes.invalid_text(path.child("containerName"), name, why);
        }
    }
    let (values, field) = (tree::list(rule, "values"), path.child("values"));
    if values.is_empty() {
        causes.invalid_or_null(field, &rule["values"], "at least one value is required");
    } else if values.len() > MOST_EXIT_CODES {
        causes.too_many(field, values.len(), MOST_EXIT_CODES);
    }
    for (at, value) in values.iter().enumerate() {
        if operator == "In" && value == 0 {
            causes.invalid(field.index(at), value, "must not be 0 for the In operator");
        }
        if values[..at].contains(value) {
            causes.duplicate(field.index(at), value);
        }
    }
    if !values.is_sorted_by_key(|value| value.as_i64()) {
        causes.invalid(field, &rule["values"], "must be ordered");
    }
}

fn success_policy(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let rules = tree::list(&spec["successPolicy"], "rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        causes.required(path, why);
    }
    if rules.len() > MOST_RULES {
        causes.too_many(path, rules.len(), MOST_RULES);
    }
    let completions = tree::number(spec, "completions").unwrap_or(0);
    for (at, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, path.index(at), causes);
    }
}

fn success_rule(rule: &Value, completions: i64, path: Path<'_>, causes: &mut Causes) {
    let (all, count) = (rule["succeededIndexes"].as_str(), tree::number(rule, "succeededCount"));
    if all.is_none() && count.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        causes.required(path, why);
    }
    let mut total = 0;
    if let Some(all) = all {
        let field = path.child("succeededIndexes");
        if all.len() > MOST_INDEX_BYTES {
            causes.too_long(field, MOST_INDEX_BYTES);
        }
        match indexes::count(all, completions) {
            Ok(found) => total = found,
            Err(why) => {
                causes.invalid_text(field, all, format!("error parsing succeededIndexes: {why}"));
            }
        }
    }
    if let Some(count) = count {
        not_negative(rule, path, &["succeededCount"], causes);
        let (field, value) = (path.child("succeededCount"), &rule["succeededCount"]);
        let mut at_most = |most: i64, what: &str| {
            if count > most {
                let why = format!("must be less than or equal to {most} (the number of {what})");
                causes.invalid(field, value, why);
            }
        };
        at_most(completions, "specified completions");
        if all.is_some() {
            at_most(total, "indexes in the specified succeededIndexes field");
        }
    }
}

fn valid(known: &[&str]) -> String {
    // Go prints a list of texts with blanks between them.
    let quoted: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}
