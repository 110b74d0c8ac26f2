//! A node as the plugins see it: the numbers that every pod asks for come first and together, what
//! few pods ask for stands behind a pointer.

use std::sync::Arc;

use windlass_sdk_meta::{Labels, Quantity};
use windlass_sdk_types::{Kind, Node, api::core::v1};

use crate::plugins::ENGINE_LABEL;

/// A node, and what is used of it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub allocatable: Resources,
    pub used: Usage,
    pub unschedulable: bool,
    /// Some taint keeps pods away.
    pub has_hard_taints: bool,
    /// Some taint only makes the node less liked.
    pub has_soft_taints: bool,
    /// Its container engine answers.
    pub has_engine: bool,
    pub name: Arc<str>,
    pub details: Box<Details>,
}

/// What only some pods ask about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub taints: Vec<Taint>,
    pub labels: Labels,
    pub extended: Extended,
}

/// A node's `status.allocatable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub pods: i64,
}

/// What the pods of a node ask for, summed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub pods: i64,
    /// With the amounts that scores assume for containers that ask for nothing.
    pub scored_milli_cpu: i64,
    pub scored_memory_bytes: i64,
    pub extended: Extended,
    pub ports: Vec<Port>,
}

/// What one pod asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub scored_milli_cpu: i64,
    pub scored_memory_bytes: i64,
    pub extended: Extended,
    pub ports: Vec<Port>,
}

/// Amounts of resources beyond the four that all know, by name; few, so a list.
pub type Extended = Vec<(Arc<str>, i64)>;

/// A port of the host that a container takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty for all addresses.
    pub address: Box<str>,
    pub protocol: Box<str>,
    pub number: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl NodeInfo {
    pub fn new(node: &Node, used: Usage) -> Self {
        let spec = node.spec.as_ref();
        let taints: Vec<Taint> = spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter_map(Taint::new)
            .collect();
        let engine = node.label(ENGINE_LABEL) == Some("true");
        let labels = node.metadata.labels.iter().flatten();
        let labels = Labels::from_pairs(labels.map(|(key, value)| (key.as_str(), value.as_str())));
        let (allocatable, extended) = allocatable(node);
        let soft = |taint: &Taint| taint.effect == Effect::PreferNoSchedule;
        Self {
            allocatable,
            used,
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
            has_hard_taints: taints.iter().any(|taint| !soft(taint)),
            has_soft_taints: taints.iter().any(soft),
            has_engine: engine,
            name: node.name().into(),
            details: Box::new(Details { taints, labels, extended }),
        }
    }
}

impl Taint {
    /// None for effects that say nothing about scheduling.
    fn new(taint: &v1::Taint) -> Option<Self> {
        Some(Self {
            key: taint.key.as_str().into(),
            value: taint.value.as_deref().unwrap_or_default().into(),
            effect: Effect::parse(&taint.effect)?,
        })
    }
}

impl Effect {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

impl Usage {
    pub fn add(&mut self, load: &Load) {
        self.change(load, 1);
        self.ports.extend(load.ports.iter().cloned());
    }

    pub fn subtract(&mut self, load: &Load) {
        self.change(load, -1);
        for port in &load.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
    }

    fn change(&mut self, load: &Load, sign: i64) {
        self.pods += sign;
        self.milli_cpu += sign * load.milli_cpu;
        self.memory_bytes += sign * load.memory_bytes;
        self.ephemeral_bytes += sign * load.ephemeral_bytes;
        self.scored_milli_cpu += sign * load.scored_milli_cpu;
        self.scored_memory_bytes += sign * load.scored_memory_bytes;
        for (name, amount) in &load.extended {
            match self.extended.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += sign * amount,
                None => self.extended.push((name.clone(), sign * amount)),
            }
        }
    }
}

impl Port {
    pub fn conflicts(&self, other: &Self) -> bool {
        self.number == other.number
            && self.protocol == other.protocol
            && (self.address.is_empty()
                || other.address.is_empty()
                || self.address == other.address)
    }
}

/// The amount of a resource by name.
pub fn amount(all: &Extended, name: &str) -> i64 {
    all.iter().find(|(known, _)| **known == *name).map_or(0, |(_, amount)| *amount)
}

fn allocatable(node: &Node) -> (Resources, Extended) {
    let mut resources = Resources::default();
    let mut extended = Extended::new();
    let all = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    for (name, quantity) in all.into_iter().flatten() {
        // The server validates quantities; one that can't be read offers nothing.
        let quantity: Quantity = quantity.0.parse().unwrap_or(Quantity::ZERO);
        match name.as_str() {
            "cpu" => resources.milli_cpu = quantity.millis(),
            "memory" => resources.memory_bytes = quantity.units(),
            "ephemeral-storage" => resources.ephemeral_bytes = quantity.units(),
            "pods" => resources.pods = quantity.units(),
            other => extended.push((other.into(), quantity.units())),
        }
    }
    (resources, extended)
}
