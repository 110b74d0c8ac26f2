//! `windlass up` as a child process.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::{Kubectl, tool};

/// A running cluster; it is killed when this is dropped, and when the test process ends.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    child: Option<Child>,
    data_dir: PathBuf,
    port: u16,
    /// It was ended and may be started again.
    down: Option<Down>,
    /// What it printed on stdout since it was started the last time.
    printed: Arc<Mutex<Vec<String>>>,
    _folder: Option<TempDir>,
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// None: a temporary folder of its own.
    pub data_dir: Option<PathBuf>,
    /// Run by this user id instead of ours.
    pub uid: Option<u32>,
    /// A program that runs it, with its arguments, such as `nsenter --net=FILE`.
    pub within: Vec<String>,
    pub arguments: Vec<String>,
}

impl Cluster {
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> anyhow::Result<Self> {
        Down::wait_for_all();
        let folder = match &options.data_dir {
            Some(_) => None,
            None => Some(TempDir::with_prefix("windlass-e2e-")?),
        };
        let data_dir = match (&options.data_dir, &folder) {
            (Some(given), _) => given.clone(),
            (None, Some(folder)) => folder.path().join("data"),
            (None, None) => bail!("no data folder"),
        };
        if let (Some(uid), Some(folder)) = (options.uid, &folder) {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(uid))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut cluster = Self {
            options,
            child: None,
            down: None,
            data_dir,
            port,
            printed: Arc::default(),
            _folder: folder,
        };
        cluster.resume()?;
        Ok(cluster)
    }

    /// Starts `windlass up` (again) on the same folder and port, and waits until it is ready.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let mut command = self.command()?;
        let child = self.child.insert(spawn_tied_to_us(&mut command)?);
        let stdout = child.stdout.take().context("stdout is piped")?;
        self.printed = Arc::default();
        let (printed, (lines, received)) = (self.printed.clone(), mpsc::channel());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                printed.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
                let _ = lines.send(line);
            }
        });
        loop {
            match received.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.starts_with("ready") => {
                    self.down = None;
                    return Ok(());
                }
                Ok(_) => {}
                Err(why) => bail!("windlass up was not ready: {why}; its log:\n{}", self.log()),
            }
        }
    }

    /// The lines it printed on stdout so far.
    pub fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(&self) -> anyhow::Result<Command> {
        // The kernel ends the cluster when the test process dies, however it dies.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(uid) = self.options.uid {
            let uid = uid.to_string();
            command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        }
        std::fs::create_dir_all(self.log_path().parent().unwrap_or(Path::new("/")))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        command
            .args(&self.options.within)
            .arg(tool("WINDLASS_BIN")?)
            .arg("up")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(&self.options.arguments)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(command)
    }

    pub fn kubectl(&self, minor: u32) -> anyhow::Result<Kubectl> {
        Kubectl::new(minor, &self.kubeconfig())
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of `windlass up`.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `windlass ARGUMENTS` against this cluster; fails with what it printed.
    pub fn windlass(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(tool("WINDLASS_BIN")?)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("windlass {arguments:?}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(stdout)
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            self.down = Some(Down::new());
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; returns the exit code once it has ended.
    pub fn stop(&mut self) -> anyhow::Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        self.down = Some(Down::new());
        let pid = child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        Ok(child.wait()?.code())
    }

    /// What it logged so far; the end of it where it is long.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let skip = log.lines().count().saturating_sub(60);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of windlass up\n{}", self.log());
        }
        let _ = self.kill();
    }
}

/// A cluster that is down for a while. A new one might choose its address blocks meanwhile, of which
/// there are few enough for that to happen: so new ones wait until it is up again.
#[derive(Debug)]
struct Down;

static DOWN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
/// A test may leave its cluster down and start another.
const DOWN_FOR: Duration = Duration::from_secs(20);

impl Down {
    fn new() -> Self {
        *DOWN.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }

    fn wait_for_all() {
        let down = DOWN.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Past its time the start goes on all the same.
        drop(DOWN.1.wait_timeout_while(down, DOWN_FOR, |down| *down > 0));
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        *DOWN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        DOWN.1.notify_all();
    }
}

/// The signal of `setpriv --pdeathsig` comes when the *thread* that spawned the child ends, and
/// each test has a thread of its own: so one thread that lives as long as the process spawns all.
fn spawn_tied_to_us(command: &mut Command) -> anyhow::Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: std::sync::OnceLock<std::sync::Mutex<mpsc::Sender<Job>>> =
        std::sync::OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        std::sync::Mutex::new(sender)
    });
    let (answer, child) = mpsc::channel();
    let command = std::mem::replace(command, Command::new("false"));
    keeper.lock().ok().context("keeper lost")?.send((command, answer))?;
    child.recv()?.context("can't start `setpriv` (util-linux) with the windlass binary")
}
