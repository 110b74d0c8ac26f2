//! The labels by which containers are found again, and their names. What is needed after a restart
//! of the agent is here: there is no other memory of it. Pure.

use std::{collections::HashMap, net::IpAddr, path::PathBuf};

use windlass_runtime_api::{ContainerSpec, Port, Protocol, Sandbox};

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const NODE: &str = "windlass.dev/node";
const ADDRESS: &str = "windlass.dev/address";
const ATTEMPT: &str = "windlass.dev/attempt";
const LOG_PATH: &str = "windlass.dev/log-path";
const TTY: &str = "windlass.dev/tty";
const PORTS: &str = "windlass.dev/ports";
/// What the sandbox's container is called among the pod's.
pub const SANDBOX: &str = "POD";

/// What the labels of one container say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pub pod_uid: String,
    pub pod_name: String,
    pub pod_namespace: String,
    pub address: Option<IpAddr>,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Sandbox,
    Container { name: String, attempt: u32, log_path: PathBuf, tty: bool, ports: Vec<Port> },
}

/// The label that all of a node's containers have, as a filter.
pub fn of_node(node: &str) -> String {
    format!("{NODE}={node}")
}

/// The label that all containers of a pod have, as a filter.
pub fn of_pod(pod_uid: &str) -> String {
    format!("{POD_UID}={pod_uid}")
}

pub fn of_sandbox(node: &str, pod: &Sandbox) -> HashMap<String, String> {
    let mut labels = common(node, pod);
    labels.insert(CONTAINER_NAME.into(), SANDBOX.into());
    labels
}

pub fn of_container(node: &str, spec: &ContainerSpec) -> HashMap<String, String> {
    let mut labels = common(node, &spec.pod);
    labels.insert(CONTAINER_NAME.into(), spec.name.clone());
    labels.insert(ATTEMPT.into(), spec.attempt.to_string());
    labels.insert(LOG_PATH.into(), spec.log_path.display().to_string());
    let ports: Vec<String> = spec.ports.iter().map(port_text).collect();
    labels.insert(PORTS.into(), ports.join(","));
    if spec.console.tty {
        labels.insert(TTY.into(), "true".into());
    }
    labels
}

fn common(node: &str, pod: &Sandbox) -> HashMap<String, String> {
    HashMap::from([
        (NODE.to_owned(), node.to_owned()),
        (POD_NAME.to_owned(), pod.name.clone()),
        (POD_NAMESPACE.to_owned(), pod.namespace.clone()),
        (POD_UID.to_owned(), pod.uid.clone()),
        (ADDRESS.to_owned(), pod.address.to_string()),
    ])
}

impl Labels {
    /// None for a container that isn't this node's, or whose labels somebody changed.
    pub fn read(labels: &HashMap<String, String>) -> Option<Self> {
        let text = |key: &str| labels.get(key).cloned();
        let name = text(CONTAINER_NAME)?;
        let role = match name.as_str() {
            SANDBOX if !labels.contains_key(ATTEMPT) => Role::Sandbox,
            _ => Role::Container {
                name,
                attempt: text(ATTEMPT)?.parse().ok()?,
                log_path: text(LOG_PATH)?.into(),
                tty: labels.contains_key(TTY),
                ports: text(PORTS)?.split(',').filter_map(read_port).collect(),
            },
        };
        Some(Self {
            pod_uid: text(POD_UID)?,
            pod_name: text(POD_NAME)?,
            pod_namespace: text(POD_NAMESPACE)?,
            address: text(ADDRESS)?.parse().ok(),
            role,
        })
    }
}

fn port_text(port: &Port) -> String {
    match port.protocol {
        Protocol::Tcp => port.port.to_string(),
        Protocol::Udp => format!("{}/udp", port.port),
    }
}

fn read_port(text: &str) -> Option<Port> {
    let (number, protocol) = match text.strip_suffix("/udp") {
        Some(number) => (number, Protocol::Udp),
        None => (text, Protocol::Tcp),
    };
    Some(Port { name: String::new(), port: number.parse().ok()?, protocol })
}

/// The engine's name of a pod's sandbox, in the form that other tools know.
pub fn sandbox_name(pod: &Sandbox) -> String {
    format!("k8s_{SANDBOX}_{}_{}_{}_0", pod.name, pod.namespace, pod.uid)
}

/// The engine's name of one attempt of a container.
pub fn container_name(spec: &ContainerSpec) -> String {
    let pod = &spec.pod;
    format!("k8s_{}_{}_{}_{}_{}", spec.name, pod.name, pod.namespace, pod.uid, spec.attempt)
}
