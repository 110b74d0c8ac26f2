//! The files of a database: who may use them, which one is damaged, and how much room is left.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::{Revision, StoreError};

/// Below this nothing is written: sled needs room to move pages, and must not see a full disk.
const NEED_FREE_MIB: u64 = 64;

/// A claimed folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// Held until dropped; where the process is killed the lock ends with the descriptor.
    lock: File,
    tip: Tip,
}

impl Drop for Folder {
    /// A child that is being forked has the descriptor, too, for a moment.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// A small file beside the database with the newest durable revision. It is written after each
/// commit and not synced: it is never ahead of the database, and killing the process can't leave it
/// behind by more than the commit in progress.
#[derive(Debug)]
pub(super) struct Tip {
    file: File,
    acknowledged: Revision,
}

impl Folder {
    /// Makes the folder where it is new, and takes its lock.
    pub fn claim(folder: &Path) -> Result<Self, StoreError> {
        let failed =
            |error: io::Error| StoreError::Unavailable(format!("{}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = take_lock(folder)?;
        remove_unfinished_snapshots(folder).map_err(failed)?;
        let tip = Tip::open(&folder.join("tip")).map_err(failed)?;
        if tip.acknowledged > 0 && !folder.join("db").exists() {
            let why = format!("the file is gone; revision {} was in it", tip.acknowledged);
            return Err(damaged(folder, why));
        }
        Ok(Self { lock, tip })
    }

    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Makes the files that opening may have created survive a power cut.
    pub fn sync_new(&self, folder: &Path) -> Result<(), StoreError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(&folder.join("conf"))
            .and_then(|()| sync(folder))
            .and_then(|()| parent.map_or(Ok(()), sync))
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))
    }
}

impl Tip {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut text = String::new();
        // A power cut may leave anything in it: then it proves nothing, and that is no damage.
        let _ = file.read_to_string(&mut text);
        let acknowledged = parse_tip(&text).unwrap_or(0);
        Ok(Self { file, acknowledged })
    }

    /// The newest revision that was durable when the file was last written.
    pub fn acknowledged(&self) -> Revision {
        self.acknowledged
    }

    /// Notes a durable revision.
    pub fn write(&self, revision: Revision) -> io::Result<()> {
        self.file.write_all_at(tip_text(revision).as_bytes(), 0)
    }
}

/// `DiskFull` where there is too little room for a write.
pub(super) fn check_free_space(folder: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::Unavailable(format!("{}: {error}", folder.display()));
    let disk = statvfs(folder).map_err(failed)?;
    let free_mib = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
    if free_mib >= NEED_FREE_MIB {
        return Ok(());
    }
    let path = folder.display().to_string();
    Err(StoreError::DiskFull { path, free_mib, need_mib: NEED_FREE_MIB })
}

/// `Damaged`, naming the file that is.
pub(super) fn damaged(folder: &Path, why: String) -> StoreError {
    StoreError::Damaged { path: blame(folder).display().to_string(), why }
}

/// Errors of reading that are not the machine's.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

/// sled's errors name no file, so look: `conf` ends with its checksum; a snapshot ends with its
/// length and its checksum; else it is the log itself.
fn blame(folder: &Path) -> PathBuf {
    let is_sound = |path: &Path, tail_bytes: usize| {
        let bytes = fs::read(path).unwrap_or_default();
        let body = bytes.len().checked_sub(tail_bytes).and_then(|end| bytes.get(..end));
        body.is_some_and(|body| bytes.ends_with(&crc32fast::hash(body).to_le_bytes()))
    };
    let conf = folder.join("conf");
    if conf.exists() && !is_sound(&conf, 4) {
        return conf;
    }
    let snapshot = files_named(folder, |name| name.starts_with("snap.")).into_iter().max();
    snapshot.filter(|path| !is_sound(path, 12)).unwrap_or_else(|| folder.join("db"))
}

fn take_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(error.into()));
        }
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        return Err(StoreError::Unavailable(format!(
            "the database {} is in use by process {}",
            folder.display(),
            holder.trim()
        )));
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    let unfinished =
        files_named(folder, |name| name.starts_with("snap.") && name.ends_with(".generating"));
    unfinished.into_iter().try_for_each(fs::remove_file)
}

fn files_named(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let meant = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_meant));
    meant.map(|entry| entry.path()).collect()
}

fn tip_text(revision: Revision) -> String {
    let number = format!("{revision:020}");
    format!("{number} {:08x}\n", crc32fast::hash(number.as_bytes()))
}

fn parse_tip(text: &str) -> Option<Revision> {
    let revision = text.split_once(' ')?.0.parse().ok()?;
    (tip_text(revision) == text).then_some(revision)
}
