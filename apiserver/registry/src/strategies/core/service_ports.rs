//! Node ports of Services: given out by the cluster or asked for, and claimed in the transaction
//! that stores the Service, whatever the protocol. The rules and words are upstream's
//! (pkg/registry/core/service/storage/alloc.go).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::service_update::{gets_node_ports, needs_health_port};
use crate::{
    cause::{Causes, Path},
    strategy::{Allocator, NODE_PORTS},
    tree,
};

const CLAIM: &str = "nodeport/";
const HEALTH: &str = "healthCheckNodePort";

/// The ports that a Service holds, as claims. A number counts once.
pub fn claims(spec: &Value) -> Vec<String> {
    let mut numbers = node_ports(spec);
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(|number| format!("{CLAIM}{number}")).collect()
}

/// The port that a claim is for.
pub fn claimed(claim: &str) -> Option<i64> {
    claim.strip_prefix(CLAIM)?.parse().ok()
}

/// Says that another Service holds a port that this one asks for.
pub fn taken(spec: &Value, number: i64, causes: &mut Causes) {
    let ports = tree::list(spec, "ports");
    let at = ports.iter().position(|port| tree::number(port, "nodePort") == Some(number));
    let path = Path::Root.child("spec");
    let (ports, at) = (path.child("ports"), at.unwrap_or(0));
    let detail = "provided port is already allocated";
    causes.invalid(ports.index(at).child("nodePort"), &json!(number), detail);
}

/// Gives out what the Service needs and doesn't name. On create, ports of one number share a node
/// port: they differ in their protocol.
pub fn allocate(
    spec: &mut Value,
    old: Option<&Value>,
    allocator: &dyn Allocator,
    causes: &mut Causes,
) {
    if !["NodePort", "LoadBalancer"].contains(&tree::text(spec, "type")) {
        return;
    }
    let path = Path::Root.child("spec");
    let path = path.child("ports");
    let kept = old.map(|old| asked(old)).unwrap_or_default();
    let mut taken = node_ports(spec);
    for (at, number) in asked(spec) {
        let known = kept.iter().any(|(_, kept)| *kept == number);
        if !known && !NODE_PORTS.contains(&number) {
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            );
            return causes.invalid(path.index(at).child("nodePort"), &json!(number), detail);
        }
    }
    if gets_node_ports(spec) {
        give_out(spec, old.is_none(), &mut taken, allocator, causes);
    }
    let had = old.is_some_and(needs_health_port);
    let number = tree::number(spec, HEALTH).unwrap_or(0);
    if needs_health_port(spec) && !had && number == 0 {
        match allocator.next_node_port(&taken) {
            Ok(number) => tree::set(spec, HEALTH, number),
            Err(why) => {
                let spec = Path::Root.child("spec");
                let detail = format!("failed to allocate a HealthCheck NodePort: {why}");
                causes.invalid(spec.child(HEALTH), &json!(0), detail);
            }
        }
    }
}

fn give_out(
    spec: &mut Value,
    share: bool,
    taken: &mut Vec<i64>,
    allocator: &dyn Allocator,
    causes: &mut Causes,
) {
    let path = Path::Root.child("spec");
    let path = path.child("ports");
    let ports = tree::list(spec, "ports").iter();
    let mut by_port: BTreeMap<Option<i64>, i64> =
        ports.filter_map(|port| Some((tree::number(port, "port"), named(port)?))).collect();
    for (at, port) in tree::list_mut(spec, "ports").iter_mut().enumerate() {
        if named(port).is_some() {
            continue;
        }
        let number = tree::number(port, "port");
        let given = match by_port.get(&number).filter(|_| share) {
            Some(same) => Ok(*same),
            None => allocator.next_node_port(taken),
        };
        match given {
            Ok(node_port) => {
                taken.push(node_port);
                by_port.insert(number, node_port);
                tree::set(port, "nodePort", node_port);
            }
            Err(why) => {
                let detail = format!("failed to allocate a nodePort: {why}");
                causes.invalid(path.index(at).child("nodePort"), &json!(0), detail);
            }
        }
    }
}

/// One number may stand for several ports only where their protocols differ.
pub fn validate(spec: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let path = path.child("ports");
    let ports = tree::list(spec, "ports");
    for (at, port) in ports.iter().enumerate() {
        let same =
            |other: &Value| named(other) == named(port) && other["protocol"] == port["protocol"];
        if named(port).is_some() && ports[..at].iter().any(same) {
            causes.duplicate(path.index(at).child("nodePort"), &port["nodePort"]);
        }
    }
}

/// The node ports of a Service that has any.
fn node_ports(spec: &Value) -> Vec<i64> {
    match tree::text(spec, "type") {
        "NodePort" | "LoadBalancer" => {
            let health = tree::number(spec, HEALTH).filter(|_| needs_health_port(spec));
            let health = health.filter(|number| *number != 0);
            asked(spec).into_iter().map(|(_, number)| number).chain(health).collect()
        }
        _ => Vec::new(),
    }
}

/// Which ports name a node port, and which.
fn asked(spec: &Value) -> Vec<(usize, i64)> {
    let ports = tree::list(spec, "ports").iter().enumerate();
    ports.filter_map(|(at, port)| Some((at, named(port)?))).collect()
}

fn named(port: &Value) -> Option<i64> {
    tree::number(port, "nodePort").filter(|number| *number != 0)
}
