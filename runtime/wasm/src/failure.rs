//! Why a guest ended without doing what it was asked: read from wasmtime's error once, in one
//! place, and turned into what each reader needs (an HTTP status, an exit code, a line).

use std::{fmt, sync::Arc, time::Duration};

use wasmtime_wasi::I32Exit;

use crate::memory::MemoryError;

#[derive(Clone, Debug)]
pub enum Failure {
    /// `message` fits a line; `backtrace` is what wasmtime knows, several lines.
    Trap { message: String, backtrace: Backtrace },
    /// The guest called `exit` itself.
    Exit(i32),
    /// The instance grew past a limit.
    Memory(MemoryError),
    /// The request took longer than its container allows.
    Late(Duration),
    /// No instance could be made for now: neither the guest's nor the caller's fault.
    NoRoom(String),
}

/// The guest's calls that led to a trap, and its causes. Written out only when it is displayed: a
/// guest may trap at every request, and its log takes a few of them a second.
#[derive(Clone, Debug, Default)]
pub struct Backtrace(Option<Arc<wasmtime::Error>>);

/// Not by the error's own `Debug`: with RUST_BACKTRACE that adds the host's stack, which is none of
/// the guest's business and takes milliseconds to find the names of.
impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = &self.0 else { return Ok(()) };
        let told: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
        let told = told.join("\n\nCaused by: ");
        let lines: Vec<&str> = told.lines().take(BACKTRACE_LINES).collect();
        f.write_str(lines.join("\n").trim_end())
    }
}

/// A failure of the host amid a guest's call, carried through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub struct HostFailure(pub Failure);

/// Lines of a backtrace that go to the log.
const BACKTRACE_LINES: usize = 40;

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::Exit(exit.0);
        }
        if let Some(memory) = error.downcast_ref::<MemoryError>() {
            return match memory {
                MemoryError::Exceeded { .. } | MemoryError::NodeFull { .. } => {
                    Self::Memory(memory.clone())
                }
                MemoryError::Busy { .. } | MemoryError::NeverFits { .. } => {
                    Self::NoRoom(memory.to_string())
                }
            };
        }
        if let Some(failure) = error.downcast_ref::<HostFailure>() {
            return failure.0.clone();
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::NoRoom(error.to_string());
        }
        let message = error.chain().last().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace(Some(Arc::new(error)));
        Self::Trap { message, backtrace }
    }
}

impl Failure {
    /// One line for people.
    pub fn message(&self) -> String {
        match self {
            Self::Trap { message, .. } => message.clone(),
            Self::Exit(code) => format!("the guest called exit({code})"),
            Self::Memory(error) => error.to_string(),
            Self::NoRoom(message) => message.clone(),
            Self::Late(limit) => {
                format!("the request was ended after its limit of {} s", limit.as_secs_f32())
            }
        }
    }

    /// What a container's status shows when it ended by this: exit code and reason. 134 and 137
    /// are what a shell reports for SIGABRT and SIGKILL.
    pub fn exit(&self) -> (i32, &'static str) {
        match self {
            Self::Exit(0) => (0, "Completed"),
            Self::Exit(code) => (*code, "Error"),
            Self::Memory(_) => (137, "OOMKilled"),
            Self::Trap { .. } | Self::NoRoom(_) | Self::Late(_) => (134, "Error"),
        }
    }
}
