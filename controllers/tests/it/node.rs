//! A node without containers: pods that are bound to it become Ready, pods that are deleted end
//! after a while.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use windlass_sdk_client::{Api, Delete, Informers, Patch};
use windlass_sdk_meta::{Clock, Rng, format_time};
use windlass_sdk_types::{Kind, Pod};

/// How long a pod takes to become Ready, and to end.
const START: Duration = Duration::from_millis(30);
const STOP: Duration = Duration::from_millis(500);
/// Pods of this image never become Ready.
pub const BROKEN: &str = "broken";

#[derive(Default)]
pub struct Node {
    /// Uids of all pods there ever were.
    seen: Mutex<BTreeSet<String>>,
}

impl Node {
    pub fn start(
        client: kube::Client,
        rng: Rng,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let node = Arc::new(Self::default());
        let own = node.clone();
        tokio::spawn(async move {
            let run = own.run(client, rng, clock);
            stop.run_until_cancelled(run).await;
        });
        node
    }

    /// How many pods there ever were.
    pub fn pods_ever(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn run(&self, client: kube::Client, rng: Rng, clock: Arc<dyn Clock>) {
        let api = Api::new(client.clone(), "node");
        let pods = Informers::new(client, rng).of::<Pod>();
        pods.synced().await;
        let mut changes = pods.changes();
        let mut number = 0;
        loop {
            let change = changes.next_change().await;
            let Some(pod) = change.now else { continue };
            if self.seen.lock().unwrap().insert(pod.uid().to_owned()) {
                number += 1;
                tokio::spawn(run_pod(api.clone(), pod.clone(), number, clock.clone()));
            } else if pod.is_deleting() && !change.before.is_some_and(|pod| pod.is_deleting()) {
                tokio::spawn(end_pod(api.clone(), pod.clone()));
            }
        }
    }
}

async fn run_pod(api: Api, pod: Arc<Pod>, number: u32, clock: Arc<dyn Clock>) {
    let (namespace, name) = (pod.namespace(), pod.name());
    // A pod may go at any time: then there is nothing to run.
    if api.bind(namespace, name, pod.uid(), "n1").await.is_err() {
        return;
    }
    tokio::time::sleep(START).await;
    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
    let ready = if image.as_deref() == Some(BROKEN) { "False" } else { "True" };
    let address = format!("127.64.{}.{}", number / 250, number % 250 + 1);
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": format_time(clock.now())}],
    }});
    let patch = Patch::Merge(status).only_uid(pod.uid());
    let _ = api.patch_status::<Pod>(namespace, name, &patch).await;
}

async fn end_pod(api: Api, pod: Arc<Pod>) {
    tokio::time::sleep(STOP).await;
    let how = Delete::only(pod.uid()).now();
    let _ = api.delete::<Pod>(pod.namespace(), pod.name(), &how).await;
}
