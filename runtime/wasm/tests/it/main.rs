//! Real guests, in this process, over the pod network.

mod commands;
mod handlers;
mod node;
mod outgoing;
mod start;
