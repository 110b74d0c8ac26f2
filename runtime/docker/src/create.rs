//! What the engine is asked to make: the bodies of its `create` calls. Pure.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, HostConfigLogConfig,
    Mount as DockerMount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
};
use windlass_runtime_api::{ContainerSpec, Limits, LinuxContainer, Mount, RuntimeError, Sandbox};

use crate::{labels, pause};

/// `limits.cpu` holds in each of these.
const CPU_PERIOD_MICROS: i64 = 100_000;
/// The kernel's smallest quota of a period.
const CPU_QUOTA_MIN_MICROS: i64 = 1000;
const CPU_SHARES_MIN: i64 = 2;
/// Processes and threads of one container, which nothing in a pod's specification bounds.
pub const PIDS: i64 = 4096;
/// Docker's own copy of a log, from which ours is written: as much as can be behind.
const LOG_FILE: &str = "16m";
const LOG_FILES: &str = "2";
/// A sandbox's program must be the last that the kernel takes.
const SANDBOX_OOM_SCORE: i64 = -998;
/// Sysctls that hold for a pod alone (upstream's list of safe ones).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// A pod's sandbox.
pub fn sandbox(
    node: &str,
    pod: &Sandbox,
    least_oom_score: i64,
) -> Result<ContainerCreateBody, RuntimeError> {
    let linux = &pod.linux;
    if let Some((name, _)) =
        linux.sysctls.iter().find(|(name, _)| !SAFE_SYSCTLS.contains(&name.as_str()))
    {
        let why = format!("forbidden sysctl: {name:?} is not one of those that hold for one pod");
        return Err(RuntimeError::new("SysctlForbidden", why));
    }
    let host = |asked: bool| asked.then(|| "host".to_owned());
    Ok(ContainerCreateBody {
        hostname: (!linux.host_network).then(|| pod.hostname.clone()),
        image: Some(pause::IMAGE.to_owned()),
        entrypoint: Some(vec![pause::PATH.to_owned()]),
        labels: Some(labels::of_sandbox(node, pod)),
        host_config: Some(HostConfig {
            // Whom it may call outside can't be narrowed there, so it then calls nobody there.
            network_mode: host(linux.host_network).or_else(|| {
                let mode = if linux.reach.lists.is_empty() { "bridge" } else { "none" };
                Some(mode.to_owned())
            }),
            ipc_mode: host(linux.host_ipc).or(Some("shareable".into())),
            pid_mode: host(linux.host_pid),
            sysctls: Some(linux.sysctls.iter().cloned().collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            security_opt: Some(vec!["no-new-privileges".into()]),
            cap_drop: Some(vec!["ALL".into()]),
            readonly_rootfs: Some(true),
            oom_score_adj: Some(SANDBOX_OOM_SCORE.max(least_oom_score)),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// What a container is made beside.
pub struct Around<'a> {
    pub node: &'a str,
    pub sandbox_id: &'a str,
    /// Whose processes it sees; None: its own.
    pub target_id: Option<String>,
    /// The image's USER.
    pub image_user: &'a str,
    pub own_files: Vec<Mount>,
    /// The engine may be one that can't protect anybody from the kernel's choice.
    pub least_oom_score: i64,
}

/// One attempt of a container.
pub fn container(
    spec: &ContainerSpec,
    around: &Around<'_>,
) -> Result<ContainerCreateBody, RuntimeError> {
    let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let env = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    Ok(ContainerCreateBody {
        // Not the image's name: that may mean something else by now.
        image: Some(spec.image.digest.clone()),
        entrypoint: list(&spec.command),
        cmd: list(&spec.args),
        env: Some(env.collect()),
        working_dir: spec.working_dir.clone(),
        user: user(&spec.linux, around.image_user)?,
        tty: Some(spec.console.tty),
        open_stdin: Some(spec.console.stdin),
        stdin_once: Some(spec.console.stdin_once),
        stop_signal: spec.linux.stop_signal.clone(),
        labels: Some(labels::of_container(around.node, spec)),
        host_config: Some(host_config(spec, around)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(spec: &ContainerSpec, around: &Around<'_>) -> HostConfig {
    let (linux, pod) = (&spec.linux, &spec.pod.linux);
    let join = format!("container:{}", around.sandbox_id);
    let mounts = around.own_files.iter().chain(&spec.mounts).map(mount);
    let amounts = amounts(&spec.limits);
    let log = HashMap::from([
        ("max-size".to_owned(), LOG_FILE.to_owned()),
        ("max-file".to_owned(), LOG_FILES.to_owned()),
    ]);
    HostConfig {
        network_mode: Some(if pod.host_network { "host".into() } else { join.clone() }),
        ipc_mode: Some(if pod.host_ipc { "host".into() } else { join.clone() }),
        pid_mode: match (pod.host_pid, pod.shared_pid) {
            (true, _) => Some("host".into()),
            (false, true) => Some(join),
            (false, false) => around.target_id.as_ref().map(|id| format!("container:{id}")),
        },
        mounts: Some(mounts.collect()),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(log) }),
        cpu_shares: amounts.cpu_shares,
        cpu_period: amounts.cpu_period,
        cpu_quota: amounts.cpu_quota,
        memory: amounts.memory,
        memory_swap: amounts.memory_swap,
        pids_limit: Some(PIDS),
        oom_score_adj: Some(linux.oom_score_adj.max(around.least_oom_score)),
        privileged: Some(linux.privileged),
        readonly_rootfs: Some(linux.read_only_root),
        cap_add: Some(capabilities(&linux.add_capabilities)),
        cap_drop: Some(capabilities(&linux.drop_capabilities)),
        group_add: Some(linux.groups.iter().map(i64::to_string).collect()),
        security_opt: Some(security(linux)),
        ..HostConfig::default()
    }
}

/// What of a container can change while it runs.
pub fn amounts(limits: &Limits) -> ContainerUpdateBody {
    let memory = limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let weight = limits.cpu_weight_millis.or(limits.cpu_millis);
    ContainerUpdateBody {
        cpu_shares: Some(shares(weight.unwrap_or_default())),
        cpu_period: limits.cpu_millis.map(|_| CPU_PERIOD_MICROS),
        cpu_quota: limits.cpu_millis.map(quota),
        memory,
        // No swap beside it: the limit is the limit.
        memory_swap: memory,
        ..ContainerUpdateBody::default()
    }
}

/// The user that a container runs as, where the pod says so. The words of the errors are upstream's.
fn user(linux: &LinuxContainer, image_user: &str) -> Result<Option<String>, RuntimeError> {
    let refused = |why: String| Err(RuntimeError::new(CONFIG_ERROR, why));
    if linux.non_root {
        let name = image_user.split(':').next().unwrap_or_default();
        match (linux.user, name.parse::<i64>()) {
            (Some(0), _) => {
                return refused("container's runAsUser breaks non-root policy".into());
            }
            (Some(_), _) => {}
            (None, Ok(0)) => {
                return refused("container has runAsNonRoot and image will run as root".into());
            }
            (None, Err(_)) if name.is_empty() => {
                return refused("container has runAsNonRoot and image will run as root".into());
            }
            (None, Ok(_)) => {}
            (None, Err(_)) => {
                return refused(format!(
                    "container has runAsNonRoot and image has non-numeric user ({name}), cannot \
                     verify user is non-root"
                ));
            }
        }
    }
    Ok(match (linux.user, linux.group) {
        (None, None) => None,
        (Some(user), None) => Some(user.to_string()),
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (None, Some(group)) => {
            let user = image_user.split(':').next().unwrap_or_default();
            Some(format!("{}:{group}", if user.is_empty() { "0" } else { user }))
        }
    })
}

fn mount(of: &Mount) -> DockerMount {
    DockerMount {
        target: Some(of.container_path.clone()),
        source: Some(of.host_path.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(of.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..DockerMount::default()
    }
}

/// Thousandths of a core as the kernel's weight, of which 1024 is one core.
fn shares(millis: u32) -> i64 {
    (i64::from(millis) * 1024 / 1000).max(CPU_SHARES_MIN)
}

fn quota(millis: u32) -> i64 {
    (i64::from(millis) * CPU_PERIOD_MICROS / 1000).max(CPU_QUOTA_MIN_MICROS)
}

/// Pods name them with and without `CAP_`.
fn capabilities(named: &[String]) -> Vec<String> {
    named.iter().map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
}

fn security(linux: &LinuxContainer) -> Vec<String> {
    let mut options = Vec::new();
    // A privileged container has all privileges already.
    if linux.no_new_privileges && !linux.privileged {
        options.push("no-new-privileges".to_owned());
    }
    if linux.seccomp_unconfined {
        options.push("seccomp=unconfined".to_owned());
    }
    if let Some(profile) = &linux.apparmor {
        options.push(format!("apparmor={profile}"));
    }
    options
}

/// A file of the node's own that a container sees.
pub fn own_file(host_path: &Path, container_path: &str) -> Mount {
    Mount {
        host_path: host_path.to_owned(),
        container_path: container_path.to_owned(),
        ..Mount::default()
    }
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
