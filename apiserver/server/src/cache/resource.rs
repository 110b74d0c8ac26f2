//! One resource in memory: its newest objects in a persistent map, the changes of the last minutes,
//! and its watchers. The state as of an earlier revision is a saved root of the map, put right by
//! at most a few dozen changes: roots are saved every so often and not at each change, because a
//! root keeps alive every tree node that was replaced since.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use imbl::OrdMap;
use parking_lot::RwLock;
use windlass_apiserver_registry::Kind;
use windlass_sdk_meta::{Object, Timestamp};

use super::watcher::{Filter, Start, Subscription, Watchers};

/// Namespace (empty for cluster-scoped kinds) and name.
pub(crate) type Key = (Arc<str>, Arc<str>);
pub(crate) type Root = OrdMap<Key, Arc<Object>>;

/// A root of the map is saved after this many changes. More often: where objects change at random,
/// each root is a copy of most of the map's nodes. More seldom: an older state has more to put right.
const CHANGES_A_ROOT: usize = 512;
/// Fields whose values are indexed, for lists, watches and look-ups that ask for one value: a
/// cluster has tens of thousands of pods and every agent asks for its own.
const INDEXED: [(&str, &str, &str); 1] = [("", "pods", "spec.nodeName")];

/// A resource's objects and who watches them.
pub(crate) struct ResourceCache {
    kind: RwLock<Arc<Kind>>,
    indexed_field: Option<&'static str>,
    state: RwLock<State>,
}

/// One object before and after one revision.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub revision: u64,
    pub key: Key,
    pub before: Option<Arc<Object>>,
    /// None: deleted.
    pub now: Option<Arc<Object>>,
    pub at: Timestamp,
}

/// Which part of a resource a list asks for.
pub(crate) struct PageRequest<'a> {
    pub filter: &'a Filter,
    /// Starts behind this key.
    pub after: Option<&'a Key>,
    /// 0: all.
    pub limit: usize,
}

/// An answer to a list.
pub(crate) struct Page {
    pub objects: Vec<Arc<Object>>,
    /// There are more behind the limit, and how many; only counted where no selector narrows.
    pub remaining: Option<usize>,
    pub more: bool,
}

#[derive(Default)]
struct State {
    now: Root,
    /// The revision of the newest change.
    changed_at: u64,
    /// `changes` holds everything behind this revision.
    floor: u64,
    changes: VecDeque<Arc<Change>>,
    /// (revision, state as of it), oldest first.
    roots: VecDeque<(u64, Root)>,
    since_root: usize,
    index: BTreeMap<Box<str>, BTreeSet<Key>>,
    watchers: Watchers,
}

impl Change {
    pub fn put(object: Arc<Object>, at: Timestamp) -> Self {
        let key = key_of(&object);
        Self { revision: object.revision, key, before: None, now: Some(object), at }
    }

    pub fn deleted(namespace: &str, name: &str, revision: u64, at: Timestamp) -> Self {
        Self { revision, key: (namespace.into(), name.into()), before: None, now: None, at }
    }
}

impl ResourceCache {
    pub fn new(kind: Arc<Kind>) -> Self {
        let resource = kind.group_resource();
        let indexed = INDEXED
            .iter()
            .find(|(group, plural, _)| *group == resource.group && *plural == resource.resource);
        let indexed_field = indexed.map(|(.., field)| *field);
        Self { kind: RwLock::new(kind), indexed_field, state: RwLock::default() }
    }

    pub fn kind(&self) -> Arc<Kind> {
        self.kind.read().clone()
    }

    /// The kind's definition has changed. Objects are looked at again where selectors may name
    /// other fields of them now.
    pub fn set_kind(&self, kind: Arc<Kind>) {
        let paths =
            |kind: &Kind| kind.selectable.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        let before = std::mem::replace(&mut *self.kind.write(), kind.clone());
        if paths(&before) == paths(&kind) {
            return;
        }
        let mut state = self.state.write();
        let renewed: Root = state
            .now
            .iter()
            .filter_map(|(key, object)| {
                let bytes = object.encoded().bytes().clone();
                let object = kind.object_from_stored(bytes, object.revision)?;
                Some((key.clone(), Arc::new(object)))
            })
            .collect();
        state.now = renewed;
    }

    /// The kind is gone: so are its watchers.
    pub fn close(&self) {
        self.state.write().watchers = Watchers::default();
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.state.read().now.get(&(Arc::from(namespace), Arc::from(name))).cloned()
    }

    /// All of a namespace, or of the cluster where it is empty.
    pub fn all(&self, namespace: &str) -> Vec<Arc<Object>> {
        let root = self.state.read().now.clone();
        in_namespace(&root, namespace, None).map(|(_, object)| object.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.state.read().now.len()
    }

    pub fn watcher_count(&self) -> usize {
        self.state.read().watchers.len()
    }

    pub fn changed_at(&self) -> u64 {
        self.state.read().changed_at
    }

    /// Objects whose indexed field has this value.
    pub fn indexed(&self, value: &str) -> Vec<Arc<Object>> {
        let state = self.state.read();
        let keys = state.index.get(value).into_iter().flatten();
        keys.filter_map(|key| state.now.get(key).cloned()).collect()
    }

    /// The newest state, and the revision of its last change.
    pub fn newest(&self) -> (Root, u64) {
        let state = self.state.read();
        (state.now.clone(), state.changed_at)
    }

    /// The state as of a revision; None where that is too long ago.
    pub fn at_revision(&self, revision: u64) -> Option<Root> {
        let state = self.state.read();
        if revision >= state.changed_at {
            return Some(state.now.clone());
        }
        if revision < state.floor {
            return None;
        }
        let saved = state.roots.partition_point(|(at, _)| *at < revision);
        let (from, mut root) = match state.roots.get(saved) {
            Some((at, root)) => (*at, root.clone()),
            None => (state.changed_at, state.now.clone()),
        };
        let (first, last) = (state.behind(revision), state.behind(from));
        for change in state.changes.range(first..last).rev() {
            match &change.before {
                Some(before) => root.insert(change.key.clone(), before.clone()),
                None => root.remove(&change.key),
            };
        }
        Some(root)
    }

    /// Takes a page out of the newest state, over the index where the filter allows it.
    pub fn page_of_newest(&self, request: &PageRequest<'_>) -> (Page, u64) {
        let value = self.indexed_field.and_then(|field| request.filter.fields.required(field));
        match value.filter(|value| !value.is_empty()) {
            Some(value) => {
                let state = self.state.read();
                let keys = state.index.get(value).into_iter().flatten();
                let found = keys.filter_map(|key| state.now.get_key_value(key));
                (cut(found, request), state.changed_at)
            }
            None => {
                let (root, changed_at) = self.newest();
                (page(&root, request), changed_at)
            }
        }
    }

    /// Takes in changes, in order, and hands them to the watchers they concern.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut state = self.state.write();
        for change in changes {
            state.apply(change, self.indexed_field);
        }
    }

    /// Replaces everything by what a reload found.
    pub fn replace(&self, objects: Vec<Arc<Object>>, revision: u64, at: Timestamp) {
        let mut state = self.state.write();
        let found: Root = objects.into_iter().map(|object| (key_of(&object), object)).collect();
        let gone = state.now.keys().filter(|key| !found.contains_key(*key)).cloned();
        let mut changes: Vec<Change> = gone
            .map(|(namespace, name)| Change::deleted(&namespace, &name, revision, at))
            .collect();
        let newer = found.iter().filter(|(key, object)| {
            state.now.get(*key).is_none_or(|known| known.revision != object.revision)
        });
        changes.extend(newer.map(|(_, object)| Change::put(object.clone(), at)));
        changes.sort_by_key(|change| change.revision);
        for change in changes {
            state.apply(change, self.indexed_field);
        }
        state.changes.clear();
        state.roots.clear();
        state.since_root = 0;
        state.floor = revision;
        state.changed_at = revision;
    }

    /// Forgets changes from before `horizon` or up to `revision`.
    pub fn trim(&self, horizon: Timestamp, revision: u64) {
        let mut state = self.state.write();
        while let Some(oldest) = state.changes.front() {
            if oldest.at > horizon && oldest.revision > revision {
                break;
            }
            state.floor = oldest.revision;
            state.changes.pop_front();
        }
        let floor = state.floor;
        while state.roots.front().is_some_and(|(at, _)| *at < floor) {
            state.roots.pop_front();
        }
    }

    /// Registers a watcher and gives it what it starts with; None where the revision it wants to
    /// start from is too long ago. `reached` is the revision that is known to be complete.
    pub fn subscribe(
        self: &Arc<Self>,
        filter: Filter,
        from: Option<u64>,
        reached: u64,
    ) -> Option<Subscription> {
        let mut state = self.state.write();
        let start = match from {
            None => {
                let request = PageRequest { filter: &filter, after: None, limit: 0 };
                let objects = match self.indexed_value(&filter) {
                    Some(value) => {
                        let keys = state.index.get(value).into_iter().flatten();
                        cut(keys.filter_map(|key| state.now.get_key_value(key)), &request).objects
                    }
                    None => page(&state.now, &request).objects,
                };
                Start::Objects(objects, reached.max(state.changed_at))
            }
            Some(from) if from < state.floor => return None,
            Some(from) => {
                let first = state.behind(from);
                let missed = state.changes.range(first..);
                Start::Changes(missed.filter(|change| filter.concerns(change)).cloned().collect())
            }
        };
        let index_value = self.indexed_value(&filter).map(str::to_owned);
        let (id, receiver) = state.watchers.add(filter, index_value);
        Some(Subscription::new(self.clone(), id, start, receiver))
    }

    pub(super) fn unsubscribe(&self, id: u64) {
        self.state.write().watchers.remove(id);
    }

    fn indexed_value<'f>(&self, filter: &'f Filter) -> Option<&'f str> {
        let value = self.indexed_field.and_then(|field| filter.fields.required(field));
        value.filter(|value| !value.is_empty())
    }
}

impl State {
    fn apply(&mut self, mut change: Change, indexed_field: Option<&'static str>) {
        change.before = match &change.now {
            Some(now) => self.now.insert(change.key.clone(), now.clone()),
            None => self.now.remove(&change.key),
        };
        if change.before.is_none() && change.now.is_none() {
            return;
        }
        if let Some(field) = indexed_field {
            self.reindex(&change, field);
        }
        self.changed_at = self.changed_at.max(change.revision);
        let change = Arc::new(change);
        self.watchers.deliver(&change, indexed_field);
        self.changes.push_back(change);
        self.since_root += 1;
        if self.since_root >= CHANGES_A_ROOT {
            self.since_root = 0;
            self.roots.push_back((self.changed_at, self.now.clone()));
        }
    }

    fn reindex(&mut self, change: &Change, field: &str) {
        let value = |object: &Option<Arc<Object>>| {
            let value = object.as_ref().and_then(|object| object.field(field))?;
            (!value.is_empty()).then(|| Box::<str>::from(value))
        };
        let (before, now) = (value(&change.before), value(&change.now));
        if before == now {
            return;
        }
        if let Some(before) = before
            && let Some(keys) = self.index.get_mut(&before)
        {
            keys.remove(&change.key);
            if keys.is_empty() {
                self.index.remove(&before);
            }
        }
        if let Some(now) = now {
            self.index.entry(now).or_default().insert(change.key.clone());
        }
    }

    /// The position in `changes` of the first one behind a revision.
    fn behind(&self, revision: u64) -> usize {
        self.changes.partition_point(|change| change.revision <= revision)
    }
}

/// Takes a page out of a root.
pub(crate) fn page(root: &Root, request: &PageRequest<'_>) -> Page {
    let filter = request.filter;
    if let (Some(namespace), Some(name)) = (&filter.namespace, &filter.name) {
        let key = (namespace.clone(), name.clone());
        return cut(root.get_key_value(&key).into_iter(), request);
    }
    let namespace = filter.namespace.as_deref().unwrap_or_default();
    cut(in_namespace(root, namespace, request.after), request)
}

/// Filters, and stops at the limit.
fn cut<'a>(
    objects: impl Iterator<Item = (&'a Key, &'a Arc<Object>)>,
    request: &PageRequest<'_>,
) -> Page {
    let filter = request.filter;
    let mut objects = objects
        .filter(|(key, object)| {
            request.after.is_none_or(|after| *key > after) && filter.matches(object)
        })
        .map(|(_, object)| object);
    if request.limit == 0 {
        return Page { objects: objects.cloned().collect(), remaining: None, more: false };
    }
    let found: Vec<_> = objects.by_ref().take(request.limit).cloned().collect();
    // Counting what a selector leaves out would mean to evaluate it; upstream doesn't either.
    let remaining = match filter.selects() {
        true => None,
        false => Some(objects.by_ref().count()).filter(|count| *count > 0),
    };
    let more = remaining.is_some() || objects.next().is_some();
    Page { objects: found, remaining, more }
}

fn in_namespace<'a>(
    root: &'a Root,
    namespace: &'a str,
    after: Option<&Key>,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> {
    let start: Key = match after {
        Some(after) => after.clone(),
        None => (namespace.into(), "".into()),
    };
    root.range(start..).take_while(move |(key, _)| namespace.is_empty() || &*key.0 == namespace)
}

fn key_of(object: &Object) -> Key {
    (object.namespace.clone(), object.name.clone())
}
