//! The authority's certificate in every namespace, whatever is done to it.

use serde_json::json;

use crate::cluster::{ROOT_CA, TestCluster};

#[tokio::test(start_paused = true)]
async fn every_namespace_has_the_certificate() {
    let cluster = TestCluster::new(11).await;
    cluster.namespace("team").await;
    for namespace in ["default", "kube-system", "team"] {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt");
        let data = || async { cluster.get(&path).await.map(|map| map["data"].clone()) };
        let wanted = Some(json!({"ca.crt": ROOT_CA}));
        cluster.until(wanted.clone(), data).await;
        cluster.patch(&path, json!({"data": {"ca.crt": "mine", "more": "x"}})).await;
        cluster.until(wanted.clone(), data).await;
        cluster.delete(&path, "Background").await;
        cluster.until(wanted, data).await;
    }
    cluster.delete("/api/v1/namespaces/team", "Background").await;
    let gone = || async { cluster.get("/api/v1/namespaces/team").await.is_none() };
    cluster.until(true, gone).await;
}
