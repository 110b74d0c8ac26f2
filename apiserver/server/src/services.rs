//! Addresses of services: which belong to the cluster and which are free. What is taken is known
//! from the claims in the store, so nothing is allocated that isn't also committed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use windlass_apiserver_registry::Allocator;
use windlass_sdk_meta::Rng;

use crate::cache::{CLAIMS, Cache};

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

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
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
        let start = self.rng.below(size as usize) as u32;
        (0..size)
            .map(|step| (start + step) % size)
            .filter_map(|offset| self.range.usable(offset))
            .find(|address| {
                *address != IpAddr::V4(self.range.first())
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
        format!("{}/{}", Ipv4Addr::from(self.range.base), self.range.prefix)
    }
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
    }
}
