//! `kubectl cp` runs `tar` and `test` in the container. A WASM container has neither, so exactly the
//! commands that kubectl sends are answered here, over the container's mounts and nothing else: a
//! WASM container has no files of its own. Folders are entered through cap-std, which holds every
//! path below the mount it begins in, symlinks included. The work is blocking, so each copy has a
//! thread for as long as it takes; only so many run at once.

mod pack;
mod unpack;

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::io::SyncIoBridge;
use windlass_runtime_api::{ExecIo, RuntimeError};

use crate::{container::Container, mounts::Folder};

/// Copies of a node that run at once; more wait.
pub const COPIES: usize = 8;
/// Files and folders of one copy.
const ENTRIES: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;
/// What is said of single files; more is left out.
const COMPLAINTS: usize = 100;
/// What tar ends with when anything went wrong.
const FAILED: i32 = 2;

/// One of the commands of `kubectl cp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write an archive, without its first bytes where a copy is resumed.
    Pack {
        path: String,
        skip_bytes: u64,
    },
    /// Take an archive apart; None: in the working folder.
    Unpack {
        folder: Option<String>,
    },
    IsFolder {
        path: String,
    },
}

impl Request {
    /// None for any other command line: the container's own program gets it.
    pub fn parse(command: &[String]) -> Option<Self> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["test", "-d", path] => Some(Self::IsFolder { path: path.to_string() }),
            ["tar", "cf", "-", path] => Some(Self::Pack { path: path.to_string(), skip_bytes: 0 }),
            // With `--retries`: the part that did not arrive.
            ["sh", "-c", script] => {
                let script = script.strip_prefix("tar cf - ")?;
                let (path, first) = script.rsplit_once(" | tail -c+")?;
                let first: u64 = first.parse().ok()?;
                Some(Self::Pack { path: path.to_string(), skip_bytes: first.saturating_sub(1) })
            }
            ["tar", rest @ ..] => {
                let plain = ["--no-same-permissions", "--no-same-owner"];
                let rest = rest.strip_prefix(&plain[..]).unwrap_or(rest);
                let folder = match rest {
                    ["-xmf" | "xmf", "-"] => None,
                    ["-xmf" | "xmf", "-", "-C", folder] => Some(folder.to_string()),
                    _ => return None,
                };
                Some(Self::Unpack { folder })
            }
            _ => None,
        }
    }
}

/// Carries a request out; returns the exit code. Must be called inside a tokio runtime.
pub async fn run(
    container: Arc<Container>,
    copies: Arc<Semaphore>,
    request: Request,
    io: ExecIo,
) -> Result<i32, RuntimeError> {
    let refused = |why: String| RuntimeError::new("ExecError", why);
    let folders = container.mounts.folders().await;
    let folders = folders.map_err(|error| refused(format!("a volume can't be opened: {error}")))?;
    let view = View::new(folders, container.spec.working_dir.as_deref().unwrap_or("/"));
    let permit = copies.acquire_owned().await;
    let permit = permit.map_err(|_| refused("the node is stopping".into()))?;
    let (done, ended) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let _held = permit;
        let _inside = runtime.enter();
        // Whoever asked may be gone.
        let _ = done.send(carry_out(&view, &request, io));
    };
    let thread = std::thread::Builder::new().name("copy".into()).spawn(work);
    thread.map_err(|error| refused(format!("no thread for the copy: {error}")))?;
    match container.ending.abort.run_until_cancelled(ended).await {
        None => Ok(137),
        Some(Ok(code)) => Ok(code),
        Some(Err(_)) => Err(refused("the copy broke off".into())),
    }
}

fn carry_out(view: &View, request: &Request, io: ExecIo) -> i32 {
    let mut stdout = io::BufWriter::with_capacity(CHUNK_BYTES, SyncIoBridge::new(io.stdout));
    let mut says = Complaints::default();
    let code = match request {
        Request::IsFolder { path } => i32::from(!view.is_folder(&view.absolute(path))),
        Request::Pack { path, skip_bytes } => {
            let out = Skip { left: *skip_bytes, to: &mut stdout };
            pack::pack(view, path, out, &mut says)
        }
        Request::Unpack { folder } => {
            let input: Box<dyn Read> = match io.stdin {
                Some(stdin) => Box::new(SyncIoBridge::new(stdin)),
                None => Box::new(io::empty()),
            };
            unpack::unpack(view, folder.as_deref(), input, &mut says)
        }
    };
    let text = says.text();
    // A caller that went away needs no explanation.
    let _ = match io.stderr {
        Some(stderr) => SyncIoBridge::new(stderr).write_all(text.as_bytes()),
        None => stdout.write_all(text.as_bytes()),
    };
    let _ = stdout.flush();
    code
}

/// What a container has of files.
pub struct View {
    folders: Arc<[Folder]>,
    working_dir: String,
}

/// Where a path leads.
enum Place<'a> {
    /// Into a mount; the rest of the path is relative to it and may be `.`.
    In(&'a Folder, PathBuf),
    /// It holds mounts, but is none.
    Above,
    Nowhere,
}

impl View {
    fn new(folders: Arc<[Folder]>, working_dir: &str) -> Self {
        Self { folders, working_dir: working_dir.to_owned() }
    }

    /// `/a/b` of a path as a command line has it, without `.` and `..`.
    fn absolute(&self, path: &str) -> String {
        let whole = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.working_dir),
        };
        let mut parts = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    fn place(&self, absolute: &str) -> Place<'_> {
        let inside = |folder: &&Folder| below(absolute, &folder.container_path).is_some();
        let nearest = self.folders.iter().filter(inside).max_by_key(|f| f.container_path.len());
        if let Some(folder) = nearest {
            let rest = below(absolute, &folder.container_path).unwrap_or_default();
            return Place::In(folder, PathBuf::from(if rest.is_empty() { "." } else { rest }));
        }
        match self.mounts_below(absolute).next() {
            Some(_) => Place::Above,
            None => Place::Nowhere,
        }
    }

    /// Mounts strictly below a path, in order.
    fn mounts_below<'a>(&'a self, absolute: &'a str) -> impl Iterator<Item = &'a Folder> {
        self.folders.iter().filter(move |folder| {
            folder.container_path != absolute && below(&folder.container_path, absolute).is_some()
        })
    }

    fn is_folder(&self, absolute: &str) -> bool {
        match self.place(absolute) {
            Place::In(folder, rest) => {
                folder.open().and_then(|dir| dir.metadata(rest)).is_ok_and(|found| found.is_dir())
            }
            Place::Above => true,
            Place::Nowhere => absolute == "/",
        }
    }

    /// For a path that leads nowhere.
    fn advice(&self) -> String {
        let named = |folder: &Folder| {
            let mode = if folder.read_only { " (read-only)" } else { "" };
            format!("{}{mode}", folder.container_path)
        };
        let names: Vec<String> = self.folders.iter().map(named).collect();
        match names.is_empty() {
            true => {
                "a WASM container has no files of its own, and this one mounts no volume".into()
            }
            false => format!(
                "a WASM container has no files of its own, only its volumes: {}",
                names.join(", ")
            ),
        }
    }
}

/// What of `path` is below `folder`; empty where they are the same.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

/// What tar says on stderr.
#[derive(Default)]
struct Complaints {
    lines: Vec<String>,
    all: usize,
}

impl Complaints {
    fn add(&mut self, line: String) {
        self.all += 1;
        if self.lines.len() < COMPLAINTS {
            self.lines.push(line);
        }
    }

    fn code(&self) -> i32 {
        if self.all == 0 { 0 } else { FAILED }
    }

    fn text(&self) -> String {
        let mut text: String = self.lines.iter().map(|line| format!("tar: {line}\n")).collect();
        if self.all > self.lines.len() {
            text += &format!("tar: and {} more\n", self.all - self.lines.len());
        }
        text
    }
}

/// A writer that leaves out what was written before.
struct Skip<W> {
    left: u64,
    to: W,
}

impl<W: Write> Write for Skip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.to.write_all(&bytes[skipped..])?;
        self.left -= skipped as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
