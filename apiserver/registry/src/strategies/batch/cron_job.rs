//! CronJob: jobs by the clock.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::{job_spec, schedule};
use crate::{
    cause::{Causes, Path},
    strategies::{
        apps::workload::{self, not_negative},
        core::pod,
    },
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name, since},
    tree,
};

/// A job's name is its CronJob's and eleven characters more, and has to be a label.
const MAX_NAME: usize = 52;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

#[derive(Debug)]
pub struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let template = tree::child(tree::child(object, "spec"), "jobTemplate");
        let pods = tree::child(tree::child(template, "spec"), "template");
        pod::default_spec(tree::child(pods, "spec"));
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let template = tree::child(tree::child(object, "spec"), "jobTemplate");
        job_spec::drop_disabled(tree::child(template, "spec"), None);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub.is_empty() {
            let template = tree::child(tree::child(new, "spec"), "jobTemplate");
            let before = tree::at(old, "spec.jobTemplate.spec");
            job_spec::drop_disabled(tree::child(template, "spec"), Some(before));
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules(object, None, causes);
        let name = tree::text(&object["metadata"], "name");
        if name.len() > MAX_NAME {
            let metadata = Path::Root.child("metadata");
            let why = format!("must be no more than {MAX_NAME} characters");
            causes.invalid_text(metadata.child("name"), name, why);
        }
    }

    /// Upstream has no rules of its status.
    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return;
        }
        rules(new, Some(old), causes);
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut all = workload::warnings_at(sub, new, old, "jobTemplate");
        if sub.is_empty() && old.is_some() && tree::text(&new["spec"], "schedule").contains("TZ") {
            all.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let (spec, status) = (&object["spec"], &object["status"]);
        let last = match tree::has(status, "lastScheduleTime") {
            true => since(&status["lastScheduleTime"], now),
            false => "<none>".to_owned(),
        };
        let job = &spec["jobTemplate"]["spec"];
        let [names, images] = workload::container_cells(&job["template"]);
        vec![
            name(object),
            spec["schedule"].clone(),
            spec["timeZone"].as_str().unwrap_or("<none>").into(),
            if tree::flag(spec, "suspend") { "True" } else { "False" }.into(),
            json!(tree::list(status, "active").len()),
            last.into(),
            age(object, now),
            names,
            images,
            workload::selector_cell(&job["selector"]).into(),
        ]
    }
}

fn rules(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let (spec, path) = (&object["spec"], Path::Root.child("spec"));
    let (when, field) = (tree::text(spec, "schedule"), path.child("schedule"));
    if when.is_empty() {
        causes.required(field, "");
    } else {
        if let Err(why) = schedule::check(when) {
            causes.invalid_text(field, when, why);
        }
        let had_zone = old.is_some_and(|old| tree::text(&old["spec"], "schedule").contains("TZ"));
        if when.contains("TZ") && !had_zone {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            causes.invalid_text(field, when, why);
        } else if when.contains("TZ") && tree::has(spec, "timeZone") {
            let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            causes.invalid_text(field, when, why);
        }
    }
    not_negative(spec, path, &["startingDeadlineSeconds"], causes);
    let zone = &spec["timeZone"];
    if old.is_none_or(|old| old["spec"]["timeZone"] != *zone)
        && let Some(zone) = zone.as_str()
    {
        for why in schedule::zone_complaints(zone) {
            causes.invalid_text(path.child("timeZone"), zone, why);
        }
    }
    let policy = tree::text(spec, "concurrencyPolicy");
    if !POLICIES.contains(&policy) {
        let field = path.child("concurrencyPolicy");
        causes.not_supported(field, &spec["concurrencyPolicy"], &POLICIES);
    }
    let template = path.child("jobTemplate");
    job_template(&spec["jobTemplate"]["spec"], template.child("spec"), causes);
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    not_negative(spec, path, &limits, causes);
}

/// A job of a template has a selector of its own, made from its uid.
fn job_template(job: &Value, path: Path<'_>, causes: &mut Causes) {
    job_spec::validate(job, path, causes);
    if tree::has(job, "selector") {
        let why = "`selector` will be auto-generated";
        causes.invalid(path.child("selector"), &job["selector"], why);
    }
    if tree::flag(job, "manualSelector") {
        let field = path.child("manualSelector");
        causes.not_supported(field, &job["manualSelector"], &["nil", "false"]);
    }
}
