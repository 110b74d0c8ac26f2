//! UDP of `wasi:sockets` 0.3.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wasmtime::component::{Accessor, Resource};
use windlass_runtime_net::{PodUdp, SendError};

use super::{
    OfGuest, SocketError, SocketResult, Sockets,
    bindings::types::{
        ErrorCode, HostUdpSocket, HostUdpSocketWithStore, IpAddressFamily, IpSocketAddress,
    },
};
use crate::{
    container::Container,
    guest::Guest,
    sockets::{
        ops::{self, DATAGRAM_BYTES, Family, Permit, Trouble},
        options::{Options, options},
    },
};

/// `udp-socket`.
pub struct UdpSocket {
    _permit: Permit,
    family: Family,
    port: Option<Arc<Port>>,
    options: Options,
}

/// A port of the pod, which calls that wait hold too.
struct Port {
    udp: PodUdp,
    shown: SocketAddr,
    remote: Mutex<Option<SocketAddr>>,
    /// One call receives at a time: a socket wakes only whoever asked last.
    turn: tokio::sync::Mutex<()>,
    /// Sending may have opened the way on which the answer comes.
    sent: Notify,
}

impl UdpSocket {
    fn bind(&mut self, container: &Container, at: SocketAddr) -> Result<&Arc<Port>, Trouble> {
        let (udp, shown) = ops::bind_udp(container, self.family, at)?;
        Ok(self.port.insert(Arc::new(Port {
            udp,
            shown,
            remote: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
            sent: Notify::new(),
        })))
    }

    /// The port that it has, or any.
    fn bound(&mut self, container: &Container) -> Result<Arc<Port>, Trouble> {
        match &self.port {
            Some(port) => Ok(port.clone()),
            None => self.bind(container, self.family.any()).cloned(),
        }
    }

    fn port(&self) -> Result<&Arc<Port>, ErrorCode> {
        self.port.as_ref().ok_or(ErrorCode::InvalidState)
    }
}

impl Port {
    async fn receive(&self, family: Family) -> Result<(Vec<u8>, SocketAddr), Trouble> {
        let _turn = self.turn.lock().await;
        loop {
            let receiving = poll_fn(|cx| {
                let remote = *self.remote.lock();
                ops::poll_receive(&self.udp, family, remote, cx)
            });
            tokio::select! {
                biased;
                received = receiving => return received,
                () = self.sent.notified() => {}
            }
        }
    }

    async fn send(
        &self,
        container: &Container,
        data: &[u8],
        to: SocketAddr,
    ) -> Result<(), Trouble> {
        let mut sent = self.udp.try_send(data, to);
        if let Err(SendError::Io(error)) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            // Each that waits holds a datagram in memory that no limit counts.
            let room = container.datagrams.try_acquire();
            let _room = room.map_err(|_| Trouble::TooMuchToSend)?;
            sent = self.udp.send(data, to).await;
        }
        self.sent.notify_one();
        sent.map_err(|error| ops::send_trouble(container, &error))
    }
}

impl HostUdpSocketWithStore<Guest> for OfGuest {
    async fn send(
        accessor: &Accessor<Guest, Self>,
        this: Resource<UdpSocket>,
        data: Vec<u8>,
        given: Option<IpSocketAddress>,
    ) -> SocketResult<()> {
        if data.len() > DATAGRAM_BYTES {
            return Err(ErrorCode::DatagramTooLarge.into());
        }
        let (container, port, to) = accessor.with(|mut store| {
            let Sockets { container, table } = store.get();
            let socket = table.get_mut(&this)?;
            let remote = socket.port.as_ref().and_then(|port| *port.remote.lock());
            let to = ops::destination(socket.family, remote, given.map(Into::into))?;
            let port = socket.bound(container)?;
            Ok::<_, SocketError>((container.clone(), port, to))
        })?;
        Ok(port.send(&container, &data, to).await?)
    }

    async fn receive(
        accessor: &Accessor<Guest, Self>,
        this: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let (port, family) = accessor.with(|mut store| {
            let socket = store.get().table.get(&this)?;
            Ok::<_, SocketError>((socket.port()?.clone(), socket.family))
        })?;
        let (data, sender) = port.receive(family).await?;
        Ok((data, sender.into()))
    }
}

impl HostUdpSocket for Sockets<'_> {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let permit = Permit::take(self.container)?;
        let (family, options) = (family.into(), Options::udp());
        Ok(self.table.push(UdpSocket { _permit: permit, family, port: None, options })?)
    }

    fn bind(&mut self, this: Resource<UdpSocket>, local: IpSocketAddress) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        if socket.port.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.bind(self.container, local.into())?;
        Ok(())
    }

    fn connect(&mut self, this: Resource<UdpSocket>, remote: IpSocketAddress) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        let remote = remote.into();
        ops::check_remote(socket.family, remote)?;
        let port = socket.bound(self.container)?;
        ops::check_send(self.container, &port.udp, remote)?;
        *port.remote.lock() = Some(remote);
        Ok(())
    }

    fn disconnect(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let left = self.table.get(&this)?.port()?.remote.lock().take();
        left.map(drop).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn get_local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.table.get(&this)?.port()?.shown.into())
    }

    fn get_remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = *self.table.get(&this)?.port()?.remote.lock();
        Ok(remote.ok_or(ErrorCode::InvalidState)?.into())
    }

    fn get_address_family(
        &mut self,
        this: Resource<UdpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn get_unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.options.hop_limit())
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        Ok(self.table.get_mut(&this)?.options.set_hop_limit(value)?)
    }

    options! {
        UdpSocket {
            get_receive_buffer_size, set_receive_buffer_size: u64 = receive_buffer_size;
            get_send_buffer_size, set_send_buffer_size: u64 = send_buffer_size;
        }
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
