//! The threads that guests run on, so that the control plane stays responsive while they compute.

use std::io;

use tokio::runtime;
use windlass_runtime_api::RuntimeError;

use crate::{artifact::CREATE_ERROR, compile::be_nice};

/// Bound of tokio's threads for calls that block.
const BLOCKING_THREADS: usize = 16;
/// Guests' threads are a little less important than the control plane's.
const GUEST_NICENESS: i32 = 1;
/// Tasks that a thread polls before it looks at its sockets: each may be a guest's whole tick.
const EVENT_INTERVAL: u32 = 4;

/// How long a thread of the control plane runs before others may: the least that the kernel takes.
const PROMPT_SLICE_NANOS: u64 = 100_000;
/// The same of a guests' thread, as long as a tick: behind the control plane's, before compilation's.
const GUEST_SLICE_NANOS: u64 = 500_000;

/// Has the kernel let the calling thread in soon after it wakes, also where guests' threads compute:
/// who runs in short slices goes first (EEVDF, Linux 6.12 and newer; older kernels take no notice).
pub fn be_prompt() {
    run_in_slices(PROMPT_SLICE_NANOS);
}

/// Makes the calling thread one of guests: behind the control plane's, and before compilation's.
pub fn be_a_guests() {
    be_nice(GUEST_NICENESS);
    run_in_slices(GUEST_SLICE_NANOS);
}

#[allow(unsafe_code, reason = "sched_setattr has no safe binding among the workspace's crates")]
fn run_in_slices(nanos: u64) {
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: nanos,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that is alive and of that size.
    // It may refuse; then the thread stays as it is.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// The threads that guests run on, apart from those of the control plane.
pub struct Guests(Option<runtime::Runtime>);

impl Guests {
    pub fn start(threads: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .event_interval(EVENT_INTERVAL)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("guest")
            .on_thread_start(be_a_guests)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Lets a task run on these threads.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }

    /// Runs something on these threads, to its end even if the caller stops waiting.
    pub async fn run<F>(&self, work: F) -> Result<F::Output, RuntimeError>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let ended = || RuntimeError::new(CREATE_ERROR, "the wasm runtime is being shut down");
        let runtime = self.0.as_ref().ok_or_else(ended)?;
        runtime.spawn(work).await.map_err(|error| {
            if error.is_panic() {
                tracing::error!(%error, "a task of the wasm runtime panicked");
                return RuntimeError::new(CREATE_ERROR, "internal error of the wasm runtime");
            }
            ended()
        })
    }
}

/// A tokio runtime must not wait for its tasks when it is dropped on a thread of another one.
impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
