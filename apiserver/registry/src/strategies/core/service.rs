//! Service: a stable address for a set of pods. The address is given by the cluster, claimed in the
//! same transaction, and kept until the Service goes.

use std::net::IpAddr;

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use super::{service_ports as ports, service_rules as rules, service_update as change};
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
        if change::is_external(spec) {
            tree::default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if external || kind == "ClusterIP" {
            tree::default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            tree::default(spec, "allocateLoadBalancerNodePorts", true);
            let balancer = &mut object["status"]["loadBalancer"];
            for ingress in tree::list_mut(balancer, "ingress") {
                if !tree::text(ingress, "ip").is_empty() {
                    tree::default(ingress, "ipMode", "VIP");
                }
            }
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
            change::fill_in(tree::child(new, "spec"), &old["spec"]);
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
        if sub == "status" {
            rules::validate_status(new, causes);
        } else {
            change::validate(new, old, causes);
            rules::validate(new, causes);
        }
    }

    fn warnings(&self, sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        if sub.is_empty() { rules::warnings(new) } else { Vec::new() }
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
        let before = old.map(|old| &old["spec"]);
        if !change::is_external_name(spec) {
            families(spec, before, causes);
            if causes.is_empty() {
                address(spec, before, allocator, causes);
                ports::allocate(spec, before, allocator, causes);
            }
        }
        if let Some(before) = before {
            change::drop_unused(spec, before);
        }
    }
}

/// Gives the Service its address, or takes the one that it asks for.
fn address(spec: &mut Value, old: Option<&Value>, allocator: &dyn Allocator, causes: &mut Causes) {
    let had = old.is_some_and(|old| !change::is_external_name(old));
    let asked = tree::list(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or_default();
    let path = Path::Root.child("spec");
    if had || asked == "None" {
        return;
    }
    if asked.is_empty() {
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
    } else if let Ok(wanted) = asked.parse::<IpAddr>()
        && !allocator.in_range(wanted)
    {
        let detail = format!(
            "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {}",
            allocator.range()
        );
        causes.invalid(path.child("clusterIPs"), &json!([asked]), detail);
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

/// Clusters are IPv4 only: a wish for both families is refused, and what is open is filled in.
fn families(spec: &mut Value, old: Option<&Value>, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let policy_path = path.child("ipFamilyPolicy");
    let headless = tree::text(spec, "clusterIP") == "None";
    let selectorless = tree::is_empty(&spec["selector"]);
    if !tree::has(spec, "ipFamilyPolicy") {
        let before = old.map_or("", |old| tree::text(old, "ipFamilyPolicy"));
        let policy = match (before, headless && selectorless) {
            // Its endpoints are the user's own, so it may hold both.
            ("", true) => "RequireDualStack",
            ("", false) => "SingleStack",
            (before, _) => before,
        };
        tree::set(spec, "ipFamilyPolicy", policy);
    }
    rules::cluster_addresses(spec, path, causes);
    if !causes.is_empty() {
        return;
    }
    let single = tree::text(spec, "ipFamilyPolicy") == "SingleStack";
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        let count = tree::list(spec, key).len();
        let kept = old.is_some_and(|old| tree::same(&old[key], &spec[key]));
        if single && kept && count > 1 {
            let first = tree::list(spec, key)[..1].to_vec();
            tree::set(spec, key, first);
        } else if single && count == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            causes.invalid(policy_path, &spec["ipFamilyPolicy"], why);
        }
    }
    families_of_addresses(spec, path, causes);
    if !causes.is_empty() {
        return;
    }
    if tree::list(spec, "ipFamilies").is_empty() {
        tree::set(spec, "ipFamilies", vec!["IPv4"]);
    }
    if headless && selectorless {
        let families = tree::list(spec, "ipFamilies");
        if families.len() < 2 && !single {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            let both = vec![families[0].clone(), other.into()];
            tree::set(spec, "ipFamilies", both);
        }
        return;
    }
    if tree::text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        causes.invalid(policy_path, &spec["ipFamilyPolicy"], why);
    }
    let families = path.child("ipFamilies");
    for (at, family) in tree::list(spec, "ipFamilies").iter().enumerate() {
        if family == "IPv6" {
            causes.invalid(families.index(at), family, "not configured on this cluster");
        }
    }
}

/// An address tells its family where the Service doesn't.
fn families_of_addresses(spec: &mut Value, path: Path<'_>, causes: &mut Causes) {
    let mut families = tree::list(spec, "ipFamilies").to_vec();
    let addresses = path.child("clusterIPs");
    for (at, address) in tree::list(spec, "clusterIPs").iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address == "None" {
            break;
        }
        if at >= families.len() {
            if address.contains(':') {
                let why = "IPv6 is not configured on this cluster";
                causes.invalid(addresses.index(at), &spec["clusterIPs"], why);
            } else {
                families.push("IPv4".into());
            }
        }
    }
    if !families.is_empty() {
        tree::set(spec, "ipFamilies", families);
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
