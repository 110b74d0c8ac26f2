//! What a Service may be, with upstream's words for what is wrong.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
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
    let headless = tree::text(spec, "clusterIP") == "None";
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
        addresses(spec, path, causes);
    }
    let external = path.child("externalIPs");
    for (at, address) in tree::list(spec, "externalIPs").iter().enumerate() {
        is_address(address, external.index(at), causes);
        is_endpoint(address, external.index(at), causes);
    }
    if !TYPES.contains(&kind) {
        causes.not_supported(path.child("type"), &spec["type"], &TYPES);
    }
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

/// Once given, an address stays (but for changes from and to ExternalName).
pub fn validate_addresses_kept(new: &Value, old: &Value, causes: &mut Causes) {
    let external_name = |spec: &Value| tree::text(spec, "type") == "ExternalName";
    if external_name(new) || external_name(old) {
        return;
    }
    let (before, after) = (tree::list(old, "clusterIPs"), tree::list(new, "clusterIPs"));
    let spec = Path::Root.child("spec");
    let path = spec.child("clusterIPs");
    let (Some(first), primary) = (before.first(), after.first()) else { return };
    match primary {
        None => causes.invalid(path.index(0), &json!([]), "primary clusterIP can not be unset"),
        Some(primary) if primary != first => {
            causes.invalid(path.index(0), &new["clusterIPs"], "may not change once set");
        }
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
    let protocol = tree::text(port, "protocol");
    if !PROTOCOLS.contains(&protocol) {
        causes.not_supported(path.child("protocol"), &port["protocol"], &PROTOCOLS);
    }
    port_number_or_name(&port["targetPort"], path.child("targetPort"), causes);
    let app = tree::text(port, "appProtocol");
    if !app.is_empty() {
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
    match tree::text(spec, "sessionAffinity") {
        "None" => {}
        "ClientIP" => {
            let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
            if !seconds.as_i64().is_some_and(|seconds| (1..=86_400).contains(&seconds)) {
                let config = path.child("sessionAffinityConfig");
                let why = "must be greater than 0 and less than 86400";
                causes.invalid(config.child("clientIP").child("timeoutSeconds"), seconds, why);
            }
        }
        _ => {
            let field = path.child("sessionAffinity");
            causes.not_supported(field, &spec["sessionAffinity"], &["ClientIP", "None"]);
        }
    }
}

fn addresses(spec: &Value, path: Path<'_>, causes: &mut Causes) {
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
        is_address(address, field.index(at), causes);
    }
    if all.len() > 2 {
        causes.invalid(field, &spec["clusterIPs"], "may only hold up to 2 values");
    }
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
        if !is_cidr(range.as_str().unwrap_or_default().trim()) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            causes.invalid(ranges.index(at), range, why);
        }
    }
    for key in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        if !tree::text(spec, key).is_empty()
            && !["Cluster", "Local"].contains(&tree::text(spec, key))
        {
            causes.not_supported(path.child(key), &spec[key], &["Cluster", "Local"]);
        }
    }
    let reachable =
        kind == "NodePort" || kind == "LoadBalancer" || !tree::is_empty(&spec["externalIPs"]);
    if !tree::text(spec, "externalTrafficPolicy").is_empty() && !reachable {
        let why = "may only be set for externally-accessible services";
        causes.invalid(path.child("externalTrafficPolicy"), &spec["externalTrafficPolicy"], why);
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
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

/// An IP address in its usual form.
pub fn is_address(address: &Value, path: Path<'_>, causes: &mut Causes) {
    let text = address.as_str().unwrap_or_default();
    if text.parse::<IpAddr>().is_err() {
        causes.invalid(
            path,
            address,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
}
