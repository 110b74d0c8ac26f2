//! The API server: all paths through one filter chain, one read path over the watch cache and
//! one write path. It knows HTTP, the store's contract and the kind table's rows, but no kind by
//! name: what is particular about a kind is in apiserver/registry.
//!
//! Read `chain` first: it shows what every request passes, in order.

mod body;
mod bootstrap;
mod cache;
mod chain;
mod charges;
mod claims;
mod components;
mod computed;
mod content;
mod definitions;
mod discovery;
mod expiry;
mod expressions;
mod health;
mod impersonation;
mod issuer;
mod limits;
mod local;
mod metrics;
mod mounts;
mod negotiate;
mod openapi;
mod options;
mod read;
mod registrations;
mod render;
mod request;
mod server;
mod services;
mod streams;
mod tls;
mod verbs;
mod write;

pub use components::Health;
pub use local::LocalService;
pub use mounts::{Asker, Mount};
pub use server::{ApiServer, Config, StartError};
pub use write::{Stage, Stages};
