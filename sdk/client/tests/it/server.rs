use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use expect_test::expect;
use serde_json::json;
use windlass_apiserver_access::{Admission, AdmissionOptions, Authenticator, Authorizer, User};
use windlass_apiserver_schema::NoDescriptions;
use windlass_apiserver_server::{ApiServer, Config};
use windlass_apiserver_store::MemoryStore;
use windlass_sdk_client::{Api, Cluster, Delete, EventType, Informers, Patch, Select};
use windlass_sdk_meta::{Clock, Rng, Timestamp};
use windlass_sdk_types::{ConfigMap, Event, Kind, Node};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }
}

/// A cluster on the memory store, as its administrator sees it.
async fn cluster() -> Cluster {
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
        }),
        authorizer,
        service_range: (Ipv4Addr::new(127, 96, 0, 0), 20),
        service_endpoint: None,
        kubelet_client: None,
        descriptions: Arc::new(NoDescriptions),
        mounts: Vec::new(),
    })
    .await
    .unwrap();
    let admin = User::authenticated("admin", &["system:masters"]);
    let client = windlass_sdk_client::client(server.local(admin));
    Cluster { informers: Informers::new(client.clone(), rng.clone()), client, clock, rng }
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("default".into());
    map
}

fn version(map: &ConfigMap) -> u64 {
    map.resource_version().parse().unwrap()
}

async fn get_events(api: &Api) -> Vec<Event> {
    api.list::<Event>("default", &Select::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn writes_and_preconditions() {
    let cluster = cluster().await;
    let api = cluster.api("test");
    let mut first = map("a");
    first.data = Some([("key".into(), "w".into())].into());
    let first = api.create(&first).await.unwrap();
    assert!(api.create(&map("a")).await.unwrap_err().is_already_exists());
    let data = |text: &str| Patch::Merge(json!({ "data": { "key": text } }));
    let fresh = data("x").only_uid(first.uid());
    let second = api.patch::<ConfigMap>("default", "a", &fresh).await.unwrap();
    assert_eq!(second.data.as_ref().unwrap()["key"], "x");
    // Stale versions and other uids are conflicts.
    let stale = data("y").only_version(first.resource_version());
    let errors = [
        api.patch::<ConfigMap>("default", "a", &stale).await.unwrap_err(),
        api.patch::<ConfigMap>("default", "a", &data("y").only_uid("other")).await.unwrap_err(),
        api.update(&first).await.unwrap_err(),
        api.delete::<ConfigMap>("default", "a", &Delete::only("other")).await.unwrap_err(),
    ];
    assert!(errors.iter().all(windlass_sdk_client::Error::is_conflict), "{errors:#?}");
    let listed = api.list::<ConfigMap>("default", &Select::default()).await.unwrap();
    assert!(listed.contains(&second));
    api.delete::<ConfigMap>("default", "a", &Delete::only(first.uid())).await.unwrap();
    assert!(api.get::<ConfigMap>("default", "a").await.unwrap_err().is_not_found());
    let mut homeless = map("a");
    homeless.metadata.namespace = Some("nowhere".into());
    assert!(api.create(&homeless).await.unwrap_err().is_not_found());
    // Who wrote what is recorded under the component's name.
    let managers = second.metadata.managed_fields.unwrap_or_default();
    assert!(managers.iter().any(|entry| entry.manager.as_deref() == Some("test")));
}

#[tokio::test(start_paused = true)]
async fn informers_follow() {
    let cluster = cluster().await;
    let api = cluster.api("test");
    api.create(&map("before")).await.unwrap();
    let maps = cluster.informers.of::<ConfigMap>();
    maps.synced().await;
    assert!(maps.get("default", "before").is_some());
    let mut changes = maps.changes();
    while changes.try_next().is_some() {}
    let created = api.create(&map("after")).await.unwrap();
    maps.reached(version(&created)).await;
    assert_eq!(maps.get("default", "after").unwrap().uid(), created.uid());
    assert_eq!(changes.next().await.to_string(), "default/after");
    api.delete::<ConfigMap>("default", "before", &Delete::default()).await.unwrap();
    let change = changes.next_change().await;
    assert_eq!((change.key.to_string().as_str(), change.now), ("default/before", None));
    assert!(change.before.is_some_and(|map| map.metadata.managed_fields.is_none()));
    // Through watches that end and begin anew.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let late = api.create(&map("late")).await.unwrap();
    maps.reached(version(&late)).await;
    assert_eq!(changes.next().await.to_string(), "default/late");
}

#[tokio::test(start_paused = true)]
async fn events_are_counted() {
    let cluster = cluster().await;
    let (api, recorder) = (cluster.api("test"), cluster.recorder("tester"));
    let mut node = Node::default();
    node.metadata.name = Some("x".into());
    let node = api.create(&node).await.unwrap();
    for _ in 0..5 {
        recorder.record(&node.object_reference(), EventType::Normal, "Ready", "it is ready");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let events = get_events(&api).await;
    let told: Vec<String> = events
        .iter()
        .filter(|event| {
            event
                .source
                .as_ref()
                .is_some_and(|source| source.component.as_deref() == Some("tester"))
        })
        .map(|event| {
            format!(
                "{} {} {} {}",
                event.involved_object.name.as_deref().unwrap_or_default(),
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default(),
                event.count.unwrap_or_default()
            )
        })
        .collect();
    expect![[r#"["x Ready it is ready 5"]"#]].assert_eq(&format!("{told:?}"));
}
