//! `windlass up`: a whole cluster in this process. Starts the parts in the order in which they
//! need each other, says when it is ready, and ends them in reverse.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{User, pki::Authority};
use windlass_runtime_net::{Block, Blocks, Routes};
use windlass_sdk_meta::{Clock, Rng, SystemClock};

use crate::{
    cli::{Network, UpArgs, UsageError},
    demo,
    distribution::ClusterRegistry,
    files,
    node::NodeAgent,
    plane::{ControlPlane, write_kubeconfig},
};

/// Everything has to end within this after SIGTERM; what has not is cut.
const STOP: Duration = Duration::from_millis(4500);

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &UpArgs) -> anyhow::Result<()> {
    serve(up(args))
}

/// Waits for what serves, on threads that answer also while guests compute on every core.
pub fn serve(serving: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .on_thread_start(windlass_runtime_wasm::be_prompt)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serving);
    // What still blocks (a compile, a look-up of a name) is left behind.
    runtime.shutdown_background();
    result
}

async fn up(args: &UpArgs) -> anyhow::Result<()> {
    allow_many_descriptors();
    let shutdown = shutdown_on_signal()?;
    let data_dir = &args.data_dir;
    fs::create_dir_all(data_dir).with_context(|| format!("can't make {}", data_dir.display()))?;
    fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700))?;
    let _lock = files::lock(data_dir, "stop that one, or use another --data-dir")?;
    let (clock, rng): (Arc<dyn Clock>, Rng) = (Arc::new(SystemClock), Rng::from_system());
    let (blocks, _routes) = addresses(args, &rng)?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!("can't listen on {}: choose another address by --listen", args.listen)
    })?;
    let listen = listener.local_addr()?;
    let authority = Authority::open_or_create(&data_dir.join("pki"), clock.clone())?;
    let kubeconfig = data_dir.join("kubeconfig");
    write_kubeconfig(&kubeconfig, listen, &authority)?;

    let mut tasks = JoinSet::new();
    let registry = ClusterRegistry::open(args, &rng)?;
    let plane = ControlPlane::start(args, &authority, &blocks, clock, rng, &registry).await?;
    plane.serve(listener, &authority, &blocks, &mut tasks, &shutdown).await?;
    plane.run_components(&mut tasks, &shutdown);
    let node = NodeAgent::start(args, &plane, &authority, &blocks, registry, &mut tasks, &shutdown)
        .await?;
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = node.ready() => {
            println!("ready  https://{listen}  export KUBECONFIG={}", kubeconfig.display());
            if args.demo {
                let admin = plane.cluster(User::authenticated("kubernetes-admin", &["system:masters"]));
                demo::deploy(&admin.api("windlass-demo"), &kubeconfig).await?;
            }
        }
    }

    // A part that ends by itself has failed, but the others go on: pods keep serving.
    shutdown.cancelled().await;
    tracing::info!("stopping");
    let ended = async {
        while tasks.join_next().await.is_some() {}
        plane.server.stop();
    };
    if tokio::time::timeout(STOP, ended).await.is_err() {
        tracing::warn!(within = ?STOP, "some parts did not end in time and were cut");
    }
    Ok(())
}

/// The addresses of this node's pods and of services, which are the machine's own for as long as the
/// routes are there.
fn addresses(args: &UpArgs, rng: &Rng) -> anyhow::Result<(Blocks, Option<Routes>)> {
    let (pods, services) = (args.pod_range, args.service_range);
    match args.network {
        Network::Loopback => Ok((Blocks::claim(&args.data_dir, rng)?, None)),
        Network::Routed => {
            let loopback = |range: Block| range.first().is_loopback();
            if pods.overlaps(services) || loopback(pods) || loopback(services) {
                let why = format!(
                    "--pod-range {pods} and --service-range {services} must be apart from each \
                     other and from 127.0.0.0/8"
                );
                return Err(UsageError(why).into());
            }
            let blocks = Blocks::claim_routed(&args.data_dir, pods, services, rng)?;
            let routes = Routes::add(&blocks, &[pods, services])?;
            Ok((blocks, Some(routes)))
        }
    }
}

/// Each pod that listens takes a descriptor, and many systems give a process 1,024 unless it asks.
fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

/// Cancelled by the first SIGTERM or SIGINT.
pub fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(shutdown)
}
