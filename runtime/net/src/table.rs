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

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The services of a cluster as connections see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Service address and port -> ready endpoints, sorted; empty where there are none.
    pub ports: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
    /// The same for UDP ports.
    pub udp_ports: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
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

/// Builds the table. Services without a cluster address, ports that are neither TCP nor UDP, and
/// endpoints that aren't ready are left out.
pub fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
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
        add(&mut table, namespace, name, service, slices);
    }
    table
}

fn add(
    table: &mut Table,
    namespace: &str,
    name: &str,
    service: &Service,
    slices: &[&EndpointSlice],
) {
    let Some(spec) = &service.spec else { return };
    let Some(Ok(address)) = spec.cluster_ip.as_deref().map(str::parse::<Ipv4Addr>) else { return };
    table.names.entry(namespace.to_owned()).or_default().insert(name.to_owned(), address);
    table.by_address.insert(address, (namespace.to_owned(), name.to_owned()));
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let ports = match protocol {
            "TCP" => &mut table.ports,
            "UDP" => &mut table.udp_ports,
            _ => continue,
        };
        let endpoints = ready(slices, protocol, port.name.as_deref().unwrap_or_default());
        ports.insert((address, number).into(), endpoints);
    }
}

/// The ready endpoints of a service's port, which slices find by the port's name.
fn ready(slices: &[&EndpointSlice], protocol: &str, port_name: &str) -> Arc<[SocketAddr]> {
    let mut found = BTreeSet::new();
    for slice in slices {
        let wanted = |port: &&EndpointPort| {
            port.name.as_deref().unwrap_or_default() == port_name
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        let port = slice.ports.iter().flatten().find(wanted).and_then(|port| port.port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready =
                endpoint.conditions.as_ref().and_then(|known| known.ready).unwrap_or(true);
            let addresses = endpoint.addresses.iter().filter(|_| is_ready);
            found.extend(
                addresses
                    .filter_map(|address| address.parse::<IpAddr>().ok())
                    .map(|address| SocketAddr::new(address, port)),
            );
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    pub fn table(services: Value, slices: Value) -> Table {
        let services: Vec<Service> = serde_json::from_value(services).expect("services");
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).expect("slices");
        plan(&services, &slices)
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
                idle.a = 127.96.0.6
                web.a = 127.96.0.5
                web.b = 127.96.0.7
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
