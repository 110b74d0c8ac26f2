//! What a pod is called and which names it knows by itself. Guests have neither a kernel that knows
//! their host name nor `/etc/hosts`: they see `HOSTNAME`, and their look-ups follow this. Pure.

use std::net::IpAddr;

use windlass_runtime_api::PodNames;
use windlass_sdk_types::{Kind, Pod};

/// Linux knows no longer one.
const HOSTNAME_BYTES: usize = 63;
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Of a pod with `dnsPolicy: Default`, as of a host.
const HOST_NDOTS: usize = 1;

/// The pod's host name as it sees it itself, and the names it knows.
pub fn of(pod: &Pod, address: IpAddr) -> (String, PodNames) {
    let Some(spec) = &pod.spec else { return (pod.name().to_owned(), PodNames::default()) };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let short = given(&spec.hostname).unwrap_or_else(|| truncated(pod.name()));
    let fqdn = given(&spec.subdomain)
        .map(|domain| format!("{short}.{domain}.{}.svc.{CLUSTER_DOMAIN}", pod.namespace()));
    let hostname = match (given(&spec.hostname_override), &fqdn) {
        (Some(name), _) => name,
        (None, Some(fqdn)) if spec.set_hostname_as_fqdn == Some(true) => fqdn.clone(),
        (None, _) => short.clone(),
    };
    let mut hosts: Vec<(String, IpAddr)> = Vec::new();
    let mut add = |name: &str, address: IpAddr| {
        let row = (name.trim_end_matches('.').to_ascii_lowercase(), address);
        if !hosts.contains(&row) {
            hosts.push(row);
        }
    };
    for name in [Some(&hostname), Some(&short), fqdn.as_ref()].into_iter().flatten() {
        add(name, address);
    }
    for alias in spec.host_aliases.iter().flatten() {
        // The API refuses others.
        let Ok(address) = alias.ip.parse() else { continue };
        alias.hostnames.iter().flatten().for_each(|name| add(name, address));
    }
    let cluster = spec.dns_policy.as_deref() != Some("Default");
    let config = spec.dns_config.as_ref();
    let options = config.and_then(|config| config.options.as_ref());
    let ndots =
        options.into_iter().flatten().find(|option| option.name.as_deref() == Some("ndots"));
    let ndots = ndots.and_then(|option| option.value.as_deref()?.parse().ok());
    let names = PodNames {
        hosts,
        searches: config.and_then(|config| config.searches.clone()).unwrap_or_default(),
        ndots: ndots.unwrap_or(if cluster { PodNames::default().ndots } else { HOST_NDOTS }),
        cluster,
    };
    (hostname, names)
}

fn truncated(name: &str) -> String {
    let cut = name.get(..HOSTNAME_BYTES).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: Expect) {
        let pod = json!({"metadata": {"name": "p-1", "namespace": "n"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("pod");
        let (hostname, names) = of(&pod, "127.64.0.1".parse().expect("address"));
        let hosts: Vec<String> =
            names.hosts.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let shown = format!(
            "{hostname}: {} search {:?} ndots {} cluster {}",
            hosts.join(" "),
            names.searches,
            names.ndots,
            names.cluster
        );
        expected.assert_eq(&shown);
    }

    #[test]
    fn host_names() {
        check(json!({}), expect![[r#"p-1: p-1=127.64.0.1 search [] ndots 5 cluster true"#]]);
        check(
            json!({"hostname": "h", "subdomain": "s"}),
            expect![[
                r#"h: h=127.64.0.1 h.s.n.svc.cluster.local=127.64.0.1 search [] ndots 5 cluster true"#
            ]],
        );
        check(
            json!({"subdomain": "s", "setHostnameAsFQDN": true}),
            expect![[
                r#"p-1.s.n.svc.cluster.local: p-1.s.n.svc.cluster.local=127.64.0.1 p-1=127.64.0.1 search [] ndots 5 cluster true"#
            ]],
        );
        check(
            json!({"hostname": "h", "hostnameOverride": "o.example", "setHostnameAsFQDN": true}),
            expect![[
                r#"o.example: o.example=127.64.0.1 h=127.64.0.1 search [] ndots 5 cluster true"#
            ]],
        );
        assert_eq!(truncated(&format!("{}-.{}", "a".repeat(61), "b".repeat(9))), "a".repeat(61));
    }

    #[test]
    fn aliases_and_dns() {
        check(
            json!({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["DB.example.", "db"]},
                {"ip": "nonsense", "hostnames": ["x"]}, {"ip": "127.0.0.1"}],
                "dnsConfig": {"searches": ["corp.example"], "options": [
                    {"name": "timeout", "value": "3"}, {"name": "ndots", "value": "2"}]}}),
            expect![[
                r#"p-1: p-1=127.64.0.1 db.example=10.0.0.1 db=10.0.0.1 search ["corp.example"] ndots 2 cluster true"#
            ]],
        );
        check(
            json!({"dnsPolicy": "Default"}),
            expect![[r#"p-1: p-1=127.64.0.1 search [] ndots 1 cluster false"#]],
        );
    }
}
