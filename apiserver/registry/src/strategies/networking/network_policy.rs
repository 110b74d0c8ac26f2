//! NetworkPolicy: which pods may talk to which.

use std::net::IpAddr;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    addresses,
    cause::{Causes, Path},
    names,
    strategies::{
        apps::workload::{selector_cell, validate_selector},
        core::service_rules::{self, PROTOCOLS},
    },
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const TYPES: [&str; 2] = ["Ingress", "Egress"];

#[derive(Debug)]
pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        if tree::list(spec, "policyTypes").is_empty() {
            let both = !tree::list(spec, "egress").is_empty();
            let types: Vec<Value> =
                TYPES[..if both { 2 } else { 1 }].iter().map(|one| Value::from(*one)).collect();
            tree::set(spec, "policyTypes", types);
        }
    }

    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules(&object["spec"], &[], causes);
    }

    /// Ranges that were there before are let through: older versions took more.
    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        rules(&new["spec"], &ranges(&old["spec"]), causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let pods = selector_cell(&object["spec"]["podSelector"]);
        vec![name(object), pods.into(), age(object, now)]
    }
}

fn rules(spec: &Value, known: &[&str], causes: &mut Causes) {
    let path = Path::Root.child("spec");
    validate_selector(&spec["podSelector"], path.child("podSelector"), causes);
    for (way, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = path.child(way);
        for (at, rule) in tree::list(spec, way).iter().enumerate() {
            let item = list.index(at);
            let ports = item.child("ports");
            for (at, port) in tree::list(rule, "ports").iter().enumerate() {
                port_rules(port, ports.index(at), causes);
            }
            let all = item.child(peers);
            for (at, peer) in tree::list(rule, peers).iter().enumerate() {
                peer_rules(peer, known, all.index(at), causes);
            }
        }
    }
    let (types, field) = (tree::list(spec, "policyTypes"), path.child("policyTypes"));
    if types.len() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        return causes.invalid(field, &spec["policyTypes"], why);
    }
    for (at, one) in types.iter().enumerate() {
        if !TYPES.iter().any(|known| one == known) {
            causes.not_supported(field.index(at), one, &TYPES);
        }
    }
}

fn port_rules(port: &Value, path: Path<'_>, causes: &mut Causes) {
    if port["protocol"].as_str().is_some_and(|protocol| !PROTOCOLS.contains(&protocol)) {
        let field = path.child("protocol");
        causes.not_supported(field, &port["protocol"], &["TCP", "UDP", "SCTP"]);
    }
    let (end, field) = (&port["endPort"], path.child("endPort"));
    match (&port["port"], end.as_i64()) {
        (Value::Null, Some(_)) => {
            causes.invalid(field, end, "may not be specified when `port` is not specified");
        }
        (Value::Null, None) => {}
        (Value::String(name), last) => {
            if last.is_some() {
                causes.invalid(field, end, "may not be specified when `port` is non-numeric");
            }
            causes.complaints(path.child("port"), name, names::port_name(name));
        }
        (number, last) => {
            service_rules::port_number(number, path.child("port"), causes);
            if let Some(last) = last {
                if last < number.as_i64().unwrap_or(0) {
                    causes.invalid(field, end, "must be greater than or equal to `port`");
                }
                service_rules::port_number(end, field, causes);
            }
        }
    }
}

fn peer_rules(peer: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let selectors = ["podSelector", "namespaceSelector"];
    for key in selectors {
        validate_selector(&peer[key], path.child(key), causes);
    }
    let block = tree::has(peer, "ipBlock");
    if block {
        block_rules(&peer["ipBlock"], known, path.child("ipBlock"), causes);
    }
    match (selectors.iter().any(|key| tree::has(peer, key)), block) {
        (false, false) => causes.required(path, "must specify a peer"),
        (true, true) => causes.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn block_rules(block: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let text = tree::text(block, "cidr");
    if text.is_empty() {
        return causes.required(path.child("cidr"), "");
    }
    range_rules(&block["cidr"], known, path.child("cidr"), causes);
    let Some(whole) = range(text) else { return };
    let list = path.child("except");
    for (at, except) in tree::list(block, "except").iter().enumerate() {
        range_rules(except, known, list.index(at), causes);
        let part = range(except.as_str().unwrap_or_default());
        if part.is_some_and(|part| !is_part(part, whole)) {
            causes.invalid(list.index(at), except, "must be a strict subset of `cidr`");
        }
    }
}

fn range_rules(text: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let shown = text.as_str().unwrap_or_default();
    if !known.contains(&shown) {
        addresses::validate_range(text, path, causes);
    }
}

/// All ranges that a policy names.
fn ranges(spec: &Value) -> Vec<&str> {
    let mut all = Vec::new();
    for (way, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in tree::list(spec, way).iter().flat_map(|rule| tree::list(rule, peers)) {
            all.push(tree::text(&peer["ipBlock"], "cidr"));
            let except = tree::list(&peer["ipBlock"], "except").iter();
            all.extend(except.filter_map(Value::as_str));
        }
    }
    all.retain(|range| !range.is_empty());
    all
}

/// The address and the bits of a range.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

/// Inside, and smaller.
fn is_part((part, bits): (IpAddr, u32), (whole, all): (IpAddr, u32)) -> bool {
    let network = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()).checked_shr(32 - all),
        IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - all),
    };
    let head = |address| network(address).unwrap_or(0);
    part.is_ipv4() == whole.is_ipv4() && bits > all && head(part) == head(whole)
}
