//! Names of services, answered without DNS traffic.

use std::net::Ipv4Addr;

use crate::table::Table;

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// It is a name of this cluster, and nothing has it.
    NoSuchName,
    /// Not a name of this cluster: the host's resolver knows.
    External,
}

/// Answers `name`, `name.namespace`, `name.namespace.svc` and `name.namespace.svc.cluster.local`
/// for a pod of `namespace`, as the search list of a pod's resolv.conf would.
pub fn resolve(table: &Table, namespace: &str, host: &str) -> Answer {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let (local, of_cluster) = match host.strip_suffix(".svc.cluster.local") {
        Some(rest) => (rest, true),
        None if host.ends_with(".cluster.local") => return Answer::NoSuchName,
        None => match host.strip_suffix(".svc") {
            Some(rest) => (rest, true),
            None => (host.as_str(), false),
        },
    };
    let mut parts = local.split('.');
    let found = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) if !of_cluster => service(table, namespace, name),
        (Some(name), Some(namespace), None) => service(table, namespace, name),
        _ => None,
    };
    match found {
        Some(address) => Answer::Addresses(vec![address]),
        None if of_cluster => Answer::NoSuchName,
        None => Answer::External,
    }
}

fn service(table: &Table, namespace: &str, name: &str) -> Option<Ipv4Addr> {
    table.names.get(namespace)?.get(name).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::tests::{service, table};

    #[test]
    fn names_as_a_pod_writes_them() {
        let services = json!([
            service("default", "web", "127.96.0.5", json!([])),
            service("shop", "cart", "127.96.0.6", json!([])),
        ]);
        let table = table(services, json!([]));
        for (host, expected) in [
            ("web", "127.96.0.5"),
            ("WEB.", "127.96.0.5"),
            ("web.default", "127.96.0.5"),
            ("web.default.svc", "127.96.0.5"),
            ("cart", "external"),
            ("cart.shop", "127.96.0.6"),
            ("cart.shop.svc.cluster.local", "127.96.0.6"),
            ("cart.shop.svc.cluster.local.", "127.96.0.6"),
            ("cart.svc.cluster.local", "none"),
            ("cart.default.svc", "none"),
            ("a.cart.shop.svc.cluster.local", "none"),
            ("cluster.local", "external"),
            ("x.cluster.local", "none"),
            ("example.com", "external"),
            ("www.example.com", "external"),
            ("", "external"),
        ] {
            let answer = match resolve(&table, "default", host) {
                Answer::Addresses(addresses) => addresses[0].to_string(),
                Answer::NoSuchName => "none".to_owned(),
                Answer::External => "external".to_owned(),
            };
            assert_eq!(answer, expected, "{host}");
        }
    }
}
