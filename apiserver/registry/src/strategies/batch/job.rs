//! Job: pods that end.

use serde_json::Value;
use windlass_sdk_meta::{Labels, Selector, Timestamp, parse_time};

use super::{job_spec, job_status};
use crate::{
    cause::{Causes, Path},
    names, semantic, shown,
    strategies::apps::workload,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, human_duration, name, since},
    tree,
};

/// Labels that tie pods to their job, with the older name of each first.
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

const PODS: &str = "core.v1.PodSpec";
const TEMPLATE: &str = "core.v1.PodTemplateSpec";
const SPEC: &str = "batch.v1.JobSpec";

#[derive(Debug)]
pub struct Job;

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let spec = tree::child(object, "spec");
        if !tree::has(spec, "parallelism") {
            tree::default(spec, "completions", 1);
        }
        // Completions alone say how many there shall be, one after the other.
        tree::default(spec, "parallelism", 1);
        let per_index = tree::has(spec, "backoffLimitPerIndex");
        tree::default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
        tree::default(spec, "completionMode", "NonIndexed");
        tree::default(spec, "suspend", false);
        let policy = tree::has(spec, "podFailurePolicy");
        let replacement = if policy { "Failed" } else { "TerminatingOrFailed" };
        tree::default(spec, "podReplacementPolicy", replacement);
        tree::default(spec, "manualSelector", false);
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        let own = tree::child(object, "metadata");
        if labels.is_object() && tree::is_empty(&own["labels"]) {
            tree::set(own, "labels", labels);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        job_spec::drop_disabled(&mut object["spec"], None);
        if !tree::flag(&object["spec"], "manualSelector") {
            generate_selector(object);
        }
        // The defaults of what is stored and read again: nobody owns these labels.
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        let own = object["metadata"]["labels"].as_object();
        if own.is_none_or(serde_json::Map::is_empty) && labels.is_object() {
            tree::set(tree::child(object, "metadata"), "labels", labels);
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub.is_empty() {
            job_spec::drop_disabled(tree::child(new, "spec"), Some(&old["spec"]));
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        generated_selector(object, causes);
        whole_spec(&object["spec"], causes);
        host_names_fit(object, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return job_status::validate(new, old, causes);
        }
        whole_spec(&new["spec"], causes);
        completions_kept(new, old, causes);
        workload::spec_kept(new, old, SPEC, &["selector"], causes);
        template_kept(new, old, causes);
        let keys = [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ];
        workload::spec_kept(new, old, SPEC, &keys, causes);
        host_names_fit(new, causes);
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(sub, new, old, true)
    }

    fn unknown_label(&self, label: &str) -> Option<String> {
        Some(format!("field label {label:?} not supported for Job"))
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let (spec, status) = (&object["spec"], &object["status"]);
        let succeeded = tree::number(status, "succeeded").unwrap_or(0);
        let parallelism = tree::number(spec, "parallelism").unwrap_or(0);
        let completions = match tree::number(spec, "completions") {
            Some(wanted) => format!("{succeeded}/{wanted}"),
            None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            None => format!("{succeeded}/1"),
        };
        let time = |key: &str| parse_time(tree::text(status, key));
        let duration = match (time("startTime"), time("completionTime")) {
            (None, _) => String::new(),
            (Some(_), None) => since(&status["startTime"], now),
            (Some(start), Some(end)) => human_duration(end.as_second() - start.as_second()),
        };
        let mut cells = vec![
            name(object),
            state(object).into(),
            completions.into(),
            duration.into(),
            age(object, now),
        ];
        cells.extend(workload::wide_cells(object));
        cells
    }
}

/// One word for how a job is doing.
fn state(object: &Value) -> &'static str {
    let has = |kind: &str| job_status::is_true(object, kind);
    let deleting = tree::has(&object["metadata"], "deletionTimestamp");
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if deleting => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// A job finds its pods by its own uid, unless its user insists on another way.
fn generate_selector(object: &mut Value) {
    let own = |key: &str| object["metadata"][key].clone();
    let (name, uid) = (own("name"), own("uid"));
    let spec = tree::child(object, "spec");
    let metadata = tree::child(tree::child(spec, "template"), "metadata");
    let labels = tree::child(metadata, "labels");
    for label in NAME_LABELS {
        tree::default(labels, label, name.clone());
    }
    for label in UID_LABELS {
        tree::default(labels, label, uid.clone());
    }
    let wanted = tree::child(tree::child(spec, "selector"), "matchLabels");
    tree::default(wanted, UID_LABELS[1], uid);
}

/// What was generated may stand beside labels of the user's that say otherwise.
fn generated_selector(object: &Value, causes: &mut Causes) {
    let spec = &object["spec"];
    if tree::flag(spec, "manualSelector") || !tree::has(spec, "selector") {
        return;
    }
    let path = Path::Root.child("spec");
    let (template, labels) = (path.child("template"), &spec["template"]["metadata"]["labels"]);
    let metadata = template.child("metadata");
    let field = metadata.child("labels");
    let (uid, name) =
        (tree::text(&object["metadata"], "uid"), tree::text(&object["metadata"], "name"));
    let expected = [
        (UID_LABELS[0], uid),
        (NAME_LABELS[0], name),
        (UID_LABELS[1], uid),
        (NAME_LABELS[1], name),
    ];
    for (label, value) in expected {
        let why = format!("must be '{value}'");
        match labels[label].as_str() {
            None if value.is_empty() => {}
            None => causes.required(field.key(label), &why),
            Some(found) if found != value => causes.invalid(field.key(label), labels, why),
            Some(_) => {}
        }
    }
    let mut complaints = Causes::default();
    workload::validate_selector(&spec["selector"], path, &mut complaints);
    if let Ok(parsed) = Selector::from_json(&spec["selector"])
        && complaints.is_empty()
        && !parsed.matches_labels(&Labels::from_pairs(expected))
    {
        let why = "`selector` not auto-generated";
        causes.invalid(path.child("selector"), &shown::sorted(&spec["selector"]), why);
    }
}

fn whole_spec(spec: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    job_spec::validate(spec, path, causes);
    if tree::has(spec, "selector") {
        workload::validate_selector(&spec["selector"], path.child("selector"), causes);
    } else {
        causes.required(path.child("selector"), "");
    }
    workload::labels_fit(spec, path, None, causes);
}

/// Pods of an indexed job are named after their number.
fn host_names_fit(object: &Value, causes: &mut Causes) {
    let (spec, name) = (&object["spec"], tree::text(&object["metadata"], "name"));
    let completions = tree::number(spec, "completions").unwrap_or(0);
    if spec["completionMode"] == "Indexed" && completions > 0 {
        let longest = format!("{name}-{}", completions - 1);
        if !names::label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            let metadata = Path::Root.child("metadata");
            causes.invalid_text(metadata.child("name"), name, why);
        }
    }
}

/// An indexed job may grow and shrink, as far as all its pods run at once.
fn completions_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let spec = &new["spec"];
    if spec["completionMode"] != "Indexed" {
        return workload::spec_kept(new, old, SPEC, &["completions"], causes);
    }
    let completions = &spec["completions"];
    let changed = !tree::same(completions, &old["spec"]["completions"]);
    if changed && !completions.is_null() && *completions != spec["parallelism"] {
        let path = Path::Root.child("spec");
        let why = "can only be modified in tandem with spec.parallelism";
        causes.invalid(path.child("completions"), completions, why);
    }
}

/// The template stays, but while a job is suspended and has no pods, where they may go and what they
/// may use can still be changed.
fn template_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let (after, mut before) = (&new["spec"]["template"], old["spec"]["template"].clone());
    let waiting = tree::flag(&old["spec"], "suspend")
        && (!tree::has(&old["status"], "startTime") || job_status::is_true(old, "Suspended"))
        && tree::number(&old["status"], "active").unwrap_or(0) == 0;
    if waiting {
        loosen(&mut before, after);
        let pods = &after["spec"];
        if !semantic::same_named(pods, &before["spec"], PODS) {
            // Upstream's path has a dot inside one element.
            let shown = shown::internal(pods, PODS);
            causes.invalid(path.child("template.spec"), &shown, "field is immutable");
        }
    } else if !semantic::same_named(after, &before, TEMPLATE) {
        let shown = shown::internal(after, TEMPLATE);
        causes.invalid(path.child("template"), &shown, "field is immutable");
    }
}

/// Takes into `before` what a waiting job may change.
fn loosen(before: &mut Value, after: &Value) {
    let metadata = tree::child(before, "metadata");
    for key in ["annotations", "labels"] {
        tree::keep(metadata, &after["metadata"], key);
    }
    let (pods, wanted) = (tree::child(before, "spec"), &after["spec"]);
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        tree::keep(pods, wanted, key);
    }
    if tree::has(pods, "affinity") || tree::has(wanted, "affinity") {
        let affinity = tree::child(pods, "affinity");
        tree::keep(affinity, &wanted["affinity"], "nodeAffinity");
    }
    for list in ["containers", "initContainers"] {
        let wanted = tree::list(wanted, list);
        if wanted.len() == tree::list(pods, list).len() {
            for (container, wanted) in tree::list_mut(pods, list).iter_mut().zip(wanted) {
                if container["name"] == wanted["name"] {
                    tree::keep(container, wanted, "resources");
                }
            }
        }
    }
}
