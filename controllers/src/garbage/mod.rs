//! Garbage collection by owner references, over all kinds: what is owned goes when its last owner
//! is gone (background), before its owner goes (foreground), or stays (orphan).

mod act;
mod graph;
mod monitor;
mod plan;
#[cfg(test)]
mod tests;

pub use act::Garbage;
