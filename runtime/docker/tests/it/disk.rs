//! An engine whose disk is short: a small file system in memory, and an engine of its own on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use windlass_runtime_api::Runtime;

use crate::{
    images::Registry,
    node::{Node, docker, docker_on},
};

const DISK: u64 = 64 << 20;
/// An image whose layer doesn't shrink: its size in MiB, and its name.
const BUILD: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
head -c "$1m" /dev/urandom > "$root/filler"
tar -C "$root" -c . | docker import - "$2"
"#;

struct SmallEngine {
    folder: TempDir,
    /// Without one of its own it would take away that of other engines.
    bridge: String,
    child: Child,
}

impl SmallEngine {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("disk")).expect("made");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs", text(&path("disk"))]);
        let number = std::process::id() % 250;
        let bridge = format!("wldisk{number}");
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        run("ip", &["addr", "add", &format!("172.30.{number}.1/24"), "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        let log = fs::File::create(path("log")).expect("a log");
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(path("disk/data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["--host", &format!("unix://{}", path("docker.sock").display())])
            .args(["--bridge", &bridge, "--iptables=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dockerd: run the tests by `cargo xtask test`");
        let engine = Self { folder, bridge, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::UnixStream::connect(engine.path("docker.sock")).await.is_err() {
            assert!(Instant::now() < deadline, "no engine answers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Leaves so many bytes of its disk free.
    fn leave_free(&self, bytes: u64) {
        let disk = rustix::fs::statvfs(&self.path("disk")).expect("its disk");
        let free = disk.f_bavail * disk.f_frsize;
        let filler = usize::try_from(free.saturating_sub(bytes)).expect("it fits");
        fs::write(self.path("disk/filler"), vec![0; filler]).expect("written");
    }
}

impl Drop for SmallEngine {
    fn drop(&mut self) {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        let _ = self.child.wait();
        run("umount", &[text(&self.path("disk"))]);
        run("ip", &["link", "del", &self.bridge]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect(program);
    assert!(status.success(), "{program} {arguments:?}");
}

/// Makes an image, and leaves it in the registry alone.
fn image(registry: &Registry, name: &str, mebibytes: u32) -> String {
    let local = format!("windlass.test/disk-{name}:v1");
    let built = Command::new("sh")
        .args(["-c", BUILD, "build", &mebibytes.to_string(), &local])
        .env("DOCKER_HOST", std::env::var("WINDLASS_DOCKER_HOST").expect("an engine"))
        .output()
        .expect("sh");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let name = registry.push(&local, &format!("disk/{name}:v1"));
    docker(&["rmi", &local]);
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_finds_the_disk_full_makes_room() {
    let registry = Registry::start().await;
    let names = [("old", 10), ("newer", 10), ("wanted", 4)];
    let [old, newer, wanted] = names.map(|(name, size)| image(&registry, name, size));
    let engine = SmallEngine::start().await;
    let node = Node::start_on(&engine.host()).await;
    let pull =
        async |name: &str| node.runtime.pull_image(name, vec![Registry::auth("secret")]).await;
    pull(&old).await.expect("pulled");
    // Uses are told apart by seconds.
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = second().expect("a time").as_secs();
    while second().expect("a time").as_secs() == since {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pull(&newer).await.expect("pulled");
    engine.leave_free(6 << 20);
    pull(&wanted).await.expect("there is room now");
    let listed = docker_on(&engine.host(), &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let has = |name: &str| listed.lines().any(|line| line == name);
    assert!(!has(&old) && has(&newer) && has(&wanted), "{listed}");
}
