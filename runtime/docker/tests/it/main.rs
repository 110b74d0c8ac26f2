//! The runtime on a real Docker engine, which `cargo xtask test` sets up and names in
//! WINDLASS_DOCKER_HOST.
#![allow(clippy::disallowed_methods, reason = "tests watch real processes on the machine's clock")]

mod disk;
mod images;
mod lifecycle;
mod node;
mod restart;
mod security;
mod streams;
