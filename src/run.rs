//! `windlass run`: a project on this machine, in the node's own engine, without a cluster. Its
//! container is what a node makes of the pod that `deploy` would send, so limits and grants are the
//! same. With `--watch` a new build starts beside the one before, takes over the port once it is
//! ready, and the one before drains.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use futures::{Stream, StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use windlass_runtime_agent::{Logs, container_alone};
use windlass_runtime_api::{
    ContainerSpec, ContainerState, HttpProbe, Image, Runtime, RuntimeEvent,
};
use windlass_runtime_data::{SqliteFiles, Stores};
use windlass_runtime_image::{IMAGE_LIMIT_BYTES, ImageStore};
use windlass_runtime_net::{Blocks, PodAddresses, PodNet, Proxy, Table};
use windlass_runtime_wasm::{Data, WasmConfig, WasmRuntime};
use windlass_sdk_meta::{Rng, SystemClock};
use windlass_sdk_project::{Built, CONTAINER, Kind, Manifest, Place, Project, objects};
use windlass_sdk_types::Pod;

use crate::{
    cli::{Ended, RunArgs, UsageError},
    files,
    project::{begin, built, told},
    show::Show,
    up,
    watch::Sources,
};

/// Below the project's folder: what is kept from one run to the next (compiled code, entries of
/// key-value stores, databases), and the logs of this one.
const FOLDER: &str = "target/windlass/run";
const NAMESPACE: &str = "default";
/// How long requests under way may take when it is told to stop, or a new build takes over.
const DRAIN: Duration = Duration::from_secs(4);
/// How long it may take until the path of `run.health` answers, and how often it is asked.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs until SIGTERM or SIGINT, or a command's end.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    up::serve(serve(args))
}

async fn serve(args: &RunArgs) -> anyhow::Result<()> {
    let shutdown = up::shutdown_on_signal()?;
    let project = Project::open(&args.folder).map_err(told)?;
    if args.watch && project.manifest.kind == Kind::Command {
        let why = "--watch is for what answers HTTP; a command runs once";
        return Err(UsageError(why.into()).into());
    }
    let sources = args.watch.then(|| Sources::watch(&project)).transpose()?;
    let built = built(&project)?;
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, project.manifest.run.port));
    let listen = args.listen.unwrap_or(default);
    let mut machine = Machine::open(&project, listen, args.show()).await?;
    match project.manifest.kind {
        Kind::Command => machine.complete(&project, &built, &shutdown).await,
        Kind::Http => {
            let running = machine.start(&project, &built).await?;
            machine.lead_to(&running).await;
            args.show().ready(&machine.url(), &running.digest, true);
            if project.manifest.backend.is_some() {
                begin("its [backend] runs in clusters only: calls to it fail here");
            }
            let last = match sources {
                Some(sources) => machine.follow(sources, project, running, &shutdown).await?,
                None => {
                    shutdown.cancelled().await;
                    running
                }
            };
            machine.close(last).await;
            Ok(())
        }
    }
}

/// A node without a cluster.
struct Machine {
    show: Show,
    listen: SocketAddr,
    runtime: Arc<WasmRuntime>,
    images: ImageStore,
    proxy: Proxy,
    addresses: PodAddresses,
    logs: Arc<Logs>,
    log_dir: PathBuf,
    /// Runs that were started, for names that are never used twice.
    started: u64,
    /// Runs that drain.
    leaving: JoinSet<()>,
    /// The folder and the addresses are this process's.
    _held: (File, Blocks),
}

/// A build that runs.
struct Running {
    show: Show,
    spec: ContainerSpec,
    manifest: Manifest,
    digest: String,
    port: u16,
    over: Arc<AtomicBool>,
    /// Prints what it writes.
    printing: JoinSet<()>,
    events: BoxStream<'static, RuntimeEvent>,
}

impl Machine {
    async fn open(project: &Project, listen: SocketAddr, show: Show) -> anyhow::Result<Self> {
        let dir = project.folder.join(FOLDER);
        fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let lock = files::lock(&dir, "the project runs already")?;
        // The proxy opens it once something is ready behind it.
        let free = TcpListener::bind(listen).await.with_context(|| {
            format!("can't listen on {listen}: choose another address by --listen")
        })?;
        let listen = free.local_addr()?;
        drop(free);
        let log_dir = dir.join("logs");
        if log_dir.exists() {
            fs::remove_dir_all(&log_dir).with_context(|| log_dir.display().to_string())?;
        }
        let rng = Rng::from_system();
        let blocks = Blocks::claim(&dir, &rng)?;
        let net = PodNet::loopback(vec![blocks.pods, blocks.services], Default::default(), rng);
        let kept = dir.join("data");
        let runtime = WasmRuntime::new(WasmConfig {
            cache_dir: dir.join("compiled"),
            net: net.clone(),
            clock: Arc::new(SystemClock),
            memory_bytes: None,
            guest_memory_bytes: None,
            threads: None,
            data: Data {
                key_values: Some(Arc::new(Stores::new(None, kept.clone(), net.clone()))),
                databases: Some(Arc::new(SqliteFiles::new(kept))),
            },
            tracing: None,
        })?;
        Ok(Self {
            show,
            listen,
            runtime,
            images: ImageStore::open(&dir.join("images"), &[])?,
            proxy: Proxy::new(net, listen.ip()),
            addresses: PodAddresses::new(blocks.pods),
            logs: Arc::default(),
            log_dir,
            started: 0,
            leaving: JoinSet::new(),
            _held: (lock, blocks),
        })
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listen)
    }

    /// Starts a build, prints what it writes, and returns when it is ready.
    async fn start(&mut self, project: &Project, built: &Built) -> anyhow::Result<Running> {
        let manifest = &project.manifest;
        self.started += 1;
        let uid = format!("run-{}", self.started);
        let place = Place {
            namespace: NAMESPACE.into(),
            image: format!("windlass.local/{NAMESPACE}/{}:run", manifest.name),
        };
        let image = self.take_in(&place.image, &built.file).await?;
        let address = self.addresses.allocate(&uid)?;
        let log_path = self.log_dir.join(&uid).join("0.log");
        let pod = pod(objects(manifest, &built.allowed, &place), &manifest.name, &uid)?;
        let spec = container_alone(&pod, image, IpAddr::V4(address), log_path)?;
        let over = Arc::new(AtomicBool::new(false));
        let mut running = Running {
            show: self.show,
            printing: print(self.show, &self.logs, &spec, &over)?,
            events: self.runtime.events(),
            port: manifest.run.port,
            manifest: manifest.clone(),
            digest: built.digest.clone(),
            spec,
            over,
        };
        let ready = self.make_ready(&mut running).await;
        if let Err(why) = ready {
            self.end(running).await;
            bail!("{} does not run: {why:#}", manifest.name);
        }
        Ok(running)
    }

    async fn take_in(&self, name: &str, file: &Path) -> anyhow::Result<Image> {
        let file = tokio::fs::File::open(file).await?;
        Ok(self.images.import(name, file, IMAGE_LIMIT_BYTES).await?)
    }

    async fn make_ready(&self, running: &mut Running) -> anyhow::Result<()> {
        let spec = &running.spec;
        self.runtime.run_sandbox(spec.pod.clone()).await?;
        let started = self.runtime.start_container(spec.clone()).await?;
        if let Some(why) = started.failed {
            bail!(why);
        }
        let Some(path) = &running.manifest.run.health else { return Ok(()) };
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let probe = HttpProbe {
                container: CONTAINER.into(),
                port: running.port,
                path: path.clone(),
                timeout: READY_WITHIN,
                ..HttpProbe::default()
            };
            let why = match self.runtime.http_probe(&spec.pod.uid, probe).await {
                Ok(answer) if (200..400).contains(&answer.status) => return Ok(()),
                Ok(answer) => format!("status {}", answer.status),
                Err(error) => error.message,
            };
            if Instant::now() > deadline {
                bail!("{path} is not healthy after {READY_WITHIN:?}: {why}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// From now on new connections are this build's.
    async fn lead_to(&mut self, running: &Running) {
        let endpoint = SocketAddr::new(running.spec.pod.address, running.port);
        let node_ports = BTreeMap::from([(self.listen.port(), Arc::from([endpoint]))]);
        self.proxy.apply(Table { node_ports, ..Table::default() }).await;
    }

    /// Builds when sources change, and leads connections to what comes out; the last that ran.
    async fn follow(
        &mut self,
        mut sources: Sources,
        mut project: Project,
        mut running: Running,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Running> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(running),
                () = sources.changed() => {}
                () = running.tell(&self.runtime) => continue,
            }
            // Anew, with folders that are new; what changes from now on is for the next build.
            sources = Sources::watch(&project)?;
            match self.replace(&mut project, &running).await {
                Ok(Some(new)) => {
                    let old = std::mem::replace(&mut running, new);
                    begin(&format!("{} runs as changed", project.manifest.name));
                    self.show.ready(&self.url(), &running.digest, false);
                    self.leave(old);
                }
                Ok(None) => begin("nothing changed in what was built"),
                Err(why) => eprintln!("windlass: {why:#}; what ran before goes on"),
            }
        }
    }

    /// None: the build is the same as the one that runs.
    async fn replace(
        &mut self,
        project: &mut Project,
        running: &Running,
    ) -> anyhow::Result<Option<Running>> {
        let folder = project.folder.clone();
        let build = move || {
            let project = Project::open(&folder).map_err(told)?;
            let built = built(&project)?;
            anyhow::Ok((project, built))
        };
        let (fresh, built) = tokio::task::spawn_blocking(build).await??;
        if fresh.manifest.kind != Kind::Http {
            bail!("what answers HTTP can't become a command while it runs");
        }
        if built.digest == running.digest && fresh.manifest == running.manifest {
            return Ok(None);
        }
        let new = self.start(&fresh, &built).await?;
        self.lead_to(&new).await;
        *project = fresh;
        Ok(Some(new))
    }

    /// Drains in the background.
    fn leave(&mut self, running: Running) {
        let (runtime, logs) = (self.runtime.clone(), self.logs.clone());
        self.leaving.spawn(end(runtime, logs, running));
    }

    async fn end(&self, running: Running) {
        end(self.runtime.clone(), self.logs.clone(), running).await;
    }

    async fn close(mut self, last: Running) {
        self.proxy.apply(Table::default()).await;
        self.leave(last);
        while self.leaving.join_next().await.is_some() {}
    }

    /// Runs a command to its end.
    async fn complete(
        mut self,
        project: &Project,
        built: &Built,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut running = self.start(project, built).await?;
        let uid = running.spec.pod.uid.clone();
        let ended = loop {
            let observed = self.runtime.observe(&uid).await?;
            let state = observed.and_then(|pod| pod.containers.into_iter().next());
            if let Some(ContainerState::Exited { exit_code, reason, message, .. }) =
                state.map(|container| container.state)
            {
                break Some((exit_code, if message.is_empty() { reason } else { message }));
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break None,
                () = running.tell(&self.runtime) => {}
            }
        };
        let show = running.show;
        self.end(running).await;
        if let Some((exit_code, why)) = &ended {
            show.ended(*exit_code, why);
        }
        match ended {
            None | Some((0, _)) => Ok(()),
            Some((code, why)) => Err(Ended {
                name: project.manifest.name.clone(),
                exit_code: u8::try_from(code).unwrap_or(1),
                why,
            }
            .into()),
        }
    }
}

impl Running {
    /// Waits for the next thing that the engine says, of whichever run, and shows it.
    async fn tell(&mut self, runtime: &WasmRuntime) {
        match self.events.next().await {
            Some(RuntimeEvent::Trapped { count, message, .. }) => {
                self.show.notice(&format!("trapped ({count} times)"), &message);
            }
            Some(RuntimeEvent::Notice { reason, message, .. }) => {
                self.show.notice(reason, &message);
            }
            Some(_) => {}
            None => self.events = runtime.events(),
        }
    }
}

/// Stops a run, and returns when all that it wrote is printed.
async fn end(runtime: Arc<WasmRuntime>, logs: Arc<Logs>, mut running: Running) {
    let uid = &running.spec.pod.uid;
    for step in
        [runtime.stop_container(uid, CONTAINER, DRAIN).await, runtime.remove_sandbox(uid).await]
    {
        if let Err(error) = step {
            tracing::warn!(%error, "a run did not end as it should");
        }
    }
    running.over.store(true, SeqCst);
    logs.look();
    while running.printing.join_next().await.is_some() {}
}

/// The pod that `deploy` would have a cluster make.
fn pod(objects: Vec<Value>, name: &str, uid: &str) -> anyhow::Result<Pod> {
    let mut object = objects.into_iter().last().context("a component has an object")?;
    let mut pod = match object["spec"]["template"].take() {
        Value::Null => object,
        template => template,
    };
    let metadata = &mut pod["metadata"];
    metadata["name"] = name.into();
    metadata["namespace"] = NAMESPACE.into();
    metadata["uid"] = json!(uid);
    Ok(serde_json::from_value(pod)?)
}

/// Prints what a container writes, to the same streams of this process, until `over`.
fn print(
    show: Show,
    logs: &Logs,
    spec: &ContainerSpec,
    over: &Arc<AtomicBool>,
) -> anyhow::Result<JoinSet<()>> {
    let mut printing = JoinSet::new();
    let follow = |stream| {
        let over = over.clone();
        let lines = logs.follow(spec.log_path.clone(), stream, move || over.load(SeqCst));
        lines.map_err(anyhow::Error::msg)
    };
    printing.spawn(pass_on(follow("stdout")?, move |text| show.stdout(text)));
    printing.spawn(pass_on(follow("stderr")?, move |text| show.stderr(text)));
    Ok(printing)
}

async fn pass_on(lines: impl Stream<Item = std::io::Result<bytes::Bytes>>, show: impl Fn(&[u8])) {
    let mut lines = std::pin::pin!(lines);
    while let Some(text) = lines.next().await {
        match text {
            Ok(text) => show(&text),
            Err(error) => {
                tracing::warn!(%error, "the log can't be read");
                return;
            }
        }
    }
}
