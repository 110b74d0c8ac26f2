//! What the cluster's DNS server says, as a pure function of the question, the services, and what
//! the pod itself is called. Guests never come here: their look-ups are answered inside the host
//! (see `resolve`); these are the names as a container's resolver writes them, with its domains
//! behind them. The zone is upstream's (dns/docs/specification.md of kubernetes/dns).

mod forward;
mod resolv;
mod server;

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::RecordType;
use windlass_runtime_api::PodNames;

pub(crate) use resolv::nameservers;
pub use resolv::{host_resolv_conf, resolv_conf};
pub(crate) use server::{Dns, HostDns, PORT, serve_tcp, serve_udp};

use crate::{blocks::Block, table::Table};

/// The domain of the cluster.
pub(crate) const DOMAIN: &str = "cluster.local";
/// Where upstream's DNS add-ons have their Service: the tenth service address.
const DNS_ADDRESS: u32 = 10;
const REVERSE: &str = ".in-addr.arpa";

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Addresses(Vec<IpAddr>),
    /// Of a question for an address.
    Name(String),
    /// The name exists, and has no such record.
    NoData,
    NoSuchName,
    /// It is no name of the cluster: the machine's resolvers may know it.
    Forward,
}

/// The address of the DNS server of a cluster with these service addresses. No Service gets it
/// unless it asks for it.
pub fn dns_address(services: Block) -> Ipv4Addr {
    services.nth(DNS_ADDRESS)
}

/// What a pod's container is told. `name` is absolute, in lower case, without a dot at its end;
/// `ranges` are the cluster's addresses.
pub fn answer(
    table: &Table,
    names: &PodNames,
    ranges: &[Block],
    name: &str,
    kind: RecordType,
) -> Answer {
    let own = names.hosts.iter().filter(|(known, _)| known == name);
    let own: Vec<IpAddr> = own.map(|(_, address)| *address).collect();
    if !own.is_empty() {
        return of_kind(&own, kind);
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return of_kind(&[Ipv4Addr::LOCALHOST.into()], kind);
    }
    if !names.cluster {
        return Answer::Forward;
    }
    if let Some(reversed) = name.strip_suffix(REVERSE) {
        return pointer(table, ranges, reversed, kind);
    }
    match name.strip_suffix(DOMAIN) {
        Some("") => Answer::NoData,
        Some(rest) => match rest.strip_suffix('.') {
            Some(rest) => in_cluster(table, rest, kind),
            // Another domain that ends the same.
            None => Answer::Forward,
        },
        None => Answer::Forward,
    }
}

/// A name inside the cluster's domain, without the domain.
fn in_cluster(table: &Table, name: &str, kind: RecordType) -> Answer {
    let mut labels = name.rsplit('.');
    let sort = labels.next().unwrap_or_default();
    let (namespace, name, more) = (labels.next(), labels.next(), labels.next());
    match (sort, namespace, name) {
        // Domains that exist, as far as anything is in them.
        ("svc", None, _) => Answer::NoData,
        ("svc", Some(namespace), None) if table.names.contains_key(namespace) => Answer::NoData,
        ("svc", Some(namespace), Some(name)) if more.is_none() => {
            match table.names.get(namespace).and_then(|of| of.get(name)) {
                Some(address) => of_kind(&[(*address).into()], kind),
                None => Answer::NoSuchName,
            }
        }
        // The address is in the name itself: 127-64-0-5.default.pod.
        ("pod", Some(_), Some(address)) if more.is_none() => {
            match address.replace('-', ".").parse::<Ipv4Addr>() {
                Ok(address) => of_kind(&[address.into()], kind),
                Err(_) => Answer::NoSuchName,
            }
        }
        _ => Answer::NoSuchName,
    }
}

/// Which service has an address; `reversed` is the address as such questions write it.
fn pointer(table: &Table, ranges: &[Block], reversed: &str, kind: RecordType) -> Answer {
    let labels: Vec<&str> = reversed.rsplit('.').collect();
    let Ok(address) = labels.join(".").parse::<Ipv4Addr>() else { return Answer::Forward };
    match table.by_address.get(&address) {
        Some((namespace, name)) if kind == RecordType::PTR => {
            Answer::Name(format!("{name}.{namespace}.svc.{DOMAIN}"))
        }
        Some(_) => Answer::NoData,
        None if ranges.iter().any(|range| range.contains(address)) => Answer::NoSuchName,
        None => Answer::Forward,
    }
}

fn of_kind(addresses: &[IpAddr], kind: RecordType) -> Answer {
    let fits = |address: &&IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let found: Vec<IpAddr> = addresses.iter().filter(fits).copied().collect();
    if found.is_empty() { Answer::NoData } else { Answer::Addresses(found) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::table::tests::{service, table};

    fn check(names: &PodNames, questions: &[(&str, RecordType)], expected: Expect) {
        let services = json!([
            service("default", "web", "127.96.0.5", json!([])),
            service("shop", "cart", "127.96.0.6", json!([])),
        ]);
        let table = table(services, json!([]));
        let ranges = ["127.64.0.0/18", "127.96.0.0/20"].map(|range| range.parse().expect(range));
        let mut said = String::new();
        for (name, kind) in questions {
            let answer = answer(&table, names, &ranges, name, *kind);
            writeln!(said, "{name} {kind}: {answer:?}").expect("a string");
        }
        expected.assert_eq(&said);
    }

    #[test]
    fn names_of_the_cluster() {
        use RecordType::{A, AAAA, MX, SRV, TXT};
        check(
            &PodNames::default(),
            &[
                ("web.default.svc.cluster.local", A),
                ("web.default.svc.cluster.local", AAAA),
                ("web.default.svc.cluster.local", TXT),
                ("cart.shop.svc.cluster.local", A),
                ("cart.default.svc.cluster.local", A),
                ("cart.default.svc.cluster.local", AAAA),
                ("_http._tcp.web.default.svc.cluster.local", SRV),
                ("x.web.default.svc.cluster.local", A),
                ("default.svc.cluster.local", A),
                ("nowhere.svc.cluster.local", A),
                ("svc.cluster.local", A),
                ("cluster.local", A),
                ("xcluster.local", A),
                ("example.com.cluster.local", A),
                ("127-64-0-9.default.pod.cluster.local", A),
                ("web.default.pod.cluster.local", A),
                ("web", A),
                ("web.default.svc", A),
                ("example.com", MX),
                ("localhost", A),
                ("localhost", AAAA),
            ],
            expect![[r#"
                web.default.svc.cluster.local A: Addresses([127.96.0.5])
                web.default.svc.cluster.local AAAA: NoData
                web.default.svc.cluster.local TXT: NoData
                cart.shop.svc.cluster.local A: Addresses([127.96.0.6])
                cart.default.svc.cluster.local A: NoSuchName
                cart.default.svc.cluster.local AAAA: NoSuchName
                _http._tcp.web.default.svc.cluster.local SRV: NoSuchName
                x.web.default.svc.cluster.local A: NoSuchName
                default.svc.cluster.local A: NoData
                nowhere.svc.cluster.local A: NoSuchName
                svc.cluster.local A: NoData
                cluster.local A: NoData
                xcluster.local A: Forward
                example.com.cluster.local A: NoSuchName
                127-64-0-9.default.pod.cluster.local A: Addresses([127.64.0.9])
                web.default.pod.cluster.local A: NoSuchName
                web A: Forward
                web.default.svc A: Forward
                example.com MX: Forward
                localhost A: Addresses([127.0.0.1])
                localhost AAAA: NoData
            "#]],
        );
    }

    #[test]
    fn names_of_addresses() {
        use RecordType::{A, PTR};
        check(
            &PodNames::default(),
            &[
                ("5.0.96.127.in-addr.arpa", PTR),
                ("5.0.96.127.in-addr.arpa", A),
                ("7.0.96.127.in-addr.arpa", PTR),
                ("1.0.64.127.in-addr.arpa", PTR),
                ("8.8.8.8.in-addr.arpa", PTR),
                ("96.127.in-addr.arpa", PTR),
            ],
            expect![[r#"
                5.0.96.127.in-addr.arpa PTR: Name("web.default.svc.cluster.local")
                5.0.96.127.in-addr.arpa A: NoData
                7.0.96.127.in-addr.arpa PTR: NoSuchName
                1.0.64.127.in-addr.arpa PTR: NoSuchName
                8.8.8.8.in-addr.arpa PTR: Forward
                96.127.in-addr.arpa PTR: Forward
            "#]],
        );
    }

    #[test]
    fn what_a_pod_is_called_and_pods_outside_the_clusters_dns() {
        use RecordType::{A, AAAA};
        let hosts = [("db", "10.0.0.1"), ("db", "fd00::1"), ("db", "10.0.0.2")];
        let address = |text: &str| text.parse().expect("address");
        let hosts = hosts.map(|(name, ip)| (name.to_owned(), address(ip))).into();
        let names = PodNames { hosts, ..PodNames::default() };
        check(
            &names,
            &[("db", A), ("db", AAAA), ("db.default", A)],
            expect![[r#"
            db A: Addresses([10.0.0.1, 10.0.0.2])
            db AAAA: Addresses([fd00::1])
            db.default A: Forward
        "#]],
        );
        let names = PodNames { cluster: false, ..names };
        let questions = [("db", A), ("web.default.svc.cluster.local", A)];
        check(
            &names,
            &questions,
            expect![[r#"
            db A: Addresses([10.0.0.1, 10.0.0.2])
            web.default.svc.cluster.local A: Forward
        "#]],
        );
    }

    #[test]
    fn the_server_has_upstreams_place() {
        let services = "127.96.16.0/20".parse().expect("a range");
        assert_eq!(dns_address(services), Ipv4Addr::new(127, 96, 16, 10));
    }
}
