//! The images of one node. A store is a folder in the OCI image layout, so that other tools can
//! read it: content by its digest, and an index of names. Everything is written beside its place
//! and moved there when it is whole, so a process may die at any moment.
//!
//! `archive.rs` takes in what a person has as a file, `pull.rs` what a registry has; both fill a
//! `staging.rs` folder. `distribution.rs` is the store as a registry of the cluster sees it. `settle.rs` finds the wasm in it, by the rules of `windlass_sdk_package`.

mod app;
mod archive;
mod attached;
mod collect;
mod container;
mod credentials;
mod distribution;
mod error;
mod extract;
mod meter;
mod pull;
mod push;
mod reference;
mod registries;
mod settle;
mod staging;
mod store;
mod tree;
mod zstd;

pub use attached::{Attached, attached};
pub use collect::Removed;
pub use container::{ContainerArchive, loaded_name};
pub use credentials::{Credential, Credentials};
pub use distribution::CLUSTER_REGISTRY;
pub use error::ImageError;
pub use meter::{Meter, Passed};
pub use pull::Pulled;
pub use push::{Package, Packing, Pushed, push};
pub use reference::{Reference, ReferenceError};
pub use registries::{Registries, RegistriesError};
pub use settle::Settled;
pub use store::{Builtin, IMAGE_LIMIT_BYTES, ImageStore, Inspected, Listed, Origin, Users};
pub use windlass_sdk_package::says_wasm;
