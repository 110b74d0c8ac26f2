//! What one instance has: its WASI context, its memory account, and its container. Made for every
//! request, so it holds references to the container's environment and arguments instead of copies;
//! only modules of preview 1, which run once, get theirs in the context.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{
    Store, StoreContextMut,
    component::{HasData, Linker},
};
use wasmtime_wasi::{
    ResourceTable, WasiCtxBuilder, WasiCtxView, WasiView,
    filesystem::WasiFilesystemView,
    p1::{self, WasiP1Ctx},
    p2, p3,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

use crate::{
    container::Container,
    engine::{Host, yield_at_ticks},
    exec::Streams,
    failure::{Backtrace, Failure, HostFailure},
    instance::Instance,
    interfaces, keyvalue,
    logs::{InstanceLog, Stream},
    memory::Held,
    outgoing::Outgoing,
    sockets, spin,
    tasks::{self, Tasks},
    tls, trace,
};

/// Handles that an instance may have open at once: streams, files, requests, fields; and, apart
/// from these, tasks and ends of 0.3's streams and futures.
const MAX_HANDLES: usize = 10_000;

pub struct Guest {
    wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    /// Few guests use it.
    tls: Option<WasiTlsCtx>,
    memory: Held,
    arguments: Option<Vec<String>>,
    trial: bool,
}

/// In what an instance differs from others of its container.
#[derive(Default)]
pub struct Setup {
    /// It never runs: it needs no volumes.
    pub trial: bool,
    /// It is a module of preview 1.
    pub module: bool,
    /// None: the container's.
    pub arguments: Option<Vec<String>>,
    /// None: output goes to the log.
    pub streams: Option<Streams>,
    /// Goes on with the requests that it makes.
    pub trace: Option<trace::Context>,
    /// It is the container's own program, to which callers may attach.
    pub main: bool,
}

impl Guest {
    /// One instance of the container, in which nothing is instantiated yet.
    pub fn instance(
        container: &Arc<Container>,
        setup: Setup,
        room: OwnedSemaphorePermit,
    ) -> Result<Instance, Failure> {
        let mut builder = WasiCtxBuilder::new();
        match setup.streams {
            Some(streams) => streams.give(&mut builder),
            None => {
                let log = InstanceLog::new(container.log.clone());
                if setup.main {
                    container.console.give(&mut builder, &log);
                } else {
                    builder.stdout(log.stream(Stream::Stdout)).stderr(log.stream(Stream::Stderr));
                }
            }
        }
        if setup.module {
            let arguments = setup.arguments.clone().unwrap_or_else(|| container.arguments());
            builder.args(&arguments).envs(&container.spec.env);
            if let Some(folder) = &container.spec.working_dir
                && !container.spec.env.iter().any(|(name, _)| name == "PWD")
            {
                // Preview 1 knows no working folder; its libraries start from this one.
                builder.env("PWD", folder);
            }
        }
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(MAX_HANDLES);
        if setup.module {
            // A component gets its folders when it asks for them.
            let folders = container.mounts.opened().map_err(|error| Failure::Trap {
                message: format!("a volume can't be opened: {error}"),
                backtrace: Backtrace::default(),
            })?;
            if let Some(folders) = folders {
                *wasi.ctx().ctx.filesystem() = folders;
            }
        }
        let guest = Self {
            wasi,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(container.clone(), setup.trace),
            tls: None,
            memory: container.memory.instance(),
            arguments: setup.arguments,
            trial: setup.trial,
        };
        container.usage.instance_made();
        let mut store = Store::new(&container.host.engine, guest);
        store.limiter_async(|guest| &mut guest.memory);
        store.set_max_component_handles(MAX_HANDLES);
        if let Some(tasks) = store.concurrent_resource_table() {
            tasks.set_max_capacity(MAX_HANDLES);
        }
        yield_at_ticks(&mut store, container.cpu.clone());
        Ok(Instance::new(store, room))
    }

    /// What the host functions of key-value stores and databases work on.
    pub fn view(&mut self) -> keyvalue::View<'_> {
        let container = self.outgoing.container().clone();
        keyvalue::View { table: self.wasi.ctx().table, container }
    }

    /// What the instance has of linear memory and tables.
    pub fn memory(&mut self) -> &mut Held {
        &mut self.memory
    }

    pub fn container(&self) -> &Arc<Container> {
        self.outgoing.container()
    }

    /// The requests that the instance answers at once.
    pub fn tasks(&self) -> &Tasks {
        &self.outgoing.tasks
    }

    pub fn tasks_mut(&mut self) -> &mut Tasks {
        &mut self.outgoing.tasks
    }

    /// What a host interface with resources of its own works on.
    pub fn container_and_table(&mut self) -> (&Arc<Container>, &mut ResourceTable) {
        (self.outgoing.container(), self.wasi.ctx().table)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.container().usage.instance_gone();
    }
}

/// Everything that a guest may import.
pub struct Linkers {
    pub components: Linker<Guest>,
    pub modules: wasmtime::Linker<Guest>,
}

impl Linkers {
    pub fn new(host: &Host) -> wasmtime::Result<Self> {
        let mut components = Linker::new(&host.engine);
        p2::add_to_linker_async(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        // A component may mix both: they share the instance's files, streams and connections.
        p3::add_to_linker(&mut components)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut components)?;
        // The same interfaces as above, without a copy of the environment in each instance.
        components.allow_shadowing(true);
        p2::bindings::cli::environment::add_to_linker::<Guest, GuestEnvironment>(
            &mut components,
            |guest| Environment(guest),
        )?;
        p3::bindings::cli::environment::add_to_linker::<Guest, GuestEnvironment>(
            &mut components,
            |guest| Environment(guest),
        )?;
        sockets::add_to_linker(&mut components)?;
        folders_on_demand(&mut components)?;
        tasks::add_to_linker(&mut components)?;
        components.allow_shadowing(false);
        interfaces::add_to_linker(&mut components)?;
        let mut drafts = wasmtime_wasi_tls::p2::LinkOptions::default();
        drafts.tls(true);
        wasmtime_wasi_tls::p2::add_to_linker(&mut components, &drafts)?;
        wasmtime_wasi_tls::p3::add_to_linker(&mut components)?;
        keyvalue::add_to_linker(&mut components)?;
        spin::host::add_to_linker(&mut components)?;
        let mut modules = wasmtime::Linker::new(&host.engine);
        p1::add_to_linker_async(&mut modules, |guest: &mut Guest| &mut guest.wasi)?;
        Ok(Self { components, modules })
    }
}

/// The interfaces through which components find their folders.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const PREOPENS_3: &str = "wasi:filesystem/preopens@0.3.0";

/// Volumes are opened, and those made that wait for a use, when a guest asks for its folders: one
/// that never does, in all that it is asked, costs none of them.
fn folders_on_demand(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use p2::bindings::filesystem::preopens::Host as Preopens;
    use p3::bindings::filesystem::preopens::Host as Preopens3;
    const NAME: &str = "get-directories";
    type Store<'a> = StoreContextMut<'a, Guest>;
    linker.instance(PREOPENS)?.func_wrap_async(NAME, |mut store: Store<'_>, (): ()| {
        Box::new(async move {
            open_folders(&mut store).await?;
            Ok((Preopens::get_directories(&mut store.data_mut().filesystem())?,))
        })
    })?;
    linker.instance(PREOPENS_3)?.func_wrap_async(NAME, |mut store: Store<'_>, (): ()| {
        Box::new(async move {
            open_folders(&mut store).await?;
            Ok((Preopens3::get_directories(&mut store.data_mut().filesystem())?,))
        })
    })
}

async fn open_folders(store: &mut StoreContextMut<'_, Guest>) -> wasmtime::Result<()> {
    let container = store.data().container().clone();
    let guest = store.data_mut();
    if !guest.trial {
        container.open_mounts().await.map_err(HostFailure)?;
        if let Some(folders) = container.mounts.opened()? {
            *guest.wasi.ctx().ctx.filesystem() = folders;
        }
    }
    Ok(())
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let table = self.wasi.ctx().table;
        WasiHttpCtxView { ctx: &mut self.http, table, hooks: &mut self.outgoing }
    }
}

impl WasiTlsView for Guest {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        let ctx = self.tls.get_or_insert_with(|| tls::context(self.outgoing.container()));
        WasiTlsCtxView { ctx, table: self.wasi.ctx().table }
    }
}

struct GuestEnvironment;

impl HasData for GuestEnvironment {
    type Data<'a> = Environment<'a>;
}

struct Environment<'a>(&'a Guest);

impl Environment<'_> {
    fn variables(&self) -> Vec<(String, String)> {
        self.0.container().spec.env.clone()
    }

    fn arguments(&self) -> Vec<String> {
        let own = self.0.arguments.clone();
        own.unwrap_or_else(|| self.0.container().arguments())
    }

    fn folder(&self) -> Option<String> {
        self.0.container().spec.working_dir.clone()
    }
}

impl p2::bindings::cli::environment::Host for Environment<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.variables())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.arguments())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.folder())
    }
}

impl p3::bindings::cli::environment::Host for Environment<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.variables())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.arguments())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.folder())
    }
}
