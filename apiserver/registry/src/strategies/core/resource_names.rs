//! Names of resources as quotas and limit ranges write them.

use serde_json::Value;
use windlass_sdk_meta::Quantity;

use crate::{
    cause::{Causes, Path},
    names, tree,
};

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Counts of objects: whole numbers.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const AMOUNTS: [&str; 7] = [
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// A name that a quota may bound.
pub fn is_standard_quota(name: &str) -> bool {
    CONTAINER.contains(&name)
        || COUNTED.contains(&name)
        || AMOUNTS.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// Rules of the name of a resource that a container asks for.
pub fn of_container(name: &str, path: Path<'_>, causes: &mut Causes) {
    any(name, path, causes);
    if name.contains('/') {
        let extended = names::qualified(&format!("requests.{name}")).is_empty();
        if !is_native(name) && !(is_extended(name) && extended) {
            causes.invalid_text(path, name, "doesn't follow extended resource name standard");
        }
    } else if !CONTAINER.contains(&name) && !is_huge_page(name) {
        causes.invalid_text(path, name, "must be a standard resource for containers");
    }
}

/// Rules of the name of a resource that a pod as a whole asks for.
pub fn of_pod(name: &str, path: Path<'_>, causes: &mut Causes) {
    let mut own = Causes::default();
    any(name, path, &mut own);
    let fine = own.is_empty();
    causes.extend(own);
    if fine && !["cpu", "memory"].contains(&name) && !is_huge_page(name) {
        causes.not_supported(path, &name.into(), &["cpu", "hugepages-", "memory"]);
    }
}

/// Rules of an amount: never below zero, and whole where things are counted.
pub fn amount(name: &str, amount: &Value, path: Path<'_>, causes: &mut Causes) {
    let Some(parsed) = quantity(amount) else { return };
    if parsed.is_negative() {
        causes.invalid(path, amount, "must be greater than or equal to 0");
    }
    if (COUNTED.contains(&name) || is_extended(name)) && parsed.millis() % 1000 != 0 {
        causes.invalid(path, amount, "must be an integer");
    }
}

/// Rules of the name of any resource.
pub fn any(name: &str, path: Path<'_>, causes: &mut Causes) {
    let known = is_standard(name);
    if well_formed(name, path, causes) && !known {
        causes.invalid_text(path, name, "must be a standard resource type or fully qualified");
    }
}

/// Rules of the resources of a quota: their names and their amounts.
pub fn quota(of: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    let field = path.child(key);
    for (name, amount) in tree::entries(of, key) {
        let here = field.key(name);
        any(name, here, causes);
        if !name.contains('/') && !is_standard_quota(name) {
            causes.invalid_text(here, name, "must be a standard resource for quota");
        }
        self::amount(name, amount, here, causes);
    }
}

/// What no node has more of than it has: a limit is a request.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// An amount, read.
pub fn quantity(amount: &Value) -> Option<Quantity> {
    amount.as_str()?.parse().ok()
}

/// A name in the right form that has no domain, and so has to be a known one.
fn well_formed(name: &str, path: Path<'_>, causes: &mut Causes) -> bool {
    let complaints = names::qualified(name);
    let fine = complaints.is_empty();
    causes.complaints(path, name, complaints);
    fine && !name.contains('/')
}

fn is_standard(name: &str) -> bool {
    name == "storage"
        || CONTAINER.contains(&name)
        || COUNTED.contains(&name)
        || AMOUNTS.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of somebody's own, such as `example.com/device`.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.")
}
