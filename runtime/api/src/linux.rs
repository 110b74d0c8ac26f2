//! What only containers of the kernel have: users, capabilities, namespaces. A runtime of guests that
//! have none of these passes over it; what a pod asks in vain is refused before, by the agent.

use crate::Reach;

/// What all containers of a pod share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxSandbox {
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// The pod's containers see each other's processes.
    pub shared_pid: bool,
    pub sysctls: Vec<(String, String)>,
    /// `/etc/resolv.conf`, and what stands for it where the cluster's DNS can't be reached.
    pub resolv_conf: String,
    pub host_resolv_conf: String,
    /// Whom all of its processes may call: containers of one pod share one network.
    pub reach: Reach,
}

/// How one container is held by the kernel. None and empty: as its image and the engine have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxContainer {
    pub user: Option<i64>,
    pub group: Option<i64>,
    /// An image that would run as root is refused.
    pub non_root: bool,
    pub groups: Vec<i64>,
    pub privileged: bool,
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub seccomp_unconfined: bool,
    /// `unconfined`, or a profile that the machine has loaded.
    pub apparmor: Option<String>,
    /// Such as `SIGINT`.
    pub stop_signal: Option<String>,
    pub oom_score_adj: i64,
    /// The container of the pod whose processes it sees.
    pub target: Option<String>,
}
