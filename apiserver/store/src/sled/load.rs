//! Reads the whole database into the index at start, and proves that nothing is missing. sled
//! repairs a torn end of its log by dropping it, which is right for what was never acknowledged
//! and silent loss for what was; three facts tell the two apart: the totals of the newest commit
//! must match the records found, each record its checksum, and the newest revision must not be
//! older than the one noted beside the database after each commit.

use super::record::{self, FORMAT, FORMAT_KEY, HEAD_KEY, Head, RECORDS, Totals};
use crate::{
    Revision,
    mvcc::{Forgotten, Index},
};

/// What the database holds.
#[derive(Debug)]
pub(super) struct Loaded {
    pub index: Index,
    pub totals: Totals,
    /// What the totals should be.
    expected: Totals,
    /// Versions before the last compaction that are still on disk.
    pub garbage: Vec<Forgotten>,
}

/// Reads everything. The outer error is sled's, the inner says what is wrong with our records.
pub(super) fn load(db: &::sled::Db) -> ::sled::Result<Result<Loaded, String>> {
    match db.get(FORMAT_KEY)? {
        Some(format) if &*format != FORMAT => {
            let format = String::from_utf8_lossy(&format).into_owned();
            return Ok(Err(format!("its format is {format:?}, this program knows \"windlass 1\"")));
        }
        Some(_) => {}
        None if !db.is_empty() => return Ok(Err("it is not a database of Windlass".into())),
        None => drop(db.insert(FORMAT_KEY, FORMAT)?),
    }
    let head = match db.get(HEAD_KEY)?.map(|bytes| Head::decode(&bytes)) {
        Some(None) => return Ok(Err("its head does not match its checksum".into())),
        Some(Some(head)) => Some(head),
        None => None,
    };

    let mut index = Index::default();
    let mut totals = Totals::default();
    let mut newest = None;
    for entry in db.scan_prefix(RECORDS) {
        let (key, bytes) = entry?;
        let record = match record::read(&key, &bytes, |chunk| db.get(chunk))? {
            Ok(record) => record,
            Err(why) => return Ok(Err(why)),
        };
        totals.add(record.version.id);
        newest = Some((record.version.id.revision, record.totals));
        index.load(&record.key, record.version);
    }
    let expected = match (newest, head) {
        (Some((revision, _)), Some(head)) if head.revision >= revision => head.totals,
        (Some((_, Some(totals))), _) => totals,
        (Some((revision, None)), _) => {
            return Ok(Err(format!("revision {revision} is there in part only")));
        }
        (None, head) => head.map(|head| head.totals).unwrap_or_default(),
    };
    let mut garbage = Vec::new();
    if let Some(head) = head {
        index.raise_revision(head.revision);
        match index.compact(head.compacted) {
            Ok(forgotten) => garbage = forgotten,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(Loaded { index, totals, expected, garbage }))
}

/// Says what is missing, if anything is. `acknowledged` is the newest revision that is known to
/// have been durable.
pub(super) fn verify(loaded: &Loaded, acknowledged: Revision) -> Result<(), String> {
    let revision = loaded.index.revision();
    if revision < acknowledged {
        return Err(format!(
            "it ends at revision {revision}, but {acknowledged} was written and acknowledged"
        ));
    }
    if loaded.totals != loaded.expected {
        let (found, expected) = (loaded.totals.count, loaded.expected.count);
        return Err(format!(
            "it holds {found} records that don't add up to the {expected} written"
        ));
    }
    Ok(())
}
