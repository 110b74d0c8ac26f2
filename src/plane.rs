//! The control plane of this process: store, API server, scheduler, controllers. Each component
//! reaches the server through its own identity, which the server authorises like anybody's.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{
    Admission, AdmissionOptions, Authenticator, Authorizer, Tokens, User,
    pki::{self, Authority, KUBELET_CLIENT},
};
use windlass_apiserver_schema::Descriptions;
use windlass_apiserver_server::{ApiServer, Config};
use windlass_apiserver_store::{EtcdStore, SledStore, Store};
use windlass_controllers::{ROOT_CA_PUBLISHER, publish_root_ca};
use windlass_runtime_net::Blocks;
use windlass_sdk_client::{Cluster, Informers};
use windlass_sdk_meta::{Clock, Rng};

use crate::{
    cli::{State, UpArgs},
    distribution::ClusterRegistry,
    files,
};

/// The namespace of the controllers' service accounts.
const SYSTEM: &str = "kube-system";
/// Whose eyes the shared informers are: upstream's name for all controllers together.
const READER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
/// Port of the `kubernetes` Service's endpoint.
const SERVICE_ENDPOINT_PORT: u16 = 6443;

/// The texts of `kubectl explain`: the schema crate has none of its own.
struct Texts;

impl Descriptions for Texts {
    fn type_description(&self, type_name: &str) -> Option<&str> {
        windlass_sdk_types::Descriptions.type_description(type_name)
    }

    fn field_description(&self, type_name: &str, json_field: &str) -> Option<&str> {
        windlass_sdk_types::Descriptions.field_description(type_name, json_field)
    }
}

/// What the rest of the process needs of the control plane.
pub struct ControlPlane {
    pub server: Arc<ApiServer>,
    pub clock: Arc<dyn Clock>,
    pub rng: Rng,
    informers: Informers,
    /// The certificate that pods trust the API server by.
    root_ca: String,
}

async fn open_store(args: &UpArgs) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &args.store {
        State::Sled => Arc::new(SledStore::open(&args.data_dir.join("store"))?),
        State::Etcd(members) => {
            let tls = args.etcd_cafile.as_deref().map(|authority| {
                let files = args.etcd_certfile.as_deref().zip(args.etcd_keyfile.as_deref());
                pki::client_config_of_files(authority, files)
            });
            Arc::new(EtcdStore::connect(members.clone(), tls.transpose()?).await?)
        }
    })
}

impl ControlPlane {
    /// Opens the store and starts the API server; nothing listens yet.
    pub async fn start(
        args: &UpArgs,
        authority: &Authority,
        blocks: &Blocks,
        clock: Arc<dyn Clock>,
        rng: Rng,
        registry: &ClusterRegistry,
    ) -> anyhow::Result<Self> {
        let kubelet_client = authority
            .client_config(&authority.issue_client(KUBELET_CLIENT, &["system:masters"])?)?;
        let authorizer = Arc::new(Authorizer::new());
        let tokens =
            Tokens::open_or_create(&args.data_dir.join("pki"), clock.clone(), rng.clone())?;
        let authenticator = Authenticator::new(authority.certificate_der().clone(), clock.clone());
        let server = ApiServer::start(Config {
            store: open_store(args).await?,
            clock: clock.clone(),
            rng: rng.clone(),
            authenticator: authenticator.with_tokens(Arc::new(tokens)),
            admission: Admission::new(AdmissionOptions {
                not_ready_toleration_seconds: args.default_not_ready_toleration_seconds,
                unreachable_toleration_seconds: args.default_unreachable_toleration_seconds,
                mount_tokens: Some(rng.clone()),
                authorizer: authorizer.clone(),
            }),
            authorizer,
            service_range: (blocks.services.first(), blocks.services.prefix()),
            service_endpoint: Some(service_endpoint(blocks)),
            kubelet_client: Some(Arc::new(kubelet_client)),
            descriptions: Arc::new(Texts),
            mounts: vec![registry.mount()],
        })
        .await?;
        let reader = windlass_sdk_client::client(server.local(User::authenticated(READER, &[])));
        let informers = Informers::new(reader, rng.clone());
        let root_ca = authority.certificate_pem().to_owned();
        Ok(Self { server, clock, rng, informers, root_ca })
    }

    /// Listens on `--listen` and where the `kubernetes` Service leads.
    pub async fn serve(
        &self,
        listener: TcpListener,
        authority: &Authority,
        blocks: &Blocks,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let names = names(listener.local_addr()?, blocks);
        let tls = Arc::new(authority.server_config(&authority.issue_server(&names)?)?);
        let endpoint = service_endpoint(blocks);
        let second = TcpListener::bind(endpoint).await.with_context(|| {
            format!("can't listen on {endpoint}, where the kubernetes Service leads")
        })?;
        for listener in [listener, second] {
            let server = self.server.clone();
            let (tls, shutdown) = (tls.clone(), shutdown.clone());
            tasks.spawn(async move {
                if let Err(error) = server.serve(listener, tls, shutdown).await {
                    tracing::error!(%error, "a listener of the API server ended");
                }
            });
        }
        Ok(())
    }

    /// Starts scheduler and controllers.
    pub fn run_components(&self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let scheduler = self.cluster(User::authenticated(SCHEDULER, &[]));
        let scheduler = tasks.spawn(windlass_scheduler_driver::run(scheduler, shutdown.clone()));
        self.watch("scheduler", vec![("scheduler", scheduler)]);
        let controllers = windlass_controllers::all().into_iter().map(|row| {
            let cluster = self.cluster(User::service_account(SYSTEM, row.name));
            (row.name, tasks.spawn((row.run)(cluster, shutdown.clone())))
        });
        self.watch("controller-manager", controllers.collect());
        let cluster = self.cluster(User::service_account(SYSTEM, ROOT_CA_PUBLISHER));
        tasks.spawn(publish_root_ca(cluster, self.root_ca.clone(), shutdown.clone()));
    }

    /// A component does its work while none of its tasks has ended.
    fn watch(&self, component: &'static str, tasks: Vec<(&'static str, AbortHandle)>) {
        let health = move || match tasks.iter().find(|(_, task)| task.is_finished()) {
            Some((name, _)) => Err(format!("{name} has ended")),
            None => Ok(()),
        };
        self.server.set_component(component, Arc::new(health));
    }

    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// What a component works with: a client of its own identity, the shared informers.
    pub fn cluster(&self, user: User) -> Cluster {
        let client = windlass_sdk_client::client(self.server.local(user));
        Cluster {
            client,
            informers: self.informers.clone(),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
        }
    }

    /// The same with informers of its own, for whoever may not see everything.
    pub fn private_cluster(&self, user: User) -> Cluster {
        let cluster = self.cluster(user);
        let informers = self.informers.beside(cluster.client.clone());
        Cluster { informers, ..cluster }
    }
}

/// The kubeconfig of the cluster's administrator, mode 0600.
pub fn write_kubeconfig(
    path: &Path,
    listen: SocketAddr,
    authority: &Authority,
) -> anyhow::Result<()> {
    let admin = authority.issue_client("kubernetes-admin", &["system:masters"])?;
    let reachable = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port())
        }
        _ => listen,
    };
    let text =
        pki::kubeconfig(&format!("https://{reachable}"), authority.certificate_pem(), &admin);
    files::write_private(path, text.as_bytes())
}

/// The last address of the service block, which is never allocated otherwise.
fn service_endpoint(blocks: &Blocks) -> SocketAddr {
    SocketAddr::new(blocks.services.last().into(), SERVICE_ENDPOINT_PORT)
}

/// Every name under which the API server is called.
fn names(listen: SocketAddr, blocks: &Blocks) -> Vec<String> {
    let services = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses = [
        listen.ip(),
        Ipv4Addr::LOCALHOST.into(),
        blocks.services.nth(1).into(),
        blocks.services.last().into(),
    ];
    let mut names: Vec<String> = services.map(String::from).into();
    names.push("localhost".into());
    names.extend(addresses.map(|address| address.to_string()));
    names.sort();
    names.dedup();
    names
}
