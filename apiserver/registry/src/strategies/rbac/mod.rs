//! rbac.authorization.k8s.io/v1. A role and a cluster role differ in one rule, and so do their
//! bindings: one strategy serves both.

mod binding;
mod role;

pub use binding::Binding;
pub use role::Role;
