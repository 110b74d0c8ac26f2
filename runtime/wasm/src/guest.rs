//! What one instance has: its WASI context, its memory account, and its container. Made for every
//! request, so it holds references to the container's environment and arguments instead of copies.

use std::sync::Arc;

use wasmtime::{
    Store,
    component::{HasData, Linker, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2::bindings::cli::environment,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    container::Container,
    engine::{Host, yield_at_ticks},
    logs::{InstanceLog, Stream},
    memory::Held,
    outgoing::Outgoing,
};

pub struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    memory: Held,
}

impl Guest {
    /// A store for one instance of the container.
    pub fn store(container: &Arc<Container>) -> Store<Self> {
        let log = InstanceLog::new(container.log.clone());
        let wasi = WasiCtxBuilder::new()
            .stdout(log.stream(Stream::Stdout))
            .stderr(log.stream(Stream::Stderr))
            .build();
        let guest = Self {
            table: ResourceTable::new(),
            wasi,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(container.clone()),
            memory: container.memory.instance(),
        };
        let mut store = Store::new(&container.host.engine, guest);
        store.limiter_async(|guest| &mut guest.memory);
        yield_at_ticks(&mut store);
        store
    }
}

/// Everything that a guest may import.
pub fn linker(host: &Host) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(&host.engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // The same interface as above, without a copy of the environment in each instance.
    linker.allow_shadowing(true);
    environment::add_to_linker::<Guest, ContainerEnvironment>(&mut linker, |guest| {
        Environment(guest.outgoing.container())
    })?;
    linker.allow_shadowing(false);
    Ok(linker)
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

struct ContainerEnvironment;

impl HasData for ContainerEnvironment {
    type Data<'a> = Environment<'a>;
}

struct Environment<'a>(&'a Container);

impl environment::Host for Environment<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.0.spec.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.0.arguments())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.0.spec.working_dir.clone())
    }
}
