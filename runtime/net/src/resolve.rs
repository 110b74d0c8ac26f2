//! What a name means to a pod: first what it knows itself, as `/etc/hosts` would say, then names of
//! services, answered without DNS traffic, then the host's resolver. Domains to search are tried as
//! a resolver with the pod's `resolv.conf` would.

use std::net::{IpAddr, Ipv4Addr};

use windlass_runtime_api::PodNames;

use crate::table::Table;

/// One way to an address; the next is tried where it leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Found(Vec<IpAddr>),
    /// Not a name of this cluster: the host's resolver may know it.
    Ask(String),
}

/// What a name is in the cluster.
enum InCluster {
    Address(Ipv4Addr),
    /// It is a name of this cluster, and nothing has it.
    NoSuchName,
    External,
}

/// The ways to a name for a pod of `namespace`; empty: there is no such host. Services are
/// `name`, `name.namespace`, `name.namespace.svc` and `name.namespace.svc.cluster.local`.
pub fn resolve(table: &Table, names: &PodNames, namespace: &str, host: &str) -> Vec<Step> {
    let is_absolute = host.ends_with('.');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let own = names.hosts.iter().filter(|(known, _)| *known == host);
    let own: Vec<IpAddr> = own.map(|(_, address)| *address).collect();
    if !own.is_empty() {
        return vec![Step::Found(own)];
    }
    if host.is_empty() {
        return Vec::new();
    }
    let mut candidates = vec![host.clone()];
    if !is_absolute {
        let searched = names
            .searches
            .iter()
            .map(|domain| format!("{host}.{}", domain.trim_end_matches('.').to_ascii_lowercase()));
        match host.matches('.').count() >= names.ndots {
            true => candidates.extend(searched),
            // The cluster's own domains come before the pod's, and are tried with the name.
            false if names.cluster && is_service(table, namespace, &host) => {}
            false => candidates.splice(0..0, searched).for_each(drop),
        }
    }
    let mut steps = Vec::new();
    for candidate in candidates {
        let found = match names.cluster {
            true => in_cluster(table, namespace, &candidate),
            false => InCluster::External,
        };
        match found {
            InCluster::Address(address) => {
                steps.push(Step::Found(vec![address.into()]));
                break;
            }
            InCluster::NoSuchName => {}
            InCluster::External => steps.push(Step::Ask(candidate)),
        }
    }
    steps
}

fn is_service(table: &Table, namespace: &str, host: &str) -> bool {
    matches!(in_cluster(table, namespace, host), InCluster::Address(_))
}

fn in_cluster(table: &Table, namespace: &str, host: &str) -> InCluster {
    let (local, of_cluster) = match host.strip_suffix(".svc.cluster.local") {
        Some(rest) => (rest, true),
        None if host.ends_with(".cluster.local") => return InCluster::NoSuchName,
        None => match host.strip_suffix(".svc") {
            Some(rest) => (rest, true),
            None => (host, false),
        },
    };
    let mut parts = local.split('.');
    let found = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) if !of_cluster => service(table, namespace, name),
        (Some(name), Some(namespace), None) => service(table, namespace, name),
        _ => None,
    };
    match found {
        Some(address) => InCluster::Address(address),
        None if of_cluster => InCluster::NoSuchName,
        None => InCluster::External,
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

    fn check(names: &PodNames, cases: &[(&str, &str)]) {
        let services = json!([
            service("default", "web", "127.96.0.5", json!([])),
            service("shop", "cart", "127.96.0.6", json!([])),
        ]);
        let table = table(services, json!([]));
        for (host, expected) in cases {
            let steps = resolve(&table, names, "default", host);
            let shown = steps.iter().map(|step| match step {
                Step::Found(addresses) => {
                    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join("+")
                }
                Step::Ask(name) => format!("ask {name}"),
            });
            assert_eq!(shown.collect::<Vec<_>>().join(", "), *expected, "{host}");
        }
    }

    #[test]
    fn names_as_a_pod_writes_them() {
        check(
            &PodNames::default(),
            &[
                ("web", "127.96.0.5"),
                ("WEB.", "127.96.0.5"),
                ("web.default", "127.96.0.5"),
                ("web.default.svc", "127.96.0.5"),
                ("cart", "ask cart"),
                ("cart.shop", "127.96.0.6"),
                ("cart.shop.svc.cluster.local", "127.96.0.6"),
                ("cart.shop.svc.cluster.local.", "127.96.0.6"),
                ("cart.svc.cluster.local", ""),
                ("cart.default.svc", ""),
                ("a.cart.shop.svc.cluster.local", ""),
                ("cluster.local", "ask cluster.local"),
                ("x.cluster.local", ""),
                ("example.com", "ask example.com"),
                ("www.example.com", "ask www.example.com"),
                ("", ""),
            ],
        );
    }

    #[test]
    fn what_a_pod_knows_itself_and_where_it_searches() {
        let address = |text: &str| text.parse::<IpAddr>().expect("address");
        let hosts = [("db", "10.0.0.1"), ("db", "10.0.0.2"), ("web", "10.0.0.3")];
        let names = PodNames {
            hosts: hosts.map(|(name, ip)| (name.to_owned(), address(ip))).into(),
            searches: vec!["shop.svc.cluster.local".into(), "corp.example.".into()],
            ..PodNames::default()
        };
        check(
            &names,
            &[
                ("DB", "10.0.0.1+10.0.0.2"),
                ("web", "10.0.0.3"),
                ("web.default", "127.96.0.5"),
                ("cart", "127.96.0.6"),
                ("mail", "ask mail.corp.example, ask mail"),
                ("mail.", "ask mail"),
            ],
        );
        check(
            &PodNames { ndots: 1, ..names.clone() },
            &[
                ("mail", "ask mail.corp.example, ask mail"),
                ("mail.lan", "ask mail.lan, ask mail.lan.corp.example"),
            ],
        );
        let outside = PodNames { cluster: false, ..PodNames::default() };
        check(&outside, &[("web", "ask web"), ("web.default.svc", "ask web.default.svc")]);
    }
}
