//! The WASM runtime: requests a second against `wasmtime serve`, restarts, cold starts, calls
//! between pods, what attacks do to neighbours, and how many pods a node holds.

mod attacks;
mod calls;
mod cold;
mod density;
mod http;
mod restart;

use crate::report::Report;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    http::measure(report)?;
    restart::measure(report)?;
    cold::measure(report)?;
    calls::measure(report)?;
    attacks::measure(report)?;
    density::measure(report)
}

pub use attacks::{attack, measure as attacks};
pub use calls::measure as calls;
pub use density::measure as density;
