//! Which EndpointSlices a Service needs, and the fewest writes that lead there from those it has.
//! Endpoints stay in the slice they are in; new ones fill slices that are written anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use windlass_sdk_types::{
    EndpointSlice, Kind, ObjectMeta, ObjectReference, Pod, Service,
    api::{
        core::v1::ServicePort,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::kit::object;

/// The most endpoints in one slice (upstream's `--max-endpoints-per-slice`).
pub const MAX_ENDPOINTS: usize = 100;
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What the controller sees of one Service.
pub struct Observed<'a> {
    pub service: &'a Service,
    /// The pods that its selector matches.
    pub pods: &'a [Arc<Pod>],
    /// The slices that carry its name and this controller's.
    pub slices: &'a [Arc<EndpointSlice>],
    /// `topology.kubernetes.io/zone` of nodes that have it.
    pub zones: &'a BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    /// Replace the slice of this name; `resourceVersion` guards it.
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

#[derive(Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub why: String,
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let families = families(observed.service);
    let mut actions = Vec::new();
    let mut ready = 0;
    let mut endpoints = 0;
    for family in &families {
        let own: Vec<&Arc<EndpointSlice>> =
            observed.slices.iter().filter(|slice| slice.address_type == *family).collect();
        let wanted = wanted(observed, family);
        for endpoint in wanted.values().flat_map(|group| &group.endpoints) {
            endpoints += 1;
            let conditions = endpoint.conditions.as_ref();
            ready += usize::from(conditions.and_then(|all| all.ready) == Some(true));
        }
        actions.extend(reconcile(observed.service, family, &own, wanted));
    }
    let foreign = observed.slices.iter().filter(|slice| !families.contains(&&*slice.address_type));
    actions.extend(foreign.map(|slice| Action::Delete(slice.clone())));
    Plan { actions, why: format!("{ready} of {endpoints} endpoints ready") }
}

/// Whether the controller keeps slices for the Service at all.
pub fn is_managed(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() != Some("ExternalName")
        && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

/// Whether a change of a pod can change an endpoint made of it.
pub fn same_endpoint(a: &Pod, b: &Pod) -> bool {
    let ips = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ips.clone());
    let place = |pod: &Pod| {
        pod.spec
            .as_ref()
            .map(|spec| (spec.node_name.clone(), spec.hostname.clone(), spec.subdomain.clone()))
    };
    a.uid() == b.uid()
        && a.metadata.labels == b.metadata.labels
        && a.is_deleting() == b.is_deleting()
        && object::is_ready(a) == object::is_ready(b)
        && object::is_terminal(a) == object::is_terminal(b)
        && ips(a) == ips(b)
        && place(a) == place(b)
}

/// Endpoints that share their ports: a slice holds only such.
#[derive(Clone, Default)]
struct Group {
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

/// Ports in an order of their own, so that equal sets compare equal.
type PortKey = Vec<(Option<String>, Option<String>, Option<i32>, Option<String>)>;

fn wanted(observed: &Observed<'_>, family: &str) -> BTreeMap<PortKey, Group> {
    let mut groups: BTreeMap<PortKey, Group> = BTreeMap::new();
    let mut pods: Vec<&Arc<Pod>> = observed.pods.iter().collect();
    pods.sort_by_key(|pod| pod.name().to_owned());
    for pod in pods {
        // A pod that has ended answers nobody, even if it is kept; one without an address can't.
        if object::is_terminal(pod) {
            continue;
        }
        let endpoint = endpoint(observed, pod, family);
        if endpoint.addresses.is_empty() {
            continue;
        }
        let ports = ports(observed.service, pod);
        let group = groups.entry(port_key(&ports)).or_default();
        group.ports = ports;
        group.endpoints.push(endpoint);
    }
    groups
}

fn reconcile(
    service: &Service,
    family: &str,
    slices: &[&Arc<EndpointSlice>],
    wanted: BTreeMap<PortKey, Group>,
) -> Vec<Action> {
    let mut changes = Changes::default();
    let mut by_ports: BTreeMap<PortKey, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in slices {
        let key = port_key(slice.ports.as_deref().unwrap_or_default());
        // Slices of an earlier Service of this name are being collected: they are no base to build on.
        if is_owned(slice, service) && (wanted.contains_key(&key) || is_empty(slice)) {
            by_ports.entry(key).or_default().push(slice);
        } else {
            changes.delete.push((*slice).clone());
        }
    }
    for (key, group) in wanted {
        fill(service, family, by_ports.remove(&key).unwrap_or_default(), group, &mut changes);
    }
    let placeholders: Vec<&Arc<EndpointSlice>> = by_ports.into_values().flatten().collect();
    keep_one(service, family, &placeholders, &mut changes);
    changes.into_actions(service)
}

/// A Service without endpoints still has one empty slice, so that readers know it was looked at.
fn keep_one(
    service: &Service,
    family: &str,
    placeholders: &[&Arc<EndpointSlice>],
    changes: &mut Changes,
) {
    let none = changes.create.is_empty() && changes.update.is_empty() && changes.kept == 0;
    let mut spare = placeholders.iter();
    if none {
        match spare.next() {
            Some(slice) => match relabelled(slice, service) {
                Some(slice) => changes.update.push(slice),
                None => changes.kept += 1,
            },
            None => changes.create.push(new_slice(service, family, Group::default())),
        }
    }
    changes.delete.extend(spare.map(|slice| (*slice).clone()));
}

/// The writes of one address family.
#[derive(Default)]
struct Changes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
    kept: usize,
}

impl Changes {
    /// A slice to delete and one to create become one to update.
    fn into_actions(mut self, service: &Service) -> Vec<Action> {
        let mut delete = Vec::new();
        for slice in self.delete {
            match self.create.pop() {
                Some(mut next) if is_owned(&slice, service) => {
                    next.metadata =
                        ObjectMeta { labels: next.metadata.labels, ..slice.metadata.clone() };
                    self.update.push(next);
                }
                Some(next) => {
                    self.create.push(next);
                    delete.push(slice);
                }
                None => delete.push(slice),
            }
        }
        // Nothing is created for a Service that goes: its slices go with it.
        let create = if service.is_deleting() { Vec::new() } else { self.create };
        let create = create.into_iter().map(|slice| Action::Create(Box::new(slice)));
        let update = self.update.into_iter().map(|slice| Action::Update(Box::new(slice)));
        create.chain(update).chain(delete.into_iter().map(Action::Delete)).collect()
    }
}

/// Brings the slices of one set of ports to the wanted endpoints.
fn fill(
    service: &Service,
    family: &str,
    slices: Vec<&Arc<EndpointSlice>>,
    group: Group,
    changes: &mut Changes,
) {
    let mut wanted: BTreeMap<String, Endpoint> =
        group.endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for slice in slices {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = old.iter().filter_map(|e| wanted.remove(&identity(e))).collect();
        if kept.is_empty() && !old.is_empty() {
            changes.delete.push(slice.clone());
        } else if kept != old {
            let mut next = EndpointSlice::clone(slice);
            next.metadata.labels = Some(labels(service));
            next.endpoints = Some(kept);
            changed.push(next);
        } else {
            unchanged.push(slice);
        }
    }
    let mut left: Vec<Endpoint> = wanted.into_values().rev().collect();
    // Fullest first. The order of what is popped is by identity, so a plan is the same every time.
    changed.sort_by_key(|slice| std::cmp::Reverse(length(slice)));
    for slice in &mut changed {
        top_up(slice, &mut left);
    }
    if !left.is_empty() && left.len() < MAX_ENDPOINTS {
        // The rest goes into the slice that it fills best, rather than into one more slice.
        let room = |slice: &EndpointSlice| MAX_ENDPOINTS.checked_sub(length(slice) + left.len());
        let best = (0..unchanged.len()).filter_map(|at| Some((room(unchanged[at])?, at))).min();
        if let Some((_, at)) = best {
            let mut next = EndpointSlice::clone(unchanged.remove(at));
            next.metadata.labels = Some(labels(service));
            top_up(&mut next, &mut left);
            changed.push(next);
        }
    }
    while !left.is_empty() {
        let ports = Group { ports: group.ports.clone(), endpoints: Vec::new() };
        let mut next = new_slice(service, family, ports);
        top_up(&mut next, &mut left);
        changes.create.push(next);
    }
    for slice in unchanged {
        match relabelled(slice, service) {
            Some(slice) => changed.push(slice),
            None => changes.kept += 1,
        }
    }
    changes.update.extend(changed);
}

fn top_up(slice: &mut EndpointSlice, left: &mut Vec<Endpoint>) {
    let endpoints = slice.endpoints.get_or_insert_default();
    while endpoints.len() < MAX_ENDPOINTS {
        let Some(endpoint) = left.pop() else { return };
        endpoints.push(endpoint);
    }
}

/// The slice with the Service's labels; None where it has them already.
fn relabelled(slice: &EndpointSlice, service: &Service) -> Option<EndpointSlice> {
    let labels = labels(service);
    (slice.metadata.labels.as_ref() != Some(&labels)).then(|| {
        let mut next = slice.clone();
        next.metadata.labels = Some(labels);
        next
    })
}

fn new_slice(service: &Service, family: &str, group: Group) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![service.as_controller()]),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        ports: Some(group.ports),
        endpoints: Some(group.endpoints),
    }
}

/// The Service's labels and those by which slices are found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    if matches!(address, None | Some("" | "None")) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn endpoint(observed: &Observed<'_>, pod: &Pod, family: &str) -> Endpoint {
    let service = observed.service.spec.as_ref();
    let publish = service.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let (serving, terminating) = (object::is_ready(pod), pod.is_deleting());
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    // Only the governing service of a pod with hostname and subdomain publishes its hostname.
    let governed = spec.filter(|spec| spec.subdomain.as_deref() == Some(observed.service.name()));
    let hostname = governed.and_then(|spec| spec.hostname.clone());
    Endpoint {
        addresses: addresses(pod, family),
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname.filter(|name| !name.is_empty()),
        zone: node.as_ref().and_then(|node| observed.zones.get(node).cloned()),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let status = pod.status.as_ref();
    let listed = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let addresses = listed.filter_map(|address| address.ip.parse::<IpAddr>().ok());
    addresses
        .filter(|address| address.is_ipv6() == (family == "IPv6"))
        .map(|address| address.to_string())
        .collect()
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(pod, port)?),
                protocol: Some(protocol(port.protocol.as_deref()).into()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// A number is taken as it is; a name is looked up among the pod's ports, sidecars last.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let wanted = protocol(port.protocol.as_deref());
    ports
        .into_iter()
        .find(|own| own.name.as_ref() == Some(name) && protocol(own.protocol.as_deref()) == wanted)
        .map(|own| own.container_port)
}

fn protocol(named: Option<&str>) -> &str {
    named.unwrap_or("TCP")
}

/// The address families of the Service, in a fixed order.
fn families(service: &Service) -> BTreeSet<&'static str> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten();
    let mut families: BTreeSet<&'static str> =
        named.map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() {
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        families.insert(if address.contains(':') { "IPv6" } else { "IPv4" });
    }
    families
}

fn port_key(ports: &[EndpointPort]) -> PortKey {
    let mut key: PortKey = ports
        .iter()
        .map(|port| {
            (port.name.clone(), port.protocol.clone(), port.port, port.app_protocol.clone())
        })
        .collect();
    key.sort();
    key
}

/// An endpoint is the same as long as it is the same pod at the same address.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let name = target.and_then(|target| target.name.as_deref()).unwrap_or_default();
    let uid = target.and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{name}/{uid}/{}", endpoint.addresses.join(","))
}

fn length(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn is_empty(slice: &EndpointSlice) -> bool {
    length(slice) == 0
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.uid == service.uid() && owner.kind == "Service")
}
