//! The client against a server that is played by the test, and against our own over the memory store.

mod api;
mod fake;
mod informer;
mod queue;
mod recorder;
mod server;
