//! Which addresses of 127.0.0.0/8 a cluster and its nodes use. Several clusters may run on one
//! machine, so each data folder claims its blocks by holding an abstract Unix socket named after
//! the block: the kernel lets go of it when the process dies, however it dies, and it needs no
//! place on disk that two users would have to share. What was claimed once is remembered in the
//! folder, because the addresses are in the database.

use std::{
    fmt, fs, io,
    net::Ipv4Addr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use windlass_sdk_meta::Rng;

use crate::holder;

const FILE: &str = "network.json";

/// The claimed blocks; they are held until this is dropped.
#[derive(Debug)]
pub struct Blocks {
    /// Addresses of this node's pods: a /18 of [`Block::PODS`].
    pub pods: Block,
    /// Addresses of the cluster's services: a /20 of [`Block::SERVICES`].
    pub services: Block,
    _held: [UnixListener; 2],
}

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: Ipv4Addr,
    prefix: u8,
}

#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error(
        "the {kind} addresses {block} of this data folder are in use by {holder}: stop it, or use \
         another --data-dir"
    )]
    Taken { kind: &'static str, block: Block, holder: String },
    #[error(
        "the cluster of this data folder has its pods in {pods} and its services in {services}, \
         which doesn't change: start it with the --network, --pod-range and --service-range that \
         it was made with, or use another --data-dir"
    )]
    Elsewhere { pods: Block, services: Block },
    #[error("every {kind} block in {range} is in use on this machine")]
    Exhausted { kind: &'static str, range: Block },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is damaged: {why}")]
    Damaged { path: String, why: String },
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    pods: String,
    services: String,
}

impl Blocks {
    /// Claims the blocks this folder had before, else free ones, which are then remembered. The
    /// search begins anywhere, so that a cluster that is stopped for a while rarely loses its own.
    pub fn claim(data_dir: &Path, rng: &Rng) -> Result<Self, BlockError> {
        Self::claim_in(data_dir, Block::PODS, Block::SERVICES, Block::SERVICE_PREFIX, rng)
    }

    /// The same out of other ranges, for routed mode: a /18 of `pods`, and all of `services`.
    ///
    /// # Errors
    /// Also where this folder's cluster has its addresses elsewhere: they are in its database.
    pub fn claim_routed(
        data_dir: &Path,
        pods: Block,
        services: Block,
        rng: &Rng,
    ) -> Result<Self, BlockError> {
        Self::claim_in(data_dir, pods, services, services.prefix, rng)
    }

    fn claim_in(
        data_dir: &Path,
        pods_in: Block,
        services_in: Block,
        service_prefix: u8,
        rng: &Rng,
    ) -> Result<Self, BlockError> {
        let path = data_dir.join(FILE);
        if let Some((pods, services)) = read(&path)? {
            if !pods_in.contains(pods.first) || !services_in.contains(services.first) {
                return Err(BlockError::Elsewhere { pods, services });
            }
            let held = [claim_known("pod", pods)?, claim_known("service", services)?];
            return Ok(Self { pods, services, _held: held });
        }
        let pod_prefix = Block::POD_PREFIX.max(pods_in.prefix);
        let (pods, pods_held) = claim_any("pod", pods_in, pod_prefix, rng)?;
        let (services, services_held) = claim_any("service", services_in, service_prefix, rng)?;
        write(&path, pods, services)?;
        Ok(Self { pods, services, _held: [pods_held, services_held] })
    }
}

/// A process of this machine has the block.
pub(crate) fn is_held(block: Block) -> bool {
    hold(block).is_err()
}

impl Block {
    /// All pods of all loopback clusters of a machine.
    pub const PODS: Self = Self { first: Ipv4Addr::new(127, 64, 0, 0), prefix: 11 };
    /// All services of all loopback clusters of a machine.
    pub const SERVICES: Self = Self { first: Ipv4Addr::new(127, 96, 0, 0), prefix: 12 };
    /// Both.
    pub(crate) const LOOPBACK: Self = Self { first: Ipv4Addr::new(127, 64, 0, 0), prefix: 10 };
    const POD_PREFIX: u8 = 18;
    const SERVICE_PREFIX: u8 = 20;

    /// None where the prefix is not 1 to 30, or the address has bits after it.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Option<Self> {
        let block = Self { first, prefix };
        let fits = (1..=30).contains(&prefix) && u32::from(first) & (block.size() - 1) == 0;
        fits.then_some(block)
    }

    /// For messages: also of lengths that no block of ours has.
    pub(crate) fn any(first: Ipv4Addr, prefix: u32) -> Self {
        Self { first, prefix: u8::try_from(prefix).unwrap_or(32) }
    }

    pub fn first(&self) -> Ipv4Addr {
        self.first
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn last(&self) -> Ipv4Addr {
        self.nth(self.size() - 1)
    }

    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    /// The address at this place; it wraps around at the end.
    pub fn nth(&self, at: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + at % self.size())
    }

    /// They have addresses in common.
    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & !(self.size() - 1) == u32::from(self.first)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(first, prefix)| Self::new(first.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| format!("{text:?} is not an IPv4 range such as 127.64.0.0/18"))
    }
}

fn claim_known(kind: &'static str, block: Block) -> Result<UnixListener, BlockError> {
    hold(block).map_err(|error| taken(kind, block, error))
}

fn claim_any(
    kind: &'static str,
    range: Block,
    prefix: u8,
    rng: &Rng,
) -> Result<(Block, UnixListener), BlockError> {
    let count = 1u32 << (prefix - range.prefix);
    let size = range.size() / count;
    let start = u32::try_from(rng.below(count as usize)).unwrap_or(0);
    for n in 0..count {
        let block = Block { first: range.nth((start + n) % count * size), prefix };
        match hold(block) {
            Ok(held) => return Ok((block, held)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && count > 1 => continue,
            Err(error) => return Err(taken(kind, block, error)),
        }
    }
    Err(BlockError::Exhausted { kind, range })
}

fn taken(kind: &'static str, block: Block, error: io::Error) -> BlockError {
    if error.kind() == io::ErrorKind::AddrInUse {
        let holder = holder_of(block).unwrap_or_else(|| "another process".to_owned());
        BlockError::Taken { kind, block, holder }
    } else {
        BlockError::Io { path: socket_name(block), source: error }
    }
}

fn socket_name(block: Block) -> String {
    format!("windlass/{block}")
}

fn hold(block: Block) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(socket_name(block))?)
}

/// The process that holds a block: the kernel tells who listens to whoever connects.
fn holder_of(block: Block) -> Option<String> {
    let address = SocketAddr::from_abstract_name(socket_name(block)).ok()?;
    let stream = UnixStream::connect_addr(&address).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()?;
    Some(holder::describe_process(pid))
}

fn read(path: &Path) -> Result<Option<(Block, Block)>, BlockError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(BlockError::Io { path: path.display().to_string(), source }),
    };
    let damaged = |why: String| BlockError::Damaged { path: path.display().to_string(), why };
    let known: Remembered =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((known.pods.parse().map_err(damaged)?, known.services.parse().map_err(damaged)?)))
}

fn write(path: &Path, pods: Block, services: Block) -> Result<(), BlockError> {
    let known = Remembered { pods: pods.to_string(), services: services.to_string() };
    let text = serde_json::to_string(&known).unwrap_or_default();
    let part = path.with_extension("part");
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::write(&part, text))
        .and_then(|()| fs::rename(&part, path))
        .map_err(|source| BlockError::Io { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_and_checked() {
        for (text, size) in [
            ("127.64.0.0/18", Some(16384)),
            ("127.96.16.0/20", Some(4096)),
            ("127.64.0.1/18", None),
            ("127.64.0.0/33", None),
            ("127.64.0.0", None),
        ] {
            assert_eq!(text.parse::<Block>().ok().map(|block| block.size()), size, "{text}");
        }
        assert_eq!(Block::PODS.last(), Ipv4Addr::new(127, 95, 255, 255));
        assert!(!Block::PODS.contains(Ipv4Addr::new(127, 96, 0, 0)));
    }
}
