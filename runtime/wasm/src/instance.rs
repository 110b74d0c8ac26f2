//! One live instance, and its end. To give the pages of a large one back takes the kernel a
//! millisecond for each 10 MiB, in which it also holds up whoever maps memory. A thread for just
//! that does one at a time, and instances that grow wait for it without a thread of their own
//! (`memory::Held`): so neither ends of large instances nor growth keep others from being polled.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use wasmtime::Store;

use crate::{guest::Guest, memory::LARGE_BYTES, threads::be_a_guests};

/// An instance's store, and its room in the pool, which is free when the store is gone.
pub struct Instance(Option<Parts>);

struct Parts {
    store: Store<Guest>,
    _room: OwnedSemaphorePermit,
}

impl Instance {
    pub fn new(store: Store<Guest>, room: OwnedSemaphorePermit) -> Self {
        Self(Some(Parts { store, _room: room }))
    }

    /// Returns when nothing is left of it.
    pub async fn end(mut self) {
        let Some(parts) = self.0.take() else { return };
        if let Some(ended) = parts.end() {
            // Dropped is done, too.
            let _ = ended.await;
        }
    }
}

impl Parts {
    /// None: it has ended.
    fn end(mut self) -> Option<oneshot::Receiver<()>> {
        let guest = self.store.data_mut();
        let large = guest.memory().bytes() >= LARGE_BYTES;
        let runtime = Handle::try_current().ok().filter(|_| large)?;
        guest.memory().end();
        let ends = guest.container().host.ends.clone();
        let (done, ended) = oneshot::channel();
        // Where the thread is gone, so is the node: it is dropped here.
        ends.0.send(End { parts: self, runtime, _done: done }).ok()?;
        Some(ended)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            parts.end();
        }
    }
}

/// The parts are only taken when it ends, by value or in `drop`.
const ALIVE: &str = "an instance has its parts until it ends";

impl Deref for Instance {
    type Target = Store<Guest>;

    fn deref(&self) -> &Self::Target {
        &self.0.as_ref().expect(ALIVE).store
    }
}

impl DerefMut for Instance {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0.as_mut().expect(ALIVE).store
    }
}

/// Where large instances go to end. No more wait there than have room in the pool.
#[derive(Clone)]
pub struct Ends(Sender<End>);

struct End {
    parts: Parts,
    /// What the guest held may expect to be in it.
    runtime: Handle,
    _done: oneshot::Sender<()>,
}

impl Ends {
    pub fn start() -> io::Result<Self> {
        let (sender, ends) = channel();
        thread::Builder::new().name("ends".into()).spawn(move || run(&ends))?;
        Ok(Self(sender))
    }
}

fn run(ends: &Receiver<End>) {
    be_a_guests();
    while let Ok(End { parts, runtime, _done }) = ends.recv() {
        let container = parts.store.data().container().clone();
        let alone = container.host.memory.end_alone();
        let began = Instant::now();
        let _inside = runtime.enter();
        drop(parts);
        drop(alone);
        container.cpu.charge(began.elapsed());
    }
}
