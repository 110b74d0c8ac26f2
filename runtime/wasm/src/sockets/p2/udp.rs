//! UDP of `wasi:sockets` 0.2.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use wasmtime::component::Resource;
use wasmtime_wasi::{
    async_trait,
    p2::{DynPollable, Pollable, subscribe},
};
use windlass_runtime_net::{PodUdp, SendError};

use super::{
    Network, SocketError, SocketResult, Sockets,
    bindings::{
        network::{ErrorCode, IpAddressFamily, IpSocketAddress},
        udp::{self, IncomingDatagram, OutgoingDatagram},
        udp_create_socket,
    },
};
use crate::sockets::{
    ops::{self, Family, Permit, Trouble},
    options::{Options, options},
};

/// Datagrams of one call.
const DATAGRAMS: u64 = 16;
/// Bytes that one call returns, unless its first datagram is larger.
const RECEIVE_BYTES: usize = 64 << 10;

/// `udp-socket`.
pub struct UdpSocket {
    _permit: Permit,
    family: Family,
    state: State,
    options: Options,
}

enum State {
    Unbound,
    /// `start-bind` was called, `finish-bind` not yet.
    Binding(Bound),
    Bound(Bound),
}

struct Bound {
    udp: Arc<PodUdp>,
    shown: SocketAddr,
    remote: Option<SocketAddr>,
}

pub struct IncomingDatagramStream {
    udp: Arc<PodUdp>,
    family: Family,
    remote: Option<SocketAddr>,
    /// Received when the guest asked whether there is something.
    next: Option<(Vec<u8>, SocketAddr)>,
    failed: Option<Trouble>,
}

pub struct OutgoingDatagramStream {
    udp: Arc<PodUdp>,
    family: Family,
    remote: Option<SocketAddr>,
    permitted: u64,
}

impl IncomingDatagramStream {
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() && self.failed.is_none() {
            match ready!(ops::poll_receive(&self.udp, self.family, self.remote, cx)) {
                Ok(datagram) => self.next = Some(datagram),
                Err(trouble) => self.failed = Some(trouble),
            }
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for IncomingDatagramStream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.fill(cx)).await;
    }
}

#[async_trait]
impl Pollable for OutgoingDatagramStream {
    async fn ready(&mut self) {
        // An error is the next call's.
        let _ = poll_fn(|cx| self.udp.poll_send_ready(cx)).await;
    }
}

impl udp_create_socket::Host for Sockets<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        Ok(self.table.push(UdpSocket {
            _permit: Permit::take(self.container)?,
            family: family.into(),
            state: State::Unbound,
            options: Options::udp(),
        })?)
    }
}

impl udp::Host for Sockets<'_> {}

impl udp::HostUdpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::Unbound => {}
            State::Binding(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Bound(_) => return Err(ErrorCode::InvalidState.into()),
        }
        let (udp, shown) = ops::bind_udp(self.container, socket.family, local.into())?;
        socket.state = State::Binding(Bound { udp: Arc::new(udp), shown, remote: None });
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        match std::mem::replace(&mut socket.state, State::Unbound) {
            State::Binding(bound) => {
                socket.state = State::Bound(bound);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        let socket = self.table.get_mut(&this)?;
        let family = socket.family;
        let State::Bound(bound) = &mut socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let remote = remote.map(SocketAddr::from);
        if let Some(remote) = remote {
            ops::check_remote(family, remote)?;
            ops::check_send(self.container, &bound.udp, remote)?;
        }
        bound.remote = remote;
        let udp = bound.udp.clone();
        let incoming =
            IncomingDatagramStream { udp: udp.clone(), family, remote, next: None, failed: None };
        let outgoing = OutgoingDatagramStream { udp, family, remote, permitted: 0 };
        Ok((self.table.push_child(incoming, &this)?, self.table.push_child(outgoing, &this)?))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Bound(bound) => Ok(bound.shown.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Bound(Bound { remote: Some(remote), .. }) => Ok((*remote).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.options.hop_limit())
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        Ok(self.table.get_mut(&this)?.options.set_hop_limit(value)?)
    }

    options! {
        UdpSocket {
            receive_buffer_size, set_receive_buffer_size: u64 = receive_buffer_size;
            send_buffer_size, set_send_buffer_size: u64 = send_buffer_size;
        }
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostIncomingDatagramStream for Sockets<'_> {
    fn receive(
        &mut self,
        this: Resource<IncomingDatagramStream>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let stream = self.table.get_mut(&this)?;
        let (mut received, mut bytes) = (Vec::new(), 0);
        while (received.len() as u64) < max_results.min(DATAGRAMS) && bytes < RECEIVE_BYTES {
            let _ = stream.fill(&mut Context::from_waker(Waker::noop()));
            let Some((data, sender)) = stream.next.take() else { break };
            bytes += data.len();
            received.push(IncomingDatagram { data, remote_address: sender.into() });
        }
        match stream.failed {
            // What was received first is told first.
            Some(trouble) if received.is_empty() => {
                stream.failed = None;
                Err(trouble.into())
            }
            _ => Ok(received),
        }
    }

    fn subscribe(
        &mut self,
        this: Resource<IncomingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostOutgoingDatagramStream for Sockets<'_> {
    fn check_send(&mut self, this: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        let stream = self.table.get_mut(&this)?;
        let ready = stream.udp.poll_send_ready(&mut Context::from_waker(Waker::noop()));
        stream.permitted = if ready.is_ready() { DATAGRAMS } else { 0 };
        Ok(stream.permitted)
    }

    fn send(
        &mut self,
        this: Resource<OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get_mut(&this)?;
        if datagrams.len() as u64 > stream.permitted {
            return Err(SocketError::Trap(wasmtime::format_err!(
                "more datagrams were sent than check-send permitted"
            )));
        }
        stream.permitted = 0;
        let mut sent = 0;
        for datagram in datagrams {
            let given = datagram.remote_address.map(SocketAddr::from);
            let to = ops::destination(stream.family, stream.remote, given);
            let tried = to.and_then(|to| match stream.udp.try_send(&datagram.data, to) {
                Ok(()) => Ok(true),
                Err(SendError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(ops::send_trouble(self.container, &error)),
            });
            match tried {
                Ok(true) => sent += 1,
                Ok(false) => break,
                // The interface: an error is told only where nothing was sent.
                Err(_) if sent > 0 => break,
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Ok(sent)
    }

    fn subscribe(
        &mut self,
        this: Resource<OutgoingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
