//! apiregistration.k8s.io/v1.

mod api_service;

pub use api_service::{
    ApiService, custom_service, group_order, is_kept_service, local_services, service_name,
};
