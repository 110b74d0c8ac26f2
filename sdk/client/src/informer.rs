//! A typed copy of what exists, one a kind and process. Readers look at the copy; a change only
//! tells them which key to look at (level-triggered: what is observed decides). What nobody looks
//! at is kept folded (see `held`).

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use windlass_sdk_meta::Rng;
use windlass_sdk_types::Kind;

use crate::{
    api::Api,
    held::{FOLD_AFTER, Held},
    watch,
};

/// Objects that are folded before the runtime's other tasks have their turn.
const FOLDED_AT_ONCE: usize = 50;

/// The informers of a process. Each kind is listed and watched once, from its first use on, until
/// all handles are gone.
#[derive(Clone)]
pub struct Informers(Arc<Shared>);

/// The copy of one kind.
pub struct Informer<K> {
    store: Arc<Store<K>>,
    /// Keeps the watch alive.
    _watch: Arc<DropGuard>,
}

/// What changed, for one reader: each key at most once, in the order of their first change.
pub struct Changes<K> {
    subscriber: Arc<Subscriber<K>>,
    _watch: Arc<DropGuard>,
}

/// The name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A changed key, with how the object was when this reader last took the key, and how it is now.
#[derive(Clone, Debug)]
pub struct Change<K> {
    pub key: Key,
    pub before: Option<Arc<K>>,
    pub now: Option<Arc<K>>,
}

struct Shared {
    api: Api,
    rng: Rng,
    stores: Stores,
    running: Mutex<BTreeMap<(TypeId, String), Box<dyn Any + Send + Sync>>>,
}

/// The copies of all identities of a process, by kind. What several may see is kept in memory once.
#[derive(Clone, Default)]
struct Stores(Arc<Mutex<BTreeMap<TypeId, Box<dyn Any + Send + Sync>>>>);

/// The objects and who wants to know of changes. Written by the watch loop only.
pub(crate) struct Store<K> {
    stores: Stores,
    state: Mutex<State<K>>,
    progress: Notify,
    /// There may be something to fold: somebody looked, or something changed.
    unfolded: AtomicBool,
}

/// The objects of a namespace.
type ByName<K> = BTreeMap<Arc<str>, Arc<Held<K>>>;

struct State<K> {
    objects: BTreeMap<Arc<str>, ByName<K>>,
    resource_version: u64,
    synced: bool,
    subscribers: Vec<Weak<Subscriber<K>>>,
}

struct Subscriber<K> {
    store: Arc<Store<K>>,
    pending: Mutex<Pending<K>>,
    wake: Notify,
}

/// Bounded by the number of keys.
struct Pending<K> {
    order: VecDeque<Key>,
    before: BTreeMap<Key, Option<Arc<Held<K>>>>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of<K: Kind>(object: &K) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

/// `namespace/name`, or the name alone.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl Informers {
    /// `client` is the identity that reads; `rng` spreads retries and watch lengths.
    pub fn new(client: kube::Client, rng: Rng) -> Self {
        Self::over(client, rng, Stores::default())
    }

    /// Informers of another identity for the same cluster. It sees what it may see; an object that
    /// both see is the same one in memory.
    pub fn beside(&self, client: kube::Client) -> Self {
        Self::over(client, self.0.rng.clone(), self.0.stores.clone())
    }

    fn over(client: kube::Client, rng: Rng, stores: Stores) -> Self {
        let api = Api::new(client, "windlass-informers");
        Self(Arc::new(Shared { api, rng, stores, running: Mutex::default() }))
    }

    /// The informer of all objects of a kind. The first call starts it (in the current runtime).
    pub fn of<K: Kind>(&self) -> Informer<K> {
        self.selected("")
    }

    /// The informer of the objects a field selector matches, such as the pods of one node.
    pub fn selected<K: Kind>(&self, field_selector: &str) -> Informer<K> {
        let mut running = self.0.running.lock();
        let known =
            running.entry((TypeId::of::<K>(), field_selector.to_owned())).or_insert_with(|| {
                let informer = self.start::<K>("", field_selector);
                self.0.stores.add(&informer.store);
                Box::new(informer)
            });
        match known.downcast_ref::<Informer<K>>() {
            Some(informer) => informer.clone(),
            // Not reached: the map's key holds the type. Starting another is still right.
            None => self.start("", field_selector),
        }
    }

    /// The informer of one object, for readers that may ask for objects by name only. Its watch
    /// ends with the last handle; another call starts another.
    pub fn one<K: Kind>(&self, key: &Key) -> Informer<K> {
        self.start(&key.namespace, &format!("metadata.name={}", key.name))
    }

    fn start<K: Kind>(&self, namespace: &str, field_selector: &str) -> Informer<K> {
        let store = Arc::new(Store::new(self.0.stores.clone()));
        let stop = CancellationToken::new();
        let watch = watch::Watch::<K>::new(
            self.0.api.clone(),
            self.0.rng.clone(),
            namespace.to_owned(),
            field_selector.to_owned(),
            store.clone(),
        );
        tokio::spawn(watch.run(stop.clone()));
        Informer { store, _watch: Arc::new(stop.drop_guard()) }
    }
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), _watch: self._watch.clone() }
    }
}

impl<K: Kind> Informer<K> {
    /// `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(namespace, name)
    }

    pub fn find(&self, key: &Key) -> Option<Arc<K>> {
        self.store.get(&key.namespace, &key.name)
    }

    /// All objects, sorted by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        let all = self.store.look().all();
        all.iter().filter_map(|held| held.get()).collect()
    }

    /// The objects of a namespace, sorted by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.store.in_namespace(namespace).iter().filter_map(|held| held.get()).collect()
    }

    /// Tells of changes from now on; every object that exists already counts as one.
    pub fn changes(&self) -> Changes<K> {
        let subscriber = self.store.subscribe();
        Changes { subscriber, _watch: self._watch.clone() }
    }

    /// Returns once the copy holds everything that existed when the informer was started.
    pub async fn synced(&self) {
        self.store.wait_for(|state| state.synced).await;
    }

    pub fn is_synced(&self) -> bool {
        self.store.state.lock().synced
    }

    /// Up to which change the copy is complete. 0 before it is synced.
    pub fn resource_version(&self) -> u64 {
        self.store.state.lock().resource_version
    }

    /// Returns once the copy has seen the change with this resource version (of an object of this
    /// kind and selection; others are noticed only by the next bookmark).
    pub async fn reached(&self, resource_version: u64) {
        self.store.wait_for(|state| state.resource_version >= resource_version).await;
    }
}

impl<K: Kind> Changes<K> {
    /// The next key to look at. Safe to cancel.
    pub async fn next(&mut self) -> Key {
        self.next_change().await.key
    }

    /// The next key with its object before and now. Changes in between are folded into one; where
    /// both are the same or absent the object came and went. Safe to cancel.
    pub async fn next_change(&mut self) -> Change<K> {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            // A change that comes before this line left a permit in `wake`.
            self.subscriber.wake.notified().await;
        }
    }

    /// The next change where one is waiting.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        let (key, before) = {
            let mut pending = self.subscriber.pending.lock();
            let key = pending.order.pop_front()?;
            let before = pending.before.remove(&key).flatten();
            (key, before)
        };
        let before = before.and_then(|held| held.get());
        let now = self.subscriber.store.get(&key.namespace, &key.name);
        Some(Change { key, before, now })
    }
}

impl Stores {
    fn add<K: Kind>(&self, store: &Arc<Store<K>>) {
        let mut all = self.0.lock();
        let of_kind = all.entry(TypeId::of::<K>()).or_insert_with(|| Box::<Kin<K>>::default());
        if let Some(kin) = of_kind.downcast_mut::<Kin<K>>() {
            kin.retain(|other| other.strong_count() > 0);
            kin.push(Arc::downgrade(store));
        }
    }

    fn of<K: Kind>(&self) -> Kin<K> {
        let all = self.0.lock();
        let kin = all.get(&TypeId::of::<K>()).and_then(|kin| kin.downcast_ref::<Kin<K>>());
        kin.cloned().unwrap_or_default()
    }
}

/// Informers of one kind: one an identity and selection.
type Kin<K> = Vec<Weak<Store<K>>>;

impl<K: Kind> Store<K> {
    fn new(stores: Stores) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            resource_version: 0,
            synced: false,
            subscribers: Vec::new(),
        };
        let (state, progress) = (Mutex::new(state), Notify::new());
        Self { stores, state, progress, unfolded: AtomicBool::new(false) }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.held(namespace, name)?.get()
    }

    fn held(&self, namespace: &str, name: &str) -> Option<Arc<Held<K>>> {
        self.look().objects.get(namespace)?.get(name).cloned()
    }

    fn in_namespace(&self, namespace: &str) -> Vec<Arc<Held<K>>> {
        let state = self.look();
        state.objects.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// For those who may make types of what they find, or add some.
    fn look(&self) -> MutexGuard<'_, State<K>> {
        let state = self.state.lock();
        self.unfolded.store(true, Relaxed);
        state
    }

    /// Folds what nobody looks at, for ever.
    pub(crate) async fn keep_folding(&self) {
        loop {
            tokio::time::sleep(FOLD_AFTER).await;
            if !self.unfolded.swap(false, Relaxed) {
                continue;
            }
            let all = self.state.lock().all();
            for some in all.chunks(FOLDED_AT_ONCE) {
                if some.iter().filter(|held| !held.fold()).count() > 0 {
                    self.unfolded.store(true, Relaxed);
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn subscribe(self: &Arc<Self>) -> Arc<Subscriber<K>> {
        let mut state = self.state.lock();
        let mut pending = Pending { order: VecDeque::new(), before: BTreeMap::new() };
        for (namespace, names) in &state.objects {
            for name in names.keys() {
                let key = Key { namespace: namespace.clone(), name: name.clone() };
                pending.note(key, None);
            }
        }
        let subscriber = Arc::new(Subscriber {
            store: self.clone(),
            pending: Mutex::new(pending),
            wake: Notify::new(),
        });
        state.subscribers.push(Arc::downgrade(&subscriber));
        subscriber
    }

    async fn wait_for(&self, holds: impl Fn(&State<K>) -> bool) {
        loop {
            let notified = self.progress.notified();
            tokio::pin!(notified);
            // Registered before the look, so that no progress is missed.
            notified.as_mut().enable();
            if holds(&self.state.lock()) {
                return;
            }
            notified.await;
        }
    }

    /// The object as another informer of the process already has it, so that both have the same.
    pub(crate) fn one_copy(&self, object: K) -> Arc<Held<K>> {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let held = Held::new(object);
        let known = self.stores.of::<K>().into_iter().find_map(|store| {
            let known = store.upgrade()?.held(&namespace, &name)?;
            known.is(&held).then_some(known)
        });
        known.unwrap_or(held)
    }

    /// Takes one event of a watch: `now` is None where the object is deleted.
    pub(crate) fn apply(&self, key: &Key, now: Option<Arc<Held<K>>>, resource_version: u64) {
        let mut state = self.look();
        let before = match &now {
            Some(object) => state.insert(key, object.clone()),
            None => state.remove(key),
        };
        state.advance(resource_version);
        if !same(before.as_ref(), now.as_ref()) {
            state.tell(key, before);
        }
        drop(state);
        self.progress.notify_waiters();
    }

    /// Takes a complete list: what isn't in it is gone.
    pub(crate) fn replace(&self, mut list: BTreeMap<Key, Arc<Held<K>>>, resource_version: u64) {
        let mut state = self.look();
        let gone: Vec<Key> = state.keys().filter(|key| !list.contains_key(key)).collect();
        for key in gone {
            let before = state.remove(&key);
            state.tell(&key, before);
        }
        while let Some((key, object)) = list.pop_first() {
            let before = state.insert(&key, object.clone());
            if !same(before.as_ref(), Some(&object)) {
                state.tell(&key, before);
            }
        }
        state.synced = true;
        // A list may be older than what a watch brought: a server restored from a backup.
        state.resource_version = resource_version;
        drop(state);
        self.progress.notify_waiters();
    }

    pub(crate) fn bookmark(&self, resource_version: u64) {
        self.state.lock().advance(resource_version);
        self.progress.notify_waiters();
    }
}

impl<K: Kind> State<K> {
    fn all(&self) -> Vec<Arc<Held<K>>> {
        self.objects.values().flat_map(BTreeMap::values).cloned().collect()
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.objects.iter().flat_map(|(namespace, names)| {
            names.keys().map(|name| Key { namespace: namespace.clone(), name: name.clone() })
        })
    }

    fn insert(&mut self, key: &Key, object: Arc<Held<K>>) -> Option<Arc<Held<K>>> {
        self.objects.entry(key.namespace.clone()).or_default().insert(key.name.clone(), object)
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Held<K>>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let removed = names.remove(&key.name);
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        removed
    }

    fn advance(&mut self, resource_version: u64) {
        self.resource_version = self.resource_version.max(resource_version);
    }

    fn tell(&mut self, key: &Key, before: Option<Arc<Held<K>>>) {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            None => false,
            Some(subscriber) => {
                subscriber.pending.lock().note(key.clone(), before.clone());
                subscriber.wake.notify_one();
                true
            }
        });
    }
}

impl<K> Pending<K> {
    fn note(&mut self, key: Key, before: Option<Arc<Held<K>>>) {
        if let Entry::Vacant(vacant) = self.before.entry(key) {
            self.order.push_back(vacant.key().clone());
            vacant.insert(before);
        }
    }
}

fn same<K: Kind>(before: Option<&Arc<Held<K>>>, now: Option<&Arc<Held<K>>>) -> bool {
    match (before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => before.is(now),
        _ => false,
    }
}
