//! From the engine's copy of a container's output into the node's log files. One task a container
//! follows it; one that begins anew, after a restart of the agent or of the engine, goes on behind
//! the last line that is in the file.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{Docker, container::LogOutput, errors::Error, query_parameters::LogsOptionsBuilder};
use futures::{Stream as Items, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use windlass_runtime_logs::{LogBounds, Position, Stream, last_position, put_line};
use windlass_sdk_meta::{Clock, Timestamp};

use crate::{
    engine::{Engine, is_not_found},
    sandbox::is_running,
    terminal::{Piece, Terminal},
};

/// Lines that are written together, at most.
const BATCH: usize = 512;
/// Who is told that a container ended doesn't wait longer for its log.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the rest of an ended container's log is asked for.
const LAST_READS: u32 = 3;
/// Before a log is asked for again that ended although its container runs.
const AGAIN: Duration = Duration::from_millis(200);

/// The logs of all containers of a node.
pub struct Logs {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    bounds: LogBounds,
    followed: Mutex<HashMap<String, Followed>>,
}

struct Followed {
    /// All that will ever come is in the file.
    done: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Logs {
    pub fn new(engine: Arc<Engine>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let bounds = LogBounds::default();
        Arc::new(Self { engine, clock, bounds, followed: Mutex::default() })
    }

    /// Follows a container's output, if that isn't done already.
    pub fn follow(self: &Arc<Self>, id: &str, path: &Path, tty: bool) {
        let mut followed = self.followed.lock();
        if followed.contains_key(id) {
            return;
        }
        let (done, is_done) = watch::channel(false);
        let (logs, of, path) = (self.clone(), id.to_owned(), path.to_owned());
        let task = tokio::spawn(async move {
            logs.run(&of, path, tty).await;
            done.send_replace(true);
        });
        let task = AbortOnDropHandle::new(task);
        followed.insert(id.to_owned(), Followed { done: is_done, _task: task });
    }

    /// Returns once everything that an ended container wrote is in its file, or can't be had soon.
    pub async fn settled(&self, id: &str) {
        let done = self.followed.lock().get(id).map(|followed| followed.done.clone());
        if let Some(mut done) = done {
            let _ = tokio::time::timeout(SETTLE, done.wait_for(|done| *done)).await;
        }
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        self.followed.lock().remove(id);
    }

    /// Nobody follows anything any more.
    pub fn stop(&self) {
        self.followed.lock().clear();
    }

    async fn run(&self, id: &str, path: PathBuf, tty: bool) {
        let from = path.clone();
        let last = tokio::task::spawn_blocking(move || last_position(&from)).await;
        let last = match last {
            Ok(Ok(last)) => last,
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "log is begun anew");
                None
            }
            Err(_) => None,
        };
        let mut written = Written::after(last);
        let mut availability = self.engine.availability();
        loop {
            // The sender lives as long as the engine.
            let _ = availability.wait_for(windlass_runtime_api::Availability::is_ready).await;
            if let Ok(docker) = self.engine.docker() {
                self.read(&docker, id, true, (&path, tty), &mut written).await;
                match docker.inspect_container(id, None).await {
                    Ok(found) if !is_running(&found) => {
                        // Who follows may miss what comes just before the end.
                        for _ in 0..LAST_READS {
                            if self.read(&docker, id, false, (&path, tty), &mut written).await {
                                break;
                            }
                            tokio::time::sleep(AGAIN).await;
                        }
                        return;
                    }
                    Err(error) if is_not_found(&error) => return,
                    _ => {}
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Copies what comes after that which is in the file. False: it broke off.
    async fn read(
        &self,
        docker: &Docker,
        id: &str,
        follow: bool,
        (path, tty): (&Path, bool),
        written: &mut Written,
    ) -> bool {
        let since = written.begin();
        if tty {
            let read = self.read_terminal((id, since), follow, path, written).await;
            return read.inspect_err(|error| tracing::debug!(id, %error, "terminal")).is_ok();
        }
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(since).unwrap_or(i32::MAX))
            .build();
        self.copy(docker.logs(id, Some(options)), path, written).await
    }

    async fn read_terminal(
        &self,
        (id, since): (&str, i64),
        follow: bool,
        path: &Path,
        written: &mut Written,
    ) -> io::Result<()> {
        let mut terminal = Terminal::open(self.engine.socket(), id, since, follow).await?;
        while let Some(pieces) = terminal.next().await? {
            let mut text = Vec::new();
            for Piece { at, whole, text: of } in &pieces {
                let line = Line { at: *at, stream: Stream::Stdout, whole: *whole, text: of };
                written.put(&line, &mut text);
            }
            self.append(path, text).await;
        }
        Ok(())
    }

    async fn copy(
        &self,
        output: impl Items<Item = Result<LogOutput, Error>>,
        path: &Path,
        written: &mut Written,
    ) -> bool {
        let mut output = std::pin::pin!(output.ready_chunks(BATCH));
        let mut whole = true;
        while let Some(batch) = output.next().await {
            let mut text = Vec::new();
            for piece in batch {
                let Ok(piece) = piece else {
                    whole = false;
                    continue;
                };
                if let Some(line) = Line::read(&piece) {
                    written.put(&line, &mut text);
                }
            }
            self.append(path, text).await;
        }
        whole
    }

    async fn append(&self, path: &Path, text: Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let (bounds, to, now) = (self.bounds, path.to_owned(), self.clock.now());
        let done = tokio::task::spawn_blocking(move || bounds.append(&to, &text, now)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(path = %path.display(), %error, "log lines are lost");
        }
    }
}

/// One line, or a part of one, as the engine has it.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    at: Timestamp,
    stream: Stream,
    whole: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    /// None for what has no time, which the engine doesn't send.
    fn read(piece: &'a LogOutput) -> Option<Self> {
        let (stream, message) = match piece {
            LogOutput::StdErr { message } => (Stream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (Stream::Stdout, message)
            }
            LogOutput::StdIn { .. } => return None,
        };
        let blank = message.iter().position(|byte| *byte == b' ')?;
        let at = std::str::from_utf8(&message[..blank]).ok()?.parse().ok()?;
        let text = &message[blank + 1..];
        match text.strip_suffix(b"\n") {
            Some(text) => Some(Self { at, stream, whole: true, text }),
            None => Some(Self { at, stream, whole: false, text }),
        }
    }
}

/// How far the file has come. Times of one stream never go back; those of the two may.
#[derive(Default)]
struct Written {
    /// What was in the file at first.
    floor: Option<Position>,
    streams: [Progress; 2],
    /// Lines of the floor's moment that this reading has passed over.
    passed: u64,
}

#[derive(Default)]
struct Progress {
    last: Option<Position>,
    /// Lines of `last`'s moment that this reading has passed over; of the floor's before there is one.
    passed: u64,
}

impl Written {
    fn after(floor: Option<Position>) -> Self {
        Self { floor, ..Self::default() }
    }

    /// A reading begins anew: from this second on it may have what isn't in the file.
    fn begin(&mut self) -> i64 {
        self.passed = 0;
        self.streams.iter_mut().for_each(|of| of.passed = 0);
        let since = self.streams.iter().map(|of| of.last.or(self.floor));
        since.map(|last| last.map_or(0, |last| last.at.as_second())).min().unwrap_or(0)
    }

    /// Appends a line that is not in the file yet.
    fn put(&mut self, line: &Line<'_>, text: &mut Vec<u8>) {
        let of = &mut self.streams[line.stream as usize];
        match (&mut of.last, self.floor) {
            (Some(last), _) if line.at < last.at => return,
            (Some(last), _) if line.at == last.at => {
                of.passed += 1;
                if of.passed <= last.lines {
                    return;
                }
                last.lines += 1;
            }
            (None, Some(floor)) if line.at < floor.at => return,
            (None, Some(floor)) if line.at == floor.at => {
                self.passed += 1;
                of.passed += 1;
                if self.passed <= floor.lines {
                    return;
                }
                of.last = Some(Position { at: line.at, lines: of.passed });
            }
            _ => {
                of.last = Some(Position { at: line.at, lines: 1 });
                of.passed = 1;
            }
        }
        put_line(text, format_args!("{:.9}", line.at), line.stream, line.whole, line.text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    fn all(written: &mut Written, pieces: &[&str]) -> String {
        let mut text = Vec::new();
        written.begin();
        for piece in pieces {
            let piece = out(piece);
            written.put(&Line::read(&piece).expect("a line"), &mut text);
        }
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_reading_that_begins_anew_loses_and_doubles_nothing() {
        let lines = [
            "2026-01-01T00:00:01.000000001Z a\n",
            "2026-01-01T00:00:01.000000002Z b\n",
            "2026-01-01T00:00:01.000000002Z b\n",
            "2026-01-01T00:00:01.000000002Z part",
            "2026-01-01T00:00:01.000000002Z end\n",
            "2026-01-01T00:00:02.000000000Z \n",
        ];
        let whole = all(&mut Written::default(), &lines);
        expect![[r#"
            2026-01-01T00:00:01.000000001Z stdout F a
            2026-01-01T00:00:01.000000002Z stdout F b
            2026-01-01T00:00:01.000000002Z stdout F b
            2026-01-01T00:00:01.000000002Z stdout P part
            2026-01-01T00:00:01.000000002Z stdout F end
            2026-01-01T00:00:02.000000000Z stdout F 
        "#]]
        .assert_eq(&whole);
        for cut in 0..=lines.len() {
            let mut written = Written::default();
            let first = all(&mut written, &lines[..cut]);
            assert_eq!(first + &all(&mut written, &lines), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_has_no_time_is_no_line() {
        assert_eq!(Line::read(&out("no")), None);
        assert_eq!(Line::read(&out("no time")), None);
    }
}
