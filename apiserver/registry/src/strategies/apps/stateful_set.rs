//! StatefulSet: pods with a number, each with claims of its own.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::workload;
use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    strategies::core::pod::claim_warnings,
    strategies::core::{pod, volume_claim},
    strategy::{Context, ScalePaths, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const COUNTS: [&str; 4] =
    ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];

const SPEC: &str = "apps.v1.StatefulSetSpec";

#[derive(Debug)]
pub struct StatefulSet;

impl Strategy for StatefulSet {
    /// The strategy has parameters where its type was left open; beside a bare type it has none.
    fn default_first(&self, object: &mut Value) {
        let strategy = tree::child(tree::child(object, "spec"), "updateStrategy");
        if tree::text(strategy, "type").is_empty() {
            tree::set(strategy, "type", "RollingUpdate");
            tree::child(strategy, "rollingUpdate");
        }
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let spec = tree::child(object, "spec");
        let strategy = tree::child(spec, "updateStrategy");
        let is_rolling = tree::text(strategy, "type") == "RollingUpdate";
        if is_rolling && tree::has(strategy, "rollingUpdate") {
            let rolling = tree::child(strategy, "rollingUpdate");
            tree::default(rolling, "partition", 0);
            tree::default(rolling, "maxUnavailable", 1);
        }
        for claim in tree::list_mut(spec, "volumeClaimTemplates") {
            tree::default_text(claim, "apiVersion", "v1");
            tree::default_text(claim, "kind", "PersistentVolumeClaim");
            volume_claim::default_claim(claim);
            tree::default_text(tree::child(claim, "status"), "phase", "Pending");
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let status = tree::child(object, "status");
        tree::set(status, "replicas", 0);
        tree::set(status, "availableReplicas", 0);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let service = tree::text(&object["spec"], "serviceName");
        let mut about_claims = Causes::default();
        claims(&object["spec"], &mut about_claims);
        let mut about_service = Causes::default();
        if !service.is_empty() {
            let path = Path::Root.child("spec");
            about_service.complaints(path.child("serviceName"), service, names::label(service));
        }
        spec_rules(&object["spec"], about_claims, about_service, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            status_rules(new, causes);
            return workload::collisions_kept(new, old, causes);
        }
        // Claims and the service's name can't change, so what is wrong with them is nothing new.
        spec_rules(&new["spec"], Causes::default(), Causes::default(), causes);
        workload::spec_kept(new, old, SPEC, &["selector", "volumeClaimTemplates"], causes);
        let spec = Path::Root.child("spec");
        for key in ["serviceName", "podManagementPolicy"] {
            if !tree::same(&new["spec"][key], &old["spec"][key]) {
                causes.immutable(spec.child(key), &new["spec"][key]);
            }
        }
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        if !sub.is_empty() {
            return Vec::new();
        }
        let mut all = workload::warnings(sub, new, old, false);
        let spec = Path::Root.child("spec");
        let path = spec.child("volumeClaimTemplates");
        for (at, claim) in tree::list(&new["spec"], "volumeClaimTemplates").iter().enumerate() {
            let item = path.index(at);
            // Upstream's two paths differ in a letter.
            let field = if old.is_some() { item.child("Spec") } else { item };
            claim_warnings(&claim["spec"], field, &mut all);
        }
        if tree::number(&new["spec"], "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            all.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let ready = tree::number(&object["status"], "readyReplicas").unwrap_or(0);
        let desired = tree::number(&object["spec"], "replicas").unwrap_or(0);
        let [names, images] = workload::container_cells(&object["spec"]["template"]);
        vec![name(object), format!("{ready}/{desired}").into(), age(object, now), names, images]
    }

    fn scale(&self) -> Option<ScalePaths<'_>> {
        Some(ScalePaths {
            spec_replicas: "spec.replicas",
            status_replicas: "status.replicas",
            selector: "spec.selector",
            plain_selector: false,
        })
    }
}

fn spec_rules(spec: &Value, about_claims: Causes, about_service: Causes, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let policy = tree::text(spec, "podManagementPolicy");
    if policy != "OrderedReady" && policy != "Parallel" {
        let why = "must be 'OrderedReady' or 'Parallel'";
        causes.invalid_text(path.child("podManagementPolicy"), policy, why);
    }
    update_strategy(&spec["updateStrategy"], path.child("updateStrategy"), causes);
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let value = &spec["persistentVolumeClaimRetentionPolicy"][key];
        if value != "Retain" && value != "Delete" {
            causes.not_supported(retention.child(key), value, &["Retain", "Delete"]);
        }
    }
    causes.extend(about_claims);
    workload::not_negative(spec, path, &["replicas", "minReadySeconds"], causes);
    let ordinals = path.child("ordinals");
    workload::not_negative(&spec["ordinals"], ordinals, &["start"], causes);
    causes.extend(about_service);
    if tree::has(spec, "selector") {
        let (selector, field) = (&spec["selector"], path.child("selector"));
        workload::validate_selector(selector, field, causes);
        if tree::is_empty(selector) {
            causes.invalid(field, selector, "empty selector is invalid for statefulset");
        }
        if !tree::is_empty(selector) {
            workload::labels_fit(spec, path, Some(""), causes);
        }
    } else {
        causes.required(path.child("selector"), "");
        workload::labels_fit(spec, path, None, causes);
    }
    let template = with_claims(spec);
    pod::validate_template(&template, path.child("template"), causes);
    workload::runs_always(&spec["template"], path.child("template"), "StatefulSet", causes);
}

fn update_strategy(strategy: &Value, path: Path<'_>, causes: &mut Causes) {
    let rolling = &strategy["rollingUpdate"];
    let here = path.child("rollingUpdate");
    // The form in which upstream's messages show it.
    let shown = match rolling {
        Value::Null => Value::Null,
        _ => {
            let partition = tree::number(rolling, "partition").unwrap_or(0);
            json!({"Partition": partition, "MaxUnavailable": rolling["maxUnavailable"]})
        }
    };
    match tree::text(strategy, "type") {
        "RollingUpdate" => {
            workload::not_negative(rolling, here, &["partition"], causes);
            let (most, field) = (&rolling["maxUnavailable"], here.child("maxUnavailable"));
            if !most.is_null() {
                workload::count_or_percent(most, field, causes);
                if workload::amount(most) == 0 {
                    causes.invalid(field, most, "cannot be 0");
                }
                workload::at_most_all(most, field, causes);
            }
        }
        "OnDelete" if !rolling.is_null() => {
            causes.invalid(here, &shown, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        kind => {
            let shown = json!({"Type": kind, "RollingUpdate": shown});
            causes.invalid(path, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn claims(spec: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let list = path.child("volumeClaimTemplates");
    for (at, claim) in tree::list(spec, "volumeClaimTemplates").iter().enumerate() {
        volume_claim::validate_spec(&claim["spec"], list.index(at).child("spec"), causes);
    }
}

/// The template as the controller will use it: names are the controller's, and every claim is a
/// volume that containers may mount.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let pods = tree::child(&mut template, "spec");
    tree::remove(pods, "subdomain");
    tree::remove(pods, "hostname");
    let name_of = |claim: &Value| tree::text(&claim["metadata"], "name").to_owned();
    let names: Vec<String> = tree::list(spec, "volumeClaimTemplates").iter().map(name_of).collect();
    if !names.is_empty() {
        let mut volumes: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let own = tree::list(pods, "volumes").iter();
        volumes.extend(own.filter(|one| !names.iter().any(|name| one["name"] == *name)).cloned());
        tree::set(pods, "volumes", volumes);
    }
    template
}

fn status_rules(object: &Value, causes: &mut Causes) {
    let (status, path) = (&object["status"], Path::Root.child("status"));
    workload::not_negative(status, path, &["replicas"], causes);
    workload::not_negative(status, path, &COUNTS, causes);
    workload::not_negative(status, path, &["observedGeneration", "collisionCount"], causes);
    let count = |key: &str| tree::number(status, key).unwrap_or(0);
    for key in COUNTS {
        if count(key) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            causes.invalid(path.child(key), &count(key).into(), why);
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than status.readyReplicas";
        let available = count("availableReplicas").into();
        causes.invalid(path.child("availableReplicas"), &available, why);
    }
}
