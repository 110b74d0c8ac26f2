//! Routed mode on one node: the ranges of pods and services are made the machine's own by two local
//! routes, and from there on everything is as on loopback. The routes are marked as ours, so that
//! those of a process that was killed are found and removed.

use std::{fs, io, net::Ipv4Addr};

use crate::{
    blocks::{Block, Blocks, is_held},
    netlink,
};

/// Pods of all nodes, where nothing else is asked for.
pub const ROUTED_PODS: &str = "10.64.0.0/10";
/// Services, where nothing else is asked for.
pub const ROUTED_SERVICES: &str = "10.128.0.0/16";
/// Of the namespace that this thread is in.
const ROUTES: &str = "/proc/thread-self/net/route";

/// The machine has the ranges as its own for as long as this is there.
#[derive(Debug)]
pub struct Routes {
    ranges: Vec<Block>,
}

#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    #[error(
        "--network routed makes routes, which takes root (CAP_NET_ADMIN): run as root, or leave \
         --network out: {0}"
    )]
    NotPermitted(#[source] io::Error),
    #[error(
        "this machine has a route to {found} by {interface}, which is in {range}: choose other \
         ranges by --pod-range and --service-range, or leave --network out"
    )]
    InUse { range: Block, found: Block, interface: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Routes {
    /// Makes the ranges of the cluster the machine's own. `whole` are the ranges that all nodes'
    /// are taken from: none of their addresses may lead elsewhere.
    ///
    /// # Errors
    /// Without root, and where the machine has a route inside a range already.
    pub fn add(blocks: &Blocks, whole: &[Block]) -> Result<Self, RoutesError> {
        let io = |what: String| move |source| RoutesError::Io { what, source };
        let table = fs::read_to_string(ROUTES).map_err(io(format!("cannot read {ROUTES}")))?;
        if let Some((range, found, interface)) = conflict(&table, whole) {
            return Err(RoutesError::InUse { range, found, interface });
        }
        remove_leftovers().map_err(io("cannot remove routes of an earlier run".into()))?;
        let mut routes = Self { ranges: Vec::new() };
        let add = |range, source| {
            netlink::add_local_range(range, source).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => RoutesError::NotPermitted(error),
                _ => RoutesError::Io { what: format!("no route to {range}"), source: error },
            })
        };
        // The machine itself calls from the first address of its pods' block, which no pod has, and
        // which must be an own one before it can be a source.
        add(blocks.pods, None)?;
        for range in [blocks.pods, blocks.services] {
            routes.ranges.push(range);
            add(range, Some(blocks.pods.first()))?;
        }
        Ok(routes)
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        for range in &self.ranges {
            if let Err(error) = netlink::remove_local_range(*range) {
                tracing::warn!(%range, %error, "a route stays behind");
            }
        }
    }
}

/// Removes routes of ours whose ranges no process holds any more. Without root there is nothing that
/// could be removed.
pub fn remove_leftovers() -> io::Result<()> {
    for range in netlink::local_ranges()? {
        if !is_held(range) {
            match netlink::remove_local_range(range) {
                Ok(()) => tracing::info!(%range, "removed a route that an earlier run left behind"),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The first route of the kernel's table that leads into one of the ranges, and by what; routes to
/// everywhere don't count.
fn conflict(table: &str, ranges: &[Block]) -> Option<(Block, Block, String)> {
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, _, _, _, _, _, mask, ..] = columns[..] else { continue };
        let number = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::from_be);
        let (Some(first), Some(mask)) = (number(destination), number(mask)) else { continue };
        let (first, prefix) = (Ipv4Addr::from(first), mask.count_ones());
        let found = Block::any(first, prefix);
        let overlapping = ranges.iter().find(|range| prefix > 0 && range.overlaps(found));
        if let Some(range) = overlapping {
            return Some((*range, found, interface.to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_inside_the_ranges_are_found() {
        // As the kernel writes it: addresses in the machine's order of bytes.
        let table = |destination: &str, mask: &str| {
            let number = |ip: &str| u32::from(ip.parse::<Ipv4Addr>().expect(ip)).to_be();
            format!(
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                 eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 tun0\t{:08X}\t00000000\t0001\t0\t0\t0\t{:08X}\t0\t0\t0\n",
                number(destination),
                number(mask)
            )
        };
        let ranges = [ROUTED_PODS, ROUTED_SERVICES].map(|range| range.parse().expect(range));
        for (destination, mask, found) in [
            ("10.0.0.0", "255.255.255.0", None),
            ("10.0.0.0", "255.0.0.0", Some("10.0.0.0/8 in 10.64.0.0/10")),
            ("10.70.0.0", "255.255.0.0", Some("10.70.0.0/16 in 10.64.0.0/10")),
            ("10.128.7.7", "255.255.255.255", Some("10.128.7.7/32 in 10.128.0.0/16")),
            ("10.129.0.0", "255.255.0.0", None),
            ("172.17.0.0", "255.255.0.0", None),
        ] {
            let said = conflict(&table(destination, mask), &ranges)
                .map(|(range, found, _)| format!("{found} in {range}"));
            assert_eq!(said.as_deref(), found, "{destination}");
        }
    }
}
