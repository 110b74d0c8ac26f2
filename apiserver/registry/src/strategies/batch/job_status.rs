//! Rules of a job's status. A controller of somebody else's may write it (`managedBy`), so what it
//! says has to be possible. Most rules look only at what an update changes: a specification that
//! changed meanwhile must not make every later status wrong.

use serde_json::Value;
use windlass_sdk_meta::{Timestamp, parse_time};

use super::indexes;
use crate::{
    cause::{Causes, Path},
    semantic,
    strategies::apps::workload::not_negative,
    tree,
};

/// A condition that is there and true.
pub fn is_true(object: &Value, kind: &str) -> bool {
    has_condition(object, kind, "True")
}

pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let update = Update { new, old };
    counts(&new["status"], causes);
    update.conditions(causes);
    update.times(causes);
    update.finished(causes);
    update.indexes(causes);
    update.success(causes);
    update.nothing_goes_back(causes);
}

/// A status as it shall be and as it was.
#[derive(Clone, Copy)]
struct Update<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Update<'_> {
    fn status(&self) -> &Value {
        &self.new["status"]
    }

    fn number(&self, key: &str) -> i64 {
        tree::number(self.status(), key).unwrap_or(0)
    }

    fn time(&self, key: &str) -> Option<Timestamp> {
        parse_time(tree::text(self.status(), key))
    }

    fn is(&self, condition: &str) -> bool {
        is_true(self.new, condition)
    }

    fn was(&self, condition: &str) -> bool {
        is_true(self.old, condition)
    }

    fn turned(&self, condition: &str) -> bool {
        self.is(condition) != self.was(condition)
    }

    fn changed(&self, key: &str) -> bool {
        !semantic::same_in(&self.new["status"], &self.old["status"], "batch.v1.JobStatus", key)
    }

    /// Whether the job ended or began again.
    fn finished_turned(&self) -> bool {
        finished(self.new) != finished(self.old)
    }

    fn conditions(&self, causes: &mut Causes) {
        let status = Path::Root.child("status");
        let path = status.child("conditions");
        let complete = self.turned("Complete");
        for (other, title) in [("Failed", "Failed"), ("FailureTarget", "FailureTarget")] {
            if (complete || self.turned(other)) && self.is("Complete") && self.is(other) {
                let why = format!("cannot set Complete=True and {title}=true conditions");
                causes.invalid_whole(path, &why);
            }
        }
        let indexes = self.changed("failedIndexes");
        if (self.turned("Failed") || indexes) && self.is("Failed") && !self.is("FailureTarget") {
            let why = "cannot set Failed=True condition without the FailureTarget=true condition";
            causes.invalid_whole(path, why);
        }
        let turned = complete || self.turned("SuccessCriteriaMet");
        if turned && self.is("Complete") && !self.is("SuccessCriteriaMet") {
            let why =
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            causes.invalid_whole(path, why);
        }
    }

    fn times(&self, causes: &mut Causes) {
        let status = Path::Root.child("status");
        let path = status.child("completionTime");
        let value = &self.status()["completionTime"];
        let (start, end) = (self.time("startTime"), self.time("completionTime"));
        let changed = self.changed("completionTime");
        if self.turned("Complete") || changed {
            if end.is_some() && !self.is("Complete") {
                let why = "cannot set completionTime when there is no Complete=True condition";
                causes.invalid(path, value, why);
            }
            if end.is_none() && self.is("Complete") {
                causes.required(path, "completionTime is required for Complete jobs");
            }
        }
        let before = matches!((start, end), (Some(start), Some(end)) if end < start);
        if (changed || self.changed("startTime")) && before {
            causes.invalid(path, value, "must be equal to or after `startTime`");
        }
    }

    fn finished(&self, causes: &mut Causes) {
        let path = Path::Root.child("status");
        let (over, turned) = (finished(self.new), self.finished_turned());
        let suspended_empty = tree::flag(&self.new["spec"], "suspend")
            && tree::number(&self.new["spec"], "completions") == Some(0);
        for key in ["active", "terminating"] {
            if (turned || self.changed(key)) && over && self.number(key) > 0 {
                let why = format!("{key}>0 is invalid for finished job");
                causes.invalid(path.child(key), &self.status()[key], why);
            }
        }
        let started = turned || self.changed("startTime");
        if started && !suspended_empty && over && self.time("startTime").is_none() {
            causes.required(path.child("startTime"), "startTime is required for finished job");
        }
        let (key, uncounted) =
            ("uncountedTerminatedPods", &self.status()["uncountedTerminatedPods"]);
        if (turned || self.changed(key)) && over && !tree::is_empty(uncounted) {
            causes.invalid(path.child(key), uncounted, "must be empty for finished job");
        }
        let unready = self.number("ready") > self.number("active");
        let told = tree::has(self.status(), "ready");
        if (self.changed("ready") || self.changed("active")) && told && unready {
            let why = "cannot set more ready pods than active";
            causes.invalid(path.child("ready"), &self.status()["ready"], why);
        }
    }

    fn indexes(&self, causes: &mut Causes) {
        let path = Path::Root.child("status");
        let spec = &self.new["spec"];
        let completions = tree::number(spec, "completions");
        let text = |key: &str| self.status()[key].as_str();
        let (completed, failed) = (text("completedIndexes"), text("failedIndexes"));
        let limited = tree::has(spec, "backoffLimitPerIndex");
        let mut readable = |key: &str, text: Option<&str>| {
            if let (Some(text), Some(completions), true) = (text, completions, self.changed(key))
                && let Err(why) = indexes::count(text, completions)
            {
                causes.invalid_text(path.child(key), text, format!("error parsing {key}: {why}"));
            }
        };
        readable("completedIndexes", completed);
        readable("failedIndexes", failed.filter(|_| limited));
        let indexed = spec["completionMode"] == "Indexed";
        if let Some(text) = completed.filter(|text| !text.is_empty())
            && self.changed("completedIndexes")
            && !indexed
        {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            causes.invalid_text(path.child("completedIndexes"), text, why);
        }
        let Some(failed) = failed else { return };
        let field = path.child("failedIndexes");
        if self.changed("failedIndexes") && !limited {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            causes.invalid_text(field, failed, why);
        }
        let changed = self.changed("failedIndexes") || self.changed("completedIndexes");
        if let (Some(completions), true) = (completions, changed)
            && let Some(at) = indexes::overlap(completed.unwrap_or(""), failed, completions)
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {at}");
            causes.invalid_text(field, failed, why);
        }
    }

    fn success(&self, causes: &mut Causes) {
        let status = Path::Root.child("status");
        let path = status.child("conditions");
        let met = self.is("SuccessCriteriaMet");
        for other in ["Failed", "FailureTarget"] {
            if met && self.is(other) {
                let why = format!("cannot set SuccessCriteriaMet=True and {other}=true conditions");
                causes.invalid_whole(path, &why);
            }
        }
        if tree::has(&self.new["spec"], "successPolicy") && !met && self.is("Complete") {
            let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            causes.invalid_whole(path, why);
        }
    }

    fn nothing_goes_back(&self, causes: &mut Causes) {
        let path = Path::Root.child("status");
        let conditions = path.child("conditions");
        for condition in ["Failed", "Complete", "FailureTarget"] {
            if self.was(condition) && !self.is(condition) {
                let why = format!("cannot disable the terminal {condition}=True condition");
                causes.invalid_whole(conditions, &why);
            }
        }
        let spec = &self.new["spec"];
        // An indexed job that runs all its pods at once may shrink.
        let may_shrink = spec["completionMode"] == "Indexed"
            && tree::same(&spec["completions"], &spec["parallelism"]);
        for key in ["failed", "succeeded"] {
            let before = tree::number(&self.old["status"], key).unwrap_or(0);
            if self.number(key) < before && !(key == "succeeded" && may_shrink) {
                let why = format!("cannot decrease the {key} counter");
                causes.invalid(path.child(key), &self.number(key).into(), why);
            }
        }
        let set_before = |key: &str| tree::has(&self.old["status"], key) && self.changed(key);
        let (start, end) = (&self.status()["startTime"], &self.status()["completionTime"]);
        if set_before("completionTime") && !end.is_null() {
            causes.immutable(path.child("completionTime"), end);
        }
        let resuming = self.was("Suspended") && has_condition(self.new, "Suspended", "False");
        if set_before("startTime") && !resuming && !tree::flag(spec, "suspend") {
            let why = "field is immutable for unsuspended job once set";
            causes.invalid_or_null(path.child("startTime"), start, why);
        }
        if self.was("SuccessCriteriaMet") && !self.is("SuccessCriteriaMet") {
            let why = "cannot disable the SuccessCriteriaMet=True condition";
            causes.invalid_whole(conditions, why);
        }
        if self.was("Complete") && !self.was("SuccessCriteriaMet") && self.is("SuccessCriteriaMet")
        {
            let why =
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            causes.invalid_whole(conditions, why);
        }
    }
}

fn counts(status: &Value, causes: &mut Causes) {
    let path = Path::Root.child("status");
    not_negative(status, path, &["active", "succeeded", "failed", "ready", "terminating"], causes);
    let uncounted = path.child("uncountedTerminatedPods");
    let mut seen: Vec<&Value> = Vec::new();
    for list in ["succeeded", "failed"] {
        let field = uncounted.child(list);
        for (at, uid) in tree::list(&status["uncountedTerminatedPods"], list).iter().enumerate() {
            if uid == "" {
                causes.invalid(field.index(at), uid, "must not be empty");
            } else if seen.contains(&uid) {
                causes.duplicate(field.index(at), uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

fn finished(object: &Value) -> bool {
    is_true(object, "Complete") || is_true(object, "Failed")
}

fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = tree::list(&object["status"], "conditions");
    conditions.iter().any(|one| one["type"] == kind && one["status"] == status)
}
