//! TCP of `wasi:sockets` 0.3.

use std::{
    iter,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use tokio::sync::Mutex;
use wasmtime::{
    StoreContextMut,
    component::{
        Access, Accessor, Destination, FutureReader, Resource, StreamProducer, StreamReader,
        StreamResult,
    },
};
use windlass_runtime_net::{Conn, PodListener};

use super::{
    OfGuest, SocketError, SocketResult, Sockets,
    bindings::types::{
        ErrorCode, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily, IpSocketAddress,
    },
    line::Line,
    of,
};
use crate::{
    container::Container,
    guest::Guest,
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
    Bound(Bound),
    /// `connect` is under way, or was cancelled.
    Connecting,
    Connected(Connected),
    /// The stream of connections has the listener too; the port is free once both are gone.
    Listening {
        _listener: Arc<Mutex<PodListener>>,
        at: SocketAddr,
    },
    /// A connection failed.
    Closed,
}

struct Connected {
    line: Arc<Line>,
    local: SocketAddr,
    remote: SocketAddr,
    /// `send` and `receive` may be called once each.
    sent: bool,
    received: bool,
}

impl TcpSocket {
    fn new(permit: Permit, family: Family) -> Self {
        let permit = Arc::new(permit);
        Self { permit, family, options: Options::tcp(), state: State::Unbound }
    }

    /// Makes it the socket of a connection.
    fn connected(&mut self, conn: Conn) {
        self.options.apply(&conn);
        self.state = State::Connected(Connected {
            local: ops::shown(self.family, conn.local()),
            remote: ops::shown(self.family, conn.peer()),
            line: Line::new(conn, self.permit.clone()),
            sent: false,
            received: false,
        });
    }

    /// The port that it has, or any.
    fn take_bound(&mut self, container: &Container) -> Result<Bound, SocketError> {
        match std::mem::replace(&mut self.state, State::Unbound) {
            State::Bound(bound) => Ok(bound),
            State::Unbound => Ok(ops::bind_tcp(container, self.family, self.family.any())?),
            other => {
                self.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn connection(&mut self) -> Result<&mut Connected, ErrorCode> {
        match &mut self.state {
            State::Connected(connected) => Ok(connected),
            _ => Err(ErrorCode::InvalidState),
        }
    }
}

/// The stream of connections to a listening socket.
struct Incoming {
    next: BoxFuture<'static, Result<(Conn, Permit), Trouble>>,
    /// Came when the guest asked whether there is one.
    here: Option<(Conn, Permit)>,
    listener: Arc<Mutex<PodListener>>,
    container: Arc<Container>,
    family: Family,
    options: Options,
}

/// A connection that there is no room for stays until there is.
async fn accept(
    listener: Arc<Mutex<PodListener>>,
    container: Arc<Container>,
) -> Result<(Conn, Permit), Trouble> {
    let conn = listener.lock().await.accept().await;
    Ok((conn, Permit::wait(container).await?))
}

impl Incoming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        if self.here.is_none() {
            let came = ready!(self.next.as_mut().poll(cx));
            self.next = Box::pin(accept(self.listener.clone(), self.container.clone()));
            self.here = Some(came?);
        }
        Poll::Ready(Ok(()))
    }
}

impl StreamProducer<Guest> for Incoming {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Resource<TcpSocket>>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Guest>,
        mut to: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.poll(cx) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Ok(())) => {}
        }
        if to.remaining(&mut store) != Some(0)
            && let Some((conn, permit)) = self.here.take()
        {
            let mut accepted = TcpSocket::new(permit, self.family);
            accepted.options = self.options;
            accepted.connected(conn);
            to.set_buffer(Some(of(store.data_mut()).table.push(accepted)?));
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl HostTcpSocketWithStore<Guest> for OfGuest {
    async fn connect(
        accessor: &Accessor<Guest, Self>,
        this: Resource<TcpSocket>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        let connecting = accessor.with(|mut store| {
            let Sockets { container, table } = store.get();
            let socket = table.get_mut(&this)?;
            let (State::Unbound | State::Bound(_)) = socket.state else {
                return Err(SocketError::from(ErrorCode::InvalidState));
            };
            let remote = remote.into();
            ops::check_remote(socket.family, remote)?;
            socket.state = State::Connecting;
            Ok(ops::connect(container.clone(), socket.family, remote))
        })?;
        let conn = connecting.await;
        accessor.with(|mut store| {
            let socket = store.get().table.get_mut(&this)?;
            socket.state = State::Closed;
            socket.connected(conn?);
            Ok(())
        })
    }

    async fn listen(
        mut store: Access<'_, Guest, Self>,
        this: Resource<TcpSocket>,
    ) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
        let Sockets { container, table } = store.get();
        let container = container.clone();
        let socket = table.get_mut(&this)?;
        let bound = socket.take_bound(&container)?;
        let (at, family, options) = (bound.shown, socket.family, socket.options);
        let listener = Arc::new(Mutex::new(ops::listen(&container, bound).await));
        socket.state = State::Listening { _listener: listener.clone(), at };
        let next = Box::pin(accept(listener.clone(), container.clone()));
        let incoming = Incoming { next, here: None, listener, container, family, options };
        StreamReader::new(&mut store, incoming).map_err(SocketError::Trap)
    }

    fn send(
        mut store: Access<'_, Guest, Self>,
        this: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Result<(), ErrorCode>>> {
        match store.get().table.get_mut(&this)?.connection() {
            Ok(connected) if !connected.sent => {
                connected.sent = true;
                let (sending, end) = connected.line.sending();
                data.pipe(&mut store, sending)?;
                FutureReader::new(&mut store, end)
            }
            _ => {
                data.close(&mut store)?;
                FutureReader::new(&mut store, invalid_state())
            }
        }
    }

    fn receive(
        mut store: Access<'_, Guest, Self>,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Result<(), ErrorCode>>)> {
        match store.get().table.get_mut(&this)?.connection() {
            Ok(connected) if !connected.received => {
                connected.received = true;
                let (receiving, end) = connected.line.receiving();
                let stream = StreamReader::new(&mut store, receiving)?;
                Ok((stream, FutureReader::new(&mut store, end)?))
            }
            _ => {
                let stream = StreamReader::new(&mut store, iter::empty())?;
                Ok((stream, FutureReader::new(&mut store, invalid_state())?))
            }
        }
    }
}

async fn invalid_state() -> wasmtime::Result<Result<(), ErrorCode>> {
    Ok(Err(ErrorCode::InvalidState))
}

impl HostTcpSocket for Sockets<'_> {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let socket = TcpSocket::new(Permit::take(self.container)?, family.into());
        Ok(self.table.push(socket)?)
    }

    fn bind(&mut self, this: Resource<TcpSocket>, local: IpSocketAddress) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        let State::Unbound = socket.state else { return Err(ErrorCode::InvalidState.into()) };
        socket.state = State::Bound(ops::bind_tcp(self.container, socket.family, local.into())?);
        Ok(())
    }

    fn get_local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Bound(bound) => Ok(bound.shown.into()),
            State::Connected(connected) => Ok(connected.local.into()),
            State::Listening { at, .. } => Ok((*at).into()),
            State::Unbound | State::Connecting | State::Closed => {
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn get_remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.table.get_mut(&this)?.connection()?.remote.into())
    }

    fn get_is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening { .. }))
    }

    fn get_address_family(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn set_listen_backlog_size(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        // A hint: the pod network's queue has a size of its own.
        match (value, &self.table.get(&this)?.state) {
            (0, _) => Err(ErrorCode::InvalidArgument.into()),
            (_, State::Unbound | State::Bound(_) | State::Listening { .. }) => Ok(()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    options! {
        TcpSocket {
            get_keep_alive_enabled, set_keep_alive_enabled: bool = keep_alive_enabled;
            get_keep_alive_idle_time, set_keep_alive_idle_time: u64 = keep_alive_idle_time;
            get_keep_alive_interval, set_keep_alive_interval: u64 = keep_alive_interval;
            get_keep_alive_count, set_keep_alive_count: u32 = keep_alive_count;
            get_hop_limit, set_hop_limit: u8 = hop_limit;
            get_receive_buffer_size, set_receive_buffer_size: u64 = receive_buffer_size;
            get_send_buffer_size, set_send_buffer_size: u64 = send_buffer_size;
        }
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
