//! The Docker engine of the tests, and the image that they run.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{tool, wait_for};

/// Debian's busybox: a shell and all of its programs.
pub const BUSYBOX: &str = "windlass.test/busybox:v1";
const BUILD: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/www"
cp /bin/busybox "$root/bin/busybox"
for name in $(/bin/busybox --list | grep -v "^busybox$"); do ln -sf busybox "$root/bin/$name"; done
printf 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' > "$root/etc/passwd"
chmod 1777 "$root/tmp"
tar -C "$root" -c . | docker import -c 'CMD ["/bin/sh"]' - "$1"
"#;

/// Makes the image on the engine of the tests, once.
pub fn busybox() -> anyhow::Result<&'static str> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let host = host().map_err(|error| error.to_string())?;
        build(&host).map_err(|error| error.to_string())
    });
    match built {
        Ok(()) => Ok(BUSYBOX),
        Err(why) => bail!("{why}"),
    }
}

/// The engine that `cargo xtask test` found or started.
pub fn host() -> anyhow::Result<String> {
    Ok(tool("WINDLASS_DOCKER_HOST")?.display().to_string())
}

fn build(host: &str) -> anyhow::Result<()> {
    let mut sh = Command::new("sh");
    let output = sh.args(["-c", BUILD, "build", BUSYBOX]).env("DOCKER_HOST", host).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What `docker ARGUMENTS` prints on an engine.
pub fn docker(host: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("/usr/bin/docker").args(arguments).env("DOCKER_HOST", host))
}

/// The same with the configuration in a folder.
pub fn docker_as(host: &str, config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut docker = Command::new("/usr/bin/docker");
    run(docker.arg("--config").arg(config).args(arguments).env("DOCKER_HOST", host))
}

fn run(docker: &mut Command) -> anyhow::Result<String> {
    let output = docker.output();
    let output = output.context("the Debian package docker.io")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// An engine of a test's own, which it may stop and start, with a bridge of its own.
pub struct Engine {
    folder: TempDir,
    bridge: String,
    child: Option<Child>,
}

impl Engine {
    /// Makes the place; nothing answers there yet.
    pub fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + NEXT.fetch_add(1, Relaxed)) % 200;
        let bridge = format!("wltest{number}");
        let engine = Self { folder: tempfile::tempdir()?, bridge, child: None };
        ip(&["link", "add", &engine.bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("172.31.{number}.1/24"), "dev", &engine.bridge])?;
        ip(&["link", "set", &engine.bridge, "up"])?;
        Ok(engine)
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it (again) on the same data, and waits until it answers; the image of the tests is
    /// there.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"))?;
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .args(["--host", &self.host(), "--bridge", &self.bridge])
            .args(["--iptables=false", "--ip-masq=false", "--userland-proxy=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start dockerd: run the tests by `cargo xtask test`")?;
        self.child = Some(child);
        let host = self.host();
        wait_for("the engine answers", 60, || docker(&host, &["version"]).ok());
        if docker(&host, &["image", "inspect", BUSYBOX]).is_err() {
            build(&host)?;
        }
        Ok(())
    }

    /// SIGTERM, to its end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            let host = self.host();
            if let Ok(ids) = docker(&host, &["ps", "-aq"]) {
                let ids: Vec<&str> = ids.split_whitespace().collect();
                let _ = docker(&host, &[&["rm", "-f"], ids.as_slice()].concat());
            }
        }
        let _ = self.stop();
        let _ = ip(&["link", "del", &self.bridge]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip of iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?}: {said}");
    Ok(())
}
