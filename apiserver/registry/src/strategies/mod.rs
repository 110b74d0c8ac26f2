//! One strategy a kind, by API group.

pub mod apps;
pub mod authorization;
pub mod batch;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod metrics;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod scheduling;
pub mod windlass;
