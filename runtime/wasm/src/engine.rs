//! The one wasmtime engine of a node, with its pool of instance slots and the thread that
//! interrupts guests which compute for long.
//!
//! Sizes. A slot is address space for one linear memory (4 GiB and a guard, so that bounds checks
//! cost nothing), two fiber stacks (2 MiB each; an instance of WASI 0.3 takes one more for each of
//! its calls that waits without giving its stack up) and two tables; it holds real memory only while
//! an instance uses it. One slot for each 4 MiB of the machine, at least 256 and at most 4,096: a live
//! memory takes about four kernel mappings, of which Linux gives a process 65,530 by default.
//! After an instance is dropped, at most 100 slots stay warm for their component, each with the
//! pages it had written, up to 256 KiB, zeroed in place, which is cheaper than faulting them anew.

use std::{
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, UpdateDeadline,
};

use crate::{
    cpu::{CpuAccount, Turns},
    guest::Guest,
    instance::Ends,
    logs::LogWriter,
    memory::NodeMemory,
    sockets::ops::node_sockets,
    threads::be_prompt,
    tls::SystemRoots,
};

/// How long a guest computes before it yields its thread.
pub const TICK: Duration = Duration::from_micros(500);

/// A guest's call stack on the wasm side; the fiber it runs on has room for the host's calls too.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 2 << 20;
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
const BACKTRACE_FRAMES: usize = 32;
const WARM_SLOTS: u32 = 100;
const BYTES_PER_SLOT: u64 = 4 << 20;
const SLOTS: std::ops::RangeInclusive<u64> = 256..=4096;
/// These counts are only counters in wasmtime; slots are what really bounds instances.
const UNBOUNDED: u32 = 1_000_000;

/// How many instances a machine with so much memory may have at once.
pub fn slots_for(memory_bytes: u64) -> u32 {
    (memory_bytes / BYTES_PER_SLOT).clamp(*SLOTS.start(), *SLOTS.end()) as u32
}

/// What all guests of a node share.
pub struct Host {
    pub engine: Engine,
    pub ticker: Ticker,
    pub logs: LogWriter,
    pub turns: Arc<Turns>,
    pub memory: Arc<NodeMemory>,
    /// Threads that guests run on.
    pub threads: usize,
    /// Told to idle instances when somebody waits for a slot.
    pub squeezed: Notify,
    /// Who waits for slots.
    wanting: AtomicUsize,
    /// Room for the sockets of all containers.
    pub sockets: Arc<Semaphore>,
    pub roots: SystemRoots,
    pub ends: Ends,
    slots: Arc<Semaphore>,
    slot_count: u32,
}

impl Host {
    /// `memory_bytes` is the machine's, by which the pool is sized.
    pub fn new(
        memory_bytes: u64,
        memory: Arc<NodeMemory>,
        threads: usize,
        logs: LogWriter,
    ) -> wasmtime::Result<Self> {
        let slot_count = slots_for(memory_bytes);
        let engine = Engine::new(&config(slot_count))?;
        let ticker = Ticker::start(engine.clone())?;
        let slots = Arc::new(Semaphore::new(slot_count as usize));
        let turns = Turns::new(threads);
        let (squeezed, wanting) = (Notify::new(), AtomicUsize::new(0));
        let (sockets, roots) = (node_sockets(), SystemRoots::default());
        let ends = Ends::start()?;
        Ok(Self {
            engine,
            ticker,
            logs,
            turns,
            memory,
            threads,
            squeezed,
            wanting,
            sockets,
            roots,
            ends,
            slots,
            slot_count,
        })
    }

    /// Room for one instance that takes `weight` slots. None: the pool was full for `patience`.
    pub async fn room(&self, weight: u32, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let weight = weight.min(self.slot_count);
        if let Ok(permit) = self.slots.clone().try_acquire_many_owned(weight) {
            return Some(permit);
        }
        self.wanting.fetch_add(1, SeqCst);
        let _wanting = Counted(&self.wanting);
        self.squeezed.notify_waiters();
        let waiting = self.slots.clone().acquire_many_owned(weight);
        tokio::time::timeout(patience, waiting).await.ok()?.ok()
    }

    /// Somebody waits for slots: an instance that does nothing should give its own back.
    pub fn is_squeezed(&self) -> bool {
        self.wanting.load(SeqCst) > 0
    }

    /// The share of slots that one container may take, so that its slow requests leave room for
    /// its neighbours.
    pub fn slots_a_container(&self) -> u32 {
        (self.slot_count / 4).max(1)
    }
}

fn config(slots: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(slots)
        .total_stacks(slots * 2)
        .total_tables(slots * 2)
        .total_core_instances(UNBOUNDED)
        .total_component_instances(UNBOUNDED)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .parallel_compilation(true);
    config
}

/// Makes a store yield its thread at every tick, for as long as its guest computes.
pub fn yield_at_ticks(store: &mut wasmtime::Store<Guest>, cpu: Arc<CpuAccount>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(cpu.clone().queue())))
    });
}

/// Advances the engine's epoch while a guest is on a thread, and sleeps otherwise.
pub struct Ticker {
    shared: Arc<Ticks>,
    thread: thread::Thread,
}

#[derive(Default)]
struct Ticks {
    /// Guests being polled right now.
    running: AtomicUsize,
    parked: AtomicBool,
    ended: AtomicBool,
}

/// Ticks without a running guest after which the thread goes to sleep: waking it is a system call,
/// so a service under load should not do that for every request.
const LINGER_TICKS: u32 = 100;

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Ticks::default());
        let ticks = shared.clone();
        let handle =
            thread::Builder::new().name("epoch".into()).spawn(move || ticks.run(&engine))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Polls a guest such that the epoch advances meanwhile.
    pub fn poll<F: Future + ?Sized>(
        &self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.shared.running.fetch_add(1, SeqCst);
        let running = Counted(&self.shared.running);
        // Either this sees that the thread is parked, or the thread sees that a guest runs.
        if self.shared.parked.load(SeqCst) {
            self.thread.unpark();
        }
        let polled = guest.poll(cx);
        drop(running);
        polled
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// Counts down also when a poll panics, or whoever waits gives up.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Ticks {
    fn run(&self, engine: &Engine) {
        be_prompt();
        let mut idle = 0;
        while !self.ended.load(SeqCst) {
            idle = if self.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > LINGER_TICKS {
                self.parked.store(true, SeqCst);
                while self.running.load(SeqCst) == 0 && !self.ended.load(SeqCst) {
                    thread::park();
                }
                self.parked.store(false, SeqCst);
                idle = 0;
            }
            thread::park_timeout(TICK);
            engine.increment_epoch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_machines_memory() {
        for (gib, slots) in [(0, 256), (1, 256), (4, 1024), (16, 4096), (512, 4096)] {
            assert_eq!(slots_for(gib << 30), slots, "{gib} GiB");
        }
    }

    #[test]
    fn the_epoch_advances_only_while_a_guest_is_polled() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).expect("engine");
        let ticker = Ticker::start(engine).expect("thread");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !ticker.shared.parked.load(SeqCst) {
            assert!(tokio::time::Instant::now() < deadline, "the thread never parked");
            thread::yield_now();
        }
        let shared = ticker.shared.clone();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = ticker.poll(
            std::pin::pin!(async move {
                while shared.parked.load(SeqCst) {
                    assert!(tokio::time::Instant::now() < deadline, "the thread never woke");
                    thread::yield_now();
                }
            }),
            &mut cx,
        );
    }
}
