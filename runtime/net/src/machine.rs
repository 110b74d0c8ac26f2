//! What the machine tells: the addresses of its interfaces, and the names its resolver knows.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::dns::{self, nameservers};

/// The seam to the machine, so that tests answer as they like.
pub trait Machine: Send + Sync {
    /// The addresses of a name that isn't the cluster's, in the order to try them.
    fn look_up(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>>;

    /// The addresses of all interfaces, and the broadcast addresses of their networks.
    fn addresses(&self) -> Arc<[IpAddr]>;

    /// The DNS servers that the machine asks.
    fn resolvers(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    #[error("no such host")]
    NotFound,
    /// The resolver is away, or has too much to do.
    #[error("the resolver gives no answer: {0}")]
    Temporary(String),
}

/// Addresses that are older are read anew: interfaces come and go.
const ADDRESSES_FOR: Duration = Duration::from_secs(5);
/// Look-ups at once: each holds a thread of tokio's pool for calls that block, which file
/// operations of guests need too.
const LOOK_UPS: usize = 6;
/// How long one may take, waiting for its turn included.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(15);
/// More addresses than that of one name are not tried.
const MAX_ADDRESSES: usize = 32;

/// A machine with Linux and its C library's resolver.
pub struct Linux {
    turns: Arc<Semaphore>,
    addresses: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl Default for Linux {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOK_UPS)), addresses: Mutex::default() }
    }
}

impl Machine for Linux {
    fn look_up(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>> {
        let turns = self.turns.clone();
        let asked = async move {
            let turn = turns.acquire_owned().await;
            // The call can't be stopped, so it keeps its turn also when nobody waits any more.
            let asked = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host, 0)).await;
                drop(turn);
                found.map(|found| found.map(|address| address.ip()).take(MAX_ADDRESSES).collect())
            });
            match asked.await {
                Ok(found) => found.map_err(|error| meaning(&error)),
                Err(_) => Err(LookUpError::Temporary("the process is being stopped".into())),
            }
        };
        Box::pin(async move {
            let late = || LookUpError::Temporary(format!("not within {LOOK_UP_TIMEOUT:?}"));
            timeout(LOOK_UP_TIMEOUT, asked).await.unwrap_or_else(|_| Err(late()))
        })
    }

    fn addresses(&self) -> Arc<[IpAddr]> {
        let mut known = self.addresses.lock();
        if let Some((read_at, addresses)) = &*known
            && read_at.elapsed() < ADDRESSES_FOR
        {
            return addresses.clone();
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let found = own_addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"));
        let addresses: Arc<[IpAddr]> = found.into_iter().collect();
        *known = Some((Instant::now(), addresses.clone()));
        addresses
    }

    fn resolvers(&self) -> Vec<SocketAddr> {
        // Read each time: who joins a network finds other servers there.
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        nameservers(&text).into_iter().map(|ip| SocketAddr::new(ip, dns::PORT)).collect()
    }
}

/// The C library's error is only a text: of those that `gai_strerror` has for EAI_AGAIN one is
/// glibc's and one musl's.
fn meaning(error: &io::Error) -> LookUpError {
    let text = error.to_string();
    if text.contains("Temporary failure") || text.contains("Try again") {
        return LookUpError::Temporary(text);
    }
    LookUpError::NotFound
}

/// Reads the kernel's tables: in the first, an address stands on the line before its kind; in the
/// second, it is a line's first column.
fn own_addresses(fib_trie: &str, if_inet6: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim_start) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.starts_with("/32 host LOCAL") || line.starts_with("/32 link BROADCAST") {
            found.extend(last);
        }
    }
    for line in if_inet6.lines() {
        let hex = line.split_whitespace().next().unwrap_or_default();
        if let Ok(bits) = u128::from_str_radix(hex, 16) {
            found.insert(IpAddr::V6(bits.into()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
             \u{20}       |-- 192.168.1.0\n           /24 link UNICAST\n\
             Local:\n           |-- 127.0.0.0\n              /8 host LOCAL\n\
             \u{20}          |-- 127.0.0.1\n              /32 host LOCAL\n\
             \u{20}    |-- 192.168.1.5\n        /32 host LOCAL\n\
             \u{20}    |-- 192.168.1.255\n        /32 link BROADCAST\n";
        let inet6 = "fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
             20010db8000000000000000000000005 02 40 00 80     eth0\n";
        let found: Vec<String> =
            own_addresses(trie, inet6).iter().map(ToString::to_string).collect();
        let expected = [
            "127.0.0.1",
            "192.168.1.5",
            "192.168.1.255",
            "2001:db8::5",
            "fe80::211:22ff:fe33:4455",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn this_machine_has_addresses() {
        let machine = Linux::default();
        assert!(machine.addresses().contains(&IpAddr::from([127, 0, 0, 1])));
        assert!(Arc::ptr_eq(&machine.addresses(), &machine.addresses()), "read once in a while");
    }

    #[tokio::test]
    async fn the_resolver_is_asked() {
        let machine = Linux::default();
        let found = machine.look_up("localhost".into()).await.expect("every machine knows it");
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        let none = machine.look_up("no-such-host.invalid".into()).await;
        assert!(none.is_err(), "{none:?}");
    }
}
