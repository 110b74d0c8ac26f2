//! Durable creates through our API against transactions of an etcd on the same disk.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::future::try_join_all;
use kube::{Api, api::PostParams};
use windlass_apiserver_store::{Compare, EtcdStore, Op, Store, Txn};
use windlass_sdk_types::api::core::v1::ConfigMap;
use windlass_tests_e2e::Cluster;

use crate::{
    client::client,
    report::{Figure, Report, percentile},
};

/// Rounds of each, one after the other, so that both have the same neighbours.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 1_200;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let peer = Peer::start(folder.path())?;
    let cluster = Cluster::start()?;
    for (clients, metric) in [(1, "creates_per_s_vs_etcd_1"), (64, "creates_per_s_vs_etcd_64")] {
        let (ours, etcd, bytes) = runtime.block_on(compare(&cluster, &peer, clients))?;
        let how = format!(
            "ConfigMaps created by {clients} client(s) over TLS, a connection each, every create on disk before its answer; stored as {bytes} bytes. Beside it etcd 3.4 on the same disk: transactions (compare absent, put {bytes} bytes and one small key) by as many connections without TLS. Medians of {ROUNDS} alternating rounds of {} s",
            ROUND.as_secs()
        );
        report.add(&Figure {
            bench: "main",
            metric,
            value: ours,
            unit: "/s",
            peer: Some(("etcd", etcd)),
            how: &how,
        })?;
    }
    Ok(())
}

/// Rates of both, and the bytes of one object.
async fn compare(
    cluster: &Cluster,
    peer: &Peer,
    clients: usize,
) -> anyhow::Result<(f64, f64, usize)> {
    let maps = try_join_all((0..clients).map(|_| async {
        anyhow::Ok(Api::<ConfigMap>::default_namespaced(client(cluster).await?))
    }));
    let maps = maps.await?;
    let stores = try_join_all((0..clients).map(|_| peer.connect())).await?;
    let number = AtomicU64::new(0);
    let next = || format!("b{clients}-{}", number.fetch_add(1, Ordering::Relaxed));
    let first = maps[0].create(&PostParams::default(), &config_map(next())).await?;
    let bytes = serde_json::to_vec(&first)?.len();
    let value: Arc<[u8]> = vec![b'x'; bytes].into();
    let (mut ours, mut etcd) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(
            rate(&maps, async |maps: &Api<ConfigMap>| {
                maps.create(&PostParams::default(), &config_map(next())).await.map(drop)?;
                Ok(())
            })
            .await?,
        );
        etcd.push(
            rate(&stores, async |store: &EtcdStore| {
                let key: Arc<str> = format!("/core/configmaps/default/{}", next()).into();
                let compare = vec![Compare { key: key.clone(), mod_revision: 0 }];
                let ops = vec![Op::Put { key, value: value.clone() }];
                store.txn(Txn { compare, ops }).await.map(drop)?;
                Ok(())
            })
            .await?,
        );
    }
    Ok((percentile(&mut ours, 50), percentile(&mut etcd, 50), bytes))
}

/// What all do together in a second.
async fn rate<T>(
    clients: &[T],
    once: impl AsyncFn(&T) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let (began, count) = (Instant::now(), AtomicU64::new(0));
    try_join_all(clients.iter().map(|client| async {
        while began.elapsed() < ROUND {
            once(client).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(count.into_inner() as f64 / began.elapsed().as_secs_f64())
}

fn config_map(name: String) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name);
    map.data = Some(BTreeMap::from([("k".to_owned(), "x".repeat(VALUE_BYTES))]));
    map
}

/// An etcd of the bench's own.
struct Peer {
    address: String,
    child: Child,
}

impl Peer {
    fn start(folder: &std::path::Path) -> anyhow::Result<Self> {
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let (address, peers) = (free()?.to_string(), format!("http://{}", free()?));
        let clients = format!("http://{address}");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--data-dir"]).arg(folder);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self { address, child: child.context("etcd starts")? })
    }

    async fn connect(&self) -> anyhow::Result<EtcdStore> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match EtcdStore::connect_under(vec![self.address.clone()], None, "/bench").await {
                Ok(store) => return Ok(store),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
