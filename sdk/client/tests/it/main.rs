//! The client against a server that is played by the test.

mod api;
mod fake;
mod informer;
mod queue;
mod recorder;
