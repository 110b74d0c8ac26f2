//! Addresses of services: which belong to the cluster and which are free. What is taken is known
//! from the claims in the store, so nothing is allocated that isn't also committed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use windlass_apiserver_registry::{Allocator, NODE_PORTS};
use windlass_sdk_meta::Rng;

use crate::cache::{CLAIMS, Cache};

/// As `dns_address` of runtime/net has it, which this crate doesn't know.
const DNS_OFFSET: u32 = 10;

/// The service range of a cluster.
pub(crate) struct ServiceRange {
    base: u32,
    prefix: u8,
    endpoint: Option<SocketAddr>,
}

/// Gives out addresses for one write.
pub(crate) struct FreeAddresses<'a> {
    pub range: &'a ServiceRange,
    pub cache: &'a Cache,
    pub rng: &'a Rng,
}

impl ServiceRange {
    pub fn new((first, prefix): (Ipv4Addr, u8), endpoint: Option<SocketAddr>) -> Self {
        let prefix = prefix.clamp(8, 30);
        let mask = u32::MAX << (32 - u32::from(prefix));
        Self { base: u32::from(first) & mask, prefix, endpoint }
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Where containers find their DNS server, which is no Service: it is given only to one that
    /// asks for it.
    fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + DNS_OFFSET)
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    pub fn cidr(&self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address).wrapping_sub(self.base) < self.size()
    }

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    /// Neither the network's own address nor its last one, which is kept for the API server.
    fn usable(&self, offset: u32) -> Option<IpAddr> {
        let address = IpAddr::V4(Ipv4Addr::from(self.base + offset));
        let reserved = offset == 0
            || offset + 1 >= self.size()
            || self.endpoint.is_some_and(|endpoint| endpoint.ip() == address);
        (!reserved).then_some(address)
    }
}

impl Allocator for FreeAddresses<'_> {
    fn next_free(&self) -> Result<IpAddr, String> {
        let size = self.range.size();
        let lower = static_band(size, 16, 256);
        let somewhere = self.rng.below((size - lower) as usize) as u32;
        (lower + somewhere..size)
            .chain(lower..lower + somewhere)
            .chain(0..lower)
            .filter_map(|offset| self.range.usable(offset))
            .find(|address| {
                *address != IpAddr::V4(self.range.first())
                    && *address != IpAddr::V4(self.range.dns())
                    && self.cache.claim(&format!("{CLAIMS}clusterip/{address}")).is_none()
            })
            .ok_or_else(|| "range is full".into())
    }

    fn in_range(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let offset = u32::from(address).wrapping_sub(self.range.base);
        offset < self.range.size() && self.range.usable(offset).is_some()
    }

    fn range(&self) -> String {
        self.range.cidr()
    }

    fn next_node_port(&self, taken: &[i64]) -> Result<i64, String> {
        let is_free = |number: &i64| {
            !taken.contains(number)
                && self.cache.claim(&format!("{CLAIMS}nodeport/{number}")).is_none()
        };
        let (first, end) = (*NODE_PORTS.start(), NODE_PORTS.end() + 1);
        let lower = first + static_band((end - first) as u32, 32, 128) as i64;
        let somewhere = self.rng.below((end - lower) as usize) as i64;
        (lower + somewhere..end)
            .chain(lower..lower + somewhere)
            .chain(first..lower)
            .find(is_free)
            .ok_or_else(|| "range is full".into())
    }
}

/// How much of the beginning of a range is given out last, so that who asks for something by name
/// finds it free: upstream's rule (KEP-3070).
fn static_band(size: u32, step: u32, most: u32) -> u32 {
    if size <= 16 { 0 } else { (size / step).clamp(16, most).min(size - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses() {
        let endpoint = "127.96.15.255:6443".parse().ok();
        let range = ServiceRange::new((Ipv4Addr::new(127, 96, 0, 0), 20), endpoint);
        assert_eq!(range.first(), Ipv4Addr::new(127, 96, 0, 1));
        assert_eq!(range.size(), 4096);
        assert!(range.usable(0).is_none() && range.usable(4095).is_none());
        assert_eq!(range.usable(4094), Some("127.96.15.254".parse().expect("address")));
        assert_eq!(range.dns(), Ipv4Addr::new(127, 96, 0, 10));
    }

    #[test]
    fn what_is_given_out_last() {
        let bands = [8, 16, 17, 64, 256, 4096, 65_536].map(|size| static_band(size, 16, 256));
        assert_eq!(bands, [0, 0, 16, 16, 16, 256, 256]);
        assert_eq!(static_band(2768, 32, 128), 86);
    }
}
