//! A pod as the plugins see it: everything parsed and summed up once, when the pod is observed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use windlass_sdk_meta::{Quantity, Requirement, Selector};
use windlass_sdk_types::{
    Kind, ObjectReference, Pod,
    api::core::v1::{
        Container, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Toleration as ToleratedTaint,
    },
};

use crate::{
    node::{Effect, Load, NodeInfo, Port, Taint},
    plugins::ENGINE_LABEL,
};

/// What scores assume for a container that asks for nothing: upstream's numbers.
const SCORED_MILLI_CPU: i64 = 100;
const SCORED_MEMORY_BYTES: i64 = 200 << 20;

/// A pod that waits for a node.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub priority: i32,
    pub load: Arc<Load>,
    /// No container asks for CPU or memory.
    pub best_effort: bool,
    pub tolerations: Vec<Toleration>,
    pub tolerates_unschedulable: bool,
    /// All of these and one of `required`.
    pub node_selector: Selector,
    pub required: Option<Vec<NodeTerm>>,
    /// (weight, term)
    pub preferred: Vec<(i64, NodeTerm)>,
    /// It says which runtime it wants; else its images decide on the node.
    pub names_runtime: bool,
    /// It may only go where a container engine answers.
    pub needs_engine: bool,
    /// The only node it may go to; empty for any.
    pub node_name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Toleration {
    /// Empty for all.
    key: Box<str>,
    /// None where any value will do.
    value: Option<Box<str>>,
    /// None for all.
    effect: Option<Effect>,
}

/// One term of node affinity: all of it must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTerm {
    labels: Selector,
    /// `matchFields`; upstream knows `metadata.name` only.
    fields: Selector,
}

impl PodInfo {
    pub fn new(pod: &Pod) -> Self {
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let load = load_of(pod);
        let tolerations: Vec<Toleration> =
            spec.tolerations.iter().flatten().filter_map(Toleration::new).collect();
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: "".into(),
            effect: Effect::NoSchedule,
        };
        let node_affinity = spec.affinity.as_ref().and_then(|all| all.node_affinity.as_ref());
        let required = node_affinity
            .and_then(|all| all.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|required| {
                required.node_selector_terms.iter().filter_map(NodeTerm::new).collect()
            });
        let preferred = node_affinity
            .and_then(|all| all.preferred_during_scheduling_ignored_during_execution.as_ref());
        let pairs = spec.node_selector.iter().flatten();
        Self {
            uid: pod.uid().into(),
            namespace: pod.namespace().into(),
            name: pod.name().into(),
            priority: spec.priority.unwrap_or_default(),
            best_effort: load.milli_cpu == 0 && load.memory_bytes == 0,
            load: Arc::new(load),
            tolerates_unschedulable: tolerates(&tolerations, &cordon),
            tolerations,
            node_selector: Selector::from_pairs(pairs.map(|(k, v)| (k.as_str(), v.as_str()))),
            required,
            preferred: preferred
                .into_iter()
                .flatten()
                .filter_map(|one| Some((i64::from(one.weight), NodeTerm::new(&one.preference)?)))
                .collect(),
            names_runtime: spec.runtime_class_name.is_some(),
            needs_engine: spec.node_selector.as_ref().is_some_and(|labels| {
                labels.get(ENGINE_LABEL).is_some_and(|value| value == "true")
            }),
            node_name: spec.node_name.as_deref().unwrap_or_default().into(),
        }
    }

    /// What Events call the pod.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(self.namespace.as_ref().into()),
            name: Some(self.name.as_ref().into()),
            uid: Some(self.uid.as_ref().into()),
            ..ObjectReference::default()
        }
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        tolerates(&self.tolerations, taint)
    }
}

impl Toleration {
    /// None for one that upstream's validation refuses: it tolerates nothing.
    fn new(toleration: &ToleratedTaint) -> Option<Self> {
        let value = toleration.value.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let effect = if effect.is_empty() { None } else { Some(Effect::parse(effect)?) };
        let value = match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => Some(value.into()),
            "Exists" => None,
            _ => return None,
        };
        Some(Self { key: toleration.key.as_deref().unwrap_or_default().into(), value, effect })
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }

    /// It says something about how much a node is liked.
    pub fn is_soft(&self) -> bool {
        self.effect.is_none_or(|effect| effect == Effect::PreferNoSchedule)
    }
}

impl NodeTerm {
    /// None for a term without requirements, or with one that can't be read: it matches nothing.
    fn new(term: &NodeSelectorTerm) -> Option<Self> {
        let labels = requirements(term.match_expressions.as_deref().unwrap_or_default())?;
        let fields = requirements(term.match_fields.as_deref().unwrap_or_default())?;
        (!labels.0.is_empty() || !fields.0.is_empty()).then_some(Self { labels, fields })
    }

    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.labels.matches_labels(&node.details.labels)
            && self.fields.matches(|path| (path == "metadata.name").then_some(&*node.name))
    }
}

/// What a pod asks of its node.
pub fn load_of(pod: &Pod) -> Load {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let asked = total(spec, requests);
    let scored = total(spec, scored);
    let overhead = spec.overhead.as_ref().map(amounts).unwrap_or_default();
    // Requests of the whole pod stand in for the sum of its containers'.
    let whole = spec.resources.as_ref().and_then(|all| all.requests.as_ref());
    let whole = whole.map(amounts).unwrap_or_default();
    let of = |containers: &Amounts, name: &str| {
        let asked = whole.get(name).copied().unwrap_or_else(|| amount(containers, name));
        asked.saturating_add(amount(&overhead, name))
    };
    let known = ["cpu", "memory", "ephemeral-storage"];
    let names: BTreeSet<&String> = asked.keys().chain(overhead.keys()).collect();
    Load {
        milli_cpu: of(&asked, "cpu"),
        memory_bytes: of(&asked, "memory"),
        ephemeral_bytes: of(&asked, "ephemeral-storage"),
        scored_milli_cpu: of(&scored, "cpu"),
        scored_memory_bytes: of(&scored, "memory"),
        extended: names
            .into_iter()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| (Arc::from(name.as_str()), of(&asked, name)))
            .filter(|(_, amount)| *amount > 0)
            .collect(),
        ports: ports(spec),
    }
}

/// Amounts by resource: CPU in thousandths, all else in whole units.
type Amounts = BTreeMap<String, i64>;

/// The containers together, or the largest moment of the start-up if that is more: init containers
/// run one after another beside the sidecars (restartPolicy Always) that started before them.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut moment = sidecars.clone();
        add(&mut moment, &own);
        raise(&mut peak, &moment);
        if is_sidecar(container) {
            sidecars = moment;
        }
    }
    add(&mut sum, &sidecars);
    raise(&mut sum, &peak);
    sum
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn requests(container: &Container) -> Amounts {
    let requests = container.resources.as_ref().and_then(|all| all.requests.as_ref());
    requests.map(amounts).unwrap_or_default()
}

fn scored(container: &Container) -> Amounts {
    let mut all = requests(container);
    all.entry("cpu".into()).or_insert(SCORED_MILLI_CPU);
    all.entry("memory".into()).or_insert(SCORED_MEMORY_BYTES);
    all
}

fn amounts(
    quantities: &BTreeMap<String, windlass_sdk_types::apimachinery::pkg::api::resource::Quantity>,
) -> Amounts {
    let read = |name: &str, text: &str| {
        let quantity: Quantity = text.parse().unwrap_or(Quantity::ZERO);
        if name == "cpu" { quantity.millis() } else { quantity.units() }
    };
    quantities.iter().map(|(name, amount)| (name.clone(), read(name, &amount.0))).collect()
}

fn amount(all: &Amounts, name: &str) -> i64 {
    all.get(name).copied().unwrap_or_default()
}

fn add(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let sum = to.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = to.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
}

fn ports(spec: &PodSpec) -> Vec<Port> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| is_sidecar(one));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|one| one.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let address = port.host_ip.as_deref().unwrap_or_default();
            Some(Port {
                address: if address == "0.0.0.0" { "" } else { address }.into(),
                protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
                number: port.host_port.filter(|number| *number > 0)?,
            })
        })
        .collect()
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

fn requirements(all: &[NodeSelectorRequirement]) -> Option<Selector> {
    let read = |one: &NodeSelectorRequirement| {
        let values = one.values.clone().unwrap_or_default();
        Requirement::new(&one.key, &one.operator, values).ok()
    };
    all.iter().map(read).collect::<Option<_>>().map(Selector)
}
