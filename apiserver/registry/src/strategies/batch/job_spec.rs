//! Rules of a job's specification, in a Job or in a CronJob's template.

use serde_json::Value;

use super::job_policies;
use crate::{
    cause::{Causes, Path},
    names,
    strategies::{apps::workload::not_negative, core::pod},
    tree,
};

const MOST_PARALLEL: i64 = 100_000;
const MOST_FAILED_INDEXES: i64 = 100_000;
/// Above this many completions, limits by index are tighter.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const MAX_MANAGED_BY: usize = 63;
const COUNTS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// `scheduling` belongs to a feature that is off by default: upstream drops it unless it is there
/// already, and so do we.
pub fn drop_disabled(spec: &mut Value, old: Option<&Value>) {
    if old.is_none_or(|old| !tree::has(old, "scheduling")) {
        tree::remove(spec, "scheduling");
    }
}

/// All rules but those about the selector.
pub fn validate(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    not_negative(spec, path, &COUNTS, causes);
    if tree::has(spec, "maxFailedIndexes") && !tree::has(spec, "backoffLimitPerIndex") {
        let why = "when maxFailedIndexes is specified";
        causes.required(path.child("backoffLimitPerIndex"), why);
    }
    managed_by(&spec["managedBy"], path.child("managedBy"), causes);
    match &spec["completionMode"] {
        mode if mode == "Indexed" => indexed(spec, path, causes),
        mode => {
            if mode.is_null() || mode == "NonIndexed" {
                for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                    if tree::has(spec, key) {
                        let why = "requires indexed completion mode";
                        causes.invalid(path.child(key), &spec[key], why);
                    }
                }
            } else {
                causes.not_supported(
                    path.child("completionMode"),
                    mode,
                    &["NonIndexed", "Indexed"],
                );
            }
        }
    }
    job_policies::validate(spec, path, causes);
    let template = path.child("template");
    pod::validate_template(&spec["template"], template, causes);
    restart_policy(spec, template.child("spec"), causes);
}

fn managed_by(by: &Value, path: Path<'_>, causes: &mut Causes) {
    let Some(text) = by.as_str() else { return };
    names::domain_prefixed_path(text, path, causes);
    if text.len() > MAX_MANAGED_BY {
        causes.too_long(path, MAX_MANAGED_BY);
    }
}

fn indexed(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let number = |key: &str| tree::number(spec, key);
    let over = |key: &str, most: i64| number(key).is_some_and(|found| found > most);
    let completions = number("completions");
    if completions.is_none() {
        causes.required(path.child("completions"), "when completion mode is Indexed");
    }
    let parallelism = (path.child("parallelism"), &spec["parallelism"]);
    let failed = (path.child("maxFailedIndexes"), &spec["maxFailedIndexes"]);
    if over("parallelism", MOST_PARALLEL) {
        let why = format!(
            "must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed"
        );
        causes.invalid(parallelism.0, parallelism.1, why);
    }
    if completions.is_some_and(|completions| over("maxFailedIndexes", completions)) {
        causes.invalid(failed.0, failed.1, "must be less than or equal to completions");
    }
    if over("maxFailedIndexes", MOST_FAILED_INDEXES) {
        let why = format!("must be less than or equal to {MOST_FAILED_INDEXES}");
        causes.invalid(failed.0, failed.1, why);
    }
    if over("completions", MANY_COMPLETIONS) && tree::has(spec, "backoffLimitPerIndex") {
        if !tree::has(spec, "maxFailedIndexes") {
            let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            causes.required(failed.0, &why);
        }
        let why = format!(
            "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        );
        if over("parallelism", MOST_OF_MANY) {
            causes.invalid(parallelism.0, parallelism.1, &why);
        }
        if over("maxFailedIndexes", MOST_OF_MANY) {
            causes.invalid(failed.0, failed.1, &why);
        }
    }
}

/// Pods of a job end: their own policy can't be to run always.
fn restart_policy(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (value, field) = (&spec["template"]["spec"]["restartPolicy"], path.child("restartPolicy"));
    match value.as_str().unwrap_or_default() {
        "" | "Always" => causes.required(field, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if tree::has(spec, "podFailurePolicy") => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            causes.invalid(field, value, why);
        }
        "OnFailure" | "Never" => {}
        _ => causes.not_supported(field, value, &["OnFailure", "Never"]),
    }
}
