//! The controllers: each brings one part of the cluster from what is observed to what is wanted.
//!
//! What to do is decided by pure functions (`*/plan.rs`: observed state in, actions and the reason
//! out); `*/act.rs` carries actions out; `kit` drives both. They talk to the API only, each in its
//! own name, so each also works against an upstream cluster in place of upstream's.

mod deployment;
mod disruption;
mod endpointslice;
mod garbage;
mod kit;
mod namespace;
mod node_taints;
mod protection;
mod quota;
mod replicaset;
mod root_ca;
mod service_account;
#[cfg(test)]
mod testing;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use windlass_sdk_client::Cluster;

pub use root_ca::NAME as ROOT_CA_PUBLISHER;

/// Every controller, in the order of names.
pub fn all() -> Vec<ControllerRow> {
    vec![
        row!("deployment-controller", deployment::Deployments),
        row!("disruption-controller", disruption::Disruptions),
        row!("endpointslice-controller", endpointslice::EndpointSlices),
        row!("generic-garbage-collector", garbage::Garbage),
        row!("namespace-controller", namespace::Namespaces),
        row!("node-controller", node_taints::NodeTaints),
        row!("pv-protection-controller", protection::Volumes),
        row!("pvc-protection-controller", protection::Claims),
        row!("replicaset-controller", replicaset::ReplicaSets),
        row!("resourcequota-controller", quota::Quotas),
        row!("service-account-controller", service_account::ServiceAccounts),
        row!("volumeattributesclass-protection-controller", protection::AttributesClasses),
    ]
}

/// Publishes the authority's certificate (PEM) in every namespace, in the name of the service
/// account [`ROOT_CA_PUBLISHER`], until the token is cancelled. Not one of `all`: it needs to be
/// told the certificate.
pub async fn publish_root_ca(
    cluster: Cluster,
    certificate_pem: String,
    shutdown: CancellationToken,
) {
    kit::run(root_ca::RootCa::new(&cluster, certificate_pem), shutdown).await;
}

/// One controller: who it is and how it is run.
pub struct ControllerRow {
    /// The ServiceAccount in kube-system in whose name it acts; its role is
    /// `system:controller:NAME`. Both are upstream's.
    pub name: &'static str,
    /// Runs until the token is cancelled. `Cluster::client` is the controller's own identity,
    /// `Cluster::informers` may be shared by all.
    pub run: fn(Cluster, CancellationToken) -> BoxFuture<'static, ()>,
}

macro_rules! row {
    ($name:literal, $controller:ty) => {
        ControllerRow {
            name: $name,
            run: |cluster, shutdown| {
                Box::pin(async move { kit::run(<$controller>::new(&cluster), shutdown).await })
            },
        }
    };
}
use row;
