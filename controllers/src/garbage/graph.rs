//! Who owns whom, over all kinds: the metadata of every object that the collector watches, found by
//! uid, and for each uid the objects that name it as an owner, whether or not it exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::kit::discovery::Resource;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// One object: only what ownership needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub resource: Arc<Resource>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub owners: Vec<Owner>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Owner {
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub fn blocks(&self) -> bool {
        self.block_owner_deletion == Some(true)
    }
}

impl Node {
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|own| own == finalizer)
    }

    /// In foreground deletion: it waits for its dependents.
    pub fn awaits_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    pub fn orphans_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    /// Whether the reference means this node: a uid alone may be wrong about the rest.
    pub fn is_meant_by(&self, owner: &Owner, dependent: &Node) -> bool {
        owner.uid == self.uid
            && owner.name == self.name
            && owner.kind == self.resource.kind
            && owner.group() == self.resource.gvr.group
            && (!self.resource.namespaced || self.namespace == dependent.namespace)
    }
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Arc<Node>>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Arc<Node>> {
        self.nodes.get(uid)
    }

    /// Objects that name this uid as an owner, in the order of their own uids.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Node>> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
    }

    pub fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.get(uid).is_some_and(|uids| !uids.is_empty())
    }

    pub fn uids_of(&self, resource: &Resource) -> Vec<String> {
        let nodes = self.nodes.values().filter(|node| *node.resource == *resource);
        nodes.map(|node| node.uid.clone()).collect()
    }

    /// Takes in how an object is now; answers with the uids whose next step may have changed.
    pub fn apply(&mut self, node: Node) -> Vec<String> {
        let node = Arc::new(node);
        let old = self.nodes.insert(node.uid.clone(), node.clone());
        let mut touched = vec![node.uid.clone()];
        let before = old.as_ref().map(|old| old.owners.as_slice()).unwrap_or_default();
        for owner in before.iter().filter(|owner| !node.owners.contains(owner)) {
            self.unlink(&owner.uid, &node.uid);
            touched.push(owner.uid.clone());
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        let waits = |node: &Node| (node.awaits_dependents(), node.deleting);
        if old.as_deref().map(waits).unwrap_or_default() != waits(&node) {
            touched.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
            touched.extend(node.owners.iter().map(|owner| owner.uid.clone()));
        }
        touched
    }

    /// Takes in that an object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let owners = node.owners.iter().map(|owner| owner.uid.clone());
        owners.chain(self.dependents.get(uid).into_iter().flatten().cloned()).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(uids) = self.dependents.get_mut(owner) {
            uids.remove(dependent);
            if uids.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
