//! Real guests, in this process, over the pod network.

mod attacks;
mod budget;
mod commands;
mod exec;
mod handlers;
mod interfaces;
mod mounts;
mod node;
mod outgoing;
mod preview1;
mod start;
mod traces;
