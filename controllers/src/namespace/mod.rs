//! Namespaces: one that is deleted takes everything in it along.

mod act;
pub mod plan;
#[cfg(test)]
mod tests;

pub use act::Namespaces;
