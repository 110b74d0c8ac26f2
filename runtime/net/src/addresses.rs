//! The addresses of the pods of one node, out of its block.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::blocks::Block;

/// Gives each pod an address and keeps it for as long as the pod is there. An address that was
/// given back is taken again last, so that whoever still dials the old pod doesn't meet a new one.
#[derive(Debug)]
pub struct PodAddresses {
    block: Block,
    by_pod: BTreeMap<String, Ipv4Addr>,
    taken: BTreeMap<Ipv4Addr, String>,
    next: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("all {0} pod addresses of this node are in use")]
    Exhausted(u32),
    #[error("{0} belongs to another pod or is not in this node's block")]
    NotFree(Ipv4Addr),
}

impl PodAddresses {
    pub fn new(block: Block) -> Self {
        Self { block, by_pod: BTreeMap::new(), taken: BTreeMap::new(), next: 1 }
    }

    /// The pod's address: the one it has, else a free one.
    pub fn allocate(&mut self, pod_uid: &str) -> Result<Ipv4Addr, AddressError> {
        if let Some(address) = self.by_pod.get(pod_uid) {
            return Ok(*address);
        }
        // The first and the last address of a block are kept for the network itself.
        let usable = self.block.size().saturating_sub(2);
        for _ in 0..usable {
            let address = self.block.nth(self.next);
            self.next = self.next % usable + 1;
            if !self.taken.contains_key(&address) {
                self.take(pod_uid, address);
                return Ok(address);
            }
        }
        Err(AddressError::Exhausted(usable))
    }

    /// Gives a pod that was here before a restart the address it had.
    pub fn restore(&mut self, pod_uid: &str, address: Ipv4Addr) -> Result<(), AddressError> {
        match self.taken.get(&address) {
            Some(holder) if holder == pod_uid => Ok(()),
            None if self.block.contains(address) && !self.by_pod.contains_key(pod_uid) => {
                self.take(pod_uid, address);
                Ok(())
            }
            _ => Err(AddressError::NotFree(address)),
        }
    }

    pub fn release(&mut self, pod_uid: &str) {
        if let Some(address) = self.by_pod.remove(pod_uid) {
            self.taken.remove(&address);
        }
    }

    fn take(&mut self, pod_uid: &str, address: Ipv4Addr) {
        self.by_pod.insert(pod_uid.to_owned(), address);
        self.taken.insert(address, pod_uid.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_and_reused_last() {
        let block: Block = "127.64.0.0/29".parse().expect("block");
        let mut addresses = PodAddresses::new(block);
        addresses.restore("back", Ipv4Addr::new(127, 64, 0, 2)).expect("free");
        let given: Vec<String> = ["a", "back", "b", "a"]
            .iter()
            .map(|uid| addresses.allocate(uid).expect("room").to_string())
            .collect();
        assert_eq!(given, ["127.64.0.1", "127.64.0.2", "127.64.0.3", "127.64.0.1"]);
        addresses.release("a");
        assert_eq!(addresses.allocate("c"), Ok(Ipv4Addr::new(127, 64, 0, 4)));
        for uid in ["d", "e"] {
            addresses.allocate(uid).expect("room");
        }
        assert_eq!(addresses.allocate("f"), Ok(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(addresses.allocate("g"), Err(AddressError::Exhausted(6)));
        assert!(addresses.restore("g", Ipv4Addr::new(127, 64, 0, 1)).is_err());
        assert!(addresses.restore("g", Ipv4Addr::new(10, 0, 0, 1)).is_err());
    }
}
