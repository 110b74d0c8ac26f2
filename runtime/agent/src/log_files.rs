//! The files of one attempt's log. The runtime renames a file that has grown enough, so that
//! `0.log` is continued from `0.log.TIME` and older ones; names of those sort by age. Readers see
//! one log: from its oldest file on, across renames that happen while they read.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Read at once.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// What comes before a line's text: time, stream and tag are shorter.
const HEAD_BYTES: usize = 64;

/// A log that is being read, from the file that is read now to the newest known.
pub(crate) struct LogFiles {
    current: PathBuf,
    open: VecDeque<File>,
}

/// All files of a log that are there, the oldest first. `current` is the one being written.
pub(crate) fn list(current: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (current.parent(), current.file_name()) else {
        return Vec::new();
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let rotated = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    let mut paths: Vec<PathBuf> = rotated.map(|entry| entry.path()).collect();
    paths.sort();
    if current.exists() {
        paths.push(current.to_owned());
    }
    paths
}

/// Removes a log with all its files. One that isn't there is no error.
pub(crate) fn remove(current: &Path) {
    for path in list(current) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an old log stays");
        }
    }
}

impl LogFiles {
    /// Opens a log; `tail` asks for that many lines of its end. A log without files is empty.
    pub fn open(current: PathBuf, tail: Option<u64>) -> io::Result<Self> {
        let mut files = Self { current, open: VecDeque::new() };
        // Newest first: what is renamed meanwhile is found again under its new name.
        let newest = open(&files.current)?;
        let known = newest.as_ref().map(inode).transpose()?;
        for path in list(&files.current) {
            if let Some(file) = open(&path)?
                && Some(inode(&file)?) != known
                && path != files.current
            {
                files.open.push_back(file);
            }
        }
        files.open.extend(newest);
        if let Some(lines) = tail {
            files.seek_to_tail(lines)?;
        }
        Ok(files)
    }

    /// The next bytes; none at the end of what is there now.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut piece = Vec::new();
            if let Some(file) = self.open.front_mut() {
                Read::by_ref(file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            }
            if !piece.is_empty() {
                return Ok(piece);
            }
            if self.open.len() > 1 {
                self.open.pop_front();
            } else if !self.find_newer()? {
                return Ok(piece);
            }
            // Where there are newer files, the old one is read once more: it may have been written
            // to between the read and the rename, but not after that.
        }
    }

    /// Opens what has been begun since. False where nothing has.
    fn find_newer(&mut self) -> io::Result<bool> {
        let own = self.open.front().map(inode).transpose()?;
        let mut newer = VecDeque::new();
        for path in list(&self.current).iter().rev() {
            let Some(file) = open(path)? else { continue };
            if own == Some(inode(&file)?) {
                break;
            }
            newer.push_front(file);
        }
        let found = !newer.is_empty();
        self.open.extend(newer);
        Ok(found)
    }

    /// Moves to where the last `lines` lines begin, reading backwards.
    fn seek_to_tail(&mut self, lines: u64) -> io::Result<()> {
        let mut left = lines;
        for at in (0..self.open.len()).rev() {
            if let Some(start) = tail_start(&mut self.open[at], &mut left)? {
                self.open[at].seek(SeekFrom::Start(start))?;
                self.open.drain(..at);
                return Ok(());
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}

/// Where in the file the last `left` lines begin; None where it has fewer, and `left` is what older
/// files have to add. Parts of a line (tag P) belong to the line that ends them. The file is left
/// at its start.
fn tail_start(file: &mut File, left: &mut u64) -> io::Result<Option<u64>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut at = end;
    // Where the lines begin that were counted last.
    let mut start = end;
    // The beginning of what was read before: a line's head may lie across the border.
    let mut after: Vec<u8> = Vec::new();
    let mut torn = false;
    while at > 0 {
        let size = at.min(PIECE_BYTES as u64);
        at -= size;
        file.seek(SeekFrom::Start(at))?;
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE_BYTES)];
        file.read_exact(&mut piece)?;
        let length = piece.len();
        torn |= at + size == end && piece.last() != Some(&b'\n');
        piece.extend_from_slice(&after[..after.len().min(HEAD_BYTES)]);
        let begins = (0..length).rev().filter(|at| piece[*at] == b'\n').map(|end| end + 1);
        let first = (at == 0).then_some(0);
        // The end of the newest line is not the start of another.
        for begin in begins.chain(first).filter(|begin| at + (*begin as u64) < end) {
            // A line that is being written is none yet.
            if !std::mem::take(&mut torn) && !is_part(&piece[begin..]) {
                if *left == 0 {
                    return rewind(file, start);
                }
                *left -= 1;
            }
            start = at + begin as u64;
        }
        after = piece;
    }
    rewind(file, 0).map(|_| None)
}

fn rewind(file: &mut File, start: u64) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(Some(start))
}

fn is_part(line: &[u8]) -> bool {
    line.splitn(4, |byte| *byte == b' ').nth(2) == Some(b"P")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        format!("2026-11-23T10:00:00Z stdout F {text}\n")
    }

    fn part(text: &str) -> String {
        format!("2026-11-23T10:00:00Z stdout P {text}\n")
    }

    fn texts(bytes: &[u8]) -> String {
        let text = std::str::from_utf8(bytes).expect("text");
        let last = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        text.lines().map(last).collect::<Vec<_>>().join(" ")
    }

    fn read_all(files: &mut LogFiles) -> String {
        let mut all = Vec::new();
        loop {
            let piece = files.read().expect("read");
            if piece.is_empty() {
                return texts(&all);
            }
            all.extend(piece);
        }
    }

    struct Log(tempfile::TempDir);

    impl Log {
        fn new(files: &[(&str, String)]) -> Self {
            let dir = tempfile::tempdir().expect("dir");
            for (name, text) in files {
                fs::write(dir.path().join(name), text).expect("write");
            }
            Self(dir)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn tail(&self, lines: u64) -> String {
            read_all(&mut LogFiles::open(self.path("0.log"), Some(lines)).expect("open"))
        }
    }

    #[test]
    fn a_log_is_one_whatever_its_files() {
        let log = Log::new(&[
            ("0.log", line("5") + &line("6")),
            ("0.log.20261123-100000", line("1") + &line("2")),
            ("0.log.20261123-110000", line("3") + &line("4")),
            ("10.log", line("other")),
        ]);
        let all = read_all(&mut LogFiles::open(log.path("0.log"), None).expect("open"));
        assert_eq!(all, "1 2 3 4 5 6");
        for (lines, expected) in [
            (0, ""),
            (1, "6"),
            (2, "5 6"),
            (3, "4 5 6"),
            (5, "2 3 4 5 6"),
            (6, "1 2 3 4 5 6"),
            (99, "1 2 3 4 5 6"),
        ] {
            assert_eq!(log.tail(lines), expected, "{lines}");
        }
        remove(&log.path("0.log"));
        assert!(list(&log.path("0.log")).is_empty() && log.path("10.log").exists());
        assert_eq!(log.tail(3), "");
    }

    #[test]
    fn parts_of_a_line_stay_together() {
        let log = Log::new(&[
            ("0.log", part("c2") + &line("c3") + &line("d")),
            ("0.log.1", line("a") + &part("b1") + &line("b2") + &part("c1")),
        ]);
        for (lines, expected) in
            [(1, "d"), (2, "c1 c2 c3 d"), (3, "b1 b2 c1 c2 c3 d"), (4, "a b1 b2 c1 c2 c3 d")]
        {
            assert_eq!(log.tail(lines), expected, "{lines}");
        }
    }

    #[test]
    fn long_files_are_read_backwards_piece_by_piece() {
        let lines: String = (0..9000).map(|n| line(&n.to_string())).collect();
        let log = Log::new(&[("0.log", lines)]);
        for tail in [1, 2000, 2049, 8999, 9000] {
            let text = log.tail(tail);
            assert_eq!(text.split(' ').count() as u64, tail);
            assert!(text.starts_with(&(9000 - tail).to_string()), "{tail}");
        }
    }

    #[test]
    fn a_reader_goes_on_across_renames() {
        let log = Log::new(&[("0.log", line("1"))]);
        let mut files = LogFiles::open(log.path("0.log"), None).expect("open");
        assert_eq!(read_all(&mut files), "1");
        let append = |text: String| {
            use std::io::Write;
            let file = fs::OpenOptions::new().append(true).create(true).open(log.path("0.log"));
            file.expect("open").write_all(text.as_bytes()).expect("write");
        };
        append(line("2"));
        fs::rename(log.path("0.log"), log.path("0.log.1")).expect("rename");
        append(line("3"));
        fs::rename(log.path("0.log"), log.path("0.log.2")).expect("rename");
        append(line("4"));
        assert_eq!(read_all(&mut files), "2 3 4");
        append(line("5"));
        assert_eq!(read_all(&mut files), "5");
    }
}
