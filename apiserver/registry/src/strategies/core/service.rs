//! Service: a stable address for a set of pods. The address is given by the cluster, claimed in the
//! same transaction, and kept until the Service goes.

use std::net::IpAddr;

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::{service_ports as ports, service_rules as rules};
use crate::{
    cause::{Causes, Path},
    names::NameRule,
    strategy::{Allocator, Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const CLIENT_IP_SECONDS: i64 = 10_800;

#[derive(Debug)]
pub struct Service;

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        affinity(spec);
        for port in tree::list_mut(spec, "ports") {
            tree::default_text(port, "protocol", "TCP");
            let target = &port["targetPort"];
            if target.is_null() || target == 0 || target == "" {
                let number = port["port"].clone();
                tree::set(port, "targetPort", number);
            }
        }
        let kind = tree::text(spec, "type").to_owned();
        let external = kind == "NodePort" || kind == "LoadBalancer";
        if external || !tree::list(spec, "externalIPs").is_empty() {
            tree::default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if external || kind == "ClusterIP" {
            tree::default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            tree::default(spec, "allocateLoadBalancerNodePorts", true);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(tree::child(object, "status"), "loadBalancer", json!({}));
        let spec = tree::child(object, "spec");
        let address = tree::text(spec, "clusterIP").to_owned();
        if !address.is_empty() && tree::list(spec, "clusterIPs").is_empty() {
            tree::set(spec, "clusterIPs", vec![address]);
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub.is_empty() {
            keep_allocated(tree::child(new, "spec"), &old["spec"]);
        }
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules::validate(object, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub.is_empty() {
            rules::validate_addresses_kept(&new["spec"], &old["spec"], causes);
            rules::validate(new, causes);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let address = tree::list(spec, "clusterIPs").first().and_then(Value::as_str);
        vec![
            name(object),
            Value::from(tree::text(spec, "type")),
            Value::from(address.unwrap_or("<none>")),
            Value::from(external_address(object)),
            Value::from(ports_text(spec)),
            age(object, now),
            Value::from(selector_text(spec)),
        ]
    }

    fn claims(&self, object: &Value) -> Vec<String> {
        let addresses = tree::list(&object["spec"], "clusterIPs").iter().filter_map(Value::as_str);
        let addresses = addresses.filter(|one| *one != "None");
        let mut claims: Vec<String> = addresses.map(|one| format!("clusterip/{one}")).collect();
        claims.extend(ports::claims(&object["spec"]));
        claims
    }

    fn allocate(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        allocator: &dyn Allocator,
        causes: &mut Causes,
    ) {
        let spec = tree::child(object, "spec");
        if tree::text(spec, "type") == "ExternalName" {
            return;
        }
        families(spec, causes);
        ports::allocate(spec, old.map(|old| &old["spec"]), allocator, causes);
        let address = tree::text(spec, "clusterIP").to_owned();
        let kept = old.is_some_and(|old| tree::text(&old["spec"], "clusterIP") == address);
        let path = Path::Root.child("spec");
        if address.is_empty() {
            match allocator.next_free() {
                Ok(address) => {
                    tree::set(spec, "clusterIP", address.to_string());
                    tree::set(spec, "clusterIPs", vec![address.to_string()]);
                }
                Err(why) => {
                    let detail = format!("failed to allocate a serviceIP: {why}");
                    causes.invalid(path.child("clusterIPs"), &json!([]), detail);
                }
            }
        } else if let (false, Ok(wanted)) = (kept, address.parse::<IpAddr>())
            && !allocator.in_range(wanted)
        {
            let detail = format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                allocator.range()
            );
            causes.invalid(path.child("clusterIPs"), &json!([address]), detail);
        }
    }
}

fn affinity(spec: &mut Value) {
    match tree::text(spec, "sessionAffinity") {
        "None" => {
            tree::remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" if !tree::has(&spec["sessionAffinityConfig"]["clientIP"], "timeoutSeconds") => {
            let config = json!({"clientIP": {"timeoutSeconds": CLIENT_IP_SECONDS}});
            tree::set(spec, "sessionAffinityConfig", config);
        }
        _ => {}
    }
}

/// What the cluster gave stays where the update leaves it out or no longer needs it.
fn keep_allocated(spec: &mut Value, before: &Value) {
    let is_external_name = |spec: &Value| tree::text(spec, "type") == "ExternalName";
    let (was, is) =
        (tree::text(before, "clusterIP").to_owned(), tree::text(spec, "clusterIP").to_owned());
    let lists_same = tree::same(&spec["clusterIPs"], &before["clusterIPs"]);
    if tree::list(spec, "clusterIPs").is_empty() && was == is {
        tree::keep(spec, before, "clusterIPs");
    } else if was != is && lists_same && !is.is_empty() {
        tree::set(spec, "clusterIPs", vec![is.clone()]);
    }
    match (is_external_name(before), is_external_name(spec)) {
        (false, false) => {
            if is.is_empty() {
                tree::keep(spec, before, "clusterIP");
            }
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if tree::is_empty(&spec[key]) {
                    tree::keep(spec, before, key);
                }
            }
        }
        (false, true) => {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let left_out = key == "clusterIPs" && is.is_empty();
                if left_out || tree::same(&spec[key], &before[key]) {
                    tree::remove(spec, key);
                }
            }
        }
        _ => {}
    }
    for key in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
        let used = ["NodePort", "LoadBalancer"].contains(&tree::text(spec, "type"));
        if !used
            && tree::list(spec, "externalIPs").is_empty()
            && tree::same(&spec[key], &before[key])
        {
            tree::remove(spec, key);
        }
    }
    node_ports(spec, before);
}

fn node_ports(spec: &mut Value, before: &Value) {
    let uses = ["NodePort", "LoadBalancer"];
    let used_before = uses.contains(&tree::text(before, "type"));
    if !used_before {
        return;
    }
    let uses_now = uses.contains(&tree::text(spec, "type"));
    let old_ports = tree::list(before, "ports");
    for port in tree::list_mut(spec, "ports") {
        let old = old_ports.iter().find(|old| tree::text(old, "name") == tree::text(port, "name"));
        let Some(given) = old.and_then(|old| tree::number(old, "nodePort")) else { continue };
        if uses_now && tree::number(port, "nodePort").unwrap_or(0) == 0 {
            tree::set(port, "nodePort", given);
        } else if !uses_now && tree::number(port, "nodePort") == Some(given) {
            tree::remove(port, "nodePort");
        }
    }
}

/// Clusters are IPv4 only: a wish for both families is refused, and what is open is filled in.
fn families(spec: &mut Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let headless = tree::text(spec, "clusterIP") == "None";
    let selectorless = tree::is_empty(&spec["selector"]);
    if headless && selectorless && !tree::has(spec, "ipFamilyPolicy") {
        // Its endpoints are the user's own, so it may hold both.
        tree::set(spec, "ipFamilyPolicy", "RequireDualStack");
        if tree::list(spec, "ipFamilies").is_empty() {
            tree::set(spec, "ipFamilies", vec!["IPv4", "IPv6"]);
        }
        return;
    }
    tree::default(spec, "ipFamilyPolicy", "SingleStack");
    if tree::list(spec, "ipFamilies").is_empty() {
        tree::set(spec, "ipFamilies", vec!["IPv4"]);
    }
    if headless && selectorless {
        return;
    }
    if tree::text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        causes.invalid(path.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], why);
    }
    let families = path.child("ipFamilies");
    for (at, family) in tree::list(spec, "ipFamilies").iter().enumerate() {
        if family == "IPv6" {
            let why = "not configured on this cluster";
            causes.invalid(families.index(at), family, why);
        }
    }
}

fn external_address(object: &Value) -> String {
    let spec = &object["spec"];
    let mut all: Vec<&str> = Vec::new();
    match tree::text(spec, "type") {
        "ExternalName" => return tree::text(spec, "externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = tree::list(&object["status"]["loadBalancer"], "ingress");
            all.extend(
                ingress
                    .iter()
                    .filter_map(|one| one["ip"].as_str().or_else(|| one["hostname"].as_str())),
            );
            all.sort_unstable();
            all.dedup();
        }
        _ => {}
    }
    all.extend(tree::list(spec, "externalIPs").iter().filter_map(Value::as_str));
    match (all.is_empty(), tree::text(spec, "type")) {
        (false, _) => all.join(","),
        (true, "LoadBalancer") => "<pending>".to_owned(),
        (true, _) => "<none>".to_owned(),
    }
}

fn ports_text(spec: &Value) -> String {
    let ports = tree::list(spec, "ports").iter().map(|port| {
        let (number, protocol) = (&port["port"], tree::text(port, "protocol"));
        match tree::number(port, "nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

fn selector_text(spec: &Value) -> String {
    let mut terms: Vec<String> = tree::entries(spec, "selector")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    terms.sort_unstable();
    if terms.is_empty() { "<none>".to_owned() } else { terms.join(",") }
}
