//! The images of one node. A store is a folder in the OCI image layout, so that other tools can
//! read it: content by its digest, and an index of names. Everything is written beside its place
//! and moved there when it is whole, so a process may die at any moment.

mod reference;
mod store;

pub use reference::{Reference, ReferenceError};
pub use store::{Builtin, ImageError, ImageStore, Listed};
