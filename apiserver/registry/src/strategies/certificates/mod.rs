//! certificates.k8s.io/v1.

mod cluster_trust_bundle;
pub mod pem;
mod pod_certificate_request;
mod signing_request;

pub use cluster_trust_bundle::ClusterTrustBundle;
pub use pod_certificate_request::PodCertificateRequest;
pub use signing_request::SigningRequest;
