//! Kinds that come at run time, as the store says: a CustomResourceDefinition that is established has
//! rows in the kind table and a resource here. Both are in place before any reader sees the change
//! that made them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use windlass_apiserver_custom::{
    GROUP, PLURAL, established, in_use_since, kinds_of, replace, sort_kinds,
};
use windlass_apiserver_registry::Kind;
use windlass_apiserver_store::{Batch, Event, RangeRequest, StoreError};
use windlass_sdk_meta::{GroupResource, Object};

use super::{Cache, Resources, resource::ResourceCache, store_key};

/// Keys in one answer of the store.
const PAGE_KEYS: usize = 500;

/// How long a change of a kind waits for writes that began before it.
const WRITES_TAKE: Duration = Duration::from_secs(5);

/// What each definition came to, by its key.
pub(super) type Definitions = BTreeMap<Arc<str>, Rows>;

/// The rows of a definition, and what of it they were made from.
pub(super) struct Rows {
    made_from: [u8; 32],
    rows: Vec<Arc<Kind>>,
}

impl Cache {
    /// Reads all definitions, and makes their rows; answers with the revision they were read at.
    pub(super) async fn define_all(&self) -> Result<u64, StoreError> {
        let prefix = definitions_prefix();
        let (mut found, mut revision) = (Definitions::new(), 0);
        let mut start = String::new();
        loop {
            let page = self.range(&prefix, &start, revision).await?;
            // All pages are read at the revision of the first.
            if revision == 0 {
                revision = page.revision;
            }
            let next = page.items.last().map(|last| format!("{}\0", last.key));
            for item in page.items {
                let mut known = Definitions::new();
                define(&mut known, &item.key, &item.value);
                found.append(&mut known);
            }
            match next.filter(|_| page.more) {
                Some(next) => start = next,
                None => break,
            }
        }
        *self.definitions.lock() = found;
        self.serve_customs(None).await?;
        self.settle(revision);
        Ok(revision)
    }

    /// Takes in what a batch says about definitions.
    pub(super) async fn redefine(&self, batch: &Batch) -> Result<(), StoreError> {
        let prefix = definitions_prefix();
        let mut changed = false;
        {
            let mut definitions = self.definitions.lock();
            for event in &batch.events {
                match event {
                    Event::Put { now, .. } if now.key.starts_with(&prefix) => {
                        changed |= define(&mut definitions, &now.key, &now.value);
                    }
                    Event::Delete { key, .. } if key.starts_with(&prefix) => {
                        if let Some(gone) = definitions.remove(key) {
                            replace(&gone.rows);
                            changed = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        if changed {
            self.serve_customs(Some(batch.revision)).await?;
            // Between the change and now, others have written by the rows that were before. Those
            // that still do are through before the revision is read.
            let through = tokio::time::timeout(WRITES_TAKE, self.custom_writes.write());
            if through.await.is_err() {
                tracing::warn!("a write of a custom resource takes long while its kind changes");
            }
            let request = RangeRequest { prefix, limit: 1, ..RangeRequest::default() };
            self.settle(self.store.range(request).await?.revision);
        }
        Ok(())
    }

    /// Held while an object of a custom kind is written.
    pub async fn writing_custom(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.custom_writes.read().await
    }

    fn settle(&self, revision: u64) {
        self.definitions.lock().values().for_each(|one| in_use_since(&one.rows, revision));
    }

    /// Makes table and resources what the definitions say. A resource that is new begins with what
    /// the store has of it at a revision; without one, it is left empty for a reload to fill.
    async fn serve_customs(&self, revision: Option<u64>) -> Result<(), StoreError> {
        let mut rows: Vec<Arc<Kind>> =
            self.definitions.lock().values().flat_map(|one| one.rows.iter().cloned()).collect();
        sort_kinds(&mut rows);
        let builtin: BTreeSet<GroupResource> =
            self.registry.builtin_kinds().iter().map(|kind| kind.group_resource()).collect();
        let before = self.resources();
        let mut resources: Resources = before
            .iter()
            .filter(|(at, _)| builtin.contains(at))
            .map(|(at, of)| (at.clone(), of.clone()))
            .collect();
        for row in &rows {
            let at = row.group_resource();
            if resources.contains_key(&at) {
                continue;
            }
            let cache = match before.get(&at) {
                Some(known) => {
                    known.set_kind(row.clone());
                    known.clone()
                }
                None => {
                    let cache = Arc::new(ResourceCache::new(row.clone()));
                    if let Some(revision) = revision {
                        self.fill(&cache, &at, revision).await?;
                    }
                    cache
                }
            };
            resources.insert(at, cache);
        }
        for (at, gone) in before.iter().filter(|(at, _)| !resources.contains_key(at)) {
            tracing::info!(resource = %at, "a custom resource is no longer served");
            gone.close();
        }
        *self.resources.write() = Arc::new(resources);
        self.registry.set_custom(rows);
        Ok(())
    }

    /// What the store kept of a resource while nobody served it.
    async fn fill(
        &self,
        cache: &ResourceCache,
        resource: &GroupResource,
        revision: u64,
    ) -> Result<(), StoreError> {
        let key = store_key(resource, "", "");
        let prefix = key.trim_end_matches('/').to_owned() + "/";
        let (mut objects, mut start) = (Vec::new(), String::new());
        loop {
            let page = self.range(&prefix, &start, revision).await?;
            let next = page.items.last().map(|last| format!("{}\0", last.key));
            let kind = cache.kind();
            objects.extend(page.items.into_iter().filter_map(|item| {
                let object: Object = kind.object_from_stored(item.value, item.mod_revision)?;
                Some(Arc::new(object))
            }));
            match next.filter(|_| page.more) {
                Some(next) => start = next,
                None => break,
            }
        }
        cache.replace(objects, revision, self.clock.now());
        Ok(())
    }

    async fn range(
        &self,
        prefix: &str,
        start: &str,
        revision: u64,
    ) -> Result<windlass_apiserver_store::RangeResponse, StoreError> {
        let mut request = RangeRequest { prefix: prefix.into(), ..RangeRequest::default() };
        (request.limit, request.revision) = (PAGE_KEYS, revision);
        if !start.is_empty() {
            request.start = start.into();
        }
        self.store.range(request).await
    }
}

fn definitions_prefix() -> String {
    store_key(&GroupResource::new(GROUP, PLURAL), "", "")
}

/// Takes in one definition; tells whether its rows are others now. What doesn't concern them (its
/// labels, conditions of another type) leaves the rows that there are.
fn define(definitions: &mut Definitions, key: &Arc<str>, bytes: &[u8]) -> bool {
    let Ok(tree) = serde_json::from_slice::<Value>(bytes) else { return false };
    let made_from = serde_json::json!({"spec": tree["spec"], "names": tree["status"]["acceptedNames"],
        "established": established(&tree), "deleting": tree["metadata"]["deletionTimestamp"]});
    let made_from = Sha256::digest(made_from.to_string()).into();
    if definitions.get(key).is_some_and(|known| known.made_from == made_from) {
        return false;
    }
    let rows = kinds_of(&tree);
    if let Some(before) = definitions.insert(key.clone(), Rows { made_from, rows }) {
        replace(&before.rows);
    }
    true
}
