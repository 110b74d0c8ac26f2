//! The files of a container's log on disk. A file that has grown enough is renamed and a new one
//! begun, and the oldest are removed: sizes and counts are the kubelet's defaults
//! (`containerLogMaxSize`, `containerLogMaxFiles`). A write is in the file whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use windlass_sdk_meta::Timestamp;

/// Bounds of the log of one attempt of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// A file is begun before one would grow beyond this.
    pub file_bytes: u64,
    /// With the one that is being written.
    pub files: usize,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 5 }
    }
}

impl LogBounds {
    /// Appends whole lines to a log. The file is opened each time: ten thousand pods then hold no
    /// descriptors, and whoever wants to may rename it at any time.
    pub fn append(&self, path: &Path, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let mut file = open(path)?;
        let mut length = file.metadata()?.len();
        if length > 0 && length + lines.len() as u64 > self.file_bytes {
            self.rotate(path, now)?;
            file = open(path)?;
            length = 0;
        }
        let written = file.write_all(lines);
        if written.is_err() {
            // A line that was cut off would swallow the next one. Where even this fails, it does.
            let _ = file.set_len(length);
        }
        written
    }

    /// `0.log` becomes `0.log.TIME`; names sort by age.
    fn rotate(&self, path: &Path, now: Timestamp) -> io::Result<()> {
        let mut at = now;
        let mut to = rotated(path, at);
        // Within a microsecond, or after the clock was set back.
        while to.exists() {
            at = at
                .saturating_add(jiff::SignedDuration::from_micros(1))
                .map_err(io::Error::other)?;
            to = rotated(path, at);
        }
        fs::rename(path, to)?;
        let mut old = rotations(path);
        let kept = self.files.saturating_sub(1);
        old.truncate(old.len().saturating_sub(kept));
        old.iter().try_for_each(fs::remove_file)
    }
}

fn rotated(path: &Path, at: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(at.strftime(".%Y%m%d-%H%M%S.%6f").to_string());
    name.into()
}

/// Files that were renamed, the oldest first.
pub(crate) fn rotations(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let mut paths: Vec<PathBuf> = own.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            options.open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_by_size_and_count_of_its_files() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pod/0.log");
        let bounds = LogBounds { file_bytes: 10, files: 3 };
        let at = Timestamp::from_second(1_795_454_400).expect("in range");
        for n in 0..8 {
            bounds.append(&path, format!("{n}---\n").as_bytes(), at).expect("written");
        }
        let read = |path: &PathBuf| fs::read_to_string(path).expect("text").replace('\n', " ");
        let old = rotations(&path);
        assert_eq!(old.iter().map(read).collect::<Vec<_>>(), ["2--- 3--- ", "4--- 5--- "]);
        assert_eq!(read(&path), "6--- 7--- ");
        let name = |path: &PathBuf| path.file_name().expect("name").to_string_lossy().into_owned();
        assert_eq!(name(&old[0]), "0.log.20261123-172000.000001");
        // A line longer than a file has one of its own.
        bounds.append(&path, b"longer than ten bytes\n", at).expect("written");
        assert_eq!(read(&path), "longer than ten bytes ");
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error_only() {
        let bounds = LogBounds::default();
        let full = Path::new("/dev/full");
        assert!(bounds.append(full, b"line\n", Timestamp::UNIX_EPOCH).is_err());
    }
}
