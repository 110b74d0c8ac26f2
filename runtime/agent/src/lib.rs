//! The node agent: registers its node, runs the pods that are bound to it in a runtime, and tells
//! what became of them. It knows no runtime by name and reaches the cluster through the API only,
//! so it also works against an upstream API server.
//!
//! `plan.rs` decides (pure), `act.rs` carries out, `agent.rs` is the loop between them. What a
//! container shows comes from `status.rs`; what a node shows from `node.rs`; `kubelet.rs` answers
//! the API server's questions about logs and images. `alone.rs` is for a machine without a cluster.

mod act;
mod agent;
mod alone;
mod call;
mod config;
mod env;
mod env_file;
mod eviction;
mod fields;
mod grpc;
mod health;
mod host_ports;
mod images;
mod kubelet;
mod kubelet_streams;
mod kubelet_upgrade;
mod linux;
mod log_files;
mod log_watch;
mod logs;
mod mounts;
mod names;
mod node;
mod order;
mod plan;
mod probe;
mod reach;
mod records;
mod resize;
mod runtimes;
mod state;
mod stats;
mod status;
mod statuses;
mod storage;
mod unsupported;
mod volumes;

pub use agent::{AgentError, run};
pub use alone::{Logs, container_alone};
pub use config::{AgentConfig, Kubelet, NodeFacts};
pub use fields::pod_fields_markdown;
pub use images::{Images, Upload};
pub use kubelet::{TlsError, kubelet_tls};
pub use records::Records;
pub use state::{ContainerRecord, Record, Terminated};
pub use volumes::remove_volumes;
