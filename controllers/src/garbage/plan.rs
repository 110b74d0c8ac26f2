//! What garbage collection does about one object, given the graph and what is known of owners that
//! the graph doesn't hold. Background, foreground and orphan deletion are all this one function.

use std::{collections::BTreeMap, sync::Arc};

use super::graph::{FOREGROUND, Graph, Node, ORPHAN, Owner};

/// What a look at the server said of an owner that the graph doesn't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// There is no such object, or another one has its name by now.
    Absent,
    /// It is there: the graph is only behind.
    Present,
    /// It can never be: a cluster-scoped object can't be owned by a namespaced one.
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the server for this owner of the object, then plan again.
    LookUp(Owner),
    /// Take the references to these uids off the object.
    RemoveOwners {
        of: Arc<Node>,
        uids: Vec<String>,
    },
    /// References stay, but no longer block their owners: this breaks a cycle.
    Unblock(Arc<Node>),
    Delete {
        of: Arc<Node>,
        policy: Policy,
    },
    RemoveFinalizer {
        of: Arc<Node>,
        finalizer: &'static str,
    },
    /// Plan for this uid as well.
    Visit(String),
    /// Tell people, by an Event, that a reference can't be.
    Warn {
        of: Arc<Node>,
        owner: Owner,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub why: &'static str,
}

impl Plan {
    fn none(why: &'static str) -> Self {
        Self { actions: Vec::new(), why }
    }

    fn one(action: Action, why: &'static str) -> Self {
        Self { actions: vec![action], why }
    }
}

/// The next step for the object with this uid. `known` answers for owners that were looked up.
pub fn plan(graph: &Graph, uid: &str, known: &BTreeMap<Owner, Known>) -> Plan {
    let Some(node) = graph.get(uid) else { return Plan::none("it is gone") };
    if node.orphans_dependents() {
        return orphan(graph, node);
    }
    if node.awaits_dependents() {
        return await_dependents(graph, node);
    }
    if node.deleting {
        return Plan::none("it is being deleted");
    }
    if node.owners.is_empty() {
        return Plan::none("nothing owns it");
    }
    judge(graph, node, known)
}

fn orphan(graph: &Graph, node: &Arc<Node>) -> Plan {
    let uid = &node.uid;
    let mut actions: Vec<Action> = graph
        .dependents(uid)
        .map(|dependent| Action::RemoveOwners { of: dependent.clone(), uids: vec![uid.clone()] })
        .collect();
    actions.push(Action::RemoveFinalizer { of: node.clone(), finalizer: ORPHAN });
    Plan { actions, why: "its dependents are to stay" }
}

fn await_dependents(graph: &Graph, node: &Arc<Node>) -> Plan {
    let blocks = |dependent: &&Arc<Node>| {
        dependent.owners.iter().any(|owner| owner.uid == node.uid && owner.blocks())
    };
    let blocking: Vec<&Arc<Node>> = graph.dependents(&node.uid).filter(blocks).collect();
    if blocking.is_empty() {
        let action = Action::RemoveFinalizer { of: node.clone(), finalizer: FOREGROUND };
        return Plan::one(action, "no dependent blocks it any more");
    }
    let visits = blocking.iter().filter(|dependent| !dependent.deleting);
    let actions = visits.map(|dependent| Action::Visit(dependent.uid.clone())).collect();
    Plan { actions, why: "it waits for its dependents" }
}

/// How each owner of a node stands.
#[derive(Default)]
struct Owners {
    solid: usize,
    dangling: Vec<String>,
    /// These wait for the node to go before they go themselves.
    waiting: Vec<String>,
    unknown: Vec<Owner>,
    invalid: Vec<Owner>,
}

fn judge(graph: &Graph, node: &Arc<Node>, known: &BTreeMap<Owner, Known>) -> Plan {
    let owners = classify(graph, node, known);
    if !owners.unknown.is_empty() {
        let actions = owners.unknown.into_iter().map(Action::LookUp).collect();
        return Plan { actions, why: "owners are unknown" };
    }
    if !owners.invalid.is_empty() {
        let warn = |owner| Action::Warn { of: node.clone(), owner };
        let actions = owners.invalid.into_iter().map(warn).collect();
        return Plan { actions, why: "an owner reference can't be" };
    }
    let stale = [owners.dangling, owners.waiting.clone()].concat();
    if owners.solid > 0 {
        if stale.is_empty() {
            return Plan::none("it has an owner");
        }
        let action = Action::RemoveOwners { of: node.clone(), uids: stale };
        return Plan::one(action, "it has another owner");
    }
    if !owners.waiting.is_empty() && graph.has_dependents(&node.uid) {
        let delete = Action::Delete { of: node.clone(), policy: Policy::Foreground };
        // A dependent that waits itself may wait for what waits for this node.
        if graph.dependents(&node.uid).any(|dependent| dependent.awaits_dependents()) {
            let actions = vec![Action::Unblock(node.clone())];
            if node.owners.iter().any(Owner::blocks) {
                return Plan { actions, why: "it may wait for itself" };
            }
        }
        return Plan::one(delete, "an owner waits for it, and it has dependents");
    }
    let policy = if node.has_finalizer(ORPHAN) {
        Policy::Orphan
    } else if node.has_finalizer(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    Plan::one(Action::Delete { of: node.clone(), policy }, "no owner is left")
}

fn classify(graph: &Graph, node: &Node, known: &BTreeMap<Owner, Known>) -> Owners {
    let mut owners = Owners::default();
    for owner in &node.owners {
        match graph.get(&owner.uid).filter(|found| found.is_meant_by(owner, node)) {
            Some(found) if found.awaits_dependents() => owners.waiting.push(owner.uid.clone()),
            Some(_) => owners.solid += 1,
            None => match known.get(owner) {
                Some(Known::Absent) => owners.dangling.push(owner.uid.clone()),
                Some(Known::Present) => owners.solid += 1,
                Some(Known::Invalid) => owners.invalid.push(owner.clone()),
                None => owners.unknown.push(owner.clone()),
            },
        }
    }
    owners
}
