//! resource.k8s.io/v1: devices that drivers offer (slices), what workloads ask of them (claims and
//! templates), classes of them, and taints.

mod claim;
mod claim_status;
mod device;
mod device_class;
mod expressions;
mod names;
mod requests;
mod slice;
mod taint_rule;

pub use claim::{Claim, ClaimTemplate};
pub use device_class::DeviceClass;
pub use slice::Slice;
pub use taint_rule::TaintRule;
