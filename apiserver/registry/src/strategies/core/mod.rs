//! The core group.

mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
pub mod pod;
mod pod_template;
mod replication_controller;
pub mod resource_names;
mod resource_quota;
mod secret;
mod service;
mod service_account;
pub mod service_ports;
pub mod service_rules;
mod service_update;
mod volume;
pub mod volume_claim;
mod volume_sources;

pub use config_map::ConfigMap;
pub use endpoints::Endpoints;
pub use event::{Event, selectable as event_selectable};
pub use limit_range::LimitRange;
pub use namespace::Namespace;
pub use node::Node;
pub use pod::Pod;
pub use pod_template::PodTemplate;
pub use replication_controller::ReplicationController;
pub use resource_quota::ResourceQuota;
pub use secret::Secret;
pub use service::Service;
pub use service_account::ServiceAccount;
pub use volume::{Volume, validate_spec as validate_volume_spec};
pub use volume_claim::VolumeClaim;
