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

pub fn to_wasi(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            let address = (a, b, c, d, e, f, g, h);
            let (port, scope_id, flow_info) = (v6.port(), v6.scope_id(), v6.flowinfo());
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info, address, scope_id })
        }
    }
}

pub fn from_wasi(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(v4) => (ip(IpAddress::Ipv4(v4.address)), v4.port).into(),
        IpSocketAddress::Ipv6(v6) => (ip(IpAddress::Ipv6(v6.address)), v6.port).into(),
    }
}

fn ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

fn family(of: SocketAddr) -> IpAddressFamily {
    if of.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
}

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
