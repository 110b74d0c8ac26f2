//! Kubernetes' kinds as Rust types, for logic: controllers, scheduler, agent. Storage never uses
//! them, because a type loses the fields it doesn't know.
//!
//! This is the one crate that encodes and decodes them. A crate that instantiates serde for a kind
//! pays about 0.15 s of compile time for it, so the kinds implement `Kind` here with concrete
//! functions, and generic code elsewhere (informers, requests) calls those.

mod descriptions;
mod kind;
mod own;

pub use descriptions::Descriptions;
pub use k8s_openapi::{ByteString, Metadata, Resource, api, apimachinery};
pub use kind::{DecodeError, Kind, WatchEvent, decode_list, decode_watch_event, path};
pub use own::{KeyValue, KeyValueSpec};

/// The kinds most code names, without their long paths.
pub use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Event, Namespace, Node, ObjectReference, PersistentVolume,
            PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        node::v1::RuntimeClass,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        storage::v1::VolumeAttributesClass,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, MicroTime, ObjectMeta, Time},
};
