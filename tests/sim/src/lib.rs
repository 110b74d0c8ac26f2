//! The whole cluster on one thread under virtual time: API server on the memory store, scheduler,
//! controllers, two nodes whose runtime is a fake. One seed is one history, byte for byte, so a
//! failure that a seed finds can be looked at as often as needed.
//!
//! [`run`] plays a [`Script`] while faults strike every client and rivals write to the same
//! objects; then all is healed, and the cluster must come to rest as its user wants it. Rules that
//! must hold at every change are in `rules.rs`, what must hold at rest in `rest.rs`.

mod faults;
mod history;
mod rest;
mod rivals;
mod rules;
mod run;
mod runtime;
mod script;
mod user;
mod world;

pub use faults::{Faults, Faulty, Link};
pub use history::History;
pub use run::{Outcome, run};
pub use runtime::{FakeImages, FakeRuntime, Session};
pub use script::{Script, Step};
pub use user::{User, Wanted};
pub use world::{NODES, World};
