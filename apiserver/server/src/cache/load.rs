//! Reading everything from the store: at start, and again where the store's watch can't be resumed.

use std::{collections::BTreeMap, sync::Arc};

use windlass_apiserver_store::{KeyValue, RangeRequest, StoreError};
use windlass_sdk_meta::{GroupResource, Object};

use super::{CLAIMS, Cache, Claim, ROOT, Resources, locate};

/// Keys in one answer of the store: bounds what is in memory twice.
const PAGE_KEYS: usize = 5_000;

impl Cache {
    /// Makes the cache what the store is now. Watchers see the difference as changes; revisions
    /// between are unknown, so lists and watches from before are told to start again.
    pub(super) async fn reload(&self) -> Result<(), StoreError> {
        let revision = self.define_all().await?;
        let mut request = RangeRequest {
            revision,
            prefix: ROOT.into(),
            limit: PAGE_KEYS,
            ..RangeRequest::default()
        };
        let resources = self.resources();
        let mut objects: BTreeMap<GroupResource, Vec<Arc<Object>>> = BTreeMap::new();
        let mut claims = BTreeMap::new();
        loop {
            let page = self.store.range(request.clone()).await?;
            let next = page.items.last().map(|last| format!("{}\0", last.key));
            for item in page.items {
                if item.key.starts_with(CLAIMS) {
                    let claim = Claim { revision: item.mod_revision, holder: item.value };
                    claims.insert(item.key, claim);
                } else if let Some((resource, object)) = read(&resources, item) {
                    objects.entry(resource).or_default().push(object);
                }
            }
            match next.filter(|_| page.more) {
                Some(next) => request.start = next,
                None => break,
            }
        }
        let at = self.clock.now();
        *self.claims.lock() = claims;
        self.prepared.lock().clear();
        for (resource, cache) in &*resources {
            cache.replace(objects.remove(resource).unwrap_or_default(), request.revision, at);
        }
        self.marks.lock().push_back((at, request.revision));
        self.reached.reset(request.revision);
        Ok(())
    }
}

fn read(resources: &Resources, item: KeyValue) -> Option<(GroupResource, Arc<Object>)> {
    let (resource, cache, ..) = locate(resources, &item.key)?;
    match cache.kind().object_from_stored(item.value, item.mod_revision) {
        Some(object) => Some((resource, Arc::new(object))),
        None => {
            tracing::error!(key = %item.key, "an object in the store is not readable; skipped");
            None
        }
    }
}
