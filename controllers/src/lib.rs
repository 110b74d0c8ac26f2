//! Controllers.

pub mod deployment;
pub mod endpointslice;
pub mod garbage;
pub mod kit;
pub mod namespace;
pub mod replicaset;
#[cfg(test)]
mod testing;
