//! How pods reach each other and services on one machine without any set-up: every socket that is
//! made for a pod comes from [`PodNet`], the one seam where network modes differ and where policy
//! is applied. Linux answers all of 127.0.0.0/8 on `lo`, so in loopback mode pods and services get
//! addresses out of it. Knows neither wasmtime nor HTTP.

mod addresses;
mod affinity;
mod blocks;
mod caller;
mod conn;
mod conntrack;
mod dial;
mod dns;
mod holder;
mod inside;
mod join;
mod machine;
mod namespace;
mod netlink;
mod podnet;
mod proxy;
mod publish;
mod reach;
mod redirect;
mod refuse;
mod relay;
mod resolve;
mod routed;
mod rules;
mod run;
mod table;
mod udp;

pub use addresses::{AddressError, PodAddresses};
pub use blocks::{Block, BlockError, Blocks};
pub use caller::{Caller, PodRef};
pub use conn::Conn;
pub use dial::{ConnectError, Reached};
pub use dns::{Answer, answer, dns_address, host_resolv_conf, resolv_conf};
pub use join::{JoinError, JoinedPod};
pub use machine::{Linux, LookUpError, Machine};
pub use podnet::{Callee, Limits, ListenError, PodListener, PodNet, PodPort, Scope};
pub use proxy::Proxy;
pub use publish::Published;
pub use reach::{Dialled, Surroundings, Verdict, judge, judge_look_up};
pub use resolve::{Step, resolve};
pub use routed::{ROUTED_PODS, ROUTED_SERVICES, Routes, RoutesError, remove_leftovers};
pub use rules::RulesError;
pub use run::run;
pub use table::{Rows, Table, plan};
pub use udp::{PodUdp, SendError};
