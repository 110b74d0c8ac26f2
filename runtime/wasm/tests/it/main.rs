//! Real guests, in this process, over the pod network.

mod attacks;
mod commands;
mod exec;
mod handlers;
mod interfaces;
mod keyvalue;
mod mounts;
mod node;
mod outgoing;
mod preview1;
mod spin;
mod start;
