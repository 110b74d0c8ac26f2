//! Ingress: which requests from outside go to which service.

use std::net::IpAddr;

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    addresses,
    cause::{Causes, Path},
    names,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];
/// Hosts that a cell shows.
const SHOWN: usize = 3;

#[derive(Debug)]
pub struct Ingress;

impl Strategy for Ingress {
    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        tree::set(object, "status", json!({"loadBalancer": {}}));
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        spec_rules(&object["spec"], causes);
        let said = object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        let class = object["spec"]["ingressClassName"].as_str();
        if let (Some(said), Some(class)) = (said, class)
            && said != class
        {
            let annotations = Path::Root.child("annotations");
            let why = "must match `ingressClassName` when both are specified";
            causes.invalid_text(annotations.child(CLASS_ANNOTATION), said, why);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub == "status" {
            status_rules(&new["status"]["loadBalancer"], causes);
        } else {
            spec_rules(&new["spec"], causes);
        }
    }

    fn warnings(&self, sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let class = "kubernetes.io/ingress.class";
        let annotated = tree::has(&new["metadata"]["annotations"], class);
        if sub.is_empty()
            && old.is_none()
            && annotated
            && !tree::has(&new["spec"], "ingressClassName")
        {
            return vec![format!(
                "annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let ports = if tree::list(spec, "tls").is_empty() { "80" } else { "80, 443" };
        vec![
            name(object),
            spec["ingressClassName"].as_str().unwrap_or("<none>").into(),
            hosts(tree::list(spec, "rules")).into(),
            addresses(&object["status"]["loadBalancer"]).into(),
            ports.into(),
            age(object, now),
        ]
    }
}

fn spec_rules(spec: &Value, causes: &mut Causes) {
    let path = Path::Root.child("spec");
    let rules = tree::list(spec, "rules");
    let backend = &spec["defaultBackend"];
    if rules.is_empty() && backend.is_null() {
        let why = "either `defaultBackend` or `rules` must be specified";
        causes.invalid_or_null(path, &spec["rules"], why);
    }
    if !backend.is_null() {
        backend_rules(backend, path.child("defaultBackend"), causes);
    }
    let list = path.child("rules");
    for (at, rule) in rules.iter().enumerate() {
        rule_rules(rule, list.index(at), causes);
    }
    let list = path.child("tls");
    for (at, tls) in tree::list(spec, "tls").iter().enumerate() {
        let item = list.index(at);
        let hosts = item.child("hosts");
        for (at, host) in tree::list(tls, "hosts").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            causes.complaints(hosts.index(at), host, host_complaints(host));
        }
        let secret = tree::text(tls, "secretName");
        if !secret.is_empty() {
            causes.complaints(item.child("secretName"), secret, names::subdomain(secret));
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        causes.complaints(path.child("ingressClassName"), class, names::subdomain(class));
    }
}

fn host_complaints(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard(host) } else { names::subdomain(host) }
}

fn rule_rules(rule: &Value, path: Path<'_>, causes: &mut Causes) {
    let host = tree::text(rule, "host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            let why = "must be a DNS name, not an IP address";
            causes.invalid_text(path.child("host"), host, why);
        }
        causes.complaints(path.child("host"), host, host_complaints(host));
    }
    if tree::has(rule, "http") {
        let http = path.child("http");
        let (all, list) = (tree::list(&rule["http"], "paths"), http.child("paths"));
        if all.is_empty() {
            causes.required(list, "");
        }
        for (at, one) in all.iter().enumerate() {
            path_rules(one, list.index(at), causes);
        }
    }
}

fn path_rules(one: &Value, path: Path<'_>, causes: &mut Causes) {
    let (text, field) = (tree::text(one, "path"), path.child("path"));
    let absolute = |causes: &mut Causes| {
        if !text.starts_with('/') {
            causes.invalid_text(field, text, "must be an absolute path");
        }
    };
    match one["pathType"].as_str() {
        None => return causes.required(path.child("pathType"), "pathType must be specified"),
        Some("Exact" | "Prefix") => {
            absolute(causes);
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                causes.invalid_text(field, text, format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS.iter().filter(|bad| text.ends_with(**bad)) {
                causes.invalid_text(field, text, format!("cannot end with '{bad}'"));
            }
        }
        Some("ImplementationSpecific") if text.is_empty() => {}
        Some("ImplementationSpecific") => absolute(causes),
        Some(_) => causes.not_supported(path.child("pathType"), &one["pathType"], &PATH_TYPES),
    }
    backend_rules(&one["backend"], path.child("backend"), causes);
}

fn backend_rules(backend: &Value, path: Path<'_>, causes: &mut Causes) {
    match (tree::has(backend, "resource"), tree::has(backend, "service")) {
        (true, true) => {
            causes.invalid_text(path, "", "cannot set both resource and service backends");
        }
        (false, false) => causes.invalid_text(path, "", "resource or service backend is required"),
        (true, false) => reference(&backend["resource"], path.child("resource"), causes),
        (false, true) => service_backend(&backend["service"], path, causes),
    }
}

fn service_backend(service: &Value, path: Path<'_>, causes: &mut Causes) {
    let here = path.child("service");
    match tree::text(service, "name") {
        "" => causes.required(here.child("name"), ""),
        name => causes.complaints(here.child("name"), name, names::label(name)),
    }
    let (port, field) = (&service["port"], here.child("port"));
    let number = tree::number(port, "number").unwrap_or(0);
    match (tree::text(port, "name"), number) {
        ("", 0) => causes.required(path, "port name or number is required"),
        ("", number) => {
            for why in names::port_number(number) {
                causes.invalid(field.child("number"), &port["number"], why);
            }
        }
        (name, 0) => causes.complaints(field.child("name"), name, names::port_name(name)),
        _ => causes.invalid_text(path, "", "cannot set both port name & port number"),
    }
}

/// Rules of a reference to an object of any kind.
pub fn reference(to: &Value, path: Path<'_>, causes: &mut Causes) {
    if let Some(group) = to["apiGroup"].as_str() {
        causes.complaints(path.child("apiGroup"), group, names::subdomain(group));
    }
    for key in ["kind", "name"] {
        match tree::text(to, key) {
            "" => causes.required(path.child(key), ""),
            text => causes.complaints(path.child(key), text, names::path_segment(text)),
        }
    }
}

fn status_rules(balancer: &Value, causes: &mut Causes) {
    let status = Path::Root.child("status");
    let path = status.child("loadBalancer");
    let list = path.child("ingress");
    for (at, point) in tree::list(balancer, "ingress").iter().enumerate() {
        let item = list.index(at);
        if !tree::text(point, "ip").is_empty() {
            addresses::validate(&point["ip"], item.child("ip"), causes);
        }
        let (host, field) = (tree::text(point, "hostname"), item.child("hostname"));
        if !host.is_empty() {
            causes.complaints(field, host, names::subdomain(host));
            if host.parse::<IpAddr>().is_ok() {
                causes.invalid_text(field, host, "must be a DNS name, not an IP address");
            }
        }
    }
}

/// The hosts of the first few rules.
fn hosts(rules: &[Value]) -> String {
    let named = rules.iter().map(|rule| tree::text(rule, "host")).filter(|host| !host.is_empty());
    let shown: Vec<&str> = named.clone().take(SHOWN).collect();
    // As upstream: rules count as more once a full list has been seen before the last of them.
    let full_at = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| !tree::text(rule, "host").is_empty())
        .nth(SHOWN - 1)
        .map(|(at, _)| at);
    let more = full_at.is_some_and(|at| at + 1 < rules.len());
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN),
        (false, false) => shown.join(","),
    }
}

fn addresses(balancer: &Value) -> String {
    let mut all: Vec<&str> = tree::list(balancer, "ingress")
        .iter()
        .map(|point| match tree::text(point, "ip") {
            "" => tree::text(point, "hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}
