//! LimitRanger: containers that say nothing of their resources get a namespace's defaults, and what
//! containers, pods and volume claims ask for stays within the namespace's bounds.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Value, json};
use windlass_sdk_meta::{
    GroupResource, Quantity, Status,
    quota::{Amounts, amounts, pod_total},
};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static RANGES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "limitranges"));
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) fn mutate(request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) {
    if !request.is("", "pods") || !applies(request) {
        return;
    }
    for range in lookup.list(&RANGES, request.namespace) {
        if let Some(pod) = request.object.as_deref_mut() {
            set_defaults(pod, &range.tree());
        }
    }
}

/// New pods and claims; also changed claims, and resized pods.
fn applies(request: &AdmissionRequest<'_>) -> bool {
    match (request.operation, request.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => request.is("", "persistentvolumeclaims"),
        (Operation::Update, "resize") => request.is("", "pods"),
        _ => false,
    }
}

fn limits<'a>(range: &'a Value, sort: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = range["spec"]["limits"].as_array().into_iter().flatten();
    all.filter(move |limit| limit["type"] == sort)
}

fn set_defaults(pod: &mut Value, range: &Value) {
    let mut told = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|one| one.is_object()) {
            for (key, from) in [("requests", "defaultRequest"), ("limits", "default")] {
                let set = fill(container, key, from, range);
                if !set.is_empty() {
                    let names = Vec::from_iter(set).join(", ");
                    let name = container["name"].as_str().unwrap_or_default();
                    told.push(format!("{names} {} for {what} {name}", &key[..key.len() - 1]));
                }
            }
        }
    }
    if told.is_empty() {
        return;
    }
    let metadata = &mut pod["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    let text = format!("LimitRanger plugin set: {}", told.join("; "));
    metadata["annotations"][ANNOTATION] = text.into();
}

/// The names of what was filled in.
fn fill(container: &mut Value, key: &str, from: &str, range: &Value) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for limit in limits(range, "Container") {
        for (name, amount) in limit[from].as_object().into_iter().flatten() {
            if !container["resources"].is_object() {
                container["resources"] = json!({});
            }
            let list = &mut container["resources"][key];
            if !list.is_object() {
                *list = json!({});
            }
            if list[name].is_null() {
                list[name] = amount.clone();
                set.insert(name.clone());
            }
        }
    }
    set
}

pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let (of_pods, of_claims) = (request.is("", "pods"), request.is("", "persistentvolumeclaims"));
    let Some(object) = request.object.as_deref().filter(|_| of_pods || of_claims) else {
        return Ok(());
    };
    if !applies(request) {
        return Ok(());
    }
    for range in lookup.list(&RANGES, request.namespace) {
        let range = range.tree();
        let complaints =
            if of_pods { pod_complaints(object, &range) } else { claim_complaints(object, &range) };
        match complaints.as_slice() {
            [] => {}
            [one] => return Err(request.forbidden(one)),
            all => return Err(request.forbidden(format!("[{}]", all.join(", ")))),
        }
    }
    Ok(())
}

/// What asks and what bounds it, of one container, pod or claim.
struct Asked<'a> {
    sort: &'a str,
    requests: Amounts,
    limits: Amounts,
}

fn pod_complaints(pod: &Value, range: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut asked = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let of = |key: &str| amounts(&container["resources"][key]);
            asked.push(Asked { sort: "Container", requests: of("requests"), limits: of("limits") });
        }
    }
    let of = |key: &str| pod_total(spec, key);
    asked.push(Asked { sort: "Pod", requests: of("requests"), limits: of("limits") });
    let mut found = Vec::new();
    for one in &asked {
        for limit in limits(range, one.sort) {
            one.check(&amounts(&limit["min"]), Asked::below, &mut found);
            one.check(&amounts(&limit["max"]), Asked::above, &mut found);
            one.check(&amounts(&limit["maxLimitRequestRatio"]), Asked::ratio, &mut found);
        }
    }
    unique(found)
}

fn claim_complaints(claim: &Value, range: &Value) -> Vec<String> {
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let one = Asked { sort: "PersistentVolumeClaim", requests, limits: Amounts::new() };
    let mut found = Vec::new();
    for limit in limits(range, one.sort) {
        one.check(&amounts(&limit["min"]), Asked::below, &mut found);
        one.check(&amounts(&limit["max"]), Asked::request_above, &mut found);
    }
    unique(found)
}

/// The same complaint about two containers is told once.
fn unique(all: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|one| seen.insert(one.clone())).collect()
}

impl Asked<'_> {
    fn check(
        &self,
        bounds: &Amounts,
        rule: fn(&Self, &str, Quantity) -> Option<String>,
        found: &mut Vec<String>,
    ) {
        found.extend(bounds.iter().filter_map(|(name, bound)| rule(self, name, *bound)));
    }

    fn start(&self, which: &str, name: &str, bound: Quantity) -> String {
        format!("{which} {name} usage per {} is {bound}", self.sort)
    }

    fn below(&self, name: &str, bound: Quantity) -> Option<String> {
        let start = self.start("minimum", name, bound);
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let Some(request) = request else {
            return Some(format!("{start}.  No request is specified"));
        };
        if *request < bound {
            return Some(format!("{start}, but request is {request}"));
        }
        let limit = limit.filter(|limit| **limit < bound)?;
        Some(format!("{start}, but limit is {limit}"))
    }

    fn above(&self, name: &str, bound: Quantity) -> Option<String> {
        let start = self.start("maximum", name, bound);
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let Some(limit) = limit else { return Some(format!("{start}.  No limit is specified")) };
        if *limit > bound {
            return Some(format!("{start}, but limit is {limit}"));
        }
        let request = request.filter(|request| **request > bound)?;
        Some(format!("{start}, but request is {request}"))
    }

    fn request_above(&self, name: &str, bound: Quantity) -> Option<String> {
        let start = self.start("maximum", name, bound);
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{start}.  No request is specified"));
        };
        (*request > bound).then(|| format!("{start}, but request is {request}"))
    }

    fn ratio(&self, name: &str, bound: Quantity) -> Option<String> {
        let start = format!("{name} max limit to request ratio per {} is {bound}", self.sort);
        let some = |of: &Amounts| of.get(name).copied().filter(|amount| *amount != Quantity::ZERO);
        let Some(request) = some(&self.requests) else {
            return Some(format!("{start}, but no request is specified or request is 0"));
        };
        let Some(limit) = some(&self.limits) else {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.millis() as f64 / request.millis() as f64;
        let too_much = ratio * 1000.0 > bound.millis() as f64;
        too_much.then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}
