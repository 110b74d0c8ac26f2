//! flowcontrol.apiserver.k8s.io/v1.

mod bootstrap;
mod flow_schema;
mod priority_level;

pub use bootstrap::objects as flow_control_objects;
pub use flow_schema::FlowSchema;
pub use priority_level::PriorityLevel;
