//! A Docker engine for the tests: the one of this machine where it answers, else one of our own with
//! its data and its socket below `target/xtask`, which ends with us. Containers need root and a
//! kernel that lets us: where that isn't so the tests can't run, and that is said here.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::shell::{apt, cache, command, has};

/// The variable by which tests and benches find the engine.
pub const VARIABLE: &str = "WINDLASS_DOCKER_HOST";
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// A cold disk and a busy machine included.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(20);
/// Longer paths are no addresses of Unix sockets.
const SOCKET_BYTES: usize = 107;

/// An engine that answers.
pub struct Engine {
    pub host: String,
    /// None where it was there before us.
    own: Option<Child>,
}

impl Engine {
    /// Finds one, or starts one.
    pub fn start() -> anyhow::Result<Self> {
        apt(&["docker.io", "iptables"], has("dockerd") && has("docker") && has("iptables"))?;
        apt(&["busybox-static"], Path::new("/bin/busybox").is_file())?;
        let named = [VARIABLE, "DOCKER_HOST"].map(std::env::var).into_iter().flatten();
        let known = named.filter(|host| host.starts_with("unix://")).chain([DEFAULT.to_owned()]);
        if let Some(host) = known.into_iter().find(|host| answers(host)) {
            return Ok(Self { host, own: None });
        }
        Self::own()
    }

    #[allow(clippy::disallowed_methods, reason = "waits for a process of the real machine")]
    fn own() -> anyhow::Result<Self> {
        let folder = cache("dockerd");
        fs::create_dir_all(&folder)?;
        let socket = socket(&folder);
        let host = format!("unix://{}", socket.display());
        if answers(&host) {
            return Ok(Self { host, own: None });
        }
        eprintln!("xtask: starting a Docker engine in {}", folder.display());
        // What a killed engine left would make the next one wait for it.
        let _ = fs::remove_file(folder.join("docker.pid"));
        let log = folder.join("log");
        let file = File::create(&log)?;
        let child = command("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("docker.pid"))
            .args(["--host", &host])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("can't start dockerd (Debian package docker.io)")?;
        let mut engine = Self { host, own: Some(child) };
        let deadline = Instant::now() + START;
        while !answers(&engine.host) {
            let ended = engine.own.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let end: Vec<&str> = text.lines().rev().take(5).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                bail!(
                    "the tests of containers need a Docker engine, and none can be started here \
                     (it takes root, and a kernel with namespaces and control groups): {}\n{}",
                    log.display(),
                    end.join("\n")
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(engine)
    }

    /// For the programs that use it.
    pub fn environment(&self) -> (String, PathBuf) {
        (VARIABLE.to_owned(), PathBuf::from(&self.host))
    }
}

impl Drop for Engine {
    #[allow(clippy::disallowed_methods, reason = "waits for a process of the real machine")]
    fn drop(&mut self) {
        let Some(mut child) = self.own.take() else { return };
        // Clusters of tests are killed, and containers outlive those: they would pile up here.
        remove_containers(&self.host);
        // Asked, so that it ends its containers and its own children.
        let pid = child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + END;
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Everything that runs in an engine of ours, or did.
fn remove_containers(host: &str) {
    let docker = |arguments: &[&str]| {
        Command::new("docker").args(arguments).env("DOCKER_HOST", host).output()
    };
    let Ok(listed) = docker(&["ps", "-aq"]) else { return };
    let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if !ids.is_empty() {
        let _ = docker(&[&["rm", "-f", "-v"], ids.as_slice()].concat());
    }
}

/// Beside its data, where the path isn't too long for an address.
fn socket(folder: &Path) -> PathBuf {
    let near = folder.join("docker.sock");
    match near.as_os_str().len() > SOCKET_BYTES {
        true => std::env::temp_dir().join(format!("windlass-xtask-{}.sock", std::process::id())),
        false => near,
    }
}

fn answers(host: &str) -> bool {
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]).env("DOCKER_HOST", host);
    docker.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
}
