//! What the proxy and the resolver look things up in: a pure function of Services and
//! EndpointSlices, replaced as a whole, so that a reader never sees half of a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use windlass_sdk_types::api::{
    core::v1::Service,
    discovery::v1::{EndpointPort, EndpointSlice},
};

use crate::blocks::Block;

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The services of a cluster as connections see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Service address and port -> ready endpoints, sorted; empty where there are none.
    pub ports: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
    /// The same for UDP ports.
    pub udp_ports: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
    /// Port of the node -> ready endpoints.
    pub node_ports: BTreeMap<u16, Arc<[SocketAddr]>>,
    /// The same for UDP ports.
    pub node_udp_ports: BTreeMap<u16, Arc<[SocketAddr]>>,
    /// Addresses of services that keep a client with its endpoint, and ports of the node for them.
    pub sticky: BTreeSet<IpAddr>,
    pub sticky_node_ports: BTreeSet<u16>,
    /// Namespace -> name -> service address.
    pub names: BTreeMap<String, BTreeMap<String, Ipv4Addr>>,
    /// Service address -> namespace and name.
    pub by_address: BTreeMap<Ipv4Addr, (String, String)>,
}

impl Table {
    /// The ready endpoints behind a service's address and port; None where no service has it.
    pub fn endpoints(&self, address: SocketAddr) -> Option<Arc<[SocketAddr]>> {
        self.ports.get(&address).cloned()
    }

    /// The ready endpoints behind a port that callers from outside connect to, where node ports are
    /// at `node`.
    pub(crate) fn behind(&self, address: SocketAddr, node: IpAddr) -> Arc<[SocketAddr]> {
        let of_node = || self.node_ports.get(&address.port()).filter(|_| address.ip() == node);
        let known = self.ports.get(&address).or_else(of_node);
        known.cloned().unwrap_or_else(|| Arc::new([]))
    }

    /// The client, where the service that has the address keeps it with its endpoint.
    pub(crate) fn client_of(
        &self,
        service: SocketAddr,
        node: Option<IpAddr>,
        client: IpAddr,
    ) -> Option<IpAddr> {
        let of_node =
            || node == Some(service.ip()) && self.sticky_node_ports.contains(&service.port());
        (self.sticky.contains(&service.ip()) || of_node()).then_some(client)
    }

    /// All that is listened on for callers from outside, where node ports are at `node`, and what
    /// is ready behind it. Addresses that are neither in `ranges` nor among the machine's `own`
    /// are other machines'.
    pub fn rows(&self, node: IpAddr, ranges: &[Block], own: &[IpAddr]) -> Rows {
        let here = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(v4) if ranges.iter().any(|range| range.contains(v4)) => true,
            ip => own.contains(&ip),
        };
        let of_services = |ports: &BTreeMap<SocketAddr, Arc<[SocketAddr]>>| {
            let ports = ports.iter().filter(|(address, _)| here(address));
            ports.map(|(address, to)| (*address, to.clone())).collect::<Vec<_>>()
        };
        let of_node = |ports: &BTreeMap<u16, Arc<[SocketAddr]>>| {
            let ports = ports.iter().map(|(port, to)| (SocketAddr::new(node, *port), to.clone()));
            ports.collect::<Vec<_>>()
        };
        // A port without ready endpoints isn't listened on, so callers are refused at once.
        let ready = |rows: [Vec<Row>; 2]| {
            rows.into_iter().flatten().filter(|(_, to)| !to.is_empty()).collect()
        };
        Rows {
            tcp: ready([of_services(&self.ports), of_node(&self.node_ports)]),
            udp: ready([of_services(&self.udp_ports), of_node(&self.node_udp_ports)]),
        }
    }

    /// The names of the service that has an address, as a pod of `namespace` may write them.
    pub fn names_of(&self, address: IpAddr, namespace: &str) -> Vec<String> {
        let IpAddr::V4(address) = address.to_canonical() else { return Vec::new() };
        let Some((of, name)) = self.by_address.get(&address) else { return Vec::new() };
        let short = (of == namespace).then(|| name.clone());
        let endings = ["", ".svc", ".svc.cluster.local"];
        let longer = endings.iter().map(|ending| format!("{name}.{of}{ending}"));
        short.into_iter().chain(longer).collect()
    }

    /// The address belongs to the Service of the API server, whose endpoint is no pod.
    pub(crate) fn is_api_server(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let owner = self.by_address.get(&address);
        owner.is_some_and(|(namespace, name)| namespace == "default" && name == "kubernetes")
    }
}

type Row = (SocketAddr, Arc<[SocketAddr]>);

/// What the proxy listens on, and the endpoints that callers are led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub tcp: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
    pub udp: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
}

/// Builds the table as the node of this name has it. Services without a cluster address, ports that are neither TCP nor UDP, and
/// endpoints that aren't ready are left out.
pub fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Table {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut table = Table::default();
    for service in services {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let slices = by_service.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
        add(&mut table, (namespace, name), service, &Slices { slices, node });
    }
    table
}

/// The slices of one service, on one node.
struct Slices<'a> {
    slices: &'a [&'a EndpointSlice],
    node: &'a str,
}

fn add(table: &mut Table, name: (&str, &str), service: &Service, slices: &Slices<'_>) {
    let Some(spec) = &service.spec else { return };
    let Some(Ok(address)) = spec.cluster_ip.as_deref().map(str::parse::<Ipv4Addr>) else { return };
    let (namespace, name) = (name.0.to_owned(), name.1.to_owned());
    table.names.entry(namespace.clone()).or_default().insert(name.clone(), address);
    table.by_address.insert(address, (namespace, name));
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let (inside, outside) =
        (is_local(&spec.internal_traffic_policy), is_local(&spec.external_traffic_policy));
    let is_sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let external_ips: Vec<IpAddr> =
        spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if is_sticky {
        table.sticky.insert(address.into());
        table.sticky.extend(&external_ips);
    }
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let (ports, node_ports) = match protocol {
            "TCP" => (&mut table.ports, &mut table.node_ports),
            "UDP" => (&mut table.udp_ports, &mut table.node_udp_ports),
            _ => continue,
        };
        let port_name = port.name.as_deref().unwrap_or_default();
        ports.insert((address, number).into(), slices.ready(protocol, port_name, inside));
        let from_outside = slices.ready(protocol, port_name, outside);
        for ip in &external_ips {
            // Who came first keeps an address that two services say is theirs.
            ports.entry((*ip, number).into()).or_insert_with(|| from_outside.clone());
        }
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        if let Some(node_port) = node_port.filter(|port| *port != 0) {
            node_ports.insert(node_port, from_outside);
            if is_sticky {
                table.sticky_node_ports.insert(node_port);
            }
        }
    }
}

impl Slices<'_> {
    /// The ready endpoints of a service's port, which slices find by the port's name; where only
    /// those of this node count, those.
    fn ready(&self, protocol: &str, port_name: &str, only_local: bool) -> Arc<[SocketAddr]> {
        let mut found = BTreeSet::new();
        for slice in self.slices {
            let wanted = |port: &&EndpointPort| {
                port.name.as_deref().unwrap_or_default() == port_name
                    && port.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            let port = slice.ports.iter().flatten().find(wanted).and_then(|port| port.port);
            let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.as_ref();
                let is_ready = conditions.and_then(|known| known.ready).unwrap_or(true);
                let is_here = endpoint.node_name.as_deref() == Some(self.node);
                if !is_ready || (only_local && !is_here) {
                    continue;
                }
                let addresses = endpoint.addresses.iter();
                let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
                found.extend(addresses.map(|address| SocketAddr::new(address, port)));
            }
        }
        found.into_iter().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    pub fn table(services: Value, slices: Value) -> Table {
        let services: Vec<Service> = serde_json::from_value(services).expect("services");
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).expect("slices");
        plan(&services, &slices, "here")
    }

    pub fn service(namespace: &str, name: &str, ip: &str, ports: Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": ports}})
    }

    fn slice(namespace: &str, service: &str, ports: Value, endpoints: Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": format!("{service}-abc"),
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    }

    fn check(services: Value, slices: Value, expected: Expect) {
        let table = table(services, slices);
        let mut out = String::new();
        for (address, endpoints) in &table.ports {
            let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            out += &format!("{address} -> [{}]\n", endpoints.join(", "));
        }
        for (address, endpoints) in &table.udp_ports {
            let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            out += &format!("{address}/udp -> [{}]\n", endpoints.join(", "));
        }
        let own = ["192.168.1.5".parse().expect("address")];
        let rows = table.rows([127, 0, 0, 1].into(), &[Block::SERVICES], &own);
        for (sort, rows) in [("tcp", rows.tcp), ("udp", rows.udp)] {
            let rows: Vec<String> = rows.keys().map(ToString::to_string).collect();
            out += &format!("{sort} listens on {}\n", rows.join(", "));
        }
        for (port, endpoints) in table.node_ports.iter().chain(&table.node_udp_ports) {
            let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            out += &format!("node:{port} -> [{}]\n", endpoints.join(", "));
        }
        if !table.sticky.is_empty() {
            out += &format!("sticky {:?} {:?}\n", table.sticky, table.sticky_node_ports);
        }
        for (namespace, names) in &table.names {
            for (name, address) in names {
                out += &format!("{name}.{namespace} = {address}\n");
            }
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn ready_endpoints_by_port_name() {
        let services = json!([
            service(
                "a",
                "web",
                "127.96.0.5",
                json!([{"name": "http", "port": 80}, {"name": "admin", "port": 81}])
            ),
            service("a", "idle", "127.96.0.6", json!([{"port": 80}])),
            service("b", "web", "127.96.0.7", json!([{"port": 53, "protocol": "UDP"}])),
            service("b", "headless", "None", json!([{"port": 80}])),
            json!({"metadata": {"namespace": "b", "name": "alias"}, "spec": {"type": "ExternalName"}}),
        ]);
        let slices = json!([
            slice(
                "a",
                "web",
                json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9000}]),
                json!([
                    {"addresses": ["127.64.0.3"], "conditions": {"ready": true}},
                    {"addresses": ["127.64.0.2"]},
                    {"addresses": ["127.64.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                ])
            ),
            slice(
                "a",
                "web",
                json!([{"name": "http", "port": 8081}]),
                json!([{"addresses": ["127.64.64.1"], "conditions": {"ready": true}}])
            ),
            slice(
                "b",
                "web",
                json!([{"port": 53, "protocol": "UDP"}]),
                json!([{"addresses": ["127.64.0.8"]}])
            ),
            slice("b", "idle", json!([{"port": 80}]), json!([{"addresses": ["127.64.0.9"]}])),
        ]);
        check(
            services,
            slices,
            expect![[r#"
                127.96.0.5:80 -> [127.64.0.2:8080, 127.64.0.3:8080, 127.64.64.1:8081]
                127.96.0.5:81 -> [127.64.0.2:9000, 127.64.0.3:9000]
                127.96.0.6:80 -> []
                127.96.0.7:53/udp -> [127.64.0.8:53]
                tcp listens on 127.96.0.5:80, 127.96.0.5:81
                udp listens on 127.96.0.7:53
                idle.a = 127.96.0.6
                web.a = 127.96.0.5
                web.b = 127.96.0.7
            "#]],
        );
    }

    #[test]
    fn ports_for_callers_from_outside() {
        let ports = json!([
            {"name": "http", "port": 80, "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        ]);
        let services = json!([
            {"metadata": {"namespace": "a", "name": "web"}, "spec": {"type": "NodePort",
                "clusterIP": "127.96.0.5", "ports": ports, "externalTrafficPolicy": "Local",
                "externalIPs": ["192.168.1.5", "192.168.1.6"]}},
            {"metadata": {"namespace": "a", "name": "near"}, "spec": {"clusterIP": "127.96.0.6",
                "ports": [{"name": "http", "port": 80}], "internalTrafficPolicy": "Local"}},
            {"metadata": {"namespace": "a", "name": "far"}, "spec": {"type": "NodePort",
                "clusterIP": "127.96.0.7", "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "ports": [{"name": "https", "port": 443, "nodePort": 30443}]}},
        ]);
        let endpoints = json!([
            {"addresses": ["127.64.0.2"], "nodeName": "here"},
            {"addresses": ["127.64.64.2"], "nodeName": "elsewhere"},
        ]);
        let both = json!([
            {"name": "http", "port": 8080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]);
        let elsewhere = json!([{"addresses": ["127.64.64.3"], "nodeName": "elsewhere"}]);
        let slices = json!([
            slice("a", "web", both.clone(), endpoints.clone()),
            slice("a", "near", both, endpoints),
            slice("a", "far", json!([{"name": "https", "port": 443}]), elsewhere),
        ]);
        check(
            services,
            slices,
            expect![[r#"
                127.96.0.5:80 -> [127.64.0.2:8080, 127.64.64.2:8080]
                127.96.0.6:80 -> [127.64.0.2:8080]
                127.96.0.7:443 -> [127.64.64.3:443]
                192.168.1.5:80 -> [127.64.0.2:8080]
                192.168.1.6:80 -> [127.64.0.2:8080]
                127.96.0.5:53/udp -> [127.64.0.2:53, 127.64.64.2:53]
                192.168.1.5:53/udp -> [127.64.0.2:53]
                192.168.1.6:53/udp -> [127.64.0.2:53]
                tcp listens on 127.0.0.1:30080, 127.96.0.5:80, 127.96.0.6:80, 127.96.0.7:443, 192.168.1.5:80
                udp listens on 127.0.0.1:30053, 127.96.0.5:53, 192.168.1.5:53
                node:30080 -> [127.64.0.2:8080]
                node:30443 -> []
                node:30053 -> [127.64.0.2:53]
                sticky {127.96.0.7} {30443}
                far.a = 127.96.0.7
                near.a = 127.96.0.6
                web.a = 127.96.0.5
            "#]],
        );
    }

    #[test]
    fn a_service_has_the_names_that_a_pod_may_write() {
        let table = table(json!([service("shop", "cart", "127.96.0.6", json!([]))]), json!([]));
        let names = |ip: &str, from: &str| table.names_of(ip.parse().expect(ip), from).join(" ");
        let long = "cart.shop cart.shop.svc cart.shop.svc.cluster.local";
        assert_eq!(names("127.96.0.6", "shop"), format!("cart {long}"));
        assert_eq!(names("::ffff:127.96.0.6", "other"), long);
        assert_eq!(names("127.96.0.7", "shop"), "");
    }
}
