use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use expect_test::expect;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{Admission, AdmissionOptions, Authenticator, Authorizer, User};
use windlass_apiserver_schema::NoDescriptions;
use windlass_apiserver_server::{ApiServer, Config};
use windlass_apiserver_store::MemoryStore;
use windlass_sdk_client::{Api, Cluster, Informers, Patch, Select};
use windlass_sdk_meta::Rng;
use windlass_sdk_types::{Event, Kind, Node, Pod};

use crate::Stopped;

/// A cluster on the memory store with its scheduler; returns the administrator's requests.
async fn cluster() -> Api {
    let (clock, rng) = (Arc::new(Stopped), Rng::seeded(1));
    let authorizer = Arc::new(Authorizer::new());
    let server = ApiServer::start(Config {
        store: Arc::new(MemoryStore::new()),
        clock: clock.clone(),
        rng: rng.clone(),
        authenticator: Authenticator::new(
            rustls_pki_types::CertificateDer::from(vec![0]),
            clock.clone(),
        ),
        admission: Admission::new(AdmissionOptions {
            authorizer: authorizer.clone(),
            ..AdmissionOptions::default()
        })
        // The node controller, which would take them away, doesn't run here.
        .without_node_taints(),
        authorizer,
        service_range: (Ipv4Addr::new(127, 96, 0, 0), 20),
        service_endpoint: None,
        kubelet_client: None,
        descriptions: Arc::new(NoDescriptions),
        mounts: Vec::new(),
    })
    .await
    .unwrap();
    let scheduler = User::authenticated("system:kube-scheduler", &[]);
    let client = windlass_sdk_client::client(server.local(scheduler));
    let informers = Informers::new(client.clone(), rng.clone());
    let cluster = Cluster { client, informers, clock, rng };
    tokio::spawn(windlass_scheduler_driver::run(cluster, CancellationToken::new()));
    let admin = User::authenticated("admin", &["system:masters"]);
    let api = Api::new(windlass_sdk_client::client(server.local(admin)), "test");
    let account = json!({ "metadata": { "name": "default", "namespace": "default" } }).to_string();
    let _ =
        api.create(&windlass_sdk_types::ServiceAccount::decode(account.as_bytes()).unwrap()).await;
    api
}

async fn node(api: &Api, name: &str, cpu: &str) {
    let node = json!({ "metadata": { "name": name } }).to_string();
    api.create(&Node::decode(node.as_bytes()).unwrap()).await.unwrap();
    let amounts = json!({ "cpu": cpu, "memory": "8Gi", "pods": "110" });
    let patch = json!({ "status": { "capacity": amounts, "allocatable": amounts } });
    api.patch_status::<Node>("", name, &Patch::Merge(patch)).await.unwrap();
}

async fn pod(api: &Api, name: &str, cpu: &str) {
    let requests = json!({ "requests": { "cpu": cpu } });
    let pod = json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": requests }] },
    });
    api.create(&Pod::decode(pod.to_string().as_bytes()).unwrap()).await.unwrap();
}

/// `pod@node PodScheduled=...` of all pods, once they satisfy the condition.
async fn pods_when(api: &Api, holds: impl Fn(&Pod) -> bool) -> String {
    let start = Instant::now();
    loop {
        let pods = api.list::<Pod>("default", &Select::default()).await.unwrap();
        if pods.iter().all(&holds) || start.elapsed() > Duration::from_secs(30) {
            return pods.iter().map(line).collect::<Vec<_>>().join("\n");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn scheduled(pod: &Pod) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some((found.status.clone(), found.message.clone().unwrap_or_default()))
}

fn line(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    format!("{}@{} {:?}", pod.name(), node.unwrap_or("-"), scheduled(pod))
}

#[tokio::test(start_paused = true)]
async fn schedules_through_the_api() {
    let api = cluster().await;
    pod(&api, "a", "600m").await;
    let waiting = |pod: &Pod| scheduled(pod).is_some_and(|(status, _)| status == "False");
    expect![[r#"a@- Some(("False", "no nodes available to schedule pods"))"#]]
        .assert_eq(&pods_when(&api, waiting).await);
    node(&api, "x", "1").await;
    let bound = |pod: &Pod| scheduled(pod).is_some_and(|(status, _)| status == "True");
    expect![[r#"a@x Some(("True", ""))"#]].assert_eq(&pods_when(&api, bound).await);
    pod(&api, "b", "600m").await;
    let tried = |pod: &Pod| scheduled(pod).is_some();
    expect![[r#"
        a@x Some(("True", ""))
        b@- Some(("False", "0/1 nodes are available: 1 Insufficient cpu."))"#]]
    .assert_eq(&pods_when(&api, tried).await);
    api.delete::<Pod>("default", "a", &windlass_sdk_client::Delete::default().now()).await.unwrap();
    expect![[r#"b@x Some(("True", ""))"#]].assert_eq(&pods_when(&api, bound).await);

    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = api.list::<Event>("default", &Select::default()).await.unwrap();
    let mut told: Vec<String> = events
        .iter()
        .map(|event| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} {}: {}", text(&event.type_), text(&event.reason), text(&event.message))
        })
        .collect();
    told.sort();
    expect![[r#"
        Normal Scheduled: Successfully assigned default/a to x
        Normal Scheduled: Successfully assigned default/b to x
        Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.
        Warning FailedScheduling: no nodes available to schedule pods"#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn binds_at_once() {
    let api = cluster().await;
    node(&api, "x", "64").await;
    // Virtual time stands still while anything can be done: a pod is bound before it moves by 1 ms.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for at in 0..20 {
        pod(&api, &format!("p{at}"), "100m").await;
    }
    let start = Instant::now();
    let bound = |pod: &Pod| scheduled(pod).is_some_and(|(status, _)| status == "True");
    let told = pods_when(&api, bound).await;
    assert_eq!(told.lines().filter(|line| line.contains("@x")).count(), 20, "{told}");
    assert!(start.elapsed() < Duration::from_millis(5), "{:?}", start.elapsed());
}
