//! A way to a Docker engine that can be slow, full, silent, or another machine's: a proxy on a socket
//! of its own. Each connection carries one request, so that what it is about to ask is known.

use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// What an engine is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Each request waits first.
    Slow(Duration),
    /// Nothing can be made.
    Full,
    /// Takes requests and never answers.
    Silent,
    /// Says that it has another kernel.
    Elsewhere,
}

/// The proxy; who is connected stays so when it is dropped.
pub struct Proxy {
    mood: Arc<Mutex<Mood>>,
    folder: TempDir,
}

impl Proxy {
    /// Anybody may use it.
    pub fn start(host: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
        let engine = PathBuf::from(host.trim_start_matches("unix://"));
        let mood: Arc<Mutex<Mood>> = Arc::default();
        let of = mood.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (engine, mood) = (engine.clone(), of.clone());
                thread::spawn(move || {
                    // Either side may hang up at any time.
                    let _ = serve(stream, &engine, &mood);
                });
            }
        });
        Ok(Self { mood, folder })
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }
}

fn serve(mut near: UnixStream, engine: &Path, mood: &Mutex<Mood>) -> io::Result<()> {
    let Some(head) = head(&mut near)? else { return Ok(()) };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let makes = line.starts_with("POST") && (line.contains("/create") || line.contains("/load"));
    let mood = mood.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match mood {
        Mood::Silent => {
            // Until the caller gives up.
            let _ = near.read_to_end(&mut Vec::new());
            return Ok(());
        }
        Mood::Full if makes => {
            let body = r#"{"message":"mkdir /var/lib/docker: no space left on device"}"#;
            return write!(
                near,
                "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        Mood::Slow(time) => thread::sleep(time),
        _ => {}
    }
    let mut far = UnixStream::connect(engine)?;
    let upgrades = head.to_lowercase().contains("\r\nupgrade:");
    let ask = match upgrades {
        true => head,
        // The next request comes on a connection of its own.
        false => head.replacen("\r\n", "\r\nconnection: close\r\n", 1),
    };
    far.write_all(ask.as_bytes())?;
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    match mood {
        Mood::Elsewhere if line.contains("/info") => {
            let mut answer = String::new();
            far.read_to_string(&mut answer)?;
            near.write_all(of_another(&answer).as_bytes())?;
        }
        _ => drop(io::copy(&mut far, &mut near)?),
    }
    near.shutdown(Shutdown::Both)
}

/// Until the blank line; None where nobody asks.
fn head(stream: &mut UnixStream) -> io::Result<Option<String>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte)? {
            0 => return Ok(None),
            _ => head.push(byte[0]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// The answer of an engine with another kernel. It may have come in chunks, of which the object is
/// in one.
fn of_another(answer: &str) -> String {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let begin = body.find('{').unwrap_or(0);
    let end = body.rfind('}').map_or(body.len(), |end| end + 1);
    let kernel = "\"KernelVersion\":\"";
    let body = body[begin..end].replacen(kernel, &format!("{kernel}another-"), 1);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
