//! Sockets of WASI 0.2, waiting where the interface doesn't.

use std::net::{IpAddr, SocketAddr};

use wasip2::sockets::{
    instance_network::instance_network,
    ip_name_lookup::resolve_addresses,
    network::{
        ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
        Ipv6SocketAddress,
    },
    tcp::{InputStream, OutputStream, TcpSocket},
    tcp_create_socket::create_tcp_socket,
    udp::UdpSocket,
    udp_create_socket::create_udp_socket,
};

pub type Result<T> = std::result::Result<T, ErrorCode>;

/// An address from a text; one that isn't is the test's mistake.
pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

addresses!();

pub fn connect(to: SocketAddr) -> Result<(TcpSocket, InputStream, OutputStream)> {
    let socket = create_tcp_socket(family(to))?;
    socket.start_connect(&instance_network(), to_wasi(to))?;
    loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(error),
            Ok((input, output)) => return Ok((socket, input, output)),
        }
    }
}

pub fn listen(at: SocketAddr) -> Result<TcpSocket> {
    let socket = create_tcp_socket(family(at))?;
    socket.start_bind(&instance_network(), to_wasi(at))?;
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.finish_listen()?;
    Ok(socket)
}

pub fn accept(on: &TcpSocket) -> Result<(TcpSocket, InputStream, OutputStream)> {
    loop {
        match on.accept() {
            Err(ErrorCode::WouldBlock) => on.subscribe().block(),
            accepted => return accepted,
        }
    }
}

pub fn bind_udp(at: SocketAddr) -> Result<UdpSocket> {
    let socket = create_udp_socket(family(at))?;
    socket.start_bind(&instance_network(), to_wasi(at))?;
    socket.finish_bind()?;
    Ok(socket)
}

/// Everything until the end.
pub fn read_all(input: &InputStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(chunk) = input.blocking_read(64 * 1024) {
        bytes.extend(chunk);
    }
    bytes
}

pub fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let stream = resolve_addresses(&instance_network(), name)?;
    let mut found = Vec::new();
    loop {
        match stream.resolve_next_address() {
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(error) => return Err(error),
            Ok(None) => return Ok(found),
            Ok(Some(address)) => found.push(ip(address)),
        }
    }
}
