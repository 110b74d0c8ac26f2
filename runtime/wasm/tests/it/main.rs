//! Real guests, in this process, over the pod network.

mod attach;
mod attacks;
mod budget;
mod clients;
mod commands;
mod direct;
mod exec;
mod handlers;
mod http3;
mod https;
mod interfaces;
mod keyvalue;
mod mounts;
mod node;
mod outgoing;
mod preview1;
mod sockets;
mod spin;
mod start;
mod traces;
mod wasi;
