//! What goes when its owner or its namespace goes.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::TestCluster,
    rollout::{DEPLOYMENTS, PODS, SETS, deployment, rolled_out},
};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

async fn with_deployment(seed: u64) -> TestCluster {
    let cluster = TestCluster::new(seed).await;
    cluster.namespace("ns").await;
    cluster.create(DEPLOYMENTS, deployment("web", 2, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster
}

async fn counts(cluster: &TestCluster) -> [usize; 3] {
    let mut counts = [0; 3];
    for (count, path) in counts.iter_mut().zip([DEPLOYMENTS, SETS, PODS]) {
        *count = cluster.list(path).await.len();
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn background() {
    let cluster = with_deployment(1).await;
    cluster.delete(&format!("{DEPLOYMENTS}/web"), "Background").await;
    assert_eq!(counts(&cluster).await[0], 0);
    cluster.until([0, 0, 0], || counts(&cluster)).await;
}

#[tokio::test(start_paused = true)]
async fn foreground() {
    let cluster = with_deployment(2).await;
    cluster.delete(&format!("{DEPLOYMENTS}/web"), "Foreground").await;
    let step = || async {
        let [deployments, sets, pods] = counts(&cluster).await;
        assert!(deployments >= sets && (sets > 0 || pods == 0), "an owner went first");
        [deployments, sets, pods]
    };
    assert_eq!(step().await[0], 1);
    cluster.until([0, 0, 0], step).await;
}

#[tokio::test(start_paused = true)]
async fn orphan() {
    let cluster = with_deployment(3).await;
    cluster.delete(&format!("{DEPLOYMENTS}/web"), "Orphan").await;
    cluster.until(0, || async { counts(&cluster).await[0] }).await;
    let set = cluster.list(SETS).await.remove(0);
    assert!(set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(counts(&cluster).await, [0, 1, 2]);
    // A Deployment with that selector and template takes it over.
    cluster.create(DEPLOYMENTS, deployment("web", 2, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    let set = cluster.list(SETS).await.remove(0);
    assert_eq!(set["metadata"]["ownerReferences"][0]["name"], "web");
    assert_eq!(cluster.node.pods_ever(), 2);
}

#[tokio::test(start_paused = true)]
async fn owners_of_any_kind() {
    let cluster = TestCluster::new(4).await;
    cluster.namespace("ns").await;
    let map = |name: &str, owners: Vec<serde_json::Value>| json!({"metadata": {"name": name, "ownerReferences": owners}});
    let owner = |of: &serde_json::Value, blocks: bool| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": of["metadata"]["name"],
            "uid": of["metadata"]["uid"], "blockOwnerDeletion": blocks})
    };
    let a = cluster.create(MAPS, map("a", vec![])).await;
    let b = cluster.create(MAPS, map("b", vec![])).await;
    let gone = json!({"metadata": {"name": "a", "uid": "another"}});
    cluster.create(MAPS, map("both", vec![owner(&a, false), owner(&b, false)])).await;
    cluster.create(MAPS, map("mistaken", vec![owner(&gone, false)])).await;
    // Nobody owns the first of these, and the second is owned by somebody else's namesake.
    cluster.until(vec!["a", "b", "both"], || names(&cluster)).await;
    cluster.delete(&format!("{MAPS}/a"), "Background").await;
    let owners = || async {
        let both = cluster.get(&format!("{MAPS}/both")).await.unwrap();
        both["metadata"]["ownerReferences"].as_array().unwrap().len()
    };
    cluster.until(1, owners).await;
    // A ring, of which one is deleted in the foreground.
    let x = cluster.create(MAPS, map("x", vec![])).await;
    let y = cluster.create(MAPS, map("y", vec![owner(&x, true)])).await;
    let ring = json!({"metadata": {"ownerReferences": [owner(&y, true)]}});
    cluster.patch(&format!("{MAPS}/x"), ring).await;
    cluster.delete(&format!("{MAPS}/x"), "Foreground").await;
    cluster.until(vec!["b", "both"], || names(&cluster)).await;
}

async fn names(cluster: &TestCluster) -> Vec<&'static str> {
    let all = ["a", "b", "both", "mistaken", "x", "y"];
    let found = cluster.names(MAPS).await;
    all.into_iter().filter(|name| found.iter().any(|own| own == name)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_all_that_is_in_it() {
    let cluster = with_deployment(5).await;
    cluster.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/wait"]}});
    cluster.create(MAPS, held).await;
    cluster.delete("/api/v1/namespaces/ns", "Background").await;
    let remaining = || async {
        let namespace = cluster.get("/api/v1/namespaces/ns").await.unwrap();
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|c| c["type"] == "NamespaceFinalizersRemaining");
        found.and_then(|condition| condition["message"].as_str().map(str::to_owned))
    };
    let message = "Some content in the namespace has finalizers remaining: \
        example.com/wait in 1 resource instances";
    cluster.until(Some(message.to_owned()), remaining).await;
    assert_eq!(counts(&cluster).await, [0, 0, 0]);
    cluster.patch(&format!("{MAPS}/held"), json!({"metadata": {"finalizers": null}})).await;
    cluster.until(true, || async { cluster.get("/api/v1/namespaces/ns").await.is_none() }).await;
    // The name can be used again.
    cluster.namespace("ns").await;
}

/// The controller still sees the namespace that went when another of its name is there.
#[tokio::test(start_paused = true)]
async fn a_successor_keeps_its_content() {
    let cluster = TestCluster::with_late_watches(6, Duration::from_secs(1)).await;
    cluster.namespace("ns").await;
    cluster.delete("/api/v1/namespaces/ns", "Background").await;
    cluster.until(true, || async { cluster.get("/api/v1/namespaces/ns").await.is_none() }).await;
    cluster.create("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await;
    cluster.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(cluster.names(MAPS).await.contains(&"a".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn default_accounts_come_back() {
    let cluster = TestCluster::new(6).await;
    cluster.namespace("ns").await;
    let path = "/api/v1/namespaces/ns/serviceaccounts/default";
    let before = cluster.get(path).await.unwrap();
    cluster.delete(path, "Background").await;
    let renewed = || async {
        let account = cluster.get(path).await;
        account.is_some_and(|own| own["metadata"]["uid"] != before["metadata"]["uid"])
    };
    cluster.until(true, renewed).await;
}
