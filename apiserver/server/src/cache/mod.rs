//! The watch cache: the only reader of the store. It follows one store watch over everything and
//! keeps, for each resource, the newest objects, what led to them for a while, and who watches.
//! Gets, lists, watches, authorisers and admission are all answered from here, so the store sees
//! nothing but writes and one watcher.
//!
//! A most-recent read asks the store for its revision and waits until the cache has got there. An
//! error of the store's watch never ends the cache: it resumes where it was or, where that is
//! compacted, loads everything again and tells watchers the difference.

mod custom;
mod load;
mod progress;
mod resource;
mod watcher;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::Lookup;
use windlass_apiserver_registry::Registry;
use windlass_apiserver_store::{Batch, Event, KeyValue, Store, StoreError};
use windlass_sdk_meta::{Clock, GroupResource, Object, Timestamp};

pub(crate) use resource::{Change, Page, PageRequest, ResourceCache, page};
pub(crate) use watcher::{Delivery, EventType, Filter, Form, Start, Subscription};

/// How far back lists at a revision and watches from one are answered: the smaller of both.
pub(crate) const HISTORY_REVISIONS: u64 = 10_000;
pub(crate) const HISTORY: Duration = Duration::from_secs(300);
/// How often old history is dropped and the store is compacted.
const TRIM_EVERY: Duration = windlass_apiserver_store::CHECK_EVERY;
/// Marks that are kept: those of a bit more than an hour.
const MARKS: usize = 365;
/// How long a read waits for the cache to reach the revision it asks for, as upstream's does.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// Where one watch of the whole store begins.
const ROOT: &str = "/";
/// Names that must be unique in the cluster; no resource.
pub(crate) const CLAIMS: &str = "/claims/";

pub(crate) type Resources = BTreeMap<GroupResource, Arc<ResourceCache>>;

/// All resources in memory.
pub(crate) struct Cache {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    resources: RwLock<Arc<Resources>>,
    /// What each CustomResourceDefinition came to.
    definitions: Mutex<custom::Definitions>,
    /// Write-locked for a moment when definitions have changed.
    custom_writes: tokio::sync::RwLock<()>,
    /// Everything up to here is in `resources` and handed to their watchers.
    reached: progress::Progress,
    /// Objects of writes under way, by the address of their bytes: when the store's watch brings
    /// the same bytes back, nothing is decoded a second time.
    prepared: Mutex<HashMap<usize, Object>>,
    claims: Mutex<BTreeMap<Arc<str>, Claim>>,
    /// (when, reached then), oldest first, one a trim: tells how old a revision is.
    marks: Mutex<VecDeque<(Timestamp, u64)>>,
    /// The store was last asked to forget what is older than this.
    compacting: AtomicU64,
}

/// A unique name that is taken, and by which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub revision: u64,
    pub holder: Arc<[u8]>,
}

/// Takes back a prepared object whose write did not happen.
pub(crate) struct Prepared<'a> {
    cache: &'a Cache,
    /// Held so that the address stays ours.
    bytes: Option<Arc<[u8]>>,
}

impl Cache {
    /// Reads the whole store. `follow_until` must run for the cache to move on.
    pub async fn load(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let resources: Resources = registry
            .builtin_kinds()
            .iter()
            .filter(|kind| !kind.virtual_only)
            .map(|kind| (kind.group_resource(), Arc::new(ResourceCache::new(kind.clone()))))
            .collect();
        let cache = Self {
            store,
            clock,
            registry,
            resources: RwLock::new(Arc::new(resources)),
            definitions: Mutex::default(),
            custom_writes: tokio::sync::RwLock::default(),
            reached: progress::Progress::default(),
            prepared: Mutex::default(),
            claims: Mutex::default(),
            marks: Mutex::default(),
            compacting: AtomicU64::new(0),
        };
        cache.reload().await?;
        Ok(Arc::new(cache))
    }

    pub fn resource(&self, resource: &GroupResource) -> Option<Arc<ResourceCache>> {
        self.resources.read().get(resource).cloned()
    }

    /// All of them, as they are now: custom kinds come and go.
    pub fn resources(&self) -> Arc<Resources> {
        self.resources.read().clone()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Everything up to here is visible.
    pub fn reached(&self) -> u64 {
        self.reached.get()
    }

    /// Waits until everything that is committed now is visible.
    pub async fn fresh(&self) -> Result<u64, StoreError> {
        let newest = self.store.current_revision().await?;
        match self.wait_for(newest).await {
            true => Ok(newest),
            false => Err(StoreError::Unavailable(format!(
                "the watch cache has not reached revision {newest} in {FRESHNESS_TIMEOUT:?}"
            ))),
        }
    }

    /// Waits for a revision for a while; tells whether it has been reached.
    pub async fn wait_for(&self, revision: u64) -> bool {
        if self.reached() >= revision {
            return true;
        }
        tokio::time::timeout(FRESHNESS_TIMEOUT, self.reached.reach(revision)).await.is_ok()
    }

    /// The oldest revision that lists may still name.
    pub fn oldest_exact(&self) -> u64 {
        let by_time = self.reached_before(HISTORY);
        by_time.max(self.reached().saturating_sub(HISTORY_REVISIONS))
    }

    /// What was reached so long ago, as far as `MARKS` tell: whatever was not changed since has a
    /// revision up to this one.
    pub fn reached_before(&self, age: Duration) -> u64 {
        let horizon = self.before_now(age);
        let marks = self.marks.lock();
        let mark = marks.iter().rev().find(|(at, _)| *at <= horizon);
        mark.map_or(0, |(_, revision)| *revision)
    }

    /// Announces an object that is about to be committed with exactly these bytes.
    pub fn prepare(&self, object: Object) -> Prepared<'_> {
        let bytes = object.encoded().bytes().clone();
        self.prepared.lock().insert(address_of(&bytes), object);
        Prepared { cache: self, bytes: Some(bytes) }
    }

    pub fn claim(&self, key: &str) -> Option<Claim> {
        self.claims.lock().get(key).cloned()
    }

    /// Reads the store's watch until told to end; run it as a task.
    pub async fn follow_until(self: Arc<Self>, end: CancellationToken) {
        tokio::select! {
            biased;
            () = end.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut backoff =
            windlass_sdk_meta::Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let before = self.reached();
            match self.follow_once().await {
                StoreError::Lagged { .. } => {}
                StoreError::Compacted { .. } => {
                    if let Err(error) = self.reload().await {
                        tracing::error!(%error, "reloading the watch cache failed");
                    }
                }
                error => tracing::warn!(%error, "the store's watch ended; resuming"),
            }
            if self.reached() > before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Follows one store watch until it fails.
    async fn follow_once(&self) -> StoreError {
        use futures::StreamExt as _;
        let mut stream = match self.store.watch(ROOT, self.reached()).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let mut trim = tokio::time::interval(TRIM_EVERY);
        trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                batch = stream.next() => match batch {
                    Some(Ok(batch)) => {
                        // A kind is served before anybody is told that it is.
                        if let Err(error) = self.redefine(&batch).await {
                            return error;
                        }
                        self.apply(batch);
                    }
                    Some(Err(error)) => return error,
                    None => return StoreError::Unavailable("the stream ended".into()),
                },
                _ = trim.tick() => self.trim(),
            }
        }
    }

    /// Takes in whole revisions, resource by resource, then makes them known.
    fn apply(&self, batch: Batch) {
        let at = self.clock.now();
        let resources = self.resources();
        let mut changes: BTreeMap<GroupResource, Vec<Change>> = BTreeMap::new();
        for event in batch.events {
            let key: Arc<str> = match &event {
                Event::Put { now, .. } => now.key.clone(),
                Event::Delete { key, .. } => key.clone(),
            };
            if key.starts_with(CLAIMS) {
                self.apply_claim(event);
                continue;
            }
            let Some((resource, cache, namespace, name)) = locate(&resources, &key) else {
                continue;
            };
            let change = match event {
                Event::Put { now, .. } => self.put_change(cache, now, at),
                Event::Delete { revision, .. } => {
                    Some(Change::deleted(namespace, name, revision, at))
                }
            };
            match change {
                Some(change) => changes.entry(resource).or_default().push(change),
                None => tracing::error!(%key, "an object in the store is not readable; skipped"),
            }
        }
        for (resource, changes) in changes {
            if let Some(cache) = resources.get(&resource) {
                cache.apply(changes);
                cache.trim(Timestamp::MIN, batch.revision.saturating_sub(HISTORY_REVISIONS));
            }
        }
        self.reached.advance(batch.revision);
    }

    fn apply_claim(&self, event: Event) {
        let mut claims = self.claims.lock();
        match event {
            Event::Put { now, .. } => {
                let claim = Claim { revision: now.mod_revision, holder: now.value };
                claims.insert(now.key, claim);
            }
            Event::Delete { key, .. } => {
                claims.remove(&key);
            }
        }
    }

    fn put_change(&self, cache: &ResourceCache, now: KeyValue, at: Timestamp) -> Option<Change> {
        let prepared = self.prepared.lock().remove(&address_of(&now.value));
        let object = match prepared {
            Some(mut object) if Arc::ptr_eq(object.encoded().bytes(), &now.value) => {
                object.revision = now.mod_revision;
                object
            }
            _ => cache.kind().object_from_stored(now.value, now.mod_revision)?,
        };
        Some(Change::put(Arc::new(object), at))
    }

    /// Drops history that is too old, here and in the store.
    fn trim(&self) {
        let (now, reached) = (self.clock.now(), self.reached());
        let horizon = self.before_now(HISTORY);
        {
            let mut marks = self.marks.lock();
            marks.push_back((now, reached));
            if marks.len() > MARKS {
                marks.pop_front();
            }
        }
        let oldest = self.oldest_exact();
        for cache in self.resources().values() {
            cache.trim(horizon, reached.saturating_sub(HISTORY_REVISIONS));
        }
        if oldest > self.compacting.swap(oldest, Ordering::Relaxed) {
            // Not waited for: what is committed meanwhile must not wait either.
            let store = self.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.compact(oldest).await {
                    tracing::warn!(%error, revision = oldest, "compacting the store failed");
                }
            });
        }
    }

    fn before_now(&self, age: Duration) -> Timestamp {
        let now = self.clock.now();
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        now.checked_sub(jiff::SignedDuration::from_secs(age)).unwrap_or(now)
    }
}

impl Lookup for Cache {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.resource(resource)?.get(namespace, name)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<Object>> {
        self.resource(resource).map(|cache| cache.all(namespace)).unwrap_or_default()
    }

    fn revision(&self, resource: &GroupResource) -> u64 {
        self.resource(resource).map_or(0, |cache| cache.changed_at())
    }

    fn pods_on_node(&self, node: &str) -> Vec<Arc<Object>> {
        let pods = self.resource(&GroupResource::new("", "pods"));
        pods.map(|pods| pods.indexed(node)).unwrap_or_default()
    }
}

impl Prepared<'_> {
    /// The write is committed: the object stays until the store's watch brings it.
    pub fn committed(mut self, revision: u64) {
        // After a reload the watch won't bring it any more.
        if self.cache.reached() < revision {
            self.bytes = None;
        }
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(bytes) = &self.bytes {
            self.cache.prepared.lock().remove(&address_of(bytes));
        }
    }
}

/// `/{group or core}/{plural}/{namespace}/{name}`; the namespace is empty for cluster-scoped kinds.
pub(crate) fn store_key(resource: &GroupResource, namespace: &str, name: &str) -> String {
    let group = if resource.group.is_empty() { "core" } else { &resource.group };
    format!("/{group}/{}/{namespace}/{name}", resource.resource)
}

fn split_key(key: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = key.strip_prefix('/')?.splitn(4, '/');
    let (group, plural) = (parts.next()?, parts.next()?);
    let (namespace, name) = (parts.next()?, parts.next()?);
    Some((if group == "core" { "" } else { group }, plural, namespace, name))
}

/// Which resource and object a store key stands for; None for keys of no served resource.
fn locate<'a, 'k>(
    resources: &'a Resources,
    key: &'k str,
) -> Option<(GroupResource, &'a ResourceCache, &'k str, &'k str)> {
    let (group, plural, namespace, name) = split_key(key)?;
    let resource = GroupResource::new(group, plural);
    let cache = resources.get(&resource)?;
    Some((resource, cache, namespace, name))
}

fn address_of(bytes: &Arc<[u8]>) -> usize {
    bytes.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let pods = GroupResource::new("", "pods");
        assert_eq!(store_key(&pods, "a", "b"), "/core/pods/a/b");
        assert_eq!(split_key("/core/pods/a/b"), Some(("", "pods", "a", "b")));
        let key = store_key(&GroupResource::new("rbac", "clusterroles"), "", "system:a/b");
        assert_eq!(split_key(&key), Some(("rbac", "clusterroles", "", "system:a/b")));
    }
}
