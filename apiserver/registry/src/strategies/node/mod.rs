//! node.k8s.io/v1.

mod runtime_class;

pub use runtime_class::RuntimeClass;
