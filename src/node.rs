//! The node of this process: images, network, WASM runtime, agent.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{
    User,
    pki::{Authority, KUBELET_CLIENT},
};
use windlass_runtime_agent::{AgentConfig, Kubelet, NodeFacts, Records};
use windlass_runtime_api::Runtime;
use windlass_runtime_data::{SqliteFiles, Stores};
use windlass_runtime_docker::{DockerConfig, DockerHost, DockerRuntime};
use windlass_runtime_image::{Builtin, ImageStore, Registries};
use windlass_runtime_net::{Blocks, PodNet};
use windlass_runtime_wasm::{Data, TraceConfig, WasmConfig, WasmRuntime};
use windlass_sdk_client::Informer;
use windlass_sdk_types::Node;

use crate::{
    cli::{UpArgs, UsageError, runtime},
    distribution::ClusterRegistry,
    files,
    plane::ControlPlane,
};

/// Present on every node from the first start.
const IMAGES: [Builtin; 2] = [
    Builtin {
        reference: "windlass.dev/hello:v1",
        wasm: include_bytes!("../examples/hello/hello-v1.wasm"),
    },
    Builtin {
        reference: "windlass.dev/hello:v2",
        wasm: include_bytes!("../examples/hello/hello-v2.wasm"),
    },
];
/// How long requests under way may take when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(4);
/// Whose eyes the proxy's informers are.
const PROXY: &str = "system:kube-proxy";
/// The version of the API that the node speaks.
const VERSION: &str = concat!("v1.37.2+windlass.", env!("CARGO_PKG_VERSION"));

/// A node that was started.
pub struct NodeAgent {
    name: String,
    nodes: Informer<Node>,
}

impl NodeAgent {
    /// Starts the node; it registers itself soon after.
    pub async fn start(
        args: &UpArgs,
        plane: &ControlPlane,
        authority: &Authority,
        blocks: &Blocks,
        registry: ClusterRegistry,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let dir = dir(args);
        let net = PodNet::loopback(
            vec![blocks.pods, blocks.services],
            Default::default(),
            plane.rng.clone(),
        );
        let proxy = plane.cluster(User::authenticated(PROXY, &[]));
        tasks.spawn(windlass_runtime_net::run(
            net.clone(),
            args.node_name.clone(),
            proxy.informers,
            shutdown.clone(),
        ));

        let images = registry.images().clone();
        let cluster = plane.private_cluster(User::node(&args.node_name));
        let kept = dir.join("data");
        let runtime = WasmRuntime::new(WasmConfig {
            cache_dir: dir.join("compiled"),
            net: net.clone(),
            clock: plane.clock.clone(),
            memory_bytes: None,
            guest_memory_bytes: args.guest_memory,
            threads: None,
            data: Data {
                key_values: Some(Arc::new(Stores::new(
                    Some(cluster.api("windlass-keyvalue")),
                    kept.clone(),
                    net.clone(),
                ))),
                databases: Some(Arc::new(SqliteFiles::new(kept))),
            },
            tracing: args.otlp_endpoint.clone().map(|endpoint| TraceConfig {
                endpoint,
                ratio: args.trace_ratio,
                rng: plane.rng.clone(),
            }),
        })?;
        registry.run(runtime.clone(), plane.informers().of(), tasks, shutdown);
        let own = authority.issue_server(&[
            "localhost".into(),
            Ipv4Addr::LOCALHOST.to_string(),
            args.node_name.clone(),
        ])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no port for the kubelet API")?;
        let mut runtimes: Vec<Arc<dyn Runtime>> = vec![runtime];
        if let Some(docker) = docker(args, plane, &dir.join("docker"), net.clone())? {
            runtimes.push(docker);
        }
        let config = AgentConfig {
            node: NodeFacts::of_machine(
                &args.node_name,
                Ipv4Addr::LOCALHOST.into(),
                VERSION,
                &format!("wasm://{}", windlass_runtime_wasm::ENGINE_VERSION),
            )
            .with_disk_of(&dir),
            cluster,
            runtimes,
            images: Arc::new(images),
            cluster_dns: net.cluster_dns(),
            pod_block: blocks.pods,
            records: Records::Dir(dir.join("records")),
            log_dir: dir.join("logs"),
            volume_dir: Some(dir.join("volumes")),
            kubelet: Some(Kubelet {
                listener,
                tls: Arc::new(authority.private_server_config(&own, KUBELET_CLIENT)?),
                client_name: KUBELET_CLIENT.into(),
                net: net.clone(),
            }),
            drain: DRAIN,
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = windlass_runtime_agent::run(config, shutdown).await {
                tracing::error!(%error, "the node agent ended");
            }
        });
        Ok(Self { name: args.node_name.clone(), nodes: plane.informers().of() })
    }

    /// Returns once the Node object says Ready=True.
    pub async fn ready(&self) {
        let mut changes = self.nodes.changes();
        while !self.nodes.get("", &self.name).is_some_and(|node| is_ready(&node)) {
            changes.next().await;
        }
    }
}

/// The images of this machine's node.
pub fn images(args: &UpArgs) -> anyhow::Result<ImageStore> {
    let registries = registries(args.registries.as_deref())?;
    Ok(ImageStore::open_with(&dir(args).join("images"), &IMAGES, registries)?)
}

fn dir(args: &UpArgs) -> PathBuf {
    args.data_dir.join("node")
}

/// How registries are reached, where a file says that.
pub fn registries(file: Option<&Path>) -> Result<Registries, UsageError> {
    let read = file.map(Registries::read).transpose();
    let read = read.map_err(|error| UsageError(format!("--registries: {error}")))?;
    Ok(read.unwrap_or_default())
}

/// The container engine of this machine, be it there or not; None where it isn't wanted.
fn docker(
    args: &UpArgs,
    plane: &ControlPlane,
    dir: &Path,
    net: PodNet,
) -> anyhow::Result<Option<Arc<DockerRuntime>>> {
    let Some(host) = docker_host(args.docker_host.as_deref())? else { return Ok(None) };
    let id = files::node_id(dir)?;
    let dir = dir.join("pods");
    let clock = plane.clock.clone();
    Ok(Some(DockerRuntime::start(DockerConfig { host, node: id, dir, clock, net })))
}

/// None where no engine is wanted.
fn docker_host(named: Option<&str>) -> Result<Option<DockerHost>, UsageError> {
    match named {
        Some("none") => Ok(None),
        Some(named) => {
            named.parse().map(Some).map_err(|error| UsageError(format!("--docker-host: {error}")))
        }
        None => Ok(Some(default_docker_host())),
    }
}

/// Removes what a node that is no more left in the engine; an engine that isn't there has nothing.
pub fn remove_containers(named: Option<&str>, dir: &Path) -> anyhow::Result<()> {
    let Some(host) = docker_host(named)? else { return Ok(()) };
    let id = files::node_id(dir)?;
    let removed = runtime()?.block_on(windlass_runtime_docker::remove_all(&host, &id));
    removed.map_err(|error| anyhow::anyhow!("can't remove the containers of the node: {error}"))
}

/// Docker's own variable, where it names an engine.
fn default_docker_host() -> DockerHost {
    let named = std::env::var("DOCKER_HOST").unwrap_or_default();
    if named.is_empty() {
        return DockerHost::default();
    }
    named.parse().unwrap_or_else(|error| {
        let host = DockerHost::default();
        tracing::warn!(%error, "DOCKER_HOST is not used, but {host}");
        host
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}
