//! The store on a real folder: what is imported or pulled is found, what is cut off, damaged or no
//! image for this node is not.

mod forms;
mod registry;
mod store;
