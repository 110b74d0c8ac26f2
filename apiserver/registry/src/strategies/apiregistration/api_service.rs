//! APIService: who serves a group and version. Those of this server are listed and available; a
//! reference to another server is stored, and nothing is forwarded to it.

use std::cmp::Ordering;

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

use crate::{
    cause::{Causes, Path},
    kind::GroupVersion,
    names::{self, NameRule},
    strategies::common::{bytes_of_base64, keep_metadata, required},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

/// Label by which upstream tells what it registered itself.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The label's value where the object is there for as long as what it stands for.
const KEPT: &str = "true";
const STATES: [&str; 3] = ["True", "False", "Unknown"];
/// Upstream's order of groups, and of a group's versions where it has more than one.
const PRIORITIES: [(&str, i64); 24] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("storagemigration.k8s.io", 15_800),
    ("metrics.k8s.io", 100),
    ("windlass.dev", 100),
    ("apiregistration.k8s.io", 0),
];
const OTHER_PRIORITY: i64 = 1000;

#[derive(Debug)]
pub struct ApiService;

impl Strategy for ApiService {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn prepare_for_create(&self, object: &mut Value, cx: &Context<'_>) {
        if !tree::has(&object["spec"], "service") {
            let condition = json!({"type": "Available", "status": "True",
                "lastTransitionTime": format_time(cx.now), "reason": "Local",
                "message": "Local APIServices are always available"});
            tree::set(object, "status", json!({"conditions": [condition]}));
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (group, version) = (tree::text(spec, "group"), tree::text(spec, "version"));
        let wanted = service_name(group, version);
        let metadata = Path::Root.child("metadata");
        for key in ["generateName", "name"] {
            let said = tree::text(&object["metadata"], key);
            if !said.is_empty() && said != wanted {
                let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
                causes.invalid_text(metadata.child(key), said, why);
            }
        }
        if group.is_empty() && version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            causes.required(path.child("group"), why);
        }
        if !group.is_empty() {
            causes.complaints(path.child("group"), group, names::subdomain(group));
        }
        causes.complaints(path.child("version"), version, names::label_1035(version));
        for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let number = tree::number(spec, key).unwrap_or(0);
            if !(1..=most).contains(&number) {
                let why = format!("must be positive and less than {most}");
                causes.invalid(path.child(key), &number.into(), why);
            }
        }
        server(spec, path, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub != "status" {
            return self.validate(new, causes);
        }
        let status = Path::Root.child("status");
        let all = status.child("conditions");
        for (at, condition) in tree::list(&new["status"], "conditions").iter().enumerate() {
            if !STATES.contains(&tree::text(condition, "status")) {
                let field = all.index(at);
                causes.not_supported(field.child("status"), &condition["status"], &STATES);
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let service = &object["spec"]["service"];
        let service = match service.is_null() {
            true => "Local".to_owned(),
            false => {
                format!("{}/{}", tree::text(service, "namespace"), tree::text(service, "name"))
            }
        };
        let conditions = tree::list(&object["status"], "conditions");
        let available = match conditions.iter().find(|one| one["type"] == "Available") {
            None => "Unknown".to_owned(),
            Some(one) => match (tree::text(one, "status"), tree::text(one, "reason")) {
                (status @ "True", _) | (status, "") => status.to_owned(),
                (status, reason) => format!("{status} ({reason})"),
            },
        };
        vec![name(object), service.into(), available.into(), age(object, now)]
    }
}

fn server(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let bundle = tree::text(spec, "caBundle");
    let insecure = tree::flag(spec, "insecureSkipTLSVerify");
    let (of_bundle, of_insecure) = (path.child("caBundle"), path.child("insecureSkipTLSVerify"));
    let service = &spec["service"];
    if service.is_null() {
        if !bundle.is_empty() {
            let bytes = bytes_of_base64(bundle);
            let why = "local APIServices may not have a caBundle";
            causes.invalid_text(of_bundle, &format!("{bytes} bytes"), why);
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            causes.invalid(of_insecure, &true.into(), why);
        }
        return;
    }
    let here = path.child("service");
    required(service, &["namespace", "name"], here, causes);
    let wrong = names::port_number(tree::number(service, "port").unwrap_or(0));
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        causes.invalid(here.child("port"), &service["port"], why);
    }
    if insecure && !bundle.is_empty() {
        causes.invalid(of_insecure, &true.into(), "may not be true if caBundle is present");
    }
}

/// The objects that stand for what this server serves. apiregistration.k8s.io itself has none, as
/// upstream.
pub fn local_services<'a>(served: impl Iterator<Item = &'a GroupVersion>) -> Vec<Value> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for at in served {
        if !found.contains(&(&at.group, &at.version)) {
            found.push((&at.group, &at.version));
        }
    }
    let rows = found.into_iter().filter_map(|(group, version)| {
        let priority = priority_of(group);
        let version_priority = match (group, version) {
            ("", _) => 1,
            ("autoscaling", "v2") => 30,
            ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", _) => 21,
            _ => 15,
        };
        (priority > 0).then(|| service((group, version), "onstart", priority, version_priority))
    });
    rows.collect()
}

fn priority_of(group: &str) -> i64 {
    let known = PRIORITIES.iter().find(|(known, _)| *known == group);
    known.map_or(OTHER_PRIORITY, |(_, priority)| *priority)
}

/// Where discovery has a group: those with a higher priority first, then by name. The group that
/// has no priority, because it tells those of the others, comes before all.
pub fn group_order(a: &str, b: &str) -> Ordering {
    let rank = |group: &str| match priority_of(group) {
        0 => i64::MAX,
        priority => priority,
    };
    rank(b).cmp(&rank(a)).then_with(|| a.cmp(b))
}

/// The object that stands for a version of custom resources, for as long as one serves it.
pub fn custom_service(group: &str, version: &str) -> Value {
    service((group, version), KEPT, OTHER_PRIORITY, 100)
}

/// The name of the object that stands for a version.
pub fn service_name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// An object made by [`custom_service`], which is to go when nothing serves its version.
pub fn is_kept_service(object: &Value) -> bool {
    tree::text(&object["metadata"]["labels"], MANAGED) == KEPT
}

fn service((group, version): (&str, &str), managed: &str, of_group: i64, own: i64) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": service_name(group, version), "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": of_group,
            "versionPriority": own}})
}
