//! Ports of the host that lead to one port of a pod: those of its containers that are processes,
//! under the pod's own address, and those that its `hostPort`s ask for.

use std::net::{IpAddr, SocketAddr};

use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};
use windlass_runtime_api::Protocol;

use crate::{
    holder::{self, Sort},
    podnet::{ListenError, PodNet},
    proxy::lead_datagrams,
    redirect,
    relay::Relay,
};

/// An open port of the host. It is closed when this is dropped.
pub struct Published {
    address: SocketAddr,
    open: Open,
}

enum Open {
    Tcp(JoinHandle<()>),
    Udp(#[expect(dead_code, reason = "held for as long as it is to run")] Relay),
    /// A row of the net's UDP ports, with its serial.
    UdpPort(PodNet, u64),
}

impl PodNet {
    /// Opens a `hostPort` that leads to a pod's port. Without a `host_ip` it is at
    /// [`Self::node_address`].
    ///
    /// # Errors
    /// What keeps the host from it, in a sentence that names the cure.
    pub async fn publish_host_port(
        &self,
        host_ip: Option<IpAddr>,
        host_port: u16,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<Published, ListenError> {
        let ip = host_ip.unwrap_or_else(|| self.node_address());
        self.publish(SocketAddr::new(ip, host_port), protocol, to).await
    }

    pub(crate) async fn publish(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<Published, ListenError> {
        let refused = |sort, error| ListenError::Host(holder::explain(sort, address, &error));
        let open = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.map_err(|error| refused(Sort::Tcp, error))?;
                Open::Tcp(tokio::spawn(redirect::publish(self.clone(), listener, to)))
            }
            Protocol::Udp => {
                let front = UdpSocket::bind(address).await;
                let front = front.map_err(|error| refused(Sort::Udp, error))?;
                Open::Udp(lead_datagrams(self.clone(), front, move |_| Some(to)))
            }
        };
        Ok(Published { address, open })
    }
}

impl Published {
    pub(crate) fn of_udp_port(net: PodNet, address: SocketAddr, serial: u64) -> Self {
        Self { address, open: Open::UdpPort(net, serial) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        match &self.open {
            Open::Tcp(task) => task.abort(),
            Open::Udp(_) => {}
            Open::UdpPort(net, serial) => {
                let mut local = net.0.local.lock();
                if local.udp.get(&self.address).is_some_and(|port| port.serial == *serial) {
                    local.udp.remove(&self.address);
                }
            }
        }
    }
}
