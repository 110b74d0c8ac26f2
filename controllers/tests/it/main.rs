//! The controllers against the real API server over the memory store, in one thread under paused
//! time. The node is played by `node.rs`: it binds pods, makes them Ready and lets them end.

mod bounds;
mod cluster;
mod garbage;
mod node;
mod rollout;
mod root_ca;
mod services;
