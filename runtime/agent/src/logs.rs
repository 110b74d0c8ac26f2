//! Container logs: files in CRI's format (`TIME STREAM TAG TEXT`), and the options of `kubectl logs`
//! on them. What a line becomes is pure.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde::Deserialize;
use windlass_sdk_meta::{Timestamp, parse_time};

use crate::{
    log_files::{LogFiles, PIECE_BYTES},
    log_watch::Watched,
};

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
    /// The streams whose last line was a part that the next one continues.
    continued: Vec<Vec<u8>>,
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
            continued: Vec::new(),
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
        let continues = self.continued.iter().position(|known| known == stream);
        if self.timestamps && continues.is_none() {
            shown.extend_from_slice(time);
            shown.push(b' ');
        }
        shown.extend_from_slice(text);
        // A part of a line (tag P) is continued by the next.
        match (tag == b"P", continues) {
            // There are two streams, unless somebody else writes the files.
            (true, None) if self.continued.len() < 2 => self.continued.push(stream.to_vec()),
            (true, _) => {}
            (false, continues) => {
                continues.map(|at| self.continued.remove(at));
                shown.push(b'\n');
            }
        }
        let kept = shown.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        self.left_bytes -= kept as u64;
        out.extend_from_slice(&shown[..kept]);
    }
}

/// Streams a log, with all its files. One without files is empty. When following, `ended` says
/// whether the container can still write, and `watched` when to look again.
pub fn read(
    path: PathBuf,
    options: LogOptions,
    filter: Filter,
    ended: impl Fn() -> bool + Send + 'static,
    watched: Option<Watched>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let state = Reading { path, options, filter, files: None, ended, watched, done: false };
    stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|piece| (piece, state)))
    })
}

/// The end of a log, as upstream's FallbackToLogsOnError takes it: 80 lines and 2048 bytes at most.
pub fn last_words(path: &Path) -> String {
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
fn read_end(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
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
    files: Option<LogFiles>,
    ended: E,
    watched: Option<Watched>,
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
                continue;
            }
            match &mut self.watched {
                Some(watched) if !ended => watched.changed().await,
                _ => self.done = true,
            }
        }
    }

    /// Files block, so they are read where that may be.
    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let (known, path, tail) = (self.files.take(), self.path.clone(), self.options.tail_lines);
        let reading = tokio::task::spawn_blocking(move || {
            let mut files = match known {
                Some(files) => files,
                None => LogFiles::open(path, tail)?,
            };
            let piece = files.read()?;
            Ok::<_, std::io::Error>((files, piece))
        });
        let (files, piece) = reading.await.map_err(std::io::Error::other)??;
        self.files = Some(files);
        Ok(piece)
    }
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
            LogOptions {
                timestamps: true,
                since_time: Some("2026-11-23T10:00:01Z".into()),
                stream: Some("Stderr".into()),
                ..none()
            },
            expect![[r#"
                2026-11-23T10:00:01.5Z two three
            "#]],
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
            let pieces: Vec<Bytes> = read(path.clone(), options, filter, || true, None)
                .try_collect()
                .await
                .expect("read");
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
        let watch = crate::log_watch::LogWatch::new();
        let watched = Some(watch.watch(dir.path()));
        let reading = read(path.clone(), options, filter, is_ended, watched);
        let reading = reading.try_collect::<Vec<Bytes>>();
        let writing = async {
            tokio::task::yield_now().await;
            std::fs::write(&path, "2026-11-23T10:00:00Z stdout F late\n").expect("write");
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            watch.container_changed();
        };
        let (pieces, ()) = tokio::join!(reading, writing);
        assert_eq!(pieces.expect("read").concat(), b"late\n");
    }
}
