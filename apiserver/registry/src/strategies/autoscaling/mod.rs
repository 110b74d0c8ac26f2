//! autoscaling: v2, which is stored, and v1, which knows one metric and keeps the rest in annotations.

mod cells;
mod convert;
mod metrics;
mod pod_autoscaler;

pub use pod_autoscaler::PodAutoscaler;
