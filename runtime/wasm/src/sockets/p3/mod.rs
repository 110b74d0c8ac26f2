//! `wasi:sockets` 0.3: what a guest waits for is an async call, and bytes are streams.

mod bindings;
mod line;
mod tcp;
mod udp;

use wasmtime::component::{Accessor, Linker};

use self::bindings::{
    ip_name_lookup,
    types::{self, ErrorCode},
};
use super::{
    OfGuest, Sockets, addresses, of,
    ops::{self, Trouble},
};
use crate::guest::Guest;

pub type SocketError = super::SocketError<ErrorCode>;
type SocketResult<T> = Result<T, SocketError>;

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    types::add_to_linker::<Guest, OfGuest>(linker, of)?;
    ip_name_lookup::add_to_linker::<Guest, OfGuest>(linker, of)
}

addresses::conversions!(types);

impl types::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.told()
    }
}

impl ip_name_lookup::Host for Sockets<'_> {}

impl ip_name_lookup::HostWithStore<Guest> for OfGuest {
    async fn resolve_addresses(
        accessor: &Accessor<Guest, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<types::IpAddress>, ip_name_lookup::ErrorCode>> {
        let container = accessor.with(|mut store| store.get().container.clone());
        let found = ops::look_up(container, name).await;
        let found = found.map(|addresses| addresses.into_iter().map(Into::into).collect());
        Ok(found.map_err(Into::into))
    }
}

impl From<Trouble> for ErrorCode {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::AccessDenied => Self::AccessDenied,
            Trouble::InvalidArgument => Self::InvalidArgument,
            Trouble::Timeout => Self::Timeout,
            Trouble::TooManySockets => Self::Other(Some("new-socket-limit".into())),
            Trouble::TooMuchToSend => Self::OutOfMemory,
            Trouble::AddressNotBindable => Self::AddressNotBindable,
            Trouble::AddressInUse => Self::AddressInUse,
            Trouble::Unreachable => Self::RemoteUnreachable,
            Trouble::Refused => Self::ConnectionRefused,
            Trouble::Broken => Self::ConnectionBroken,
            Trouble::Reset => Self::ConnectionReset,
            Trouble::Aborted => Self::ConnectionAborted,
            Trouble::DatagramTooLarge => Self::DatagramTooLarge,
            Trouble::NoSuchName | Trouble::ResolverBusy | Trouble::Other => Self::Other(None),
        }
    }
}

impl From<Trouble> for ip_name_lookup::ErrorCode {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::AccessDenied => Self::AccessDenied,
            Trouble::InvalidArgument => Self::InvalidArgument,
            Trouble::NoSuchName => Self::NameUnresolvable,
            Trouble::ResolverBusy | Trouble::Timeout => Self::TemporaryResolverFailure,
            _ => Self::Other(None),
        }
    }
}

impl From<ErrorCode> for SocketError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}
