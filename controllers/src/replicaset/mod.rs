//! ReplicaSets: as many pods of one template as are wanted, no more even if watches are late.

mod act;
pub mod plan;
#[cfg(test)]
mod tests;

pub use act::ReplicaSets;
