//! Node: a machine as its agent describes it. It may be created with its status.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::resource_names;

use crate::{
    addresses,
    cause::{Causes, Path},
    names, shown,
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

#[derive(Debug)]
pub struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        one_range(tree::child(object, "spec"));
        let status = tree::child(object, "status");
        if tree::has(status, "capacity") && !tree::has(status, "allocatable") {
            let capacity = status["capacity"].clone();
            tree::set(status, "allocatable", capacity);
        }
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn status_on_create(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        self.rules(object, causes);
        let swap = &object["status"]["nodeInfo"]["swap"]["capacity"];
        if swap.as_i64().is_some_and(|capacity| capacity <= 0) {
            let metadata = Path::Root.child("metadata");
            let here = metadata.child("nodeSwapStatus");
            causes.invalid(here.child("capacity"), swap, "must be greater than zero");
        }
        let spec = Path::Root.child("spec");
        let path = spec.child("podCIDRs");
        let ranges = tree::list(&object["spec"], "podCIDRs");
        for (at, range) in ranges.iter().enumerate() {
            addresses::validate_range(range, path.index(at), causes);
        }
        let families = |v6: bool| {
            ranges
                .iter()
                .filter(|one| one.as_str().is_some_and(|one| one.contains(':') == v6))
                .count()
        };
        if ranges.len() > 1 && (families(true), families(false)) != (1, 1) {
            let why = "may specify no more than one CIDR for each IP family";
            causes.invalid(path, &object["spec"]["podCIDRs"], why);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        match sub {
            "" => self.validate(new, causes),
            _ => self.rules(new, causes),
        }
        let spec = Path::Root.child("spec");
        if new["spec"]["externalID"] != old["spec"]["externalID"] {
            causes.forbidden(spec.child("externalID"), "may not be updated");
        }
        if sub.is_empty() {
            let before = tree::text(&old["spec"], "providerID");
            let after = tree::text(&new["spec"], "providerID");
            if !before.is_empty() && before != after {
                let how = if after.is_empty() { "cleared" } else { "modified" };
                causes.invalid_null(
                    spec.child("providerID"),
                    &format!("field cannot be {how} once set"),
                );
            }
            let before = &old["spec"]["podCIDRs"];
            if !tree::is_empty(before) && !tree::same(before, &new["spec"]["podCIDRs"]) {
                causes.forbidden(
                    spec.child("podCIDRs"),
                    "node updates may not change podCIDR except from \"\" to valid",
                );
            }
        }
        let addresses = tree::list(&new["status"], "addresses");
        let status = Path::Root.child("status");
        let path = status.child("addresses");
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].contains(address) {
                let shown = shown::internal(address, "core.v1.NodeAddress");
                causes.duplicate(path.index(at), &shown);
            }
        }
    }

    fn warnings(&self, sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        if !sub.is_empty() {
            return all;
        }
        if !tree::text(&new["spec"], "externalID").is_empty() {
            all.push(
                "spec.externalID: this field is deprecated, and is unused by Kubernetes".into(),
            );
        }
        let spec = Path::Root.child("spec");
        let path = spec.child("podCIDRs");
        for (at, range) in tree::list(&new["spec"], "podCIDRs").iter().enumerate() {
            let range = range.as_str().unwrap_or_default();
            all.extend(addresses::range_warning(range, path.index(at)));
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let info = &object["status"]["nodeInfo"];
        let or_unknown = |key: &str| match tree::text(info, key) {
            "" => "<unknown>".to_owned(),
            text => text.to_owned(),
        };
        let mut kernel = or_unknown("kernelVersion");
        if !tree::text(info, "architecture").is_empty() {
            kernel.push_str(&format!(" ({})", tree::text(info, "architecture")));
        }
        vec![
            name(object),
            Value::from(readiness(object)),
            Value::from(roles(object)),
            age(object, now),
            Value::from(tree::text(info, "kubeletVersion")),
            Value::from(address(object, "InternalIP")),
            Value::from(address(object, "ExternalIP")),
            Value::from(or_unknown("osImage")),
            Value::from(kernel),
            Value::from(or_unknown("containerRuntimeVersion")),
        ]
    }
}

/// The older field has the first range of the newer one, and the last word.
fn one_range(spec: &mut Value) {
    let (one, all) = (tree::text(spec, "podCIDR").to_owned(), tree::list(spec, "podCIDRs"));
    let first = all.first().and_then(Value::as_str).unwrap_or_default().to_owned();
    if one.is_empty() && !first.is_empty() {
        tree::set(spec, "podCIDR", first);
    } else if !one.is_empty() && one != first {
        tree::set(spec, "podCIDRs", json!([one]));
    }
}

impl Node {
    /// Rules that hold at creation and later.
    fn rules(&self, object: &Value, causes: &mut Causes) {
        let metadata = Path::Root.child("metadata");
        taints(tree::list(&object["spec"], "taints"), metadata.child("taints"), causes);
        let status = Path::Root.child("status");
        for key in ["capacity", "allocatable"] {
            let path = status.child(key);
            for (resource, amount) in tree::entries(&object["status"], key) {
                resource_names::amount(resource, amount, path.child(resource), causes);
            }
        }
        features(tree::list(&object["status"], "declaredFeatures"), status, causes);
    }
}

/// Names of what the node's agent can do, in order.
fn features(all: &[Value], status: Path<'_>, causes: &mut Causes) {
    let path = status.child("declaredFeatures");
    for (at, name) in all.iter().filter_map(Value::as_str).enumerate() {
        let mut segments = name.split('/');
        let camel = |text: &str, first: fn(&u8) -> bool| {
            let bytes = text.as_bytes();
            bytes.first().is_some_and(first) && bytes.iter().all(u8::is_ascii_alphanumeric)
        };
        let fits = segments.next().is_some_and(|one| camel(one, u8::is_ascii_uppercase))
            && segments.all(|one| camel(one, u8::is_ascii_alphabetic));
        if name.len() > 253 {
            let why = format!("invalid feature name {name:?}: must be no more than 253 characters");
            causes.invalid_text(path.index(at), name, why);
        } else if !fits {
            let why = format!(
                "invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            causes.invalid_text(path.index(at), name, why);
        }
        match at.checked_sub(1).and_then(|before| all[before].as_str()) {
            Some(before) if before == name => causes.duplicate(path.index(at), &all[at]),
            Some(before) if before > name => {
                causes.invalid_text(path.index(at), name, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

fn taints(taints: &[Value], path: Path<'_>, causes: &mut Causes) {
    let identity = |taint: &Value| {
        (tree::text(taint, "key").to_owned(), tree::text(taint, "effect").to_owned())
    };
    for (at, taint) in taints.iter().enumerate() {
        let item = path.index(at);
        let (key, value) = (tree::text(taint, "key"), tree::text(taint, "value"));
        causes.complaints(item.child("key"), key, names::qualified(key));
        let complaints = names::label_value(value);
        if !complaints.is_empty() {
            causes.invalid_text(item.child("value"), value, complaints.join(";"));
        }
        match tree::text(taint, "effect") {
            "" => causes.required(item.child("effect"), ""),
            effect if !EFFECTS.contains(&effect) => {
                causes.not_supported(item.child("effect"), &taint["effect"], &EFFECTS);
            }
            _ => {}
        }
        if taints[..at].iter().any(|earlier| identity(earlier) == identity(taint)) {
            let shown = json!({"Key": key, "Value": value, "Effect": taint["effect"],
                "TimeAdded": taint["timeAdded"]});
            causes.duplicate_of(item, &shown, "taints must be unique by key and effect pair");
        }
    }
}

fn readiness(object: &Value) -> String {
    let conditions = tree::list(&object["status"], "conditions");
    let ready = conditions.iter().rfind(|condition| condition["type"] == "Ready");
    let mut text = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if tree::flag(&object["spec"], "unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = tree::entries(&object["metadata"], "labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address<'a>(object: &'a Value, of: &str) -> &'a str {
    let addresses = tree::list(&object["status"], "addresses");
    let found = addresses.iter().find(|address| address["type"] == of);
    found.map_or("<none>", |address| tree::text(address, "address"))
}
