//! Upstream's API server as a process, for those who compare with it: the oracle and the benches.
#![allow(clippy::disallowed_methods, reason = "starts programs that live in real time")]

pub mod upstream;
