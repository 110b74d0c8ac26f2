//! Garbage.

pub mod graph;
pub mod plan;
