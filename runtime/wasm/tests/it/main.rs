//! Real guests, in this process, over the pod network.

mod attacks;
mod commands;
mod exec;
mod handlers;
mod http3;
mod interfaces;
mod mounts;
mod node;
mod outgoing;
mod preview1;
mod start;
