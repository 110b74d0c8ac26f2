//! What guests set about their sockets. Kept as set, and given to a connection where it leaves the
//! process.

use std::{net::SocketAddr, time::Duration};

use rustix::net::sockopt;
use windlass_runtime_net::Conn;

use super::ops::Trouble;

/// The methods of options, which each version of the interface calls in its own way.
macro_rules! options {
    ($socket:ty { $($get:ident, $set:ident: $value:ty = $option:ident;)* }) => {
        $(
            fn $get(&mut self, this: Resource<$socket>) -> SocketResult<$value> {
                Ok(self.table.get(&this)?.options.$option())
            }

            fn $set(&mut self, this: Resource<$socket>, value: $value) -> SocketResult<()> {
                Ok(self.table.get_mut(&this)?.options.$set(value)?)
            }
        )*
    };
}

pub(super) use options;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    keep_alive: bool,
    keep_alive_idle: Duration,
    keep_alive_interval: Duration,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer_bytes: u64,
    send_buffer_bytes: u64,
}

impl Options {
    pub fn tcp() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle: Duration::from_secs(7200),
            keep_alive_interval: Duration::from_secs(75),
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_bytes: 64 << 10,
            send_buffer_bytes: 64 << 10,
        }
    }

    /// Hints: a datagram to another pod never leaves this machine.
    pub fn udp() -> Self {
        let buffer = 208 << 10;
        Self { receive_buffer_bytes: buffer, send_buffer_bytes: buffer, ..Self::tcp() }
    }

    pub fn keep_alive_enabled(&self) -> bool {
        self.keep_alive
    }

    pub fn set_keep_alive_enabled(&mut self, value: bool) -> Result<(), Trouble> {
        self.keep_alive = value;
        Ok(())
    }

    /// In nanoseconds, as the next one.
    pub fn keep_alive_idle_time(&self) -> u64 {
        nanos(self.keep_alive_idle)
    }

    pub fn set_keep_alive_idle_time(&mut self, value: u64) -> Result<(), Trouble> {
        self.keep_alive_idle = seconds(value)?;
        Ok(())
    }

    pub fn keep_alive_interval(&self) -> u64 {
        nanos(self.keep_alive_interval)
    }

    pub fn set_keep_alive_interval(&mut self, value: u64) -> Result<(), Trouble> {
        self.keep_alive_interval = seconds(value)?;
        Ok(())
    }

    pub fn keep_alive_count(&self) -> u32 {
        self.keep_alive_count
    }

    pub fn set_keep_alive_count(&mut self, value: u32) -> Result<(), Trouble> {
        self.keep_alive_count = more_than_none(value)?.min(127);
        Ok(())
    }

    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    pub fn set_hop_limit(&mut self, value: u8) -> Result<(), Trouble> {
        self.hop_limit = more_than_none(value)?;
        Ok(())
    }

    /// In bytes, as the next one.
    pub fn receive_buffer_size(&self) -> u64 {
        self.receive_buffer_bytes
    }

    pub fn set_receive_buffer_size(&mut self, value: u64) -> Result<(), Trouble> {
        self.receive_buffer_bytes = more_than_none(value)?;
        Ok(())
    }

    pub fn send_buffer_size(&self) -> u64 {
        self.send_buffer_bytes
    }

    pub fn set_send_buffer_size(&mut self, value: u64) -> Result<(), Trouble> {
        self.send_buffer_bytes = more_than_none(value)?;
        Ok(())
    }

    /// Linux bounds what is too large or too small for it.
    pub fn apply(&self, conn: &Conn) {
        let Conn::Tcp { stream, .. } = conn else { return };
        let set = || -> rustix::io::Result<()> {
            let defaults = Self::tcp();
            if self.keep_alive {
                sockopt::set_socket_keepalive(stream, true)?;
                sockopt::set_tcp_keepidle(stream, self.keep_alive_idle)?;
                sockopt::set_tcp_keepintvl(stream, self.keep_alive_interval)?;
                sockopt::set_tcp_keepcnt(stream, self.keep_alive_count)?;
            }
            if self.hop_limit != defaults.hop_limit {
                match conn.peer() {
                    SocketAddr::V4(_) => sockopt::set_ip_ttl(stream, self.hop_limit.into())?,
                    SocketAddr::V6(_) => {
                        sockopt::set_ipv6_unicast_hops(stream, Some(self.hop_limit))?;
                    }
                }
            }
            let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(1 << 20);
            if self.receive_buffer_bytes != defaults.receive_buffer_bytes {
                sockopt::set_socket_recv_buffer_size(stream, bytes(self.receive_buffer_bytes))?;
            }
            if self.send_buffer_bytes != defaults.send_buffer_bytes {
                sockopt::set_socket_send_buffer_size(stream, bytes(self.send_buffer_bytes))?;
            }
            Ok(())
        };
        if let Err(error) = set() {
            tracing::debug!(%error, "a socket's options");
        }
    }
}

fn more_than_none<T: Default + PartialEq>(value: T) -> Result<T, Trouble> {
    if value == T::default() { Err(Trouble::InvalidArgument) } else { Ok(value) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Linux counts seconds, up to 32,767.
fn seconds(nanos: u64) -> Result<Duration, Trouble> {
    let seconds = more_than_none(nanos)?.div_ceil(1_000_000_000);
    Ok(Duration::from_secs(seconds.min(32_767)))
}
