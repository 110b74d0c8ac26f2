//! How pods reach each other and services on one machine without any set-up: every socket that is
//! made for a pod comes from [`PodNet`], the one seam where network modes differ and where policy
//! is applied. Linux answers all of 127.0.0.0/8 on `lo`, so in loopback mode pods and services get
//! addresses out of it. Knows neither wasmtime nor HTTP.

mod addresses;
mod blocks;
mod conn;
mod holder;
mod podnet;
mod proxy;
mod resolve;
mod run;
mod table;

pub use addresses::{AddressError, PodAddresses};
pub use blocks::{Block, BlockError, Blocks};
pub use conn::Conn;
pub use podnet::{ConnectError, Limits, ListenError, PodListener, PodNet, PodRef};
pub use proxy::Proxy;
pub use resolve::{Step, resolve};
pub use run::run;
pub use table::{Table, plan};
