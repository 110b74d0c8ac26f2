//! Endpoints follow pods.

use serde_json::{Value, json};

use crate::{
    cluster::{TestCluster, text},
    rollout::{DEPLOYMENTS, PODS, deployment, rolled_out},
};

const SERVICES: &str = "/api/v1/namespaces/ns/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices";

/// Pods of the Service's endpoints: those ready, and those that are on their way out.
async fn endpoints(cluster: &TestCluster) -> (Vec<String>, Vec<String>) {
    let (mut ready, mut terminating) = (Vec::new(), Vec::new());
    for slice in cluster.list(SLICES).await {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let name = text(&endpoint["targetRef"]["name"]);
            let conditions = &endpoint["conditions"];
            if conditions["ready"] == true {
                ready.push(name.clone());
            }
            if conditions["terminating"] == true {
                terminating.push(name);
            }
        }
    }
    ready.sort();
    (ready, terminating)
}

fn service() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_pods() {
    let cluster = TestCluster::new(1).await;
    cluster.namespace("ns").await;
    cluster.create(SERVICES, service()).await;
    cluster.until(1, || async { cluster.list(SLICES).await.len() }).await;
    cluster.create(DEPLOYMENTS, deployment("web", 3, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    let pods = cluster.names(PODS).await;
    cluster.until((pods.clone(), vec![]), || endpoints(&cluster)).await;
    assert_eq!(cluster.list(SLICES).await.len(), 1);
    // While it ends, a pod is in the slice, but not ready.
    cluster.delete(&format!("{PODS}/{}", pods[0]), "Background").await;
    let going = vec![pods[0].clone()];
    cluster.until(going, || async { endpoints(&cluster).await.1 }).await;
    assert!(!endpoints(&cluster).await.0.contains(&pods[0]));
    cluster.until(3, || async { endpoints(&cluster).await.0.len() }).await;
    assert!(!endpoints(&cluster).await.0.contains(&pods[0]));
    // Without its Service the slice is garbage.
    cluster.delete(&format!("{SERVICES}/web"), "Background").await;
    cluster.until(0, || async { cluster.list(SLICES).await.len() }).await;
}

#[tokio::test(start_paused = true)]
async fn many_endpoints() {
    let cluster = TestCluster::new(2).await;
    cluster.namespace("ns").await;
    cluster.create(SERVICES, service()).await;
    cluster.create(DEPLOYMENTS, deployment("web", 250, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster.until(250, || async { endpoints(&cluster).await.0.len() }).await;
    assert!(cluster.list(SLICES).await.len() >= 3);
}
