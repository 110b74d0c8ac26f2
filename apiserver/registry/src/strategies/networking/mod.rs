//! networking.k8s.io/v1.

mod ingress;
mod ingress_class;
mod network_policy;

pub use ingress::Ingress;
pub use ingress_class::IngressClass;
pub use network_policy::NetworkPolicy;
