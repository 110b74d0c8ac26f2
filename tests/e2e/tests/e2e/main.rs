//! What a person does with Windlass, with the real kubectl, against the real binary.
//! Tests that only read or work in a namespace of their own share one cluster.
#![allow(clippy::disallowed_methods, reason = "tests watch real processes on the machine's clock")]

mod admission;
mod apply;
mod attacks;
mod bad_input;
mod clients;
mod cluster_registry;
mod containers;
mod crowds;
mod customs;
mod engine;
mod etcd;
mod faults;
mod health;
mod helm;
mod images;
mod languages;
mod lifecycle;
mod network;
mod newcomer;
mod observe;
mod other_clients;
mod pods;
mod pushes;
mod reach;
mod registries;
mod resize;
mod sdk;
mod session;
mod sharing;
mod spin;
mod streams;
mod survival;
mod tokens;
mod tour;

use windlass_tests_e2e::Cluster;

/// The shared cluster, started by the first test that needs it.
fn shared() -> &'static Cluster {
    static CLUSTER: std::sync::OnceLock<Cluster> = std::sync::OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start().expect("the shared cluster starts"))
}
