//! `wasi:sockets` for guests. Every socket is made by `PodNet` on behalf of the container: inside a
//! pod 0.0.0.0 is the pod's address, 127.0.0.1 is what its containers share, services are reached
//! by their addresses and names, and what a pod may not reach is refused. `ops` and `options` know
//! nothing of a version of the interface; `p2` is 0.2, `p3` is 0.3.

mod addresses;
pub mod ops;
mod options;
mod p2;
mod p3;

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable, ResourceTableError};

use self::ops::Trouble;
use crate::{container::Container, guest::Guest};

/// What a call returns to the guest, or ends it with. `C` is the version's `error-code`.
pub enum SocketError<C> {
    Code(C),
    Trap(wasmtime::Error),
}

/// What the functions of the interface work on.
pub struct Sockets<'a> {
    container: &'a Arc<Container>,
    table: &'a mut ResourceTable,
}

struct OfGuest;

impl HasData for OfGuest {
    type Data<'a> = Sockets<'a>;
}

/// Links every version. What wasmtime-wasi linked under these names is replaced.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    p2::add_to_linker(linker)?;
    p3::add_to_linker(linker)
}

fn of(guest: &mut Guest) -> Sockets<'_> {
    let (container, table) = guest.container_and_table();
    Sockets { container, table }
}

impl<C> SocketError<C> {
    fn told(self) -> wasmtime::Result<C> {
        match self {
            Self::Code(code) => Ok(code),
            Self::Trap(error) => Err(error),
        }
    }
}

impl<C: From<Trouble>> From<Trouble> for SocketError<C> {
    fn from(trouble: Trouble) -> Self {
        Self::Code(trouble.into())
    }
}

impl<C> From<ResourceTableError> for SocketError<C> {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
