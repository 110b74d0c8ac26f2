//! TCP of `wasi:sockets` 0.2.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    async_trait,
    p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, subscribe},
};
use windlass_runtime_net::{Conn, PodListener};

use super::{
    Network, SocketResult, Sockets,
    bindings::{
        network::{ErrorCode, IpAddressFamily, IpSocketAddress},
        tcp::{self, ShutdownType},
        tcp_create_socket,
    },
    streams::{Reader, Writer, streams},
};
use crate::{
    container::Container,
    sockets::{
        ops::{self, Bound, Family, Permit, Trouble},
        options::{Options, options},
    },
};

/// `tcp-socket`.
pub struct TcpSocket {
    permit: Arc<Permit>,
    family: Family,
    options: Options,
    state: State,
}

enum State {
    Unbound,
    /// `start-bind` was called, `finish-bind` not yet.
    Binding(Bound),
    Bound(Bound),
    Connecting(Connecting),
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
        reader: Reader,
        writer: Writer,
    },
    /// Listens, and `finish-listen` was called.
    Listening {
        listener: PodListener,
        at: SocketAddr,
        next: Option<Conn>,
        told: bool,
    },
    /// A connection failed.
    Closed,
}

enum Connecting {
    Under(AbortOnDropHandle<Result<Conn, Trouble>>),
    Done(Result<Conn, Trouble>),
}

impl TcpSocket {
    fn new(permit: Permit, family: Family) -> Self {
        let permit = Arc::new(permit);
        Self { permit, family, options: Options::tcp(), state: State::Unbound }
    }

    /// Makes it the socket of a connection.
    fn connected(&mut self, container: &Arc<Container>, conn: Conn) -> (Reader, Writer) {
        self.options.apply(&conn);
        let (local, remote) =
            (ops::shown(self.family, conn.local()), ops::shown(self.family, conn.peer()));
        let (reader, writer) = streams(container, conn, self.permit.clone());
        self.state =
            State::Connected { local, remote, reader: reader.clone(), writer: writer.clone() };
        (reader, writer)
    }

    /// An operation that was started must be finished first.
    fn check_idle(&self) -> Result<(), ErrorCode> {
        match &self.state {
            State::Binding(_) | State::Connecting(_) | State::Listening { told: false, .. } => {
                Err(ErrorCode::ConcurrencyConflict)
            }
            _ => Ok(()),
        }
    }
}

impl Connecting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Under(task) = self {
            match Pin::new(task).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(done) => *self = Self::Done(done.unwrap_or(Err(Trouble::Aborted))),
            }
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &mut self.state {
            State::Connecting(connecting) => poll_fn(|cx| connecting.poll(cx)).await,
            State::Listening { listener, next, .. } if next.is_none() => {
                *next = Some(listener.accept().await);
            }
            _ => {}
        }
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let socket = TcpSocket::new(Permit::take(self.container)?, family.into());
        Ok(self.table.push(socket)?)
    }
}

impl tcp::Host for Sockets<'_> {}

impl tcp::HostTcpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        socket.check_idle()?;
        let State::Unbound = socket.state else { return Err(ErrorCode::InvalidState.into()) };
        let bound = ops::bind_tcp(self.container, socket.family, local.into())?;
        socket.state = State::Binding(bound);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        match std::mem::replace(&mut socket.state, State::Closed) {
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

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        socket.check_idle()?;
        let (State::Unbound | State::Bound(_)) = socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let remote = remote.into();
        ops::check_remote(socket.family, remote)?;
        let mut connecting = ops::connect(self.container.clone(), socket.family, remote).boxed();
        // What is in the process is connected at once.
        let polled = connecting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        socket.state = State::Connecting(match polled {
            Poll::Ready(done) => Connecting::Done(done),
            Poll::Pending => Connecting::Under(AbortOnDropHandle::new(tokio::spawn(connecting))),
        });
        Ok(())
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.table.get_mut(&this)?;
        let State::Connecting(connecting) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        if connecting.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let State::Connecting(Connecting::Done(done)) =
            std::mem::replace(&mut socket.state, State::Closed)
        else {
            return Err(ErrorCode::InvalidState.into());
        };
        let (reader, writer) = socket.connected(self.container, done?);
        let input: DynInputStream = Box::new(reader);
        let output: DynOutputStream = Box::new(writer);
        Ok((self.table.push_child(input, &this)?, self.table.push_child(output, &this)?))
    }

    async fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        socket.check_idle()?;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::Bound(bound) => {
                let at = bound.shown;
                let listener = ops::listen(self.container, bound).await;
                socket.state = State::Listening { listener, at, next: None, told: false };
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        match &mut self.table.get_mut(&this)?.state {
            State::Listening { told, .. } if !*told => {
                *told = true;
                Ok(())
            }
            _ => Err(ErrorCode::NotInProgress.into()),
        }
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)>
    {
        let socket = self.table.get_mut(&this)?;
        let (family, options) = (socket.family, socket.options);
        let State::Listening { listener, next, told: true, .. } = &mut socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if next.is_none() {
            *next = listener.accept().now_or_never();
        }
        if next.is_none() {
            return Err(ErrorCode::WouldBlock.into());
        }
        // A connection that there is no room for stays until there is.
        let permit = Permit::take(self.container)?;
        let Some(conn) = next.take() else { return Err(ErrorCode::WouldBlock.into()) };
        let mut accepted = TcpSocket::new(permit, family);
        accepted.options = options;
        let (reader, writer) = accepted.connected(self.container, conn);
        let accepted = self.table.push(accepted)?;
        let input: DynInputStream = Box::new(reader);
        let output: DynOutputStream = Box::new(writer);
        let input = self.table.push_child(input, &accepted)?;
        let output = self.table.push_child(output, &accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Bound(bound) => Ok(bound.shown.into()),
            State::Connected { local, .. } => Ok((*local).into()),
            State::Listening { at, .. } => Ok((*at).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Connected { remote, .. } => Ok((*remote).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening { told: true, .. }))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn set_listen_backlog_size(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        let socket = self.table.get(&this)?;
        // A hint: the pod network's queue has a size of its own.
        match (value, &socket.state) {
            (0, _) => Err(ErrorCode::InvalidArgument.into()),
            (_, State::Unbound | State::Bound(_) | State::Listening { .. }) => Ok(()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    options! {
        TcpSocket {
            keep_alive_enabled, set_keep_alive_enabled: bool = keep_alive_enabled;
            keep_alive_idle_time, set_keep_alive_idle_time: u64 = keep_alive_idle_time;
            keep_alive_interval, set_keep_alive_interval: u64 = keep_alive_interval;
            keep_alive_count, set_keep_alive_count: u32 = keep_alive_count;
            hop_limit, set_hop_limit: u8 = hop_limit;
            receive_buffer_size, set_receive_buffer_size: u64 = receive_buffer_size;
            send_buffer_size, set_send_buffer_size: u64 = send_buffer_size;
        }
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let State::Connected { reader, writer, .. } = &self.table.get(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            reader.shutdown();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            writer.shutdown();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
