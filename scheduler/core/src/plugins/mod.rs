//! The rules, one row a plugin: which pods it concerns, which nodes it refuses and why, how much it
//! likes the others, and what may change its mind. Names, order, weights and reasons are upstream's.

mod affinity;
mod balanced;
mod engine;
mod fit;
mod name;
mod ports;
mod taints;
mod unschedulable;

use std::{borrow::Cow, ops::BitOr};

pub use engine::LABEL as ENGINE_LABEL;

use crate::{node::NodeInfo, pod::PodInfo, snapshot::Snapshot};

/// One rule.
pub struct Plugin {
    pub name: &'static str,
    pub filter: Option<Filter>,
    pub score: Option<Score>,
}

/// Refuses nodes.
pub struct Filter {
    /// Asked once a pod: false where no node could be refused.
    pub concerns: fn(&PodInfo) -> bool,
    /// Asked for each node: None where the pod may go there.
    pub refuses: fn(&PodInfo, &NodeInfo) -> Option<Refusal>,
    /// The reasons in a refusal, as they stand in messages.
    pub reasons: fn(Refusal, &PodInfo) -> Vec<Cow<'static, str>>,
    /// What may turn a refusal into room.
    pub helped_by: Causes,
}

/// Likes nodes more or less.
pub struct Score {
    /// Asked once a pod: false where all nodes would score the same.
    pub concerns: fn(&PodInfo, &Snapshot) -> bool,
    /// 0..=100, or any amount where it is normalised.
    pub of: fn(&PodInfo, &NodeInfo) -> i64,
    pub normalise: Normalise,
    pub weight: i64,
}

/// How raw scores become 0..=100.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Normalise {
    No,
    /// The highest becomes 100.
    UpToHighest,
    /// 0 becomes 100, and the highest 0.
    LowestIsBest,
}

/// Why a node was refused: one bit a reason, whose meaning is the plugin's.
pub type Refusal = u32;

/// What happened in the cluster, as far as it can help a pod that found no node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(u8);

impl Causes {
    pub const NONE: Self = Self(0);
    pub const NODE_ADDED: Self = Self(1);
    pub const ALLOCATABLE: Self = Self(2);
    pub const LABELS: Self = Self(4);
    pub const TAINTS: Self = Self(8);
    /// A pod left, or asks for less.
    pub const POD_GONE: Self = Self(16);
    pub const ALL: Self = Self(31);

    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Causes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

pub const COUNT: usize = 8;

/// All rules, in the order in which nodes are asked.
pub static PLUGINS: [Plugin; COUNT] = [
    name::PLUGIN,
    unschedulable::PLUGIN,
    taints::PLUGIN,
    engine::PLUGIN,
    affinity::PLUGIN,
    ports::PLUGIN,
    fit::PLUGIN,
    balanced::PLUGIN,
];

/// The first plugin that refuses the node; None where the pod may go there.
pub fn refuser(pod: &PodInfo, node: &NodeInfo) -> Option<&'static Filter> {
    let mut filters = PLUGINS.iter().filter_map(|plugin| plugin.filter.as_ref());
    filters.find(|filter| (filter.concerns)(pod) && (filter.refuses)(pod, node).is_some())
}

fn always(_: &PodInfo) -> bool {
    true
}

fn reason(text: &'static str) -> Vec<Cow<'static, str>> {
    vec![Cow::Borrowed(text)]
}

/// Checks a plugin alone: the reasons of its refusal, or its score.
#[cfg(test)]
fn told(plugin: &Plugin, pod: &PodInfo, node: &NodeInfo) -> String {
    let refusal = plugin.filter.as_ref().and_then(|filter| {
        let refusal = (filter.concerns)(pod).then(|| (filter.refuses)(pod, node)).flatten()?;
        Some((filter.reasons)(refusal, pod).join(", "))
    });
    match (refusal, &plugin.score) {
        (Some(reasons), _) => reasons,
        (None, Some(score)) => format!("score {}", (score.of)(pod, node)),
        (None, None) => "fits".into(),
    }
}
