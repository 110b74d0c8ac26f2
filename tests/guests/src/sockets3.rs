//! Sockets of WASI 0.3.

use std::net::{IpAddr, SocketAddr};

use wasip3::{
    sockets::{
        ip_name_lookup,
        types::{
            ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
            Ipv6SocketAddress, TcpSocket, UdpSocket,
        },
    },
    wit_bindgen::StreamReader,
};

addresses!();

pub async fn connect(to: SocketAddr) -> Result<TcpSocket, ErrorCode> {
    let socket = TcpSocket::create(family(to))?;
    socket.connect(to_wasi(to)).await?;
    Ok(socket)
}

pub fn listen(at: SocketAddr) -> Result<(TcpSocket, StreamReader<TcpSocket>), ErrorCode> {
    let socket = TcpSocket::create(family(at))?;
    socket.bind(to_wasi(at))?;
    let connections = socket.listen()?;
    Ok((socket, connections))
}

pub fn bind_udp(at: SocketAddr) -> Result<UdpSocket, ErrorCode> {
    let socket = UdpSocket::create(family(at))?;
    socket.bind(to_wasi(at))?;
    Ok(socket)
}

pub async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    match ip_name_lookup::resolve_addresses(name.into()).await {
        Ok(found) => Ok(found.into_iter().map(ip).collect()),
        Err(code) => Err(kebab(&format!("{code:?}"))),
    }
}

/// An error's name as the interface has it.
pub fn name(code: ErrorCode) -> String {
    match code {
        ErrorCode::Other(Some(text)) => text,
        code => kebab(&format!("{code:?}")),
    }
}

/// `ErrorCode::AccessDenied` is `access-denied`.
fn kebab(debug: &str) -> String {
    let bare = debug.rsplit("::").next().unwrap_or(debug);
    let mut name = String::new();
    for letter in bare.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
