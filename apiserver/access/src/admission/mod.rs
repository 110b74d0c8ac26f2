//! What we make of what is asked: plugins that complete or refuse a write, in upstream's order.

use std::sync::Arc;

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, GroupVersionKind, Status};

use crate::{Authorizer, Lookup, User};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A write on its way to the store.
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub kind: &'a GroupVersionKind,
    pub resource: &'a GroupResource,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources; of a Namespace its own name.
    pub namespace: &'a str,
    /// Empty where the server still has to make a name, and for deletecollection.
    pub name: &'a str,
    /// What would be stored; None on delete.
    pub object: Option<&'a mut Value>,
    /// What is stored; None on create.
    pub old: Option<&'a Value>,
    pub user: &'a User,
    pub dry_run: bool,
}

/// What the plugins can be told.
#[derive(Clone)]
pub struct AdmissionOptions {
    /// `tolerationSeconds` for `node.kubernetes.io/not-ready:NoExecute`.
    pub not_ready_toleration_seconds: i64,
    /// `tolerationSeconds` for `node.kubernetes.io/unreachable:NoExecute`.
    pub unreachable_toleration_seconds: i64,
    /// Asked whether somebody may grant more than they have (verbs `escalate` and `bind`).
    pub authorizer: Arc<Authorizer>,
}

/// All admission plugins, in order.
pub struct Admission {
    _options: AdmissionOptions,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            not_ready_toleration_seconds: 0,
            unreachable_toleration_seconds: 0,
            authorizer: Arc::new(Authorizer::new()),
        }
    }
}

impl Admission {
    pub fn new(options: AdmissionOptions) -> Self {
        Self { _options: options }
    }

    /// Completes the object; the answer holds warnings for the person who asked.
    pub async fn mutate(
        &self,
        _request: &mut AdmissionRequest<'_>,
        _lookup: &dyn Lookup,
    ) -> Result<Vec<String>, Status> {
        Ok(Vec::new())
    }

    /// Accepts or refuses the object as it would be stored.
    pub async fn validate(
        &self,
        _request: &AdmissionRequest<'_>,
        _lookup: &dyn Lookup,
    ) -> Result<Vec<String>, Status> {
        Ok(Vec::new())
    }
}
