//! Quotas at the commit: what a write costs is written in the same transaction as its object, and a
//! quota that somebody else changed meanwhile is a conflict like any other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::{Mutex, MutexGuard};
use windlass_apiserver_access::{Charge, Lookup as _};
use windlass_apiserver_store::{Compare, Op, Txn};
use windlass_sdk_meta::{Encoded, GroupResource};

use crate::{ApiServer, cache::store_key};

const TURNS: usize = 32;

/// Writers that wait for their turn at a namespace's quotas; namespaces may share a turn.
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    pub async fn take(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        self.0[at].lock().await
    }
}

/// Whether the namespace has quotas.
pub(crate) fn is_bounded(server: &ApiServer, namespace: &str) -> bool {
    !namespace.is_empty() && !server.cache().list(&quotas(), namespace).is_empty()
}

/// Adds the quotas as they become to a transaction, if they are still as they were.
pub(crate) fn add(charges: &[Charge], txn: &mut Txn) {
    for Charge { quota, tree } in charges {
        let key: std::sync::Arc<str> = store_key(&quotas(), &quota.namespace, &quota.name).into();
        txn.compare.push(Compare { key: key.clone(), mod_revision: quota.revision });
        txn.ops.push(Op::Put { key, value: Encoded::from_tree(tree).bytes().clone() });
    }
}

fn quotas() -> GroupResource {
    GroupResource::new("", "resourcequotas")
}
