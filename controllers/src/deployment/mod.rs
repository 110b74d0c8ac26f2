//! Deployments.

pub mod plan;
pub mod revision;
pub mod scale;
pub mod status;
