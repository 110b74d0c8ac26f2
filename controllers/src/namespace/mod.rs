//! namespace
pub mod plan;
