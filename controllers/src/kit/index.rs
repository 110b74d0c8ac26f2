//! Objects by what controllers look them up by: pods by owner, slices by Service. An index takes
//! each change once, so a reconcile costs what its own objects cost, however many there are.
//!
//! It also knows up to which revision it is complete. That is how controllers read their own
//! writes: a controller notes the revision of what it wrote, and decides nothing that depends on it
//! before the index has got there. No memory of single objects is needed for that, and none that
//! could be wrong after a missed event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use windlass_sdk_client::{Change, Changes, Informer, Key};
use windlass_sdk_types::Kind;

/// The objects of a kind by slots; an object can be in several.
pub struct Index<K, S> {
    informer: Informer<K>,
    slots_of: SlotsOf<K, S>,
    state: Mutex<State<S>>,
}

/// The slots in which an object is found.
type SlotsOf<K, S> = Box<dyn Fn(&K) -> Vec<S> + Send + Sync>;

struct State<S> {
    slots: BTreeMap<S, BTreeSet<Key>>,
    revision: u64,
}

impl<K: Kind, S: Ord> Index<K, S> {
    /// Empty until somebody feeds it: see `kit::watch::indexed`.
    pub fn new(
        informer: Informer<K>,
        slots_of: impl Fn(&K) -> Vec<S> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = Mutex::new(State { slots: BTreeMap::new(), revision: 0 });
        Arc::new(Self { informer, slots_of: Box::new(slots_of), state })
    }

    pub fn informer(&self) -> &Informer<K> {
        &self.informer
    }

    /// The objects of a slot, sorted by namespace and name, as they are now: one may have left the
    /// slot since `revision`.
    pub fn select(&self, slot: &S) -> Vec<Arc<K>> {
        let keys: Vec<Key> =
            self.state.lock().slots.get(slot).into_iter().flatten().cloned().collect();
        keys.iter().filter_map(|key| self.informer.find(key)).collect()
    }

    pub fn count(&self, slot: &S) -> usize {
        self.state.lock().slots.get(slot).map_or(0, BTreeSet::len)
    }

    /// Every change up to this revision is in the index.
    pub fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Takes `first` and all changes that wait; hands each to `note`.
    pub(super) fn catch_up(
        &self,
        first: Option<Change<K>>,
        changes: &mut Changes<K>,
        mut note: impl FnMut(&Change<K>),
    ) {
        // Read first: a change up to this revision was taken or waits in `changes` by now.
        let revision = self.informer.resource_version();
        let mut next = first.or_else(|| changes.try_next());
        while let Some(change) = next {
            self.apply(&change);
            note(&change);
            next = changes.try_next();
        }
        self.state.lock().revision = revision;
    }

    fn apply(&self, change: &Change<K>) {
        let mut state = self.state.lock();
        let before = change.before.iter().flat_map(|object| (self.slots_of)(object));
        for slot in before {
            if let Some(objects) = state.slots.get_mut(&slot) {
                objects.remove(&change.key);
                if objects.is_empty() {
                    state.slots.remove(&slot);
                }
            }
        }
        if let Some(object) = &change.now {
            for slot in (self.slots_of)(object) {
                state.slots.entry(slot).or_default().insert(change.key.clone());
            }
        }
    }
}

/// The revisions of what a controller wrote on behalf of its keys, until they are observed.
#[derive(Debug, Default)]
pub struct Writes(Mutex<BTreeMap<Key, u64>>);

impl Writes {
    pub fn note(&self, key: &Key, revision: u64) {
        let mut latest = self.0.lock();
        let known = latest.entry(key.clone()).or_default();
        *known = revision.max(*known);
    }

    /// The key is gone, and what was written for it concerns nobody.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Whether everything noted for the key is within `revision`.
    pub fn are_within(&self, key: &Key, revision: u64) -> bool {
        let mut latest = self.0.lock();
        match latest.get(key) {
            Some(noted) if *noted > revision => false,
            _ => {
                latest.remove(key);
                true
            }
        }
    }
}
