//! apiregistration.k8s.io/v1.

mod api_service;

pub use api_service::{ApiService, local_services};
