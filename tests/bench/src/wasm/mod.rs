//! The WASM runtime: requests a second against `wasmtime serve`, restarts, cold starts, calls
//! between pods, and how many pods a node holds.

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
    density::measure(report)
}

pub use density::measure as density;
