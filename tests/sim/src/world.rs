//! A cluster: one API server on a memory store and, each behind a line of its own that faults
//! strike, the scheduler, the controllers and two nodes. Everything is told the time by tokio's
//! paused clock and draws from a generator that the seed and its name decide.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use kube::client::Body;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::Service;
use windlass_apiserver_access::{Admission, AdmissionOptions, Authenticator, Authorizer, User};
use windlass_apiserver_schema::NoDescriptions;
use windlass_apiserver_server::{ApiServer, Config, LocalService};
use windlass_apiserver_store::{MemoryStore, Store};
use windlass_runtime_agent::{AgentConfig, NodeFacts, Record, Records};
use windlass_runtime_net::Block;
use windlass_sdk_client::{Api, Cluster, Informers, client};
use windlass_sdk_meta::{Clock, Rng, Timestamp};

use crate::{
    faults::{Faults, Faulty, Link},
    history::History,
    runtime::{FakeImages, FakeRuntime},
};

/// The nodes of every world.
pub const NODES: [&str; 2] = ["node-a", "node-b"];
/// Pods that a node takes: few enough that now and then one is full.
const PODS_A_NODE: u32 = 20;
/// Addresses of services: first address and prefix length.
const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 96, 0, 0), 24);
/// 2026-11-23T17:20:00Z, when every world begins.
const EPOCH_SECONDS: i64 = 1_795_454_400;
/// As long as an agent waits for its containers when it is stopped.
const DRAIN: Duration = Duration::from_secs(4);

/// See the module.
pub struct World {
    pub clock: Arc<dyn Clock>,
    pub faults: Faults,
    pub history: History,
    seed: u64,
    /// Told apart in names of generators: how many processes were started.
    started: u64,
    store: Arc<dyn Store>,
    server: Arc<Mutex<Arc<ApiServer>>>,
    plane: BTreeMap<&'static str, Process>,
    machines: BTreeMap<&'static str, Machine>,
}

/// Tokio's paused time as the time of day.
#[derive(Debug)]
struct SimClock {
    begun: Instant,
}

/// Something that can die.
struct Process {
    shutdown: CancellationToken,
    /// Of its line to the API server, and of what it asks its runtime.
    dead: CancellationToken,
    tasks: JoinSet<()>,
}

struct Machine {
    runtime: Arc<FakeRuntime>,
    records: Arc<parking_lot::Mutex<BTreeMap<String, Record>>>,
    block: Block,
    agent: Option<Process>,
}

/// The API server that runs now, as one user reaches it.
#[derive(Clone)]
struct Door {
    server: Arc<Mutex<Arc<ApiServer>>>,
    user: User,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_second(EPOCH_SECONDS).unwrap_or_default();
        epoch + self.begun.elapsed()
    }
}

impl Service<Request<Body>> for Door {
    type Response = <LocalService as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = <LocalService as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.server.lock().clone();
        server.local(self.user.clone()).call(request)
    }
}

impl Process {
    fn new() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            dead: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Ends it in the middle of whatever it does.
    fn kill(self) {
        self.dead.cancel();
        // Dropping the set aborts the tasks.
        drop(self.tasks);
    }
}

impl World {
    /// Starts everything. Must be called in a current-thread runtime with paused time.
    pub async fn new(seed: u64, in_detail: bool) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SimClock { begun: Instant::now() });
        let faults = Faults::default();
        let history = History::new(faults.clone(), in_detail);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        tokio::spawn(history.clone().follow(store.clone()));
        let rng = derive(seed, "server", 0);
        let server = serve(store.clone(), clock.clone(), rng).await?;
        let machines = NODES.iter().zip(0..).map(|(name, at)| {
            let runtime = FakeRuntime::new(clock.clone(), derive(seed, name, 0));
            let block = Block::new(Ipv4Addr::new(127, 64 + at, 0, 0), 24);
            let block = block.ok_or("a node's block is no block")?;
            Ok((*name, Machine { runtime, records: Arc::default(), block, agent: None }))
        });
        let machines = machines.collect::<Result<_, String>>()?;
        let server = Arc::new(Mutex::new(server));
        let plane = BTreeMap::new();
        let mut world =
            Self { clock, faults, history, seed, started: 0, store, server, plane, machines };
        world.start_controllers();
        world.start_scheduler();
        for node in NODES {
            world.start_agent(node);
        }
        Ok(world)
    }

    /// Requests in the name of `user` that faults strike.
    pub fn api(&mut self, user: &str) -> Api {
        let process = Process::new();
        let service = self.line(&process, User::authenticated(user, &["system:masters"]));
        Api::new(client(service), user)
    }

    /// The same without faults, for the judge.
    pub fn calm_api(&self) -> Api {
        let user = User::authenticated("judge", &["system:masters"]);
        Api::new(client(Door { server: self.server.clone(), user }), "judge")
    }

    /// A generator of its own for everybody who asks.
    pub fn rng(&mut self, name: &str) -> Rng {
        self.started += 1;
        derive(self.seed, name, self.started)
    }

    pub fn runtime(&self, node: &str) -> Option<&Arc<FakeRuntime>> {
        self.machines.get(node).map(|machine| &machine.runtime)
    }

    /// Another API server takes over the store; watches of the one before end.
    pub async fn restart_server(&mut self) -> Result<(), String> {
        let rng = self.rng("server");
        let next = serve(self.store.clone(), self.clock.clone(), rng).await?;
        let before = std::mem::replace(&mut *self.server.lock(), next);
        before.stop();
        Ok(())
    }

    /// Starts the scheduler, in place of the one that runs.
    pub fn start_scheduler(&mut self) {
        self.plane.remove("scheduler").into_iter().for_each(Process::kill);
        let mut process = Process::new();
        let user = User::authenticated("system:kube-scheduler", &[]);
        let cluster = self.cluster(&process, user, None);
        process.tasks.spawn(windlass_scheduler_driver::run(cluster, process.shutdown.clone()));
        self.plane.insert("scheduler", process);
    }

    /// Starts the controllers, in place of those that run. They share their informers, as in the
    /// binary.
    pub fn start_controllers(&mut self) {
        self.plane.remove("controllers").into_iter().for_each(Process::kill);
        let mut process = Process::new();
        let reader = User::authenticated("system:kube-controller-manager", &[]);
        let informers = self.cluster(&process, reader, None).informers;
        for row in windlass_controllers::all() {
            let user = User::service_account("kube-system", row.name);
            let cluster = self.cluster(&process, user, Some(informers.clone()));
            process.tasks.spawn((row.run)(cluster, process.shutdown.clone()));
        }
        self.plane.insert("controllers", process);
    }

    /// Starts a node's agent where none runs.
    pub fn start_agent(&mut self, node: &str) {
        let mut process = Process::new();
        let cluster = self.cluster(&process, User::node(node), None);
        let history = self.history.clone();
        let Some((name, machine)) = self.machines.iter_mut().find(|(name, _)| **name == node)
        else {
            return;
        };
        if machine.agent.is_some() {
            return;
        }
        let config = AgentConfig {
            node: facts(name, machine.block),
            cluster,
            runtimes: vec![machine.runtime.session(process.dead.clone())],
            images: Arc::new(FakeImages),
            cluster_dns: None,
            pod_block: machine.block,
            records: Records::Memory(machine.records.clone()),
            log_dir: PathBuf::from("no-logs-in-the-simulation"),
            volume_dir: None,
            kubelet: None,
            drain: DRAIN,
        };
        let shutdown = process.shutdown.clone();
        process.tasks.spawn(async move {
            if let Err(error) = windlass_runtime_agent::run(config, shutdown).await {
                history.breaks(format!("an agent ended: {error}"));
            }
        });
        machine.agent = Some(process);
    }

    /// Asks an agent to end, and waits until it has; its containers ended before it.
    pub async fn stop_agent(&mut self, node: &str) {
        let Some(machine) = self.machines.get_mut(node) else { return };
        let Some(mut agent) = machine.agent.take() else { return };
        agent.shutdown.cancel();
        while agent.tasks.join_next().await.is_some() {}
        agent.kill();
        machine.runtime.reboot();
    }

    /// Ends an agent in the middle of whatever it does, its containers with it or not.
    pub fn kill_agent(&mut self, node: &str, containers: bool) {
        let Some(machine) = self.machines.get_mut(node) else { return };
        machine.agent.take().into_iter().for_each(Process::kill);
        if containers {
            machine.runtime.reboot();
        }
    }

    /// What a component is handed; with informers of its own where none are given.
    fn cluster(&mut self, process: &Process, user: User, shared: Option<Informers>) -> Cluster {
        let name = user.name.clone();
        let client = client(self.line(process, user));
        let rng = self.rng(&name);
        let informers = shared.unwrap_or_else(|| Informers::new(client.clone(), rng.clone()));
        Cluster { client, informers, clock: self.clock.clone(), rng }
    }

    fn line(&mut self, process: &Process, user: User) -> Faulty<Door> {
        let rng = self.rng(&format!("line of {}", user.name));
        let link = Link { faults: self.faults.clone(), rng, dead: process.dead.clone() };
        Faulty { inner: Door { server: self.server.clone(), user }, link }
    }
}

async fn serve(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: Rng,
) -> Result<Arc<ApiServer>, String> {
    let authorizer = Arc::new(Authorizer::new());
    let options = AdmissionOptions { authorizer: authorizer.clone(), ..Default::default() };
    let config = Config {
        store,
        // Nobody comes with a certificate.
        authenticator: Authenticator::new(CertificateDer::from(Vec::new()), clock.clone()),
        clock,
        rng,
        authorizer,
        admission: Admission::new(options),
        service_range: SERVICES,
        service_endpoint: None,
        kubelet_client: None,
        descriptions: Arc::new(NoDescriptions),
        mounts: Vec::new(),
    };
    ApiServer::start(config).await.map_err(|error| error.to_string())
}

fn facts(name: &str, block: Block) -> NodeFacts {
    NodeFacts {
        name: name.to_owned(),
        address: IpAddr::V4(block.first()),
        cpu_millis: 4000,
        memory_bytes: 8 << 30,
        disk_bytes: 100 << 30,
        pods: PODS_A_NODE,
        labels: BTreeMap::new(),
        architecture: "amd64".into(),
        kernel: "6.0".into(),
        os_image: "Simulation".into(),
        machine_id: name.to_owned(),
        boot_id: name.to_owned(),
        version: "v1.37.0+windlass".into(),
        runtime_version: "wasm://0".into(),
    }
}

/// Generators of different names have nothing to do with each other.
fn derive(seed: u64, name: &str, at: u64) -> Rng {
    let mut hasher = DefaultHasher::new();
    (seed, name, at).hash(&mut hasher);
    Rng::seeded(hasher.finish())
}
