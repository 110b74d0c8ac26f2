//! Files that the binary itself writes, of a data folder and of the person's.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// Holds a data folder for this process until it is dropped (or the process dies); `way_out` is for
/// who finds it held.
pub fn lock(data_dir: &Path, way_out: &str) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("can't open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("the data folder {} is in use by another windlass: {way_out}", data_dir.display());
    }
    Ok(file)
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

/// Copies a file to a place of the person's, whole or not at all.
pub fn copy_whole(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = || {
        let folder = to.parent().filter(|folder| *folder != Path::new(""));
        let fresh = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        std::io::copy(&mut File::open(from)?, &mut fresh.as_file())?;
        fresh.as_file().set_permissions(Permissions::from_mode(0o644))?;
        fresh.persist(to)?;
        Ok::<_, std::io::Error>(())
    };
    copy().with_context(|| format!("can't write {}", to.display()))
}

/// What tells this node's containers from those of other nodes on the same engine: made at the first
/// start, and kept.
pub fn node_id(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("node-id");
    if let Ok(kept) = std::fs::read_to_string(&path)
        && !kept.trim().is_empty()
    {
        return Ok(kept.trim().to_owned());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let fresh = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    write_private(&path, fresh.as_bytes())?;
    Ok(fresh.trim().to_owned())
}
