//! `wasi:sockets` for guests. Every socket is made by `PodNet` on behalf of the container: inside a
//! pod 0.0.0.0 is the pod's address, 127.0.0.1 is what its containers share, services are reached
//! by their addresses and names, and what a pod may not reach is refused. `ops` knows nothing of a
//! version of the interface; `tcp`, `udp` and `names` are version 0.2.

mod bindings;
mod names;
pub mod ops;
mod streams;
mod tcp;
mod udp;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use self::{
    bindings::{
        instance_network, ip_name_lookup,
        network::{
            self, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
        },
        tcp as wasi_tcp, tcp_create_socket, udp as wasi_udp, udp_create_socket,
    },
    ops::{Family, Trouble},
};
use crate::{container::Container, guest::Guest};

type SocketResult<T> = Result<T, SocketError>;

/// What a call returns to the guest, or ends it with.
pub enum SocketError {
    Code(ErrorCode),
    Trap(wasmtime::Error),
}

/// `network`: a guest has one, the pod's.
pub struct Network;

/// What the functions of the interface work on.
pub struct Sockets<'a> {
    container: &'a Arc<Container>,
    table: &'a mut ResourceTable,
}

struct OfGuest;

impl HasData for OfGuest {
    type Data<'a> = Sockets<'a>;
}

/// Links version 0.2. What wasmtime-wasi linked under these names is replaced.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    fn of(guest: &mut Guest) -> Sockets<'_> {
        let (container, table) = guest.container_and_table();
        Sockets { container, table }
    }
    network::add_to_linker::<Guest, OfGuest>(linker, of)?;
    instance_network::add_to_linker::<Guest, OfGuest>(linker, of)?;
    wasi_tcp::add_to_linker::<Guest, OfGuest>(linker, of)?;
    tcp_create_socket::add_to_linker::<Guest, OfGuest>(linker, of)?;
    wasi_udp::add_to_linker::<Guest, OfGuest>(linker, of)?;
    udp_create_socket::add_to_linker::<Guest, OfGuest>(linker, of)?;
    ip_name_lookup::add_to_linker::<Guest, OfGuest>(linker, of)
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        match error {
            SocketError::Code(code) => Ok(code),
            SocketError::Trap(error) => Err(error),
        }
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, this: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl instance_network::Host for Sockets<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

impl From<Trouble> for ErrorCode {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::AccessDenied => Self::AccessDenied,
            Trouble::InvalidArgument => Self::InvalidArgument,
            Trouble::Timeout => Self::Timeout,
            Trouble::TooManySockets => Self::NewSocketLimit,
            Trouble::AddressNotBindable => Self::AddressNotBindable,
            Trouble::AddressInUse => Self::AddressInUse,
            Trouble::Unreachable => Self::RemoteUnreachable,
            Trouble::Refused => Self::ConnectionRefused,
            Trouble::Reset => Self::ConnectionReset,
            Trouble::Aborted => Self::ConnectionAborted,
            Trouble::DatagramTooLarge => Self::DatagramTooLarge,
            Trouble::NoSuchName => Self::NameUnresolvable,
            Trouble::ResolverBusy => Self::TemporaryResolverFailure,
            Trouble::Other => Self::Unknown,
        }
    }
}

impl From<ErrorCode> for SocketError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Trouble> for SocketError {
    fn from(trouble: Trouble) -> Self {
        Self::Code(trouble.into())
    }
}

impl From<ResourceTableError> for SocketError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<network::IpAddressFamily> for Family {
    fn from(family: network::IpAddressFamily) -> Self {
        match family {
            network::IpAddressFamily::Ipv4 => Self::V4,
            network::IpAddressFamily::Ipv6 => Self::V6,
        }
    }
}

impl From<Family> for network::IpAddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) => {
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into()
            }
            IpSocketAddress::Ipv6(v6) => {
                let (a, b, c, d, e, f, g, h) = v6.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match (address, IpAddress::from(address.ip())) {
            (SocketAddr::V6(v6), IpAddress::Ipv6(address)) => Self::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address,
                scope_id: v6.scope_id(),
            }),
            (address, IpAddress::Ipv4(ip)) => {
                Self::Ipv4(Ipv4SocketAddress { port: address.port(), address: ip })
            }
            (address, IpAddress::Ipv6(ip)) => Self::Ipv6(Ipv6SocketAddress {
                port: address.port(),
                flow_info: 0,
                address: ip,
                scope_id: 0,
            }),
        }
    }
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self::Ipv4((a, b, c, d))
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.segments();
                Self::Ipv6((a, b, c, d, e, f, g, h))
            }
        }
    }
}
