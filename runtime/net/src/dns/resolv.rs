//! A container's `/etc/resolv.conf`, by its pod's `dnsPolicy` and `dnsConfig` as upstream's kubelet
//! writes it.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
};

use windlass_sdk_types::{Kind, Pod, api::core::v1::PodDNSConfigOption};

use super::DOMAIN;

/// Upstream's bounds (pkg/apis/core/validation).
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;
const HOST: &str = "/etc/resolv.conf";
/// What `/etc/resolv.conf` hides where it names only the machine's own forwarder.
const BEHIND_FORWARDER: &str = "/run/systemd/resolve/resolv.conf";

#[derive(Default)]
struct Config {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

/// The machine's own file. Where that names only a forwarder on the machine's localhost, the file
/// with what the forwarder asks, if there is one.
pub fn host_resolv_conf() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = read(HOST);
    if !parse(&own).nameservers.iter().all(|server| is_loopback(server)) {
        return own;
    }
    let behind = read(BEHIND_FORWARDER);
    if parse(&behind).nameservers.is_empty() { own } else { behind }
}

/// The text for the containers of a pod. `dns` is the cluster's DNS server, `host` the machine's
/// file (see [`host_resolv_conf`]). A server on the machine's localhost is out of reach for a
/// container: the cluster's stands for it, which asks the machine's.
pub fn resolv_conf(pod: &Pod, dns: Ipv4Addr, host: &str) -> String {
    let spec = pod.spec.as_ref();
    let on_host = spec.and_then(|spec| spec.host_network) == Some(true);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut config = match policy {
        "None" => Config::default(),
        "ClusterFirst" if !on_host => cluster(pod.namespace(), dns, host),
        "ClusterFirstWithHostNet" => cluster(pod.namespace(), dns, host),
        _ => parse(host),
    };
    if !on_host {
        for server in &mut config.nameservers {
            if is_loopback(server) && policy == "Default" {
                *server = dns.to_string();
            }
        }
    }
    let more = spec.and_then(|spec| spec.dns_config.as_ref());
    config.nameservers.extend(more.and_then(|more| more.nameservers.clone()).unwrap_or_default());
    config.searches.extend(more.and_then(|more| more.searches.clone()).unwrap_or_default());
    for option in more.and_then(|more| more.options.as_ref()).into_iter().flatten() {
        config.set(option);
    }
    config.text()
}

fn cluster(namespace: &str, dns: Ipv4Addr, host: &str) -> Config {
    let mut searches =
        vec![format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()];
    searches.extend(parse(host).searches);
    let options = vec![("ndots".to_owned(), Some("5".to_owned()))];
    Config { nameservers: vec![dns.to_string()], searches, options }
}

impl Config {
    fn set(&mut self, option: &PodDNSConfigOption) {
        let Some(name) = &option.name else { return };
        let value = option.value.clone().filter(|value| !value.is_empty());
        match self.options.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => self.options.push((name.clone(), value)),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for server in unique(&self.nameservers).take(MAX_NAMESERVERS) {
            text += &format!("nameserver {server}\n");
        }
        let mut bytes = 0;
        let fits = |domain: &&String| {
            bytes += domain.len() + 1;
            bytes <= MAX_SEARCH_BYTES + 1
        };
        let searches: Vec<&str> = unique(&self.searches)
            .take(MAX_SEARCHES)
            .take_while(fits)
            .map(String::as_str)
            .collect();
        if !searches.is_empty() {
            text += &format!("search {}\n", searches.join(" "));
        }
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            })
            .collect();
        if !options.is_empty() {
            text += &format!("options {}\n", options.join(" "));
        }
        text
    }
}

fn unique(all: &[String]) -> impl Iterator<Item = &String> {
    let mut seen = BTreeSet::new();
    all.iter().filter(move |one| seen.insert(one.as_str()))
}

fn parse(text: &str) -> Config {
    let mut config = Config::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.nameservers.extend(words.next().map(str::to_owned)),
            // The last such line counts.
            Some("search" | "domain") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => {
                for word in words {
                    let (name, value) = match word.split_once(':') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (word, None),
                    };
                    config.options.push((name.to_owned(), value));
                }
            }
            _ => {}
        }
    }
    config
}

/// The servers that a machine's file names.
pub(crate) fn nameservers(text: &str) -> Vec<IpAddr> {
    let found = parse(text).nameservers;
    found.iter().filter_map(|server| server.parse().ok()).take(MAX_NAMESERVERS).collect()
}

fn is_loopback(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|server| server.is_loopback())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const MACHINE: &str = "# by hand\nnameserver 10.0.0.2\nnameserver 10.0.0.3 # second\n\
        search corp.example lan\noptions edns0 ndots:2\n";

    fn check(spec: Value, host: &str, expected: Expect) {
        let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        expected.assert_eq(&resolv_conf(&pod, Ipv4Addr::new(127, 96, 0, 10), host));
    }

    #[test]
    fn policies() {
        check(
            json!({"containers": []}),
            MACHINE,
            expect![[r#"
            nameserver 127.96.0.10
            search shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan
            options ndots:5
        "#]],
        );
        check(
            json!({"containers": [], "dnsPolicy": "Default"}),
            MACHINE,
            expect![[r#"
            nameserver 10.0.0.2
            nameserver 10.0.0.3
            search corp.example lan
            options edns0 ndots:2
        "#]],
        );
        let host_network = json!({"containers": [], "hostNetwork": true});
        check(
            host_network,
            MACHINE,
            expect![[r#"
            nameserver 10.0.0.2
            nameserver 10.0.0.3
            search corp.example lan
            options edns0 ndots:2
        "#]],
        );
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            MACHINE,
            expect![[r#"
                nameserver 127.96.0.10
                search shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan
                options ndots:5
            "#]],
        );
        check(
            json!({"containers": [], "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.example"],
                    "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}}),
            MACHINE,
            expect![[r#"
                nameserver 1.1.1.1
                search a.example
                options ndots:1 edns0
            "#]],
        );
        check(
            json!({"containers": [], "dnsConfig": {"nameservers": ["1.1.1.1", "127.96.0.10"],
                "searches": ["a.example", "lan"], "options": [{"name": "ndots", "value": "2"}]}}),
            MACHINE,
            expect![[r#"
                nameserver 127.96.0.10
                nameserver 1.1.1.1
                search shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan a.example
                options ndots:2
            "#]],
        );
        let forwarder = "nameserver 127.0.0.53\nsearch lan\n";
        check(
            json!({"containers": [], "dnsPolicy": "Default"}),
            forwarder,
            expect![[r#"
            nameserver 127.96.0.10
            search lan
        "#]],
        );
    }

    #[test]
    fn bounds() {
        let servers: Vec<String> = (0..5).map(|n| format!("10.0.0.{n}")).collect();
        let searches: Vec<String> = (0..40).map(|n| format!("d{n}.{}", "x".repeat(60))).collect();
        let text = Config { nameservers: servers, searches, options: Vec::new() }.text();
        let longest = text.lines().map(str::len).max().expect("lines");
        assert_eq!(text.matches("nameserver").count(), MAX_NAMESERVERS);
        assert!(longest <= MAX_SEARCH_BYTES + "search ".len(), "{longest}");
        assert!(nameservers(&text).len() == MAX_NAMESERVERS);
    }
}
