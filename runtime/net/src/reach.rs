//! What a pod may reach, as one pure function of the address dialled: what no pod may, then what
//! its lists allow. It is asked after names are resolved, for each address, and the connection
//! goes to exactly the address that was asked about, so a name that answers differently a moment
//! later (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use windlass_runtime_api::{AllowedHosts, HostPattern, HostRule, Reach};

use crate::blocks::Block;

/// What is known when an address is judged.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    /// `http`, `https`, `tcp` or `udp`.
    pub scheme: &'a str,
    /// All names that stand for the address: the one that was called, and those of the service
    /// that has it. In lower case, without a dot at their end.
    pub names: &'a [String],
    pub address: SocketAddr,
}

/// Where the caller is.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The address of the calling pod.
    pub own: Option<IpAddr>,
    /// The cluster's pod and service ranges.
    pub cluster: &'a [Block],
    /// The addresses of all interfaces of the node.
    pub node: &'a [IpAddr],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// By which rule, in a sentence.
    Denied(String),
}

const LOOPBACK: &str = "loopback addresses are the node's own";
const UNSPECIFIED: &str = "it is no address of a host";
const LINK_LOCAL: &str = "link-local addresses are not for pods";
const METADATA: &str = "metadata services of clouds are not for pods";
const MULTICAST: &str = "multicast and broadcast are not for pods";
const NODE: &str = "the node's own addresses are not for pods";

/// Where clouds serve credentials of the machine outside the link-local ranges: AWS and Google over
/// IPv6, Alibaba, Oracle, Azure.
const METADATA_SERVICES: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// May a container with these lists, in these surroundings, reach what it dials?
pub fn judge(reach: &Reach, around: &Surroundings<'_>, dialled: &Dialled<'_>) -> Verdict {
    let ip = dialled.address.ip().to_canonical();
    let embedded = embedded(ip);
    if let Some(rule) = never(ip, around).or_else(|| never(embedded?, around)) {
        return Verdict::Denied(rule.to_owned());
    }
    if around.own == Some(ip) {
        return Verdict::Allowed;
    }
    match reach.lists.iter().find(|list| !names(list, dialled)) {
        Some(list) => Verdict::Denied(format!("{} doesn't name it", list.by)),
        None => Verdict::Allowed,
    }
}

/// May a container look a name up? Only a name that a list could allow: a look-up tells the name
/// to servers outside. Where a list names addresses, any name may turn out to have one of them.
pub fn judge_look_up(reach: &Reach, names: &[String]) -> Verdict {
    let could_allow = |list: &&AllowedHosts| {
        list.hosts.iter().any(|rule| match &rule.host {
            HostPattern::Addresses { .. } => true,
            host => names.iter().any(|name| host_matches(host, name)),
        })
    };
    match reach.lists.iter().find(|list| !could_allow(list)) {
        Some(list) => Verdict::Denied(format!("{} doesn't name it", list.by)),
        None => Verdict::Allowed,
    }
}

/// The rule that keeps every pod from an address: what an unprivileged container couldn't reach
/// either, and the node's services.
fn never(ip: IpAddr, around: &Surroundings<'_>) -> Option<&'static str> {
    let in_cluster = |v4: Ipv4Addr| around.cluster.iter().any(|range| range.contains(v4));
    match ip {
        IpAddr::V4(v4) if in_cluster(v4) => return None,
        IpAddr::V4(v4) => {
            if v4.is_loopback() {
                return Some(LOOPBACK);
            } else if v4.octets()[0] == 0 {
                return Some(UNSPECIFIED);
            } else if v4.is_link_local() {
                return Some(LINK_LOCAL);
            } else if v4.is_multicast() || v4.is_broadcast() {
                return Some(MULTICAST);
            }
        }
        IpAddr::V6(v6) => {
            if v6.is_loopback() {
                return Some(LOOPBACK);
            } else if v6.is_unspecified() {
                return Some(UNSPECIFIED);
            } else if v6.is_unicast_link_local() {
                return Some(LINK_LOCAL);
            } else if v6.is_multicast() {
                return Some(MULTICAST);
            }
        }
    }
    if METADATA_SERVICES.contains(&ip) {
        return Some(METADATA);
    }
    around.node.contains(&ip).then_some(NODE)
}

/// The IPv4 address that routers may turn an IPv6 address into: IPv4-compatible, 6to4 (RFC 3056),
/// NAT64 (RFC 6052).
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = ip else { return None };
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

fn names(list: &AllowedHosts, dialled: &Dialled<'_>) -> bool {
    list.hosts.iter().any(|rule| rule_names(rule, dialled))
}

fn rule_names(rule: &HostRule, dialled: &Dialled<'_>) -> bool {
    let ip = dialled.address.ip().to_canonical();
    let by_host = match &rule.host {
        HostPattern::Addresses { first, prefix } => in_range(ip, *first, *prefix),
        host => {
            *host == HostPattern::Any || dialled.names.iter().any(|name| host_matches(host, name))
        }
    };
    by_host
        && rule.ports.as_ref().is_none_or(|ports| ports.contains(&dialled.address.port()))
        && rule.scheme.as_deref().is_none_or(|scheme| scheme == dialled.scheme)
}

fn host_matches(host: &HostPattern, name: &str) -> bool {
    match host {
        HostPattern::Any => true,
        HostPattern::Name(allowed) => allowed == name,
        HostPattern::Below(parent) => {
            name.strip_suffix(parent.as_str()).is_some_and(|left| left.ends_with('.'))
        }
        HostPattern::Addresses { .. } => false,
    }
}

fn in_range(ip: IpAddr, first: IpAddr, prefix: u8) -> bool {
    match (ip, first.to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(first)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            (ip.to_bits() ^ first.to_bits()) & mask == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(first)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            (ip.to_bits() ^ first.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 64, 0, 9));

    fn reach(lists: &[&str]) -> Reach {
        let list = |(n, text): (usize, &&str)| AllowedHosts::parse(format!("list {n}"), text);
        let lists: Result<_, _> = lists.iter().enumerate().map(list).collect();
        Reach { lists: lists.expect("lists") }
    }

    /// `SCHEME NAME ADDRESS`, with `-` for no name.
    fn check(lists: &[&str], dialled: &str, expected: Expect) {
        let cluster = ["127.64.0.0/18", "127.96.0.0/20"].map(|range| range.parse().expect(range));
        let node = ["192.168.1.5", "2001:db8::5"].map(|ip| ip.parse().expect(ip));
        let around = Surroundings { own: Some(OWN), cluster: &cluster, node: &node };
        let (reach, mut out) = (reach(lists), String::new());
        for line in dialled.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let names: Vec<String> =
                words[1].split(',').filter(|name| *name != "-").map(str::to_owned).collect();
            let address = words[2].parse().expect(line);
            let dialled = Dialled { scheme: words[0], names: &names, address };
            out += &match judge(&reach, &around, &dialled) {
                Verdict::Allowed => format!("+ {line}\n"),
                Verdict::Denied(rule) => format!("- {line} | {rule}\n"),
            };
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn pods_reach_the_cluster_and_the_outside_but_not_the_node() {
        check(
            &[],
            "tcp - 127.64.0.9:1
             tcp - 127.64.63.255:1
             tcp - 127.64.64.0:1
             tcp - 127.96.15.1:1
             tcp - 127.96.16.1:1
             tcp - 127.0.0.1:1
             tcp - 127.0.0.53:53
             tcp - 10.1.2.3:1
             tcp - 192.168.1.5:22
             tcp - 192.168.1.6:22
             tcp - 0.0.0.0:1
             tcp - 0.1.2.3:1
             tcp - 169.254.169.254:80
             tcp - 100.100.100.200:80
             tcp - 168.63.129.16:80
             udp - 224.0.0.251:5353
             udp - 255.255.255.255:67
             tcp - [::1]:1
             tcp - [::]:1
             tcp - [fe80::1]:1
             tcp - [febf::1]:1
             tcp - [ff02::1]:1
             tcp - [fd00:ec2::254]:80
             tcp - [2001:db8::5]:1
             tcp - [2001:db8::6]:1
             tcp - [::ffff:127.0.0.1]:1
             tcp - [::ffff:169.254.169.254]:80
             tcp - [::ffff:127.64.0.9]:1
             tcp - [::ffff:10.1.2.3]:1
             tcp - [::127.0.0.1]:1
             tcp - [64:ff9b::127.0.0.1]:1
             tcp - [64:ff9b::a9fe:a9fe]:80
             tcp - [64:ff9b::10.1.2.3]:80
             tcp - [2002:7f00:1::1]:1
             tcp - [2002:a01:203::1]:1",
            expect![[r#"
                + tcp - 127.64.0.9:1
                + tcp - 127.64.63.255:1
                - tcp - 127.64.64.0:1 | loopback addresses are the node's own
                + tcp - 127.96.15.1:1
                - tcp - 127.96.16.1:1 | loopback addresses are the node's own
                - tcp - 127.0.0.1:1 | loopback addresses are the node's own
                - tcp - 127.0.0.53:53 | loopback addresses are the node's own
                + tcp - 10.1.2.3:1
                - tcp - 192.168.1.5:22 | the node's own addresses are not for pods
                + tcp - 192.168.1.6:22
                - tcp - 0.0.0.0:1 | it is no address of a host
                - tcp - 0.1.2.3:1 | it is no address of a host
                - tcp - 169.254.169.254:80 | link-local addresses are not for pods
                - tcp - 100.100.100.200:80 | metadata services of clouds are not for pods
                - tcp - 168.63.129.16:80 | metadata services of clouds are not for pods
                - udp - 224.0.0.251:5353 | multicast and broadcast are not for pods
                - udp - 255.255.255.255:67 | multicast and broadcast are not for pods
                - tcp - [::1]:1 | loopback addresses are the node's own
                - tcp - [::]:1 | it is no address of a host
                - tcp - [fe80::1]:1 | link-local addresses are not for pods
                - tcp - [febf::1]:1 | link-local addresses are not for pods
                - tcp - [ff02::1]:1 | multicast and broadcast are not for pods
                - tcp - [fd00:ec2::254]:80 | metadata services of clouds are not for pods
                - tcp - [2001:db8::5]:1 | the node's own addresses are not for pods
                + tcp - [2001:db8::6]:1
                - tcp - [::ffff:127.0.0.1]:1 | loopback addresses are the node's own
                - tcp - [::ffff:169.254.169.254]:80 | link-local addresses are not for pods
                + tcp - [::ffff:127.64.0.9]:1
                + tcp - [::ffff:10.1.2.3]:1
                - tcp - [::127.0.0.1]:1 | loopback addresses are the node's own
                - tcp - [64:ff9b::127.0.0.1]:1 | loopback addresses are the node's own
                - tcp - [64:ff9b::a9fe:a9fe]:80 | link-local addresses are not for pods
                + tcp - [64:ff9b::10.1.2.3]:80
                - tcp - [2002:7f00:1::1]:1 | loopback addresses are the node's own
                + tcp - [2002:a01:203::1]:1
            "#]],
        );
    }

    #[test]
    fn a_list_allows_what_it_names_and_nothing_else() {
        check(
            &["api.example.com, *.cdn.example, https://pay.example, 10.0.0.0/8:5432, cart.shop"],
            "https api.example.com 1.2.3.4:443
             tcp api.example.com 1.2.3.4:22
             tcp - 1.2.3.4:443
             https x.api.example.com 1.2.3.4:443
             https a.b.cdn.example 1.2.3.4:443
             https cdn.example 1.2.3.4:443
             https evilcdn.example 1.2.3.4:443
             https pay.example 1.2.3.4:443
             https pay.example 1.2.3.4:8443
             http pay.example 1.2.3.4:443
             tcp - 10.9.9.9:5432
             tcp db.internal 10.9.9.9:5432
             tcp - 10.9.9.9:5433
             tcp - 11.9.9.9:5432
             http cart,cart.shop,cart.shop.svc 127.96.0.6:80
             http other.shop 127.96.0.7:80
             tcp - 127.64.0.9:80
             tcp api.example.com 169.254.169.254:80
             tcp api.example.com 127.0.0.1:80",
            expect![[r#"
                + https api.example.com 1.2.3.4:443
                + tcp api.example.com 1.2.3.4:22
                - tcp - 1.2.3.4:443 | list 0 doesn't name it
                - https x.api.example.com 1.2.3.4:443 | list 0 doesn't name it
                + https a.b.cdn.example 1.2.3.4:443
                - https cdn.example 1.2.3.4:443 | list 0 doesn't name it
                - https evilcdn.example 1.2.3.4:443 | list 0 doesn't name it
                + https pay.example 1.2.3.4:443
                - https pay.example 1.2.3.4:8443 | list 0 doesn't name it
                - http pay.example 1.2.3.4:443 | list 0 doesn't name it
                + tcp - 10.9.9.9:5432
                + tcp db.internal 10.9.9.9:5432
                - tcp - 10.9.9.9:5433 | list 0 doesn't name it
                - tcp - 11.9.9.9:5432 | list 0 doesn't name it
                + http cart,cart.shop,cart.shop.svc 127.96.0.6:80
                - http other.shop 127.96.0.7:80 | list 0 doesn't name it
                + tcp - 127.64.0.9:80
                - tcp api.example.com 169.254.169.254:80 | link-local addresses are not for pods
                - tcp api.example.com 127.0.0.1:80 | loopback addresses are the node's own
            "#]],
        );
    }

    #[test]
    fn every_list_must_allow_and_an_empty_one_allows_only_the_pod_itself() {
        check(
            &["*", "a.example b.example"],
            "tcp a.example 1.2.3.4:1
             tcp c.example 1.2.3.4:1",
            expect![[r#"
                + tcp a.example 1.2.3.4:1
                - tcp c.example 1.2.3.4:1 | list 1 doesn't name it
            "#]],
        );
        check(
            &[""],
            "tcp a.example 1.2.3.4:1
             tcp - 127.64.0.9:1
             tcp - 127.64.0.8:1",
            expect![[r#"
                - tcp a.example 1.2.3.4:1 | list 0 doesn't name it
                + tcp - 127.64.0.9:1
                - tcp - 127.64.0.8:1 | list 0 doesn't name it
            "#]],
        );
        check(
            &["0.0.0.0/0, ::/0"],
            "tcp - 1.2.3.4:1
             tcp - [2001:db8::6]:1
             tcp - 127.0.0.1:1",
            expect![[r#"
                + tcp - 1.2.3.4:1
                + tcp - [2001:db8::6]:1
                - tcp - 127.0.0.1:1 | loopback addresses are the node's own
            "#]],
        );
    }

    #[test]
    fn only_names_that_could_be_allowed_are_looked_up() {
        for (list, name, allowed) in [
            ("a.example:443", "a.example", true),
            ("a.example", "secret.evil.example", false),
            ("*.example", "a.example", true),
            ("10.0.0.0/8", "db.internal", true),
            ("*", "a.example", true),
            ("", "a.example", false),
        ] {
            let verdict = judge_look_up(&reach(&[list]), &[name.to_owned()]);
            assert_eq!(verdict == Verdict::Allowed, allowed, "{list} {name}");
        }
        assert_eq!(judge_look_up(&Reach::default(), &[]), Verdict::Allowed);
    }
}
