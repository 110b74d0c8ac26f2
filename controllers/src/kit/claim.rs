//! Finding what belongs to an owner: objects are indexed by their managing owner, and those without
//! one by namespace, because any owner there may adopt them.

use std::sync::Arc;

use windlass_sdk_client::{Change, Informer, Key};
use windlass_sdk_types::{Kind, LabelSelector};

use super::object;

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Managed by the owner with this uid.
    Of(String),
    /// Nothing manages it; of this namespace.
    Orphans(String),
}

/// The one slot of an object.
pub fn slots<K: Kind>(object: &K) -> Vec<Slot> {
    vec![match object::controller_of(object.metadata()) {
        Some(owner) => Slot::Of(owner.uid.clone()),
        None => Slot::Orphans(object.namespace().to_owned()),
    }]
}

/// The owners of kind `O` that a change of an object concerns: the one that manages it, before and
/// now; for an object that nothing manages, those that may adopt it.
pub fn owners<K: Kind, O: Kind>(
    change: &Change<K>,
    owners: &Informer<O>,
    selector: fn(&O) -> &LabelSelector,
) -> Vec<Key> {
    let mut found: Vec<Key> = Vec::new();
    for object in change.before.iter().chain(&change.now) {
        match object::controller_of(object.metadata()) {
            Some(owner) if owner.kind == O::KIND => {
                found.push(Key { name: owner.name.as_str().into(), ..change.key.clone() });
            }
            Some(_) => {}
            None if is_same_orphan(change) => {}
            None => found.extend(adopters(object, owners, selector)),
        }
    }
    found.dedup();
    found
}

fn adopters<K: Kind, O: Kind>(
    object: &Arc<K>,
    owners: &Informer<O>,
    selector: fn(&O) -> &LabelSelector,
) -> Vec<Key> {
    let labels = object.metadata().labels.as_ref();
    let matches = |owner: &&Arc<O>| {
        object::selector(selector(owner))
            .is_ok_and(|selector| !selector.is_empty() && selector.matches_map(labels))
    };
    let owners = owners.in_namespace(object.namespace());
    owners.iter().filter(matches).map(|owner| Key::of(&**owner)).collect()
}

/// An orphan whose labels and owners are as before is of no new interest to anybody.
fn is_same_orphan<K: Kind>(change: &Change<K>) -> bool {
    let (Some(before), Some(now)) = (&change.before, &change.now) else { return false };
    let of = |object: &Arc<K>| {
        let metadata = object.metadata();
        (metadata.labels.clone(), metadata.owner_references.clone(), object.is_deleting())
    };
    of(before) == of(now)
}
