//! The command line: flags, their defaults, and which file does what they ask for.

use std::{net::SocketAddr, path::PathBuf};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser},
};
use windlass_runtime_net::Block;
use windlass_runtime_wasm::Endpoint;
use windlass_sdk_meta::Quantity;

use crate::{deploy, image, project, registry, reset, run, show::Show, up};

/// Kubernetes rebuilt in Rust for WebAssembly: one binary, real kubectl, pods that are ready in milliseconds.
#[derive(Parser)]
#[command(name = "windlass", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a whole cluster in this process until it is told to stop
    Up(Box<UpArgs>),
    /// Makes a project of a template
    New(NewArgs),
    /// Builds the project of a folder, and says what the component is and may do
    Build(BuildArgs),
    /// Builds the project of a folder and runs it on this machine, without a cluster
    Run(RunArgs),
    /// Builds the project of a folder and runs it in a cluster; the last line is its URL
    Deploy(DeployArgs),
    /// Pushes WASM to a registry, as a CNCF artifact
    Push(PushArgs),
    /// Gets an image's WASM from a registry into a file
    Pull(PullArgs),
    /// Tells what a file is, or an image of a registry
    Inspect(InspectArgs),
    /// Puts WASM images on the nodes of a cluster
    #[command(subcommand)]
    Image(ImageCommand),
    /// Removes a data folder and everything in it
    Reset(ResetArgs),
}

#[derive(Args)]
pub struct UpArgs {
    /// Where state, images and keys are kept
    #[arg(long, value_name = "DIR", default_value_os_t = default_data_dir())]
    pub data_dir: PathBuf,
    /// Where the cluster's state is: "sled" in the data folder, or an etcd cluster, such as
    /// etcd://10.0.0.1:2379,10.0.0.2:2379
    #[arg(long, value_name = "STORE", default_value = "sled", value_parser = state)]
    pub store: State,
    /// The authority of etcd's certificates; asks it with TLS
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate that etcd knows this cluster by
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile", requires = "etcd_cafile")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// Address of the API server
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Name of this machine's node
    #[arg(long, value_name = "NAME", default_value_t = default_node_name())]
    pub node_name: String,
    /// Where pods and services have their addresses: on loopback, or in ranges of the network (root)
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Network::Loopback)]
    pub network: Network,
    /// Addresses of the pods of all nodes, with --network routed
    #[arg(long, value_name = "RANGE", default_value = windlass_runtime_net::ROUTED_PODS)]
    pub pod_range: Block,
    /// Addresses of services, with --network routed
    #[arg(long, value_name = "RANGE", default_value = windlass_runtime_net::ROUTED_SERVICES)]
    pub service_range: Block,
    /// Memory that all WASM guests of the node may hold together, such as 2Gi (else 7/8 of the machine's)
    #[arg(long, value_name = "QUANTITY", value_parser = bytes)]
    pub guest_memory: Option<u64>,
    /// The Docker engine that runs containers, such as unix:///var/run/docker.sock; "none" for none
    #[arg(long, value_name = "SOCKET", env = "WINDLASS_DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// Mirrors, trust and credentials of image registries, in the form of k3s' registries.yaml
    #[arg(long, value_name = "FILE")]
    pub registries: Option<PathBuf>,
    /// Sends traces of requests to an OTLP collector, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,
    /// The share of requests without a trace context that are traced, from 0 to 1
    #[arg(long, value_name = "RATIO", env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = ratio)]
    pub trace_ratio: f64,
    /// Also deploys the demo microservice and prints the URL that answers
    #[arg(long)]
    pub demo: bool,
    /// How long pods stay on a node that is not ready, where they don't say (Kubernetes: 300)
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub default_not_ready_toleration_seconds: i64,
    /// How long pods stay on a node that is lost, where they don't say (Kubernetes: 300)
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub default_unreachable_toleration_seconds: i64,
}

/// Where the cluster's state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Sled,
    /// `host:port` of each member.
    Etcd(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// 127.64.0.0/10: no set-up, for any user, on one machine
    Loopback,
    /// 10.64.0.0/10 and 10.128.0.0/16, or other ranges
    Routed,
}

#[derive(Args)]
pub struct NewArgs {
    /// What the component is called; the new folder too
    pub name: String,
    /// What to begin with
    #[arg(long, value_name = "TEMPLATE", default_value = project::templates()[0].0, value_parser = template())]
    pub template: String,
}

#[derive(Args)]
pub struct BuildArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct RunArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Where it answers (else on 127.0.0.1 at the port of windlass.toml)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Builds anew when a source changes, and leads requests to the new build once it is ready
    #[arg(long)]
    pub watch: bool,
    /// Machine-readable output: one object a line (ready, log, notice, ended)
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    pub fn show(&self) -> Show {
        Show::of(self.json)
    }
}

#[derive(Args)]
pub struct DeployArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Where its objects are (else the namespace of the kubeconfig's context)
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The cluster (else KUBECONFIG, the default data folder's, ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long it may take until all of it runs
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Takes over fields that somebody else has set
    #[arg(long)]
    pub force_conflicts: bool,
    /// Shows what would change, and changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Prints the manifests, without asking a cluster
    #[arg(long, short, value_enum, value_name = "FORMAT", requires = "dry_run")]
    pub output: Option<Format>,
    /// Machine-readable output
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Yaml,
    Json,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Copies a WASM file, an OCI layout folder or an image archive to the nodes under an image name
    Import(ImportArgs),
    /// Tells what an image on a node is, and what decided so
    Inspect(InspectOnNodeArgs),
    /// Lists the WASM images of the nodes
    List(NodesArgs),
    /// Removes an image that no pod uses from the nodes
    Remove(RemoveArgs),
}

#[derive(Args)]
pub struct PushArgs {
    /// The image's name with its registry, such as example.com/shop/cart:v1, or
    /// windlass.local/shop/cart:v1 in the cluster's own, where shop is a namespace
    pub name: String,
    /// A .wasm file, or a project's folder, which is built first
    #[arg(default_value = ".")]
    pub source: PathBuf,
    /// As an ordinary image, for containerd, Docker and crun, instead of a CNCF artifact
    #[arg(long)]
    pub compat: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Args)]
pub struct PullArgs {
    /// The image's name with its registry, such as example.com/shop/cart:v1
    pub name: String,
    /// The file to write (else the last part of the name, with .wasm)
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Writes over a file that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Args)]
pub struct InspectArgs {
    /// A .wasm file, an OCI layout folder, an image archive, or an image's name with its registry
    pub source: String,
    /// Prints the bill of materials that the component carries (CycloneDX, as JSON), and no more
    #[arg(long)]
    pub sbom: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Args)]
pub struct RegistryArgs {
    /// Mirrors, trust and credentials of image registries, in the form of k3s' registries.yaml
    #[arg(long, value_name = "FILE")]
    pub registries: Option<PathBuf>,
    /// The cluster whose registry windlass.local is (else KUBECONFIG, the default data folder's, ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ImportArgs {
    /// The image's name, such as example.com/shop/cart:v1
    pub name: String,
    /// A .wasm file, an OCI layout folder, or a tar of one (also of `docker save`; .tar or .tar.gz)
    pub file: PathBuf,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

#[derive(Args)]
pub struct RemoveArgs {
    /// The image's name as `windlass image list` shows it
    pub name: String,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

#[derive(Args)]
pub struct InspectOnNodeArgs {
    /// The image's name, such as example.com/shop/cart:v1
    pub name: String,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

/// Which nodes of which cluster.
#[derive(Args)]
pub struct NodesArgs {
    /// This node alone; every Ready node where none is named
    #[arg(long)]
    pub node: Option<String>,
    /// The cluster (else KUBECONFIG, the default data folder's, ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ResetArgs {
    /// The folder to remove
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The Docker engine that ran its containers, as for `up`
    #[arg(long, value_name = "SOCKET", env = "WINDLASS_DOCKER_HOST")]
    pub docker_host: Option<String>,
}

/// What a command that comes to its end waits on.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What the person typed can't be used; the process exits 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What ran for the person ended in failure; the process exits as it did.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended with exit code {exit_code}: {why}")]
pub struct Ended {
    pub name: String,
    pub exit_code: u8,
    pub why: String,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(args) => up::run(&args),
            Command::New(args) => project::new(&args),
            Command::Build(args) => project::build(&args),
            Command::Run(args) => run::run(&args),
            Command::Deploy(args) => deploy::run(&args),
            Command::Push(args) => registry::push(&args),
            Command::Pull(args) => registry::pull(&args),
            Command::Inspect(args) => registry::inspect(&args),
            Command::Image(ImageCommand::Import(args)) => image::import(&args),
            Command::Image(ImageCommand::Inspect(args)) => image::inspect(&args),
            Command::Image(ImageCommand::List(args)) => image::list(&args),
            Command::Image(ImageCommand::Remove(args)) => image::remove(&args),
            Command::Reset(args) => reset::run(&args),
        }
    }
}

fn template() -> PossibleValuesParser {
    let templates = project::templates().into_iter();
    templates.map(|(name, about)| PossibleValue::new(name).help(about)).collect::<Vec<_>>().into()
}

/// `~/.local/share/windlass`.
pub fn default_data_dir() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    home.join(".local/share/windlass")
}

fn state(text: &str) -> Result<State, String> {
    if text == "sled" {
        return Ok(State::Sled);
    }
    let wrong = || format!("{text:?} is neither \"sled\" nor etcd://HOST:PORT[,HOST:PORT...]");
    let members = text.strip_prefix("etcd://").ok_or_else(wrong)?.trim_end_matches('/');
    let members: Vec<String> = members.split(',').map(str::to_owned).collect();
    let is_member = |member: &String| {
        let parts = member.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if members.iter().all(is_member) { Ok(State::Etcd(members)) } else { Err(wrong()) }
}

/// An amount of memory in Kubernetes' notation.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no amount of memory such as 512Mi or 2Gi");
    let amount = text.parse::<Quantity>().map_err(|_| wrong())?;
    u64::try_from(amount.units()).ok().filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn ratio(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from 0 to 1"))
}

/// The machine's host name, as a node is named after it; `node` where it has none that fits.
fn default_node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !name.is_empty() && name.chars().all(fits) { name } else { "node".into() }
}
