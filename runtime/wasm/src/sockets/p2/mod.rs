//! `wasi:sockets` 0.2.

mod bindings;
mod names;
mod streams;
mod tcp;
mod udp;

use wasmtime::component::{Linker, Resource};

use self::bindings::{
    instance_network, ip_name_lookup,
    network::{self, ErrorCode},
    tcp as wasi_tcp, tcp_create_socket, udp as wasi_udp, udp_create_socket,
};
use super::{OfGuest, Sockets, addresses, of, ops::Trouble};
use crate::guest::Guest;

pub type SocketError = super::SocketError<ErrorCode>;
type SocketResult<T> = Result<T, SocketError>;

/// `network`: a guest has one, the pod's.
pub struct Network;

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    network::add_to_linker::<Guest, OfGuest>(linker, of)?;
    instance_network::add_to_linker::<Guest, OfGuest>(linker, of)?;
    wasi_tcp::add_to_linker::<Guest, OfGuest>(linker, of)?;
    tcp_create_socket::add_to_linker::<Guest, OfGuest>(linker, of)?;
    wasi_udp::add_to_linker::<Guest, OfGuest>(linker, of)?;
    udp_create_socket::add_to_linker::<Guest, OfGuest>(linker, of)?;
    ip_name_lookup::add_to_linker::<Guest, OfGuest>(linker, of)
}

addresses::conversions!(network);

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.told()
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
            Trouble::Broken | Trouble::Reset => Self::ConnectionReset,
            Trouble::Aborted => Self::ConnectionAborted,
            Trouble::TooMuchToSend => Self::OutOfMemory,
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
