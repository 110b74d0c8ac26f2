//! What an agent is handed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use windlass_runtime_api::Runtime;
use windlass_runtime_net::{Block, PodNet};
use windlass_sdk_client::Cluster;

use crate::{images::Images, records::Records};

/// Everything of one node. Nothing in it is global, so a process may run several.
pub struct AgentConfig {
    pub node: NodeFacts,
    /// With the node's own identity (`system:node:NAME`).
    pub cluster: Cluster,
    /// The first runs wasm, and always answers; another may run containers.
    pub runtimes: Vec<Arc<dyn Runtime>>,
    pub images: Arc<dyn Images>,
    /// The address of the cluster's DNS, for containers; None: they ask whom the machine asks.
    pub cluster_dns: Option<Ipv4Addr>,
    /// Where pods get their addresses.
    pub pod_block: Block,
    pub records: Records,
    /// Container logs go to `LOG_DIR/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log`.
    pub log_dir: PathBuf,
    /// Volumes are below `VOLUME_DIR/UID`. None in the simulation, where nothing is mounted.
    pub volume_dir: Option<PathBuf>,
    /// None in the simulation.
    pub kubelet: Option<Kubelet>,
    /// How long containers may finish their requests when the agent is told to stop.
    pub drain: Duration,
}

/// The kubelet API's socket.
pub struct Kubelet {
    pub listener: TcpListener,
    /// Asks for client certificates of the cluster's CA; see [`crate::kubelet_tls`].
    pub tls: Arc<rustls::ServerConfig>,
    /// The common name the API server's client certificate must have.
    pub client_name: String,
    /// Through which the ports of pods are forwarded.
    pub net: PodNet,
}

/// What the Node object says of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    /// `InternalIP`, and `hostIP` of its pods.
    pub address: IpAddr,
    pub cpu_millis: i64,
    pub memory_bytes: u64,
    /// Of the disk that logs and volumes are on; 0 where nobody knows.
    pub disk_bytes: u64,
    pub pods: u32,
    /// Beside those that every node gets.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes' name, such as `amd64`.
    pub architecture: String,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    /// `kubeletVersion`: the version of the API this node speaks, such as `v1.37.0+windlass`.
    pub version: String,
    /// `containerRuntimeVersion`, such as `wasm://48.0.8`.
    pub runtime_version: String,
}

impl NodeFacts {
    /// Asks this machine. What it doesn't tell stays empty.
    pub fn of_machine(name: &str, address: IpAddr, version: &str, runtime_version: &str) -> Self {
        let read = |path: &str| {
            std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let memory = read("/proc/meminfo");
        let memory_kib = memory.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
        });
        let release = read("/etc/os-release");
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            name: name.to_owned(),
            address,
            cpu_millis: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory_bytes: memory_kib.unwrap_or_default() * 1024,
            disk_bytes: 0,
            pods: 10_000,
            labels: BTreeMap::new(),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            machine_id: read("/etc/machine-id"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            version: version.to_owned(),
            runtime_version: runtime_version.to_owned(),
        }
    }

    /// Knows the size of the disk that a folder is on.
    pub fn with_disk_of(mut self, folder: &Path) -> Self {
        if let Ok(disk) = rustix::fs::statvfs(folder) {
            self.disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        }
        self
    }
}

/// Go's name of an architecture.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
