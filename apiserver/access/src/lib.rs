//! Who asks, may they, and what do we make of what they ask: authentication, authorisation (Node
//! and RBAC) and admission, over a look-up of stored objects that the server hands in. Knows no
//! HTTP and no store.

use std::{collections::BTreeMap, sync::Arc};

use windlass_sdk_meta::{GroupResource, Object};

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Stored objects as authorisers and admission read them: the watch cache, most recent state known.
pub trait Lookup: Send + Sync {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>>;
    /// All of a namespace, or of the cluster where `namespace` is empty.
    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<Object>>;
    /// Grows whenever anything of the resource changes: what was computed from it is then stale.
    fn revision(&self, resource: &GroupResource) -> u64;
    /// The pods bound to a node, from an index.
    fn pods_on_node(&self, node: &str) -> Vec<Arc<Object>>;
}
