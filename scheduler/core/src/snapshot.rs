//! What is known of nodes and of the pods on them, kept current change by change, so that a
//! decision copies nothing.

use std::{collections::BTreeMap, sync::Arc};

use windlass_sdk_types::{Kind, Node};

use crate::{
    node::{Load, NodeInfo, Usage},
    plugins::Causes,
    pod::PodInfo,
};

/// Nodes in a list without gaps; pods by uid.
#[derive(Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    index: BTreeMap<Arc<str>, usize>,
    /// What pods use of nodes that aren't known (yet, or any more).
    elsewhere: BTreeMap<Arc<str>, Usage>,
    pods: BTreeMap<Arc<str>, Placed>,
    soft_taints: usize,
    /// Nodes whose container engine answers.
    engines: usize,
}

struct Placed {
    node: Arc<str>,
    load: Arc<Load>,
    assumed: bool,
}

impl Snapshot {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    /// Some node has a taint that only makes it less liked.
    pub fn has_soft_taints(&self) -> bool {
        self.soft_taints > 0
    }

    /// Some nodes have a container engine, and some have none.
    pub fn is_partly_equipped(&self) -> bool {
        self.engines > 0 && self.engines < self.nodes.len()
    }

    /// Takes a node as it is now; returns what about the change may help a waiting pod.
    pub fn set_node(&mut self, node: &Node) -> Causes {
        let Some(at) = self.index.get(node.name()).copied() else {
            let used = self.elsewhere.remove(node.name()).unwrap_or_default();
            let info = NodeInfo::new(node, used);
            self.soft_taints += usize::from(info.has_soft_taints);
            self.engines += usize::from(info.has_engine);
            self.index.insert(info.name.clone(), self.nodes.len());
            self.nodes.push(info);
            return Causes::NODE_ADDED;
        };
        let known = &mut self.nodes[at];
        let fresh = NodeInfo::new(node, std::mem::take(&mut known.used));
        self.soft_taints += usize::from(fresh.has_soft_taints);
        self.soft_taints -= usize::from(known.has_soft_taints);
        self.engines += usize::from(fresh.has_engine);
        self.engines -= usize::from(known.has_engine);
        let old = std::mem::replace(known, fresh);
        changes(&old, known)
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let gone = self.nodes.swap_remove(at);
        self.soft_taints -= usize::from(gone.has_soft_taints);
        self.engines -= usize::from(gone.has_engine);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        if gone.used.pods > 0 {
            self.elsewhere.insert(gone.name, gone.used);
        }
    }

    /// Counts a pod as being on a node until it is placed or removed.
    pub fn assume(&mut self, pod: &PodInfo, at: usize) {
        let node = self.nodes[at].name.clone();
        let placed = Placed { node, load: pod.load.clone(), assumed: true };
        self.replace(pod.uid.clone(), Some(placed));
    }

    /// Takes what the API shows. Returns the node where something became free by it.
    pub fn place(&mut self, uid: &str, node: &str, load: Arc<Load>) -> Option<Arc<str>> {
        if let Some(known) = self.pods.get_mut(uid)
            && *known.node == *node
            && known.load == load
        {
            known.assumed = false;
            return None;
        }
        // Names are shared with the node where it is known: there are many more pods than nodes.
        let name = self.node(node).map_or_else(|| Arc::from(node), |known| known.name.clone());
        self.replace(uid.into(), Some(Placed { node: name, load, assumed: false }))
    }

    /// Returns the node where the pod was.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<str>> {
        self.replace(uid.into(), None)
    }

    pub fn holds(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    fn replace(&mut self, uid: Arc<str>, placed: Option<Placed>) -> Option<Arc<str>> {
        if let Some(placed) = &placed {
            self.usage(&placed.node).add(&placed.load);
        }
        let old = match placed {
            Some(placed) => self.pods.insert(uid, placed),
            None => self.pods.remove(&uid),
        }?;
        let usage = self.usage(&old.node);
        usage.subtract(&old.load);
        if usage.pods == 0 {
            self.elsewhere.remove(&old.node);
        }
        Some(old.node)
    }

    fn usage(&mut self, node: &Arc<str>) -> &mut Usage {
        match self.index.get(node) {
            Some(at) => &mut self.nodes[*at].used,
            None => self.elsewhere.entry(node.clone()).or_default(),
        }
    }
}

fn changes(old: &NodeInfo, new: &NodeInfo) -> Causes {
    let when = |changed: bool, cause: Causes| if changed { cause } else { Causes::NONE };
    let (was, is) = (&*old.details, &*new.details);
    when(old.allocatable != new.allocatable || was.extended != is.extended, Causes::ALLOCATABLE)
        | when(was.labels != is.labels, Causes::LABELS)
        | when(was.taints != is.taints || old.unschedulable != new.unschedulable, Causes::TAINTS)
}
