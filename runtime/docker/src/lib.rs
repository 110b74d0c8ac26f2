//! Ordinary containers, run by the Docker engine of this machine. What exists is what the engine says
//! exists: containers carry labels that say whose they are, and an agent that comes back finds them
//! by these. Knows no Kubernetes object; the only crate that knows bollard.

mod collect;
mod container;
mod create;
mod engine;
mod exec;
mod files;
mod images;
mod labels;
mod logs;
mod network;
mod observe;
mod pause;
mod runtime;
mod sandbox;
mod stats;
mod terminal;

pub use engine::{DockerHost, HostError, remove_all};
pub use runtime::{DockerConfig, DockerRuntime};
