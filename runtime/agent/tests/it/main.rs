//! The agent against a small API in memory and a runtime that only pretends.

mod eviction;
mod fake_api;
mod fake_runtime;
mod health;
mod kubelet;
mod lifecycle;
mod observe;
mod streams;
mod volumes;
