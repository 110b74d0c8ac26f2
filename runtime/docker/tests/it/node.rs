//! A node with nothing but the runtime, and the image of its tests.

use std::{
    net::IpAddr,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use windlass_runtime_api::{
    Availability, ContainerSpec, ContainerState, EngineImage, Image, Limits, ObservedContainer,
    OnTrap, Runtime, RuntimeError, Sandbox, Started,
};
use windlass_runtime_docker::{DockerConfig, DockerHost, DockerRuntime};
use windlass_runtime_net::{Block, PodNet};
use windlass_sdk_meta::{Rng, SystemClock};

pub const IMAGE: &str = "windlass.test/busybox:runtime";
const DEADLINE: Duration = Duration::from_secs(30);
/// Debian's busybox with a link for each of its programs, as the only layer.
const BUILD: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/tmp" "$root/etc"
cp /bin/busybox "$root/bin/busybox"
for name in $(/bin/busybox --list | grep -v "^busybox$"); do ln -sf busybox "$root/bin/$name"; done
echo 'root:x:0:0::/:/bin/sh' > "$root/etc/passwd"
chmod 1777 "$root/tmp"
tar -C "$root" -c . | docker import -c 'ENV FROM_IMAGE=yes' -c 'ENTRYPOINT ["/bin/sh","-c"]' \
    -c 'CMD ["echo by default"]' - "$1"
"#;

pub struct Node {
    pub id: String,
    pub runtime: Arc<DockerRuntime>,
    folder: TempDir,
}

impl Node {
    pub async fn start() -> Self {
        let node = Self::start_on(&host()).await;
        build();
        node
    }

    /// On another engine, which may lack the image.
    pub async fn start_on(host: &str) -> Self {
        let id = Rng::from_system().uid();
        let folder = tempfile::tempdir().expect("folder");
        let runtime = begin(host, &id, folder.path().join("pods"));
        ready(&runtime).await;
        Self { id, runtime, folder }
    }

    /// As after the process was killed: everything that was in memory is lost.
    pub async fn restart(&mut self) {
        self.runtime = begin(&host(), &self.id, self.folder.path().join("pods"));
        ready(&self.runtime).await;
    }

    /// A container `c` of a pod of its own that runs a script.
    pub async fn spec(&self, pod: &str, script: &str) -> ContainerSpec {
        let image = self.runtime.find_image(IMAGE).await.expect("asked").expect("it is there");
        let EngineImage { image, .. } = image;
        ContainerSpec { args: vec![script.to_owned()], ..self.spec_of(pod, image) }
    }

    fn spec_of(&self, pod: &str, image: Image) -> ContainerSpec {
        let address = next_address();
        ContainerSpec {
            pod: Arc::new(Sandbox {
                uid: format!("{}-{pod}", self.id),
                name: pod.to_owned(),
                namespace: "default".into(),
                address,
                hostname: pod.to_owned(),
                names: Default::default(),
                annotations: Default::default(),
                linux: Default::default(),
            }),
            name: "c".into(),
            attempt: 0,
            image,
            command: vec![],
            args: vec![],
            env: vec![],
            working_dir: None,
            mounts: vec![],
            late_mounts: None,
            ports: vec![],
            limits: Limits::default(),
            log_path: self.log_path(pod),
            on_trap: OnTrap::Continue,
            reach: Default::default(),
            console: Default::default(),
            linux: Default::default(),
        }
    }

    pub fn log_path(&self, pod: &str) -> PathBuf {
        self.folder.path().join("logs").join(pod).join("0.log")
    }

    pub async fn run(&self, spec: &ContainerSpec) -> Result<Started, RuntimeError> {
        self.runtime.run_sandbox(spec.pod.clone()).await?;
        self.runtime.start_container(spec.clone()).await
    }

    pub async fn seen(&self, spec: &ContainerSpec) -> Option<ObservedContainer> {
        let pod = self.runtime.observe(&spec.pod.uid).await.expect("asked")?;
        pod.containers.into_iter().find(|container| container.name == spec.name)
    }

    /// Waits for the end of the newest attempt: exit code, reason, message.
    pub async fn ended(&self, spec: &ContainerSpec) -> (i32, String, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.seen(spec).await;
            if let Some(ContainerState::Exited { exit_code, reason, message, .. }) =
                seen.as_ref().map(|seen| seen.state.clone())
            {
                return (exit_code, reason, message);
            }
            assert!(Instant::now() < deadline, "{}: still {seen:?}", spec.pod.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a script to its end, and gives what it wrote, without times and tags.
    pub async fn output(&self, spec: &ContainerSpec) -> String {
        let started = self.run(spec).await.expect("it starts");
        assert_eq!(started.failed, None);
        self.ended(spec).await;
        self.log(&spec.pod.name)
    }

    pub fn log(&self, pod: &str) -> String {
        let text = std::fs::read_to_string(self.log_path(pod)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Waits until the log holds a text.
    pub async fn logged(&self, pod: &str, wanted: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let log = self.log(pod);
            if log.contains(wanted) {
                return log;
            }
            assert!(Instant::now() < deadline, "{pod}: no {wanted:?} in {log:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn remove(&self, spec: &ContainerSpec) {
        self.runtime.remove_sandbox(&spec.pod.uid).await.expect("removed");
    }

    /// Ids of everything that the engine has of this node.
    pub fn left(&self) -> String {
        docker(&["ps", "-aq", "--filter", &format!("label=windlass.dev/node={}", self.id)])
    }
}

/// Nothing stays after a test, however it ends.
impl Drop for Node {
    fn drop(&mut self) {
        let left = self.left();
        let ids: Vec<&str> = left.split_whitespace().collect();
        if !ids.is_empty() {
            docker(&[&["rm", "-f"], ids.as_slice()].concat());
        }
    }
}

pub fn docker(arguments: &[&str]) -> String {
    docker_on(&host(), arguments)
}

pub fn docker_on(host: &str, arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/docker").args(arguments).env("DOCKER_HOST", host).output();
    let output = output.expect("the Debian package docker.io: run the tests by `cargo xtask test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn host() -> String {
    std::env::var("WINDLASS_DOCKER_HOST")
        .expect("WINDLASS_DOCKER_HOST is not set: run the tests by `cargo xtask test`")
}

fn begin(host: &str, id: &str, dir: PathBuf) -> Arc<DockerRuntime> {
    let host: DockerHost = host.parse().expect("an engine of this machine");
    let net = PodNet::loopback(vec![Block::PODS], Default::default(), Rng::from_system());
    let clock = Arc::new(SystemClock);
    DockerRuntime::start(DockerConfig { host, node: id.to_owned(), dir, clock, net })
}

async fn ready(runtime: &DockerRuntime) {
    let mut availability = runtime.availability().expect("it tells");
    let waiting = availability.wait_for(Availability::is_ready);
    tokio::time::timeout(DEADLINE, waiting).await.expect("in time").expect("the engine answers");
}

fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new("sh")
            .args(["-c", BUILD, "build", IMAGE])
            .env("DOCKER_HOST", host())
            .output()
            .expect("sh");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    });
}

/// Every pod has one of its own.
fn next_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Relaxed).to_be_bytes();
    let [a, b] = (std::process::id() as u16).to_be_bytes();
    [127, 64 | (a & 31), b ^ high, low].into()
}
