//! Endpoints: all addresses behind a Service in one object, before there were EndpointSlices.

use std::net::IpAddr;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::service_rules::{PROTOCOLS, is_endpoint, port_number};
use crate::{
    addresses,
    cause::{Causes, Path},
    names,
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

/// Addresses that a cell shows.
const SHOWN: usize = 3;

#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let path = Path::Root.child("subsets");
        for (at, subset) in tree::list(object, "subsets").iter().enumerate() {
            subset_rules(subset, path.index(at), causes);
        }
    }

    /// What has been there before is let through: older versions took more.
    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if !tree::same(&new["subsets"], &old["subsets"]) {
            self.validate(new, causes);
        }
    }

    fn warnings(&self, _sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        let path = Path::Root.child("subsets");
        for (at, subset) in tree::list(new, "subsets").iter().enumerate() {
            let item = path.index(at);
            for key in ["addresses", "notReadyAddresses"] {
                let list = item.child(key);
                for (at, address) in tree::list(subset, key).iter().enumerate() {
                    let field = list.index(at);
                    all.extend(addresses::warning(tree::text(address, "ip"), field.child("ip")));
                }
            }
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), shown(tree::list(object, "subsets")).into(), age(object, now)]
    }
}

fn subset_rules(subset: &Value, path: Path<'_>, causes: &mut Causes) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| tree::list(subset, list).is_empty()) {
        causes.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        let here = path.child(list);
        for (at, address) in tree::list(subset, list).iter().enumerate() {
            address_rules(address, here.index(at), causes);
        }
    }
    let (ports, here) = (tree::list(subset, "ports"), path.child("ports"));
    for (at, port) in ports.iter().enumerate() {
        port_rules(port, ports.len() > 1, here.index(at), causes);
    }
}

fn address_rules(address: &Value, path: Path<'_>, causes: &mut Causes) {
    addresses::validate(&address["ip"], path.child("ip"), causes);
    let hostname = tree::text(address, "hostname");
    if !hostname.is_empty() {
        causes.complaints(path.child("hostname"), hostname, names::label(hostname));
    }
    if let Some(node) = address["nodeName"].as_str() {
        causes.complaints(path.child("nodeName"), node, names::subdomain(node));
    }
    let ip = tree::text(address, "ip");
    if addresses::sloppy(ip).is_none() {
        causes.invalid_text(path.child("ip"), ip, "must be a valid IP address");
    }
    is_endpoint(&address["ip"], path.child("ip"), causes);
}

fn port_rules(port: &Value, needs_name: bool, path: Path<'_>, causes: &mut Causes) {
    match tree::text(port, "name") {
        "" if needs_name => causes.required(path.child("name"), ""),
        "" => {}
        name => causes.complaints(path.child("name"), name, names::label(name)),
    }
    port_number(&port["port"], path.child("port"), causes);
    if !PROTOCOLS.contains(&tree::text(port, "protocol")) {
        causes.not_supported(path.child("protocol"), &port["protocol"], &PROTOCOLS);
    }
    if let Some(protocol) = port["appProtocol"].as_str() {
        causes.complaints(path.child("appProtocol"), protocol, names::qualified(protocol));
    }
}

/// The first few addresses, with their ports, and how many more there are.
fn shown(subsets: &[Value]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = tree::list(subset, "addresses").iter().map(|one| tree::text(one, "ip"));
        let ports = tree::list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let port = tree::number(port, "port").unwrap_or(0);
            all.extend(addresses.clone().map(|ip| match ip.parse::<IpAddr>() {
                Ok(IpAddr::V6(_)) => format!("[{ip}]:{port}"),
                _ => format!("{ip}:{port}"),
            }));
        }
    }
    match all.len() {
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => all.join(","),
    }
}
