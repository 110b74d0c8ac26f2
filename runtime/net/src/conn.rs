//! One connection of a pod, whatever carries it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

/// A byte stream from or to a pod: a socket, or a pair of buffers where both ends are in this
/// process.
#[derive(Debug)]
pub enum Conn {
    Tcp { stream: TcpStream, peer: SocketAddr },
    Duplex { stream: DuplexStream, local: SocketAddr, peer: SocketAddr },
}

impl Conn {
    /// Takes a socket. Small answers must not wait for an acknowledgement, so Nagle's algorithm is
    /// switched off.
    pub fn tcp(stream: TcpStream) -> Self {
        // A socket whose other side is gone fails here and again at the first read.
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
        Self::Tcp { stream, peer }
    }

    /// The address of this side. For a connection that never was a socket: the pod's, with a port
    /// that nothing listens on where the pod called.
    pub fn local(&self) -> SocketAddr {
        match self {
            Self::Tcp { stream, .. } => {
                stream.local_addr().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())
            }
            Self::Duplex { local, .. } => *local,
        }
    }

    /// The address of the other side.
    pub fn peer(&self) -> SocketAddr {
        match self {
            Self::Tcp { peer, .. } | Self::Duplex { peer, .. } => *peer,
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_read(cx, buf),
            Self::Duplex { stream, .. } => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_write(cx, buf),
            Self::Duplex { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_flush(cx),
            Self::Duplex { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Self::Duplex { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Duplex { stream, .. } => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}
