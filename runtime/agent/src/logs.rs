//! Container logs: files in CRI's format (`TIME STREAM TAG TEXT`), and the options of `kubectl logs`
//! on them. What a line becomes is pure.

use std::{io::SeekFrom, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use windlass_sdk_meta::{Timestamp, parse_time};

/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const PIECE_BYTES: usize = 64 * 1024;
/// A line that doesn't end is passed on in parts of this size.
const LINE_LIMIT_BYTES: usize = 1024 * 1024;

/// `PodLogOptions`, as far as a node sees them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub since_seconds: Option<i64>,
    pub since_time: Option<String>,
    pub limit_bytes: Option<u64>,
    /// `stdout` or `stderr` in any case: only what was written there. `All` is the same as None.
    pub stream: Option<String>,
}

/// Turns lines of the file into what the reader gets.
pub struct Filter {
    since: Option<Timestamp>,
    stream: Option<String>,
    timestamps: bool,
    left_bytes: u64,
    /// Of a line that hasn't ended yet.
    part: Vec<u8>,
}

impl LogOptions {
    /// From when on lines are wanted; the error is for the person who asked.
    fn since(&self, now: Timestamp) -> Result<Option<Timestamp>, String> {
        match (&self.since_time, self.since_seconds) {
            (Some(_), Some(_)) => {
                Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned())
            }
            (Some(text), None) => match parse_time(text) {
                Some(at) => Ok(Some(at)),
                None => {
                    Err(format!("sinceTime {text:?} is not a time such as 2026-01-01T00:00:00Z"))
                }
            },
            (None, Some(seconds)) if seconds < 1 => {
                Err("sinceSeconds must be greater than 0".to_owned())
            }
            (None, Some(seconds)) => {
                Ok(now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok())
            }
            (None, None) => Ok(None),
        }
    }
}

impl LogOptions {
    fn stream(&self) -> Result<Option<String>, String> {
        let name = self.stream.as_deref().unwrap_or("All");
        match name.to_ascii_lowercase().as_str() {
            "all" => Ok(None),
            wanted @ ("stdout" | "stderr") => Ok(Some(wanted.to_owned())),
            _ => Err(format!("stream {name:?} is not one of All, Stdout, Stderr")),
        }
    }
}

impl Filter {
    pub fn new(options: &LogOptions, now: Timestamp) -> Result<Self, String> {
        Ok(Self {
            since: options.since(now)?,
            stream: options.stream()?,
            timestamps: options.timestamps,
            left_bytes: options.limit_bytes.unwrap_or(u64::MAX),
            part: Vec::new(),
        })
    }

    /// Takes bytes of the file and returns what the reader gets of them.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.part);
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.line(&line, &mut out);
        }
        self.part.extend_from_slice(rest);
        if self.part.len() > LINE_LIMIT_BYTES {
            let line = std::mem::take(&mut self.part);
            self.line(&line, &mut out);
        }
        out
    }

    /// Nothing more will come out.
    pub fn is_full(&self) -> bool {
        self.left_bytes == 0
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            // Cut off by a crash in the middle of a write.
            return;
        };
        if self.stream.as_ref().is_some_and(|wanted| wanted.as_bytes() != stream) {
            return;
        }
        if let Some(since) = self.since {
            let at = std::str::from_utf8(time).ok().and_then(parse_time);
            if at.is_none_or(|at| at < since) {
                return;
            }
        }
        let mut shown = Vec::with_capacity(line.len());
        if self.timestamps {
            shown.extend_from_slice(time);
            shown.push(b' ');
        }
        shown.extend_from_slice(text);
        // A part of a line (tag P) is continued by the next.
        if tag != b"P" {
            shown.push(b'\n');
        }
        let kept = shown.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        self.left_bytes -= kept as u64;
        out.extend_from_slice(&shown[..kept]);
    }
}

/// Streams a log file. A file that isn't there is an empty log. When following, `ended` says
/// whether the container can still write.
pub fn read(
    path: PathBuf,
    options: LogOptions,
    filter: Filter,
    ended: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let state = Reading { path, options, filter, file: None, ended, done: false };
    stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|piece| (piece, state)))
    })
}

/// The end of a log, as upstream's FallbackToLogsOnError takes it: 80 lines and 2048 bytes at most.
pub fn last_words(path: &std::path::Path) -> String {
    const LINES: usize = 80;
    const BYTES: usize = 2048;
    let bytes = read_end(path, PIECE_BYTES as u64).unwrap_or_default();
    let Ok(mut filter) = Filter::new(&LogOptions::default(), Timestamp::UNIX_EPOCH) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&filter.push(&bytes)).into_owned();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let kept = lines[lines.len().saturating_sub(LINES)..].concat();
    let mut from = kept.len().saturating_sub(BYTES);
    while !kept.is_char_boundary(from) {
        from += 1;
    }
    kept[from..].to_owned()
}

/// The last bytes of a file, from the start of a line on.
fn read_end(path: &std::path::Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    if from > 0 {
        let start = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        bytes.drain(..start);
    }
    Ok(bytes)
}

struct Reading<E> {
    path: PathBuf,
    options: LogOptions,
    filter: Filter,
    file: Option<File>,
    ended: E,
    done: bool,
}

impl<E: Fn() -> bool + Send> Reading<E> {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            if self.done || self.filter.is_full() {
                return Ok(None);
            }
            // Asked before the read, so that what is written last is not missed.
            let ended = !self.options.follow || (self.ended)();
            let piece = self.read().await?;
            if !piece.is_empty() {
                let out = self.filter.push(&piece);
                if !out.is_empty() {
                    return Ok(Some(out.into()));
                }
            } else if ended {
                self.done = true;
            } else {
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = match File::open(&self.path).await {
                Ok(mut file) => {
                    if let Some(lines) = self.options.tail_lines {
                        seek_to_tail(&mut file, lines).await?;
                    }
                    Some(file)
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        let mut piece = Vec::new();
        if let Some(file) = &mut self.file {
            file.take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
        }
        Ok(piece)
    }
}

/// Moves to the start of the last `lines` lines, reading backwards.
async fn seek_to_tail(file: &mut File, lines: u64) -> std::io::Result<()> {
    let mut at = file.seek(SeekFrom::End(0)).await?;
    let end = at;
    let mut found = 0;
    while at > 0 {
        let size = at.min(PIECE_BYTES as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE_BYTES)];
        file.read_exact(&mut piece).await?;
        for (offset, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = at + offset as u64 + 1;
            // The end of the last line is not the start of another.
            if after < end {
                found += 1;
            }
            if found == lines || lines == 0 {
                file.seek(SeekFrom::Start(after)).await?;
                return Ok(());
            }
        }
    }
    file.seek(SeekFrom::Start(0)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use futures::TryStreamExt;

    use super::*;

    const LOG: &str = "2026-11-23T10:00:00.000000001Z stdout F one\n\
        2026-11-23T10:00:01.5Z stderr P two \n\
        2026-11-23T10:00:01.6Z stderr F three\n\
        2026-11-23T10:00:02Z stdout F \n\
        2026-11-23T10:00:03Z stdout F four five\n\
        2026-11-23T10:0";

    fn now() -> Timestamp {
        "2026-11-23T10:00:04Z".parse().expect("time")
    }

    fn check(options: LogOptions, expected: Expect) {
        let text = match Filter::new(&options, now()) {
            Err(message) => message,
            Ok(mut filter) => {
                // In pieces, as they come from a file.
                let pieces = LOG.as_bytes().chunks(7);
                let out: Vec<u8> = pieces.flat_map(|piece| filter.push(piece)).collect();
                String::from_utf8(out).expect("text")
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn options() {
        let none = LogOptions::default;
        check(
            none(),
            expect![[r#"
                one
                two three

                four five
            "#]],
        );
        check(
            LogOptions { timestamps: true, limit_bytes: Some(40), ..none() },
            expect!["2026-11-23T10:00:00.000000001Z one\n2026-"],
        );
        check(
            LogOptions { since_seconds: Some(2), ..none() },
            expect![[r#"

                four five
            "#]],
        );
        check(
            LogOptions { since_time: Some("2026-11-23T10:00:03Z".into()), ..none() },
            expect![[r#"
                four five
            "#]],
        );
        check(
            LogOptions { since_seconds: Some(0), ..none() },
            expect!["sinceSeconds must be greater than 0"],
        );
        check(
            LogOptions { since_time: Some("yesterday".into()), ..none() },
            expect![[r#"sinceTime "yesterday" is not a time such as 2026-01-01T00:00:00Z"#]],
        );
    }

    #[test]
    fn last_words_are_few() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        assert_eq!(last_words(&path), "");
        let lines: String =
            (0..5000).map(|n| format!("2026-11-23T10:00:00Z stderr F {n}\n")).collect();
        std::fs::write(&path, lines).expect("write");
        let words = last_words(&path);
        assert_eq!(words.lines().count(), 80);
        assert!(words.starts_with("4920\n") && words.ends_with("4999\n"), "{words}");
    }

    #[tokio::test]
    async fn the_last_lines() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        let lines = |n: usize| -> String {
            (0..n).map(|n| format!("2026-11-23T10:00:00Z stdout F {n}\n")).collect()
        };
        std::fs::write(&path, lines(5000)).expect("write");
        for (tail, expected) in [(0, 0), (1, 1), (3000, 3000), (5000, 5000), (9000, 5000)] {
            let options = LogOptions { tail_lines: Some(tail), ..LogOptions::default() };
            let filter = Filter::new(&options, now()).expect("options");
            let pieces: Vec<Bytes> =
                read(path.clone(), options, filter, || true).try_collect().await.expect("read");
            let text = String::from_utf8(pieces.concat()).expect("text");
            assert_eq!(text.lines().count(), expected, "{tail}");
            assert!(expected == 0 || text.ends_with("4999\n"));
        }
    }

    #[tokio::test]
    async fn a_followed_log_ends_with_its_container() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let filter = Filter::new(&options, now()).expect("options");
        let flag = ended.clone();
        let is_ended = move || flag.load(std::sync::atomic::Ordering::SeqCst);
        let reading = read(path.clone(), options, filter, is_ended).try_collect::<Vec<Bytes>>();
        let writing = async {
            tokio::task::yield_now().await;
            std::fs::write(&path, "2026-11-23T10:00:00Z stdout F late\n").expect("write");
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        let (pieces, ()) = tokio::join!(reading, writing);
        assert_eq!(pieces.expect("read").concat(), b"late\n");
    }
}
