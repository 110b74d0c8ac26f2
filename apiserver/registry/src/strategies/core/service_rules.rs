//! What a Service may be, with upstream's words for what is wrong.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::service_update as change;
use crate::{
    addresses,
    cause::{Causes, Path},
    metadata::validate_labels,
    names, tree,
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Rules of a whole Service.
pub fn validate(object: &Value, causes: &mut Causes) {
    let spec = &object["spec"];
    let path = Path::Root.child("spec");
    let kind = tree::text(spec, "type");
    let headless = change::is_headless(spec);
    let ports = tree::list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.required(path.child("ports"), "");
    }
    of_type(spec, kind, headless, path, causes);
    let ports_path = path.child("ports");
    for (at, port) in ports.iter().enumerate() {
        port_rules(port, &ports[..at], ports.len() > 1, ports_path.index(at), causes);
    }
    validate_labels(&spec["selector"], path.child("selector"), causes);
    affinity(spec, path, causes);
    if kind != "ExternalName" {
        cluster_addresses(spec, path, causes);
    }
    let external = path.child("externalIPs");
    for (at, address) in tree::list(spec, "externalIPs").iter().enumerate() {
        // Of what is no address there is no more to say.
        addresses::validate(address, external.index(at), causes);
        is_endpoint(address, external.index(at), causes);
    }
    known_or_required(spec, "type", &TYPES, path, causes);
    for (at, port) in ports.iter().enumerate() {
        let node_port = tree::number(port, "nodePort").unwrap_or(0);
        if kind == "ClusterIP" && node_port != 0 {
            let why = "may not be used when `type` is 'ClusterIP'";
            causes.forbidden(ports_path.index(at).child("nodePort"), why);
        }
        let same = |other: &&Value| {
            tree::number(other, "port") == tree::number(port, "port")
                && other["protocol"] == port["protocol"]
        };
        if ports[..at].iter().any(|other| same(&other)) {
            // The form that upstream's messages have it in.
            let key = json!({"Name": "", "Protocol": port["protocol"], "AppProtocol": null,
                "Port": port["port"], "TargetPort": 0, "NodePort": 0});
            causes.duplicate(ports_path.index(at), &key);
        }
    }
    super::service_ports::validate(spec, causes);
    traffic(spec, kind, path, causes);
}

/// What is said and has no effect, or will go.
pub fn warnings(object: &Value) -> Vec<String> {
    let (spec, kind) = (&object["spec"], tree::text(&object["spec"], "type"));
    let has = |key: &str| !tree::is_empty(&spec[key]);
    let headless = kind == "ClusterIP" && tree::text(spec, "clusterIP") == "None";
    let outside = kind == "ExternalName";
    let old = "service.kubernetes.io/topology-aware-hints";
    let mut all = Vec::new();
    if tree::has(&object["metadata"]["annotations"], old) {
        all.push(format!(
            "annotation {old} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let path = Path::Root.child("spec");
    for key in ["clusterIPs", "externalIPs"] {
        let here = path.child(key);
        for (at, address) in tree::list(spec, key).iter().enumerate() {
            let address = address.as_str().unwrap_or_default();
            all.extend(addresses::warning(address, here.index(at)));
        }
    }
    for (said, text) in [
        (headless && has("loadBalancerIP"), "spec.loadBalancerIP is ignored for headless services"),
        (headless && has("externalIPs"), "spec.externalIPs is ignored for headless services"),
        (
            headless && tree::text(spec, "sessionAffinity") != "None",
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            !headless && !outside && has("externalIPs"),
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ),
        (
            outside && has("externalIPs"),
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ),
        (
            !outside && has("externalName"),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            spec["trafficDistribution"] == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ] {
        all.extend(said.then(|| text.to_owned()));
    }
    let balancer = tree::text(spec, "loadBalancerIP");
    all.extend(addresses::warning(balancer, path.child("loadBalancerIP")));
    let ranges = path.child("loadBalancerSourceRanges");
    for (at, range) in tree::list(spec, "loadBalancerSourceRanges").iter().enumerate() {
        let range = range.as_str().unwrap_or_default();
        all.extend(addresses::range_warning(range, ranges.index(at)));
    }
    all
}

/// Rules of `/status`.
pub fn validate_status(object: &Value, causes: &mut Causes) {
    let status = Path::Root.child("status");
    let balancer = status.child("loadBalancer");
    let all = balancer.child("ingress");
    let list = tree::list(&object["status"]["loadBalancer"], "ingress");
    if tree::text(&object["spec"], "type") != "LoadBalancer" && !list.is_empty() {
        return causes.forbidden(all, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (at, ingress) in list.iter().enumerate() {
        let item = all.index(at);
        let has_address = !tree::text(ingress, "ip").is_empty();
        if has_address {
            addresses::validate(&ingress["ip"], item.child("ip"), causes);
        }
        let mode = item.child("ipMode");
        match (tree::has(ingress, "ipMode"), has_address) {
            (false, true) => causes.required(mode, "must be specified when `ip` is set"),
            (true, false) => causes.forbidden(mode, "may not be specified when `ip` is not set"),
            (true, true) if !["Proxy", "VIP"].contains(&tree::text(ingress, "ipMode")) => {
                causes.not_supported(mode, &ingress["ipMode"], &["Proxy", "VIP"]);
            }
            _ => {}
        }
        let host = tree::text(ingress, "hostname");
        if !host.is_empty() {
            causes.complaints(item.child("hostname"), host, names::subdomain(host));
            if host.parse::<IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                causes.invalid_text(item.child("hostname"), host, why);
            }
        }
    }
}

fn known_or_required(of: &Value, key: &str, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    match tree::text(of, key) {
        "" => causes.required(path.child(key), ""),
        value if !known.contains(&value) => causes.not_supported(path.child(key), &of[key], known),
        _ => {}
    }
}

fn of_type(spec: &Value, kind: &str, headless: bool, path: Path<'_>, causes: &mut Causes) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            causes.invalid_text(path.child("clusterIPs").index(0), "None", why);
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !tree::is_empty(&spec[key]) {
                    causes.forbidden(path.child(key), "may not be set for ExternalName services");
                }
            }
            let name = tree::text(spec, "externalName");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => causes.required(path.child("externalName"), ""),
                name => causes.complaints(path.child("externalName"), name, names::subdomain(name)),
            }
        }
        _ => {}
    }
}

fn port_rules(
    port: &Value,
    earlier: &[Value],
    needs_name: bool,
    path: Path<'_>,
    causes: &mut Causes,
) {
    match tree::text(port, "name") {
        "" if needs_name => causes.required(path.child("name"), ""),
        "" => {}
        name => {
            causes.complaints(path.child("name"), name, names::label(name));
            if earlier.iter().any(|other| tree::text(other, "name") == name) {
                causes.duplicate(path.child("name"), &port["name"]);
            }
        }
    }
    port_number(&port["port"], path.child("port"), causes);
    known_or_required(port, "protocol", &PROTOCOLS, path, causes);
    port_number_or_name(&port["targetPort"], path.child("targetPort"), causes);
    let app = tree::text(port, "appProtocol");
    if tree::has(port, "appProtocol") {
        causes.complaints(path.child("appProtocol"), app, names::qualified(app));
    }
}

/// A port number in its range.
pub fn port_number(port: &Value, path: Path<'_>, causes: &mut Causes) {
    for why in names::port_number(port.as_i64().unwrap_or(0)) {
        causes.invalid(path, &json!(port.as_i64().unwrap_or(0)), why);
    }
}

/// A port by number or by name.
pub fn port_number_or_name(port: &Value, path: Path<'_>, causes: &mut Causes) {
    match port {
        Value::String(name) => causes.complaints(path, name, names::port_name(name)),
        port => port_number(port, path, causes),
    }
}

fn affinity(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    known_or_required(spec, "sessionAffinity", &["ClientIP", "None"], path, causes);
    let (config, here) = (&spec["sessionAffinityConfig"], path.child("sessionAffinityConfig"));
    match tree::text(spec, "sessionAffinity") {
        "None" if !config.is_null() => {
            causes.forbidden(here, "must not be set when session affinity is None");
        }
        "ClientIP" => {
            let seconds = &config["clientIP"]["timeoutSeconds"];
            let here = here.child("clientIP");
            if seconds.is_null() {
                let why = "when session affinity type is ClientIP";
                causes.required(here.child("timeoutSeconds"), why);
            } else if !seconds.as_i64().is_some_and(|seconds| (1..=86_400).contains(&seconds)) {
                let why = "must be greater than 0 and less than 86400";
                causes.invalid(here.child("timeoutSeconds"), seconds, why);
            }
        }
        _ => {}
    }
}

/// Rules of addresses and their families, which hold already before any is given out.
pub fn cluster_addresses(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let (one, all) = (tree::text(spec, "clusterIP"), tree::list(spec, "clusterIPs"));
    let field = path.child("clusterIPs");
    match (one, all.first()) {
        ("", Some(_)) => {
            causes.invalid(
                field,
                &spec["clusterIPs"],
                "must be empty when `clusterIP` is not specified",
            );
        }
        ("", None) => {}
        (_, None) => causes.required(field, ""),
        (one, Some(first)) if first != one => {
            causes.invalid(field, &spec["clusterIPs"], "first value must match `clusterIP`");
        }
        _ => {}
    }
    for (at, address) in all.iter().enumerate() {
        if address == "None" && at == 0 {
            if all.len() > 1 {
                causes.invalid(
                    field,
                    &spec["clusterIPs"],
                    "'None' must be the first and only value",
                );
            }
            continue;
        }
        addresses::validate(address, field.index(at), causes);
    }
    if all.len() > 2 {
        causes.invalid(field, &spec["clusterIPs"], "may only hold up to 2 values");
    }
    families_agree(spec, field, causes);
    let families = path.child("ipFamilies");
    for (at, family) in tree::list(spec, "ipFamilies").iter().enumerate() {
        if family != "IPv4" && family != "IPv6" {
            causes.not_supported(families.index(at), family, &["IPv4", "IPv6"]);
        }
        if tree::list(spec, "ipFamilies")[..at].contains(family) {
            causes.duplicate(families.index(at), family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if tree::has(spec, "ipFamilyPolicy") && !policies.contains(&tree::text(spec, "ipFamilyPolicy"))
    {
        causes.not_supported(path.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], &policies);
    }
}

/// At most one address of each family, in the order of the families.
fn families_agree(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(spec, "clusterIPs");
    let parsed: Vec<IpAddr> = all.iter().filter_map(|one| one.as_str()?.parse().ok()).collect();
    if parsed.len() != all.len() {
        return;
    }
    let of = |family: fn(&IpAddr) -> bool| parsed.iter().filter(|one| family(one)).count();
    if parsed.len() > 1 && (of(IpAddr::is_ipv4) == 0 || of(IpAddr::is_ipv6) == 0) {
        let why = "may specify no more than one IP for each IP family";
        causes.invalid(path, &spec["clusterIPs"], why);
    }
    let families = tree::list(spec, "ipFamilies");
    for (at, (address, family)) in parsed.iter().zip(families).enumerate() {
        let fits = match family.as_str() {
            Some("IPv4") => address.is_ipv4(),
            Some("IPv6") => address.is_ipv6(),
            _ => true,
        };
        if !fits {
            let family = family.as_str().unwrap_or_default();
            let why = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            causes.invalid(path.index(at), &all[at], why);
        }
    }
}

fn traffic(spec: &Value, kind: &str, path: Path<'_>, causes: &mut Causes) {
    let only_balancer = "may only be used when `type` is 'LoadBalancer'";
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if tree::has(spec, key) && kind != "LoadBalancer" {
            causes.forbidden(path.child(key), only_balancer);
        }
    }
    if !tree::is_empty(&spec["loadBalancerSourceRanges"]) && kind != "LoadBalancer" {
        causes.forbidden(path.child("LoadBalancerSourceRanges"), only_balancer);
    }
    let ranges = path.child("LoadBalancerSourceRanges");
    for (at, range) in tree::list(spec, "loadBalancerSourceRanges").iter().enumerate() {
        let range = range.as_str().unwrap_or_default().trim();
        addresses::validate_range(&range.into(), ranges.index(at), causes);
    }
    let class = tree::text(spec, "loadBalancerClass");
    if tree::has(spec, "loadBalancerClass") && kind == "LoadBalancer" {
        causes.complaints(path.child("loadBalancerClass"), class, names::qualified(class));
    }
    let policies = ["Cluster", "Local"];
    let (key, known) = ("internalTrafficPolicy", kind != "ExternalName");
    if tree::has(spec, key) && !policies.contains(&tree::text(spec, key)) {
        causes.not_supported(path.child(key), &spec[key], &policies);
    } else if !tree::has(spec, key) && known && TYPES.contains(&kind) {
        causes.required(path.child(key), "");
    }
    let key = "externalTrafficPolicy";
    if change::is_external(spec) {
        known_or_required(spec, key, &policies, path, causes);
    } else if !tree::text(spec, key).is_empty() {
        let why = "may only be set for externally-accessible services";
        causes.invalid(path.child(key), &spec[key], why);
    }
    health_port(spec, path.child("healthCheckNodePort"), causes);
    let key = "trafficDistribution";
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if tree::has(spec, key) && !known.contains(&tree::text(spec, key)) {
        causes.not_supported(path.child(key), &spec[key], &known);
    }
}

fn health_port(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let port = &spec["healthCheckNodePort"];
    let is_set = port.as_i64().unwrap_or(0) != 0;
    match (change::needs_health_port(spec), is_set) {
        (false, true) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            causes.invalid(path, port, why);
        }
        (true, false) => causes.required(path, ""),
        (true, true) => port_number(port, path, causes),
        (false, false) => {}
    }
}

/// An address that traffic may be sent to: not unspecified, and not of a range that means the
/// sender itself, unless it is one of the cluster's own (README lists the deviation).
pub fn is_endpoint(address: &Value, path: Path<'_>, causes: &mut Causes) {
    let Ok(parsed) = address.as_str().unwrap_or_default().parse::<IpAddr>() else { return };
    let (loopback, link_local, multicast) = match parsed {
        IpAddr::V4(v4) => {
            let [first, second, third, _] = v4.octets();
            let own = first == 127 && (64..128).contains(&second);
            (v4.is_loopback() && !own, v4.is_link_local(), [first, second, third] == [224, 0, 0])
        }
        IpAddr::V6(v6) => {
            let head = v6.segments()[0];
            (v6.is_loopback(), head & 0xffc0 == 0xfe80, head & 0xff0f == 0xff02)
        }
    };
    if parsed.is_unspecified() {
        let text = format!("may not be unspecified ({parsed})");
        causes.invalid(path, address, text);
    }
    if loopback {
        let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        causes.invalid(path, address, why);
    }
    if link_local {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        causes.invalid(path, address, why);
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        causes.invalid(path, address, why);
    }
}
