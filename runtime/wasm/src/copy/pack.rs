//! Writes an archive of a file or a folder, as `tar cf - PATH` does.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use tar::{EntryType, Header};

use super::{Complaints, ENTRIES, Place, View};
use crate::mounts::Folder;

/// Files of volumes that are replaced as a whole are symlinks to names below this one.
const SWAPPED: &str = "..data";

/// Writes the archive to `out`; what can't be read is told and left out. Returns the exit code.
pub fn pack(view: &View, path: &str, out: impl Write, says: &mut Complaints) -> i32 {
    let absolute = view.absolute(path);
    let mut packer = Packer { tar: tar::Builder::new(out), entries: 0, says };
    // As tar does: names in an archive are relative.
    let name = path.trim_start_matches('/').trim_end_matches('/').to_owned();
    let written = match view.place(&absolute) {
        Place::In(folder, rest) => packer.tree(folder, rest, name.clone()),
        Place::Above => Ok(()),
        Place::Nowhere => {
            packer.says.add(format!("{path}: Cannot stat: No such file or directory"));
            packer.says.add(view.advice());
            return packer.says.code();
        }
    };
    let written = written.and_then(|()| {
        view.mounts_below(&absolute).try_for_each(|folder| {
            let rest = super::below(&folder.container_path, &absolute).unwrap_or_default();
            let name = if name.is_empty() { rest.to_owned() } else { format!("{name}/{rest}") };
            packer.tree(folder, PathBuf::from("."), name)
        })
    });
    if let Err(error) = written.and_then(|()| packer.tar.finish()) {
        packer.says.add(format!("-: Cannot write: {error}"));
    }
    packer.says.code()
}

struct Packer<'a, W: Write> {
    tar: tar::Builder<W>,
    entries: usize,
    says: &'a mut Complaints,
}

impl<W: Write> Packer<'_, W> {
    /// Everything from there on; an error is one of the output.
    fn tree(&mut self, folder: &Folder, from: PathBuf, name: String) -> io::Result<()> {
        let root = match folder.open() {
            Ok(root) => root,
            Err(error) => {
                self.says.add(format!("{}: Cannot open: {error}", folder.container_path));
                return Ok(());
            }
        };
        // In such a volume every file is a symlink, which kubectl would pass over.
        let swapped = folder.read_only && root.symlink_metadata(SWAPPED).is_ok();
        // What is named by itself is meant, not the symlink.
        let mut follow = true;
        let mut left = vec![(from, name)];
        while let Some((path, name)) = left.pop() {
            self.entries += 1;
            if self.entries > ENTRIES {
                let why = format!("more than {ENTRIES} files and folders");
                return Err(io::Error::other(why));
            }
            let found = match follow {
                true => root.metadata(&path),
                false => root.symlink_metadata(&path),
            };
            follow = swapped;
            match found {
                Err(error) => self.says.add(format!("{name}: Cannot stat: {}", plain(&error))),
                Ok(found) if found.is_dir() => {
                    self.entry(EntryType::Directory, &found, &format!("{name}/"), None)?;
                    let names = self.names(&root, &path, &name);
                    // The last is taken first.
                    for inner in names.into_iter().rev() {
                        if !(swapped && inner.starts_with("..")) {
                            let name = if name.is_empty() {
                                inner.clone()
                            } else {
                                format!("{name}/{inner}")
                            };
                            left.push((path.join(inner), name));
                        }
                    }
                }
                Ok(found) if found.is_file() => self.file(&root, &path, &name)?,
                Ok(found) if found.is_symlink() => match root.read_link_contents(&path) {
                    Ok(to) => self.entry(EntryType::Symlink, &found, &name, Some(&to))?,
                    Err(error) => self.says.add(format!("{name}: Cannot read link: {error}")),
                },
                Ok(_) => {
                    self.says.add(format!("{name}: neither file, folder nor symlink: ignored"))
                }
            }
        }
        Ok(())
    }

    /// What is in a folder, sorted, so that an archive that is asked for again is the same.
    fn names(&mut self, root: &Dir, path: &Path, name: &str) -> Vec<String> {
        let entries = root.read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.unwrap_or_else(|error| {
            self.says.add(format!("{name}: Cannot open: {error}"));
            Vec::new()
        });
        let mut names = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(other) => self.says.add(format!("{name}/{other:?}: the name is no UTF-8")),
            }
        }
        names.sort_unstable();
        names
    }

    fn entry(
        &mut self,
        sort: EntryType,
        found: &Metadata,
        name: &str,
        target: Option<&Path>,
    ) -> io::Result<()> {
        // The root of all mounts has no name and needs none.
        if name.trim_matches('/').is_empty() {
            return Ok(());
        }
        let mut header = header(sort, found.mode(), found.mtime(), 0);
        match target {
            Some(target) => self.tar.append_link(&mut header, name, target),
            None => self.tar.append_data(&mut header, name, io::empty()),
        }
    }

    fn file(&mut self, root: &Dir, path: &Path, name: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        // It may have become something that makes its opener wait.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let opened = root.open_with(path, &options).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.says.add(format!("{name}: Cannot open: {}", plain(&error)));
                return Ok(());
            }
        };
        let size = found.len();
        let mut header = header(EntryType::Regular, found.mode(), found.mtime(), size);
        let mut content = Exactly { from: file, left: size, trouble: None };
        self.tar.append_data(&mut header, name, &mut content)?;
        if let Some(trouble) = content.trouble {
            self.says.add(format!("{name}: {trouble}; padding with zeros"));
        }
        Ok(())
    }
}

fn header(sort: EntryType, mode: u32, modified: i64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(sort);
    header.set_mode(mode & 0o7777);
    header.set_mtime(modified.try_into().unwrap_or_default());
    header.set_size(size);
    header
}

/// As many bytes as the header says, whatever happens to the file meanwhile.
struct Exactly<R> {
    from: R,
    left: u64,
    trouble: Option<String>,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let mut read = 0;
        if self.trouble.is_none() {
            match self.from.read(&mut buffer[..most]) {
                Ok(0) => self.trouble = Some(format!("File shrank by {} bytes", self.left)),
                Ok(some) => read = some,
                Err(error) => self.trouble = Some(format!("Read error: {error}")),
            }
        }
        if self.trouble.is_some() {
            buffer[..most].fill(0);
            read = most;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Without the number: it is for people.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        // No system call said that: a symlink on the way does.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            "the path leads out of the volume".into()
        }
        io::ErrorKind::NotFound => "No such file or directory".into(),
        io::ErrorKind::PermissionDenied => "Permission denied".into(),
        _ => error.to_string(),
    }
}
