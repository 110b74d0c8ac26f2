//! apps/v1.

mod deployment;
mod replica_set;
mod workload;

pub use deployment::Deployment;
pub use replica_set::ReplicaSet;
