//! What we make of what is asked: plugins that complete or refuse a write, in upstream's order. A
//! plugin is a file with up to two functions; both orders stand in this one.

mod certificates;
mod device_admin;
mod ingress_class;
mod key_values;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod pod_resize;
mod priority;
mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;
mod topology_labels;

use std::sync::Arc;

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, GroupVersionKind, Rng, Status};

pub use quota::{Charge, charge};

use crate::{Authorizer, Lookup, User, authorization::escalation};

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
    /// Pods get a volume with a token of their account, named with this chance; None: they don't.
    pub mount_tokens: Option<Rng>,
    /// Asked whether somebody may grant more than they have (verbs `escalate` and `bind`).
    pub authorizer: Arc<Authorizer>,
}

/// All admission plugins, in order.
pub struct Admission {
    options: AdmissionOptions,
    taints_nodes: bool,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            not_ready_toleration_seconds: 0,
            unreachable_toleration_seconds: 0,
            mount_tokens: None,
            authorizer: Arc::new(Authorizer::new()),
        }
    }
}

impl Admission {
    pub fn new(options: AdmissionOptions) -> Self {
        Self { options, taints_nodes: true }
    }

    /// Leaves new nodes without the taint that only the node controller takes away: for who runs
    /// none.
    pub fn without_node_taints(self) -> Self {
        Self { taints_nodes: false, ..self }
    }

    /// Completes the object; the answer holds warnings for the person who asked.
    pub async fn mutate(
        &self,
        request: &mut AdmissionRequest<'_>,
        lookup: &dyn Lookup,
    ) -> Result<Vec<String>, Status> {
        // Refused early, so that no other plugin works for a namespace that isn't there.
        namespace_lifecycle::validate(request, lookup)?;
        node_restriction::admit(request, lookup)?;
        limit_ranger::mutate(request, lookup);
        service_account::mutate(request, lookup, self.options.mount_tokens.as_ref()).await?;
        if self.taints_nodes {
            node_taint::mutate(request);
        }
        priority::mutate(request, lookup)?;
        tolerations::mutate(request, &self.options);
        storage::mutate(request, lookup);
        runtime_class::mutate(request, lookup)?;
        certificates::mutate(request);
        ingress_class::mutate(request, lookup)?;
        topology_labels::mutate(request, lookup);
        Ok(Vec::new())
    }

    /// Accepts or refuses the object as it would be stored.
    pub async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        lookup: &dyn Lookup,
    ) -> Result<Vec<String>, Status> {
        namespace_lifecycle::validate(request, lookup)?;
        limit_ranger::validate(request, lookup)?;
        node_restriction::validate(request, lookup)?;
        priority::validate(request, lookup)?;
        storage::validate(request, lookup)?;
        certificates::validate(&self.options.authorizer, request, lookup)?;
        service_account::validate(request, lookup)?;
        key_values::validate(request, lookup)?;
        runtime_class::validate(request, lookup)?;
        pod_resize::validate(request, lookup)?;
        device_admin::validate(request, lookup)?;
        escalation::check(&self.options.authorizer, request, lookup)?;
        Ok(Vec::new())
    }
}

impl AdmissionRequest<'_> {
    /// The name as messages tell it: of a new object what it calls itself, or would begin with.
    pub(crate) fn target_name(&self) -> &str {
        if !self.name.is_empty() {
            return self.name;
        }
        let metadata = self.object.as_deref().map(|object| &object["metadata"]);
        let name = |key: &str| metadata.and_then(|m| m[key].as_str()).filter(|n| !n.is_empty());
        name("name").or_else(|| name("generateName")).unwrap_or("Unknown")
    }

    pub(crate) fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(self.resource, self.target_name(), why)
    }
}

#[cfg(test)]
mod tests;
