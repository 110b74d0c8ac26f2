//! Resources of a pod as a whole (KEP-2837): what it leaves open follows from its containers, and what
//! it says bounds them.

use serde_json::Value;
use windlass_sdk_meta::quota::{self, Amounts};

use crate::{
    cause::{Causes, Path},
    strategies::core::resource_names::{is_huge_page, may_overcommit, quantity},
    tree,
};

const LISTS: [&str; 2] = ["initContainers", "containers"];

/// A resource that a pod as a whole may ask for.
fn is_of_pods(name: &str) -> bool {
    ["cpu", "memory"].contains(&name) || is_huge_page(name)
}

/// The pod says something of itself that counts.
pub fn is_set(spec: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|of| tree::entries(&spec["resources"], of).any(|(name, _)| is_of_pods(name)))
}

/// Fills in what a pod that says something of itself leaves open. Runs once all containers are there.
pub fn default(spec: &mut Value) {
    let own = |spec: &Value, of: &str| quota::amounts(&spec["resources"][of]);
    let (mut requests, mut limits) = (own(spec, "requests"), own(spec, "limits"));
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let asked = quota::containers_total(spec, "requests");
    let bounds = quota::containers_total(spec, "limits");
    for (name, bound) in &bounds {
        if is_huge_page(name) && !requests.contains_key(name) {
            limits.entry(name.clone()).or_insert(*bound);
        }
    }
    for (name, sum) in asked.iter().filter(|(name, _)| is_of_pods(name) && may_overcommit(name)) {
        requests.entry(name.clone()).or_insert(*sum);
    }
    for (name, limit) in limits.iter().filter(|(name, _)| is_of_pods(name)) {
        requests.entry(name.clone()).or_insert(*limit);
    }
    let is_bound = |name: &str| {
        let mut all = LISTS.iter().flat_map(|list| tree::list(spec, list));
        all.all(|container| tree::has(&container["resources"]["limits"], name))
    };
    for (name, request) in &requests {
        if is_of_pods(name)
            && !limits.contains_key(name)
            && is_bound(name)
            && let Some(bound) = bounds.get(name)
        {
            limits.insert(name.clone(), *bound.max(request));
        }
    }
    for (of, all) in [("requests", &requests), ("limits", &limits)] {
        fill(spec, of, all);
    }
}

/// What is there stays as it was written.
fn fill(spec: &mut Value, of: &str, all: &Amounts) {
    if all.is_empty() {
        return;
    }
    let list = tree::child(tree::child(spec, "resources"), of);
    for (name, amount) in all {
        tree::default(list, name, amount.to_string());
    }
}

/// The pod asks for no less than its containers together, and none of them may take more than it.
/// `path` is that of the pod's resources.
pub fn validate(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let of_pod = |of: &str, name: &str| &spec["resources"][of][name];
    for of in ["requests", "limits"] {
        let list = path.child(of);
        for (name, sum) in quota::containers_total(spec, of) {
            if (of == "requests" || is_huge_page(&name))
                && let Some(own) = quantity(of_pod(of, &name))
                && sum > own
            {
                let why =
                    format!("must be greater than or equal to aggregate container {of} of {sum}");
                causes.invalid_text(list.key(&name), &own.to_string(), why);
            }
        }
    }
    let containers = path.child("containers");
    for (at, container) in tree::list(spec, "containers").iter().enumerate() {
        let item = containers.index(at);
        for (name, limit) in tree::entries(&container["resources"], "limits") {
            if let (Some(limit), Some(most)) = (quantity(limit), quantity(of_pod("limits", name)))
                && limit > most
            {
                let why = format!("must be less than or equal to pod limits of {most}");
                causes.invalid_text(item.key(name).child("limits"), &limit.to_string(), why);
            }
        }
    }
}
