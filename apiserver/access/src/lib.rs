//! Who asks, may they, and what do we make of what they ask: authentication, authorisation (Node
//! and RBAC) and admission, over a look-up of stored objects that the server hands in. Knows no
//! HTTP and no store.

mod admission;
mod authentication;
mod authorization;
mod bootstrap;
pub mod pki;
#[cfg(test)]
mod testing;
mod tokens;

use std::{collections::BTreeMap, sync::Arc};

pub use admission::{Admission, AdmissionOptions, AdmissionRequest, Charge, Operation, charge};
pub use authentication::Authenticator;
pub use authorization::{ALL_FIELDS, Attributes, Authorizer, Decision, Rule};
pub use bootstrap::bootstrap_objects;
pub use tokens::{ISSUER, Tokens, request_kind as token_request_kind};
use windlass_sdk_meta::{GroupResource, Object};

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Of a service account that showed a token; empty where nobody knows it.
    pub uid: String,
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

impl User {
    /// A user who proved to be `name`; `system:authenticated` is added to `groups`.
    pub fn authenticated(name: &str, groups: &[&str]) -> Self {
        let mut user = Self {
            name: name.into(),
            uid: String::new(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            extra: BTreeMap::new(),
        };
        user.join("system:authenticated");
        user
    }

    /// Whoever shows no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
            extra: BTreeMap::new(),
        }
    }

    /// A service account, in the groups that upstream gives to all of them and to those of its
    /// namespace.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::authenticated(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        )
    }

    /// A node agent.
    pub fn node(name: &str) -> Self {
        Self::authenticated(&format!("system:node:{name}"), &["system:nodes"])
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The name of the node whose agent this is.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
        self.in_group("system:nodes").then_some(name)
    }

    fn join(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.into());
        }
    }
}
