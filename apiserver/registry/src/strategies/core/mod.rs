//! The core group.

mod config_map;
mod event;
mod namespace;
mod node;
pub mod pod;
mod secret;
mod service;
mod service_account;
pub mod service_ports;
pub mod service_rules;

pub use config_map::ConfigMap;
pub use event::{Event, selectable as event_selectable};
pub use namespace::Namespace;
pub use node::Node;
pub use pod::Pod;
pub use secret::Secret;
pub use service::Service;
pub use service_account::ServiceAccount;
