//! admissionregistration.k8s.io/v1: who shall be asked about writes. The objects are kept and held to
//! their rules; nothing asks them yet, and expressions are stored as they are.

mod bindings;
mod expressions;
mod matching;
mod policies;
mod webhooks;

pub use bindings::PolicyBinding;
pub use policies::Policy;
pub use webhooks::Webhooks;
