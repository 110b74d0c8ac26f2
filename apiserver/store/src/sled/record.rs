//! How versions lie in sled. One tree, keys told apart by their first byte, numbers big-endian in
//! keys (so that they sort) and little-endian in values:
//!
//! - `r | revision | sub`: one version of one key: checksum, flags, perhaps [`Totals`], create
//!   revision, version, the key, then its value or, where that is long, the value's length;
//! - `c | revision | sub | n`: the n-th chunk of a long value;
//! - `m | format`, `m | head`: what the database is, and where compaction stands.
//!
//! A checksum covers a record, its id and its chunks. Totals ride on the last record of each
//! commit instead of on a record of their own, which would rewrite a second page each time.

use std::sync::Arc;

use crc32fast::Hasher;

use crate::{
    Revision,
    mvcc::{Forgotten, RecordId, Version},
};

/// sled moves pages above about 128 KiB into files that it never syncs; a page holds several records.
const CHUNK_BYTES: usize = 6 << 10;
/// The longest value that stands in its record; with its key it stays below a chunk.
const INLINE_BYTES: usize = 5 << 10;

pub(super) const RECORDS: &[u8] = b"r";
pub(super) const FORMAT_KEY: &[u8] = b"mformat";
pub(super) const FORMAT: &[u8] = b"windlass 1";
pub(super) const HEAD_KEY: &[u8] = b"mhead";

const DELETED: u8 = 1;
const CHUNKED: u8 = 2;
const WITH_TOTALS: u8 = 4;

/// How many records there are, and a hash over their ids that doesn't depend on order: a missing
/// page can't go unnoticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub count: u64,
    pub hash: u64,
}

/// Where compaction stands; the totals hold where no record is newer than `revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub revision: Revision,
    pub compacted: Revision,
    pub totals: Totals,
}

/// A record as it is read back.
#[derive(Debug)]
pub(super) struct Record {
    pub key: String,
    pub version: Version,
    pub totals: Option<Totals>,
}

impl Totals {
    pub fn add(&mut self, id: RecordId) {
        self.count += 1;
        self.hash ^= spread(id);
    }

    pub fn remove(&mut self, id: RecordId) {
        self.count -= 1;
        self.hash ^= spread(id);
    }
}

/// What a batch writes: keys with their values, None where they are removed.
pub(super) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Adds a version to a batch.
pub(super) fn put(batch: &mut Writes, key: &str, version: &Version, totals: Option<Totals>) {
    let value = version.value.as_deref();
    let is_long = value.is_some_and(|value| value.len() > INLINE_BYTES);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let mut out =
        Vec::with_capacity(64 + key.len() + if is_long { 8 } else { value.map_or(0, <[u8]>::len) });
    out.extend([0; 4]);
    out.push(
        flag(value.is_none(), DELETED)
            | flag(is_long, CHUNKED)
            | flag(totals.is_some(), WITH_TOTALS),
    );
    if let Some(totals) = totals {
        out.extend(totals.count.to_le_bytes());
        out.extend(totals.hash.to_le_bytes());
    }
    out.extend(version.create_revision.to_le_bytes());
    out.extend(version.version.to_le_bytes());
    out.extend((key.len() as u64).to_le_bytes());
    out.extend(key.as_bytes());
    let value = value.unwrap_or_default();
    if is_long {
        out.extend((value.len() as u64).to_le_bytes());
        for (n, chunk) in (0..).zip(value.chunks(CHUNK_BYTES)) {
            batch.push((chunk_key(version.id, n).into(), Some(chunk.into())));
        }
    } else {
        out.extend(value);
    }
    let chunks = if is_long { value } else { &[] };
    let sum = checksum(version.id, &out[4..], chunks);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    batch.push((record_key(version.id).into(), Some(out)));
}

/// Takes a version and its chunks out.
pub(super) fn remove(batch: &mut Writes, gone: &Forgotten) {
    batch.push((record_key(gone.id).into(), None));
    if gone.value_bytes > INLINE_BYTES {
        for n in 0..gone.value_bytes.div_ceil(CHUNK_BYTES) {
            batch.push((chunk_key(gone.id, n as u32).into(), None));
        }
    }
}

/// Reads a record; `chunk` fetches one by its key. The outer error is the database's, the inner
/// says what is wrong with the record.
pub(super) fn read(
    record_key: &[u8],
    bytes: &[u8],
    mut chunk: impl FnMut([u8; 17]) -> ::sled::Result<Option<::sled::IVec>>,
) -> ::sled::Result<Result<Record, String>> {
    let Some((id, head)) = split(record_key, bytes) else {
        return Ok(Err("a record is cut short".into()));
    };
    let bad = || format!("the record {}/{} does not match its checksum", id.revision, id.sub);
    let mut long = Vec::new();
    if let Some(value_bytes) = head.long_value {
        let chunks = value_bytes.div_ceil(CHUNK_BYTES);
        for n in 0..chunks {
            match chunk(chunk_key(id, n as u32))? {
                Some(part) => long.extend_from_slice(&part),
                None => return Ok(Err(bad())),
            }
        }
    }
    if checksum(id, &bytes[4..], &long) != head.checksum {
        return Ok(Err(bad()));
    }
    let value: &[u8] = if head.long_value.is_some() { &long } else { head.value };
    let version = Version {
        id,
        create_revision: head.create_revision,
        version: head.version,
        value: (!head.deleted).then(|| Arc::from(value)),
    };
    let key = String::from_utf8_lossy(head.key).into_owned();
    Ok(Ok(Record { key, version, totals: head.totals }))
}

impl Head {
    pub fn encode(&self) -> Vec<u8> {
        let numbers = [self.revision, self.compacted, self.totals.count, self.totals.hash];
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let sum = crc32fast::hash(&body);
        [&sum.to_le_bytes()[..], &body].concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (sum, body) = bytes.split_first_chunk()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = body;
        let mut number = || take_u64(&mut rest);
        let (revision, compacted) = (number()?, number()?);
        Some(Self { revision, compacted, totals: Totals { count: number()?, hash: number()? } })
    }
}

/// The parts of a record before its checksum is known to hold.
struct Parts<'a> {
    checksum: u32,
    deleted: bool,
    totals: Option<Totals>,
    create_revision: Revision,
    version: u64,
    key: &'a [u8],
    value: &'a [u8],
    long_value: Option<usize>,
}

fn split<'a>(record_key: &[u8], bytes: &'a [u8]) -> Option<(RecordId, Parts<'a>)> {
    let (revision, sub) = record_key.strip_prefix(RECORDS)?.split_first_chunk()?;
    let id = RecordId {
        revision: u64::from_be_bytes(*revision),
        sub: u32::from_be_bytes(sub.try_into().ok()?),
    };
    let (checksum, rest) = bytes.split_first_chunk()?;
    let (flags, mut rest) = rest.split_first()?;
    let mut number = || take_u64(&mut rest);
    let totals = match flags & WITH_TOTALS {
        0 => None,
        _ => Some(Totals { count: number()?, hash: number()? }),
    };
    let (create_revision, version) = (number()?, number()?);
    let key_bytes = usize::try_from(number()?).ok()?;
    let (key, mut value) = rest.split_at_checked(key_bytes)?;
    let long_value = match flags & CHUNKED {
        0 => None,
        _ => Some(usize::try_from(take_u64(&mut value)?).ok()?),
    };
    let parts = Parts {
        checksum: u32::from_le_bytes(*checksum),
        deleted: flags & DELETED != 0,
        totals,
        create_revision,
        version,
        key,
        value,
        long_value,
    };
    Some((id, parts))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn checksum(id: RecordId, record: &[u8], chunks: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&record_key(id));
    hasher.update(record);
    hasher.update(chunks);
    hasher.finalize()
}

fn record_key(id: RecordId) -> [u8; 13] {
    let mut key = [b'r'; 13];
    key[1..9].copy_from_slice(&id.revision.to_be_bytes());
    key[9..].copy_from_slice(&id.sub.to_be_bytes());
    key
}

fn chunk_key(id: RecordId, n: u32) -> [u8; 17] {
    let mut key = [b'c'; 17];
    key[1..13].copy_from_slice(&record_key(id)[1..]);
    key[13..].copy_from_slice(&n.to_be_bytes());
    key
}

/// A 64-bit mix (Steele, Lea, Flood: SplitMix64) of an id, so that sums of ids don't collide.
fn spread(id: RecordId) -> u64 {
    let mixed = (id.revision ^ (u64::from(id.sub) << 40)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
