//! EndpointSlice: a part of the addresses behind a Service.

use std::net::IpAddr;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    addresses,
    cause::{Causes, Path},
    names,
    strategies::core::service_rules::{PROTOCOLS, is_endpoint},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MAX_ADDRESSES: usize = 100;
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
/// Addresses or ports that a cell shows.
const SHOWN: usize = 3;

#[derive(Debug)]
pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        drop_topology(object);
    }

    fn prepare_for_update(&self, _sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        // What is dropped counts as a change.
        let differs = drop_topology(new);
        if differs || !tree::same(&new["metadata"]["labels"], &old["metadata"]["labels"]) {
            let generation = tree::number(&old["metadata"], "generation").unwrap_or(0);
            tree::set(&mut new["metadata"], "generation", generation + 1);
        }
    }

    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let kind = tree::text(object, "addressType");
        let path = Path::Root.child("addressType");
        if kind.is_empty() {
            causes.required(path, "");
        } else if !ADDRESS_TYPES.contains(&kind) {
            causes.not_supported(path, &object["addressType"], &ADDRESS_TYPES);
        }
        ports(object, causes);
        endpoints(object, kind, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        if !tree::same(&new["addressType"], &old["addressType"]) {
            causes.invalid_null(Path::Root.child("addressType"), "field is immutable");
        }
    }

    fn warnings(&self, _sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        if old.is_none() && tree::text(new, "addressType") == "FQDN" {
            all.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        let path = Path::Root.child("endpoints");
        for (at, endpoint) in tree::list(new, "endpoints").iter().enumerate() {
            let item = path.index(at);
            let list = item.child("addresses");
            for (at, address) in tree::list(endpoint, "addresses").iter().enumerate() {
                let address = address.as_str().unwrap_or_default();
                all.extend(addresses::warning(address, list.index(at)));
            }
        }
        all
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let ports =
            tree::list(object, "ports").iter().map(|port| match tree::number(port, "port") {
                Some(number) => number.to_string(),
                None => port["name"].as_str().unwrap_or("*").to_owned(),
            });
        let addresses = tree::list(object, "endpoints").iter().flat_map(|endpoint| {
            tree::list(endpoint, "addresses").iter().filter_map(Value::as_str).map(str::to_owned)
        });
        vec![
            name(object),
            object["addressType"].clone(),
            Value::from(some_of(ports.collect())),
            Value::from(some_of(addresses.collect())),
            age(object, now),
        ]
    }
}

/// Drops a field of the version before this one, which no version writes any more. True where there
/// was one.
fn drop_topology(object: &mut Value) -> bool {
    let endpoints = tree::list_mut(object, "endpoints").iter_mut();
    let dropped = endpoints.filter_map(|endpoint| tree::remove(endpoint, "deprecatedTopology"));
    dropped.filter(|topology| !tree::is_empty(topology)).count() > 0
}

fn ports(object: &Value, causes: &mut Causes) {
    let path = Path::Root.child("ports");
    let ports = tree::list(object, "ports");
    if ports.len() > MAX_PORTS {
        return causes.too_many(path, ports.len(), MAX_PORTS);
    }
    for (at, port) in ports.iter().enumerate() {
        let item = path.index(at);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            causes.complaints(item.child("name"), name, names::label(name));
        }
        if ports[..at].iter().any(|other| tree::text(other, "name") == name) {
            causes.duplicate(item.child("name"), &Value::from(name));
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            causes.complaints(item.child("appProtocol"), protocol, names::qualified(protocol));
        }
        let protocol = tree::text(port, "protocol");
        if !PROTOCOLS.contains(&protocol) {
            causes.not_supported(item.child("protocol"), &port["protocol"], &PROTOCOLS);
        }
    }
}

fn endpoints(object: &Value, kind: &str, causes: &mut Causes) {
    let path = Path::Root.child("endpoints");
    let endpoints = tree::list(object, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        return causes.too_many(path, endpoints.len(), MAX_ENDPOINTS);
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let item = path.index(at);
        let addresses = tree::list(endpoint, "addresses");
        let field = item.child("addresses");
        if addresses.is_empty() {
            causes.required(field, "");
        } else if addresses.len() > MAX_ADDRESSES {
            causes.too_many(field, addresses.len(), MAX_ADDRESSES);
        }
        for (at, address) in addresses.iter().enumerate() {
            address_rules(address, kind, field, at, causes);
        }
        if let Some(node) = endpoint["nodeName"].as_str() {
            causes.complaints(item.child("nodeName"), node, names::subdomain(node));
        }
        hints(&endpoint["hints"], item.child("hints"), causes);
        if let Some(hostname) = endpoint["hostname"].as_str() {
            causes.complaints(item.child("hostname"), hostname, names::label(hostname));
        }
    }
}

/// Zones and nodes that an endpoint is meant for.
fn hints(hints: &Value, path: Path<'_>, causes: &mut Causes) {
    type Rule = fn(&str) -> Vec<String>;
    for (key, rule) in
        [("forZones", names::label_value as Rule), ("forNodes", names::subdomain as Rule)]
    {
        let (all, places) = (path.child(key), tree::list(hints, key));
        for (at, place) in places.iter().enumerate() {
            let (name, item) = (tree::text(place, "name"), all.index(at));
            if places[..at].iter().any(|other| tree::text(other, "name") == name) {
                causes.duplicate(item.child("name"), &name.into());
            }
            causes.complaints(item.child("name"), name, rule(name));
        }
    }
}

/// Rules of an address of the slice's type.
fn address_rules(address: &Value, kind: &str, list: Path<'_>, at: usize, causes: &mut Causes) {
    let text = address.as_str().unwrap_or_default();
    match (kind, text.parse::<IpAddr>()) {
        ("IPv4" | "IPv6", Err(_)) => addresses::validate(address, list.index(at), causes),
        ("IPv4" | "IPv6", Ok(parsed)) => {
            if parsed.is_ipv4() != (kind == "IPv4") {
                let which = if kind == "IPv4" { "an IPv4" } else { "an IPv6" };
                causes.invalid(list, address, format!("must be {which} address"));
            }
            is_endpoint(address, list.index(at), causes);
        }
        ("FQDN", _) => causes.complaints(list.index(at), text, names::subdomain(text)),
        _ => {}
    }
}

/// The first few of a list, and how many more there are.
fn some_of(all: Vec<String>) -> String {
    match all.len() {
        0 => "<unset>".to_owned(),
        count if count > SHOWN => {
            format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN)
        }
        _ => all.join(","),
    }
}
