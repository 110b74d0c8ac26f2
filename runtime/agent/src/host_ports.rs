//! `hostPort`: a port of the node that leads to one of a pod's, whatever runs there. It is open from
//! its container's start until the pod has no sandbox any more. What the node refuses is told; the
//! container runs all the same, and callers inside the cluster don't need it.

use std::net::SocketAddr;

use windlass_runtime_api::Protocol;
use windlass_runtime_net::Published;
use windlass_sdk_client::{EventType, Key};
use windlass_sdk_types::{
    Kind, Pod,
    api::core::v1::{Container, ContainerPort},
};

use crate::agent::Agent;

/// As for a pod's own ports.
const REFUSED: &str = "PortUnavailableOnHost";

impl Agent {
    /// Opens the host ports of a container that has started; those of its last attempt stay.
    pub(crate) async fn open_host_ports(&self, pod: &Pod, container: &Container) {
        let wanted: Vec<&ContainerPort> = container
            .ports
            .iter()
            .flatten()
            .filter(|port| port.host_port.is_some_and(|number| number > 0))
            .collect();
        let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let Some(net) = self.net.as_ref().filter(|_| !wanted.is_empty() && !on_host) else {
            return;
        };
        let (uid, name) = (pod.uid(), &container.name);
        let (address, open) = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.by_uid.get_mut(uid) else { return };
            (entry.state.address, entry.host_ports.contains_key(name))
        };
        let Some(address) = address.filter(|_| !open) else { return };
        let mut ports: Vec<Published> = Vec::new();
        for port in wanted {
            let number = |of: i32| u16::try_from(of).unwrap_or_default();
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            let to = SocketAddr::new(address, number(port.container_port));
            let host_ip = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
            let host_port = number(port.host_port.unwrap_or_default());
            match net.publish_host_port(host_ip, host_port, protocol, to).await {
                Ok(published) => ports.push(published),
                Err(error) => {
                    let about = self.about(&Key::of(pod), uid, Some(name));
                    let said = format!("hostPort {host_port}: {error}");
                    self.recorder.record(&about, EventType::Warning, REFUSED, said);
                }
            }
        }
        if let Some(entry) = self.entries.lock().by_uid.get_mut(uid) {
            entry.host_ports.insert(name.clone(), ports);
        }
    }
}
