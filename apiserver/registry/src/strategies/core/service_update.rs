//! How a Service changes: what the cluster gave is kept where the update leaves it out, dropped
//! where the new type has no use for it, and never exchanged.

use serde_json::{Value, json};

use crate::{
    cause::{Causes, Path},
    tree,
};

const SET_ONCE: &str = "may not change once set";

pub fn is_external_name(spec: &Value) -> bool {
    tree::text(spec, "type") == "ExternalName"
}

/// Reachable from outside, so that what happens to its traffic there can be said.
pub fn is_external(spec: &Value) -> bool {
    match tree::text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !tree::list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

/// Load balancers that send traffic to the nodes of its pods ask these for their health.
pub fn needs_health_port(spec: &Value) -> bool {
    tree::text(spec, "type") == "LoadBalancer"
        && tree::text(spec, "externalTrafficPolicy") == "Local"
}

/// Has node ports given by the cluster.
pub fn gets_node_ports(spec: &Value) -> bool {
    match tree::text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

pub fn is_headless(spec: &Value) -> bool {
    matches!(tree::list(spec, "clusterIPs"), [only] if only == "None")
}

/// Fills in what was given before and is left out now, and brings the one address and the list of
/// addresses into step.
pub fn fill_in(spec: &mut Value, before: &Value) {
    if !is_external_name(before) && !is_external_name(spec) {
        if tree::text(spec, "clusterIP").is_empty() {
            tree::keep(spec, before, "clusterIP");
        }
        if tree::list(spec, "clusterIPs").is_empty() {
            tree::keep(spec, before, "clusterIPs");
        }
    }
    if gets_node_ports(before) && gets_node_ports(spec) {
        fill_in_ports(spec, before);
    }
    let health = tree::number(spec, "healthCheckNodePort").unwrap_or(0);
    if needs_health_port(before) && needs_health_port(spec) && health == 0 {
        tree::keep(spec, before, "healthCheckNodePort");
    }
    in_step(spec, before);
}

fn fill_in_ports(spec: &mut Value, before: &Value) {
    let numbers = |spec: &Value| -> Vec<i64> {
        let ports = tree::list(spec, "ports").iter();
        ports.filter_map(|port| tree::number(port, "nodePort")).filter(|port| *port != 0).collect()
    };
    let (old, new) = (numbers(before), numbers(spec));
    for port in tree::list_mut(spec, "ports") {
        let same = tree::list(before, "ports")
            .iter()
            .rfind(|old| tree::text(old, "name") == tree::text(port, "name"));
        let given = same.and_then(|same| tree::number(same, "nodePort")).filter(|port| *port != 0);
        if tree::number(port, "nodePort").unwrap_or(0) == 0
            && let Some(given) = given
            && !(old.contains(&given) && new.contains(&given))
        {
            tree::set(port, "nodePort", given);
        }
    }
}

fn in_step(spec: &mut Value, before: &Value) {
    let (was, is) =
        (tree::text(before, "clusterIP").to_owned(), tree::text(spec, "clusterIP").to_owned());
    if was == is {
        if tree::list(spec, "clusterIPs").is_empty() {
            tree::keep(spec, before, "clusterIPs");
        }
    } else if tree::same(&spec["clusterIPs"], &before["clusterIPs"]) {
        if is.is_empty() {
            tree::remove(spec, "clusterIPs");
        } else {
            tree::set(spec, "clusterIPs", vec![is]);
        }
    }
}

/// Takes away what only the old type had a use for, unless the update says otherwise.
pub fn drop_unused(spec: &mut Value, before: &Value) {
    let same = |spec: &Value, key: &str| tree::same(&spec[key], &before[key]);
    if !is_external_name(before) && is_external_name(spec) {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            tree::remove(spec, "clusterIP");
            tree::remove(spec, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(spec, key) {
                tree::remove(spec, key);
            }
        }
    }
    let has_ports = |spec: &Value| ["NodePort", "LoadBalancer"].contains(&tree::text(spec, "type"));
    if has_ports(before) && !has_ports(spec) {
        drop_ports(spec, before);
    }
    let balanced = |spec: &Value| tree::text(spec, "type") == "LoadBalancer";
    type Uses = fn(&Value) -> bool;
    let rules: [(&str, Uses); 4] = [
        ("healthCheckNodePort", needs_health_port),
        ("allocateLoadBalancerNodePorts", balanced),
        ("loadBalancerClass", balanced),
        ("externalTrafficPolicy", is_external),
    ];
    for (key, uses) in rules {
        if uses(before) && !uses(spec) && same(spec, key) {
            tree::remove(spec, key);
        }
    }
}

fn drop_ports(spec: &mut Value, before: &Value) {
    let old = tree::list(before, "ports");
    let known = |port: &Value| {
        tree::number(port, "nodePort").is_none_or(|number| {
            number == 0 || old.iter().any(|old| tree::number(old, "nodePort") == Some(number))
        })
    };
    if tree::list(spec, "ports").iter().all(known) {
        for port in tree::list_mut(spec, "ports") {
            tree::remove(port, "nodePort");
        }
    }
}

/// Rules of what may not change.
pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let path = Path::Root.child("spec");
    if !is_external_name(spec) && !is_external_name(before) {
        addresses(spec, before, path, causes);
        families(spec, before, path, causes);
    }
    let balanced = |spec: &Value| tree::text(spec, "type") == "LoadBalancer";
    let key = "loadBalancerClass";
    if balanced(spec) && balanced(before) && spec[key] != before[key] {
        causes.invalid_or_null(path.child(key), &spec[key], SET_ONCE);
    }
    let key = "healthCheckNodePort";
    if needs_health_port(spec) && needs_health_port(before) && spec[key] != before[key] {
        causes.forbidden(path.child(key), "field is immutable");
    }
}

fn addresses(spec: &Value, before: &Value, path: Path<'_>, causes: &mut Causes) {
    if is_headless(spec) && is_headless(before) {
        return;
    }
    let (old, new) = (tree::list(before, "clusterIPs"), tree::list(spec, "clusterIPs"));
    let here = path.child("clusterIPs");
    let shown = if new.is_empty() { json!([]) } else { spec["clusterIPs"].clone() };
    let first_changed = !old.is_empty() && !new.is_empty() && old[0] != new[0];
    if old.len() == new.len() {
        for at in (0..old.len()).filter(|at| old[*at] != new[*at]) {
            causes.invalid(here.index(at), &shown, SET_ONCE);
        }
        return;
    }
    if new.is_empty() {
        causes.invalid(here.index(0), &shown, "primary clusterIP can not be unset");
    } else if first_changed {
        causes.invalid(here.index(0), &shown, SET_ONCE);
    }
    if old.len() > new.len() && new.len() == 1 && spec["ipFamilyPolicy"] != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        causes.invalid_or_null(path.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], why);
    }
}

fn families(spec: &Value, before: &Value, path: Path<'_>, causes: &mut Causes) {
    if is_headless(spec) || is_headless(before) {
        return;
    }
    let (old, new) = (tree::list(before, "ipFamilies"), tree::list(spec, "ipFamilies"));
    let here = path.child("ipFamilies");
    if old.len() == new.len() {
        for _ in (0..old.len()).filter(|at| old[*at] != new[*at]) {
            causes.invalid(here.index(0), &spec["ipFamilies"], SET_ONCE);
        }
        return;
    }
    if !old.is_empty() && !new.is_empty() && old[0] != new[0] {
        // Upstream shows the addresses here, not the families.
        causes.invalid(here.index(0), &spec["clusterIPs"], SET_ONCE);
    }
    if old.len() > new.len() && new.len() == 1 && spec["ipFamilyPolicy"] != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        causes.invalid_or_null(path.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], why);
    }
}
