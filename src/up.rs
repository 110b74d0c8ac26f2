//! `windlass up`: a whole cluster in this process. Starts the parts in the order in which they
//! need each other, says when it is ready, and ends them in reverse.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{
    Admission, AdmissionOptions, Authenticator, Authorizer, User,
    pki::{self, Authority},
};
use windlass_apiserver_registry::Registry;
use windlass_apiserver_server::{ApiServer, Config};
use windlass_apiserver_store::SledStore;
use windlass_runtime_net::{Blocks, PodNet};
use windlass_sdk_client::{Cluster, Informers};
use windlass_sdk_meta::{Clock, Rng, SystemClock};

use crate::{cli::UpArgs, demo, node};

/// Everything has to end within this after SIGTERM; what has not is cut.
const STOP_SECONDS: u64 = 4;

/// Runs until SIGTERM or SIGINT.
pub fn run(args: UpArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(up(&args));
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn up(args: &UpArgs) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let data_dir = &args.data_dir;
    fs::create_dir_all(data_dir).with_context(|| format!("can't make {}", data_dir.display()))?;
    fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700))?;
    let _lock = lock(data_dir)?;
    let (clock, rng): (Arc<dyn Clock>, Rng) = (Arc::new(SystemClock), Rng::from_system());
    let blocks = Blocks::claim(data_dir, &rng)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("can't listen on {} (--listen)", args.listen))?;
    let listen = listener.local_addr()?;
    let authority = Authority::open_or_create(&data_dir.join("pki"), clock.clone())?;

    let plane = ControlPlane::start(args, &authority, &blocks, clock.clone(), rng.clone()).await?;
    let tls = Arc::new(authority.server_config(&authority.issue_server(&names(listen, &blocks))?)?);
    let mut tasks = JoinSet::new();
    tasks.spawn(plane.server.clone().serve(listener, tls.clone(), shutdown.clone()));
    tasks.spawn(plane.server.clone().serve(
        TcpListener::bind(service_endpoint(&blocks)).await?,
        tls,
        shutdown.clone(),
    ));
    write_kubeconfig(data_dir, listen, &authority)?;

    let net = PodNet::loopback(vec![blocks.pods, blocks.services], Default::default(), rng.clone());
    for component in plane.components() {
        tasks.spawn((component.run)(component.cluster, shutdown.clone()));
    }
    let node = node::start(args, &plane, &authority, net, &blocks, shutdown.clone()).await?;
    plane.wait_ready(&args.node_name).await?;
    println!("ready  https://{listen}  KUBECONFIG={}", data_dir.join("kubeconfig").display());
    if args.demo {
        demo::deploy(&plane.client_of(User::authenticated("windlass:demo", &["system:masters"])), data_dir).await?;
    }

    shutdown.cancelled().await;
    tracing::info!("stopping");
    let ended = async {
        node.stop().await;
        while tasks.join_next().await.is_some() {}
        plane.server.stop();
    };
    if tokio::time::timeout(Duration::from_secs(STOP_SECONDS), ended).await.is_err() {
        tracing::warn!(seconds = STOP_SECONDS, "some parts did not end in time and were cut");
    }
    Ok(())
}
