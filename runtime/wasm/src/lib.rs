//! Runs WASM components as containers: compiles them once a digest, serves `wasi:http` handlers
//! with one pooled instance a request, runs `wasi:cli` commands to completion, and holds them to
//! their memory. Everything a guest does happens on threads of its own, so that the control plane
//! stays responsive while guests compute. Knows nothing of the Kubernetes API: it is told what to
//! run through `windlass_runtime_api::Runtime` and reports what it observes.

mod artifact;
mod command;
mod compile;
mod console;
mod container;
mod copy;
mod cpu;
mod denials;
mod direct;
mod engine;
mod exec;
mod failure;
mod guest;
mod http;
mod instance;
mod interfaces;
mod keyvalue;
mod log_rate;
mod logs;
mod memory;
mod mounts;
mod once;
mod otlp;
mod outgoing;
mod pace;
mod ports;
mod probe;
mod reuse;
mod runtime;
mod serve;
mod sockets;
mod spin;
mod tasks;
mod threads;
mod tls;
mod trace;
mod traps;
mod usage;

pub use keyvalue::Data;
pub use otlp::{Endpoint, EndpointError};
pub use runtime::{WasmConfig, WasmError, WasmRuntime};
pub use threads::be_prompt;
pub use trace::TraceConfig;

/// The wasmtime inside, as `containerRuntimeVersion` names it.
pub const ENGINE_VERSION: &str = "48.0.8";
