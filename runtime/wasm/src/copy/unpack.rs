//! Takes an archive apart, as `tar -xmf - -C DIR` does. What an archive says is not trusted: names
//! stay below the folder, links stay below the mount, and a volume doesn't outgrow its limit.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::{Component, Path},
};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use tar::EntryType;

use super::{CHUNK_BYTES, Complaints, ENTRIES, FAILED, Place, View, pack::plain};
use crate::mounts::Folder;

/// What a disk keeps free, whoever copies: the node's database is often on it.
const FREE_BYTES: u64 = 256 << 20;
/// How many bytes are written between looks at the free space.
const LOOK_BYTES: u64 = 8 << 20;

/// Takes the archive apart in `folder`; what can't be taken is told and left out. Returns the exit
/// code.
pub fn unpack(view: &View, folder: Option<&str>, input: impl Read, says: &mut Complaints) -> i32 {
    let shown = folder.unwrap_or(".");
    let base = view.absolute(shown);
    if !view.is_folder(&base) {
        says.add(format!("{shown}: Cannot open: No such file or directory"));
        if matches!(view.place(&base), Place::Nowhere) {
            says.add(view.advice());
        }
        return FAILED;
    }
    let mut unpacker = Unpacker { view, base, rooms: BTreeMap::new(), says };
    if let Err(error) = unpacker.all(input) {
        unpacker.says.add(format!("{error}: the rest is left out"));
    }
    unpacker.says.code()
}

struct Unpacker<'a> {
    view: &'a View,
    base: String,
    rooms: BTreeMap<String, Room>,
    says: &'a mut Complaints,
}

/// Why no further entry is taken.
enum Stop {
    /// This entry only.
    Entry(String),
    Archive(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Entry(plain(&error))
    }
}

impl Unpacker<'_> {
    fn all(&mut self, input: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(input);
        for (number, entry) in archive.entries()?.enumerate() {
            let mut entry = entry?;
            if number >= ENTRIES {
                return Err(io::Error::other(format!("more than {ENTRIES} files and folders")));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match self.entry(&mut entry, &name) {
                Ok(()) => {}
                Err(Stop::Entry(why)) => self.says.add(format!("{name}: {why}")),
                Err(Stop::Archive(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, name: &str) -> Result<(), Stop> {
        let inside = inside(&entry.path_bytes())?;
        let target = format!("{}/{inside}", self.base.trim_end_matches('/'));
        let target = self.view.absolute(&target);
        let sort = entry.header().entry_type();
        let (folder, path) = match self.view.place(&target) {
            Place::In(folder, path) => (folder, path),
            Place::Above if sort == EntryType::Directory => return Ok(()),
            _ => return Err(Stop::Entry(format!("Cannot open {target}: {}", self.view.advice()))),
        };
        let is_mount = path == Path::new(".");
        if is_mount && sort == EntryType::Directory {
            return Ok(());
        }
        if folder.read_only {
            return Err(Stop::Entry(format!("Cannot open {target}: Read-only file system")));
        }
        if is_mount {
            return Err(Stop::Entry(format!("Cannot open {target}: Is a directory")));
        }
        let root = &folder.open()?;
        match sort {
            EntryType::Directory => Ok(make_folders(root, &path)?),
            EntryType::Regular | EntryType::Continuous => {
                make_parent(root, &path)?;
                let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
                self.file(folder, root, &path, mode, entry)
            }
            EntryType::Symlink => {
                let to = entry.link_name()?.unwrap_or_default().into_owned();
                if !stays(&path, &to) {
                    let why = format!("the symlink to {} leads out of the volume", to.display());
                    return Err(Stop::Entry(why));
                }
                make_parent(root, &path)?;
                remove_present(root, &path, true)?;
                Ok(root.symlink_contents(&to, &path)?)
            }
            // Metadata that was made use of already, or that nothing here has a use for.
            EntryType::XGlobalHeader => Ok(()),
            _ => Err(Stop::Entry(format!("{name} is neither file, folder nor symlink: ignored"))),
        }
    }

    fn file(
        &mut self,
        folder: &Folder,
        root: &Dir,
        path: &Path,
        mode: u32,
        from: &mut impl Read,
    ) -> Result<(), Stop> {
        let replaced = remove_present(root, path, false)?;
        let room = self
            .rooms
            .entry(folder.container_path.clone())
            .or_insert_with(|| Room::of(folder, root));
        room.left = room.left.map(|left| left.saturating_add(replaced));
        let mut options = OpenOptions::new();
        // What is there is written to, not replaced: a file that is mounted by itself stays the same.
        options.write(true).create(true).truncate(true).mode(mode);
        options.custom_flags(libc::O_NONBLOCK);
        let mut to = root.open_with(path, &options)?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut buffer).map_err(Stop::Archive)?;
            if read == 0 {
                return Ok(());
            }
            room.take(read as u64, &to).map_err(Stop::Archive)?;
            to.write_all(&buffer[..read]).map_err(|error| Stop::Archive(said(path, &error)))?;
        }
    }
}

fn said(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: Cannot write: {}", path.display(), plain(error)))
}

/// How much may still be written to a mount.
struct Room {
    /// None: what the disk has.
    left: Option<u64>,
    limit: u64,
    unlooked: u64,
}

impl Room {
    fn of(folder: &Folder, root: &Dir) -> Self {
        let limit = folder.limit_bytes;
        let left = limit.map(|limit| limit.saturating_sub(used_bytes(root)));
        Self { left, limit: limit.unwrap_or_default(), unlooked: LOOK_BYTES }
    }

    fn take(&mut self, bytes: u64, on: &cap_std::fs::File) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(bytes);
            *left = rest.ok_or_else(|| {
                let limit = self.limit;
                io::Error::other(format!("the volume's size limit of {limit} bytes is reached"))
            })?;
        }
        self.unlooked += bytes;
        if self.unlooked >= LOOK_BYTES {
            self.unlooked = 0;
            let disk = rustix::fs::fstatvfs(on)?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES {
                let why = format!("the node's disk has less than {} MiB left", FREE_BYTES >> 20);
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }
}

/// Bytes of all files below a folder; as far as they can be seen.
fn used_bytes(root: &Dir) -> u64 {
    let mut used = 0;
    let mut left = vec![std::path::PathBuf::from(".")];
    while let Some(path) = left.pop() {
        for entry in root.read_dir(&path).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => left.push(path.join(entry.file_name())),
                Ok(found) if found.is_file() => used += found.len(),
                _ => {}
            }
        }
    }
    used
}

/// A name of the archive as a path below the folder.
fn inside(name: &[u8]) -> Result<String, Stop> {
    let name = std::str::from_utf8(name).map_err(|_| Stop::Entry("the name is no UTF-8".into()))?;
    let parts: Vec<&str> =
        name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.contains(&"..") {
        true => Err(Stop::Entry("the name leads out of the folder".into())),
        false => Ok(parts.join("/")),
    }
}

/// Whether a symlink at `path` leads to somewhere in the same mount, as far as its text goes.
fn stays(path: &Path, to: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in to.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

/// Makes way for a new file, and returns the size of what it will replace. With `all` also a
/// file goes.
fn remove_present(root: &Dir, path: &Path, all: bool) -> io::Result<u64> {
    match root.symlink_metadata(path) {
        Ok(found) if found.is_symlink() || (all && found.is_file()) => {
            root.remove_file(path).map(|()| 0)
        }
        Ok(found) if found.is_dir() => Err(io::Error::other("Cannot open: Is a directory")),
        Ok(found) => Ok(found.len()),
        Err(_) => Ok(0),
    }
}

fn make_parent(root: &Dir, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => make_folders(root, parent),
        _ => Ok(()),
    }
}

fn make_folders(root: &Dir, path: &Path) -> io::Result<()> {
    // A symlink to a folder inside is one, too.
    match root.metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other("Not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => root.create_dir_all(path),
        Err(error) => Err(error),
    }
}
