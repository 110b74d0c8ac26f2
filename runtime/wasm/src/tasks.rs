//! Which of an instance's requests makes an outgoing call. An instance of 0.3 answers several at
//! once, each in a task of its own, and what one of them calls goes on with that one's trace.

use std::collections::BTreeMap;

use wasmtime::{
    AsContextMut,
    component::{Accessor, GuestTaskId, HasData, Linker, Resource},
};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::{
    WasiHttp, WasiHttpCtxView, WasiHttpView,
    p3::{
        Request, Response,
        bindings::http::{client, types::ErrorCode},
    },
};

use crate::{guest::Guest, trace};

/// The traces of the tasks that answer requests.
#[derive(Default)]
pub struct Tasks {
    /// Ids are used again, and with them the entries: there are no more than tasks at once.
    traces: BTreeMap<GuestTaskId, trace::Context>,
    calling: Option<trace::Context>,
}

impl Tasks {
    /// A task begins that answers a request.
    pub fn begin(&mut self, task: GuestTaskId, trace: Option<trace::Context>) {
        match trace {
            Some(trace) => self.traces.insert(task, trace),
            None => self.traces.remove(&task),
        };
    }

    /// The trace of the call that is being made.
    pub fn take_calling(&mut self) -> Option<trace::Context> {
        self.calling.take()
    }
}

/// Links `wasi:http/client` of 0.3 with a look at who calls.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    client::add_to_linker::<Guest, OfTask>(linker, Guest::http)
}

struct OfTask;

impl HasData for OfTask {
    type Data<'a> = WasiHttpCtxView<'a>;
}

impl client::HostWithStore<Guest> for OfTask {
    async fn send(
        accessor: &Accessor<Guest, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
        let looked = accessor.with(|mut access| {
            let mut store = access.as_context_mut();
            if store.data().tasks().traces.is_empty() {
                return Ok(());
            }
            // The oldest is the task that the request was given to.
            let root = store.async_call_stack()?.last();
            let tasks = store.data_mut().tasks_mut();
            tasks.calling = root.and_then(|task| tasks.traces.get(&task).cloned());
            wasmtime::error::Ok(())
        });
        looked.map_err(TrappableError::trap)?;
        // It takes the trace before it waits for anything.
        let accessor = accessor.with_getter::<WasiHttp>(Guest::http);
        <WasiHttp as client::HostWithStore<Guest>>::send(&accessor, request).await
    }
}
