//! What bounds pods and volumes: quotas, disruption budgets, and the protection of what is in use.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{TestCluster, text};

const PODS: &str = "/api/v1/namespaces/team/pods";

fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i:1"}]});
    let (Value::Object(into), Value::Object(from)) = (&mut spec, more) else { panic!("objects") };
    into.extend(from);
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_what_is_there_and_what_comes_and_goes() {
    let cluster = TestCluster::new(21).await;
    cluster.namespace("team").await;
    cluster.create(PODS, pod("early", json!({}))).await;
    let quotas = "/api/v1/namespaces/team/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "4"}}});
    cluster.create(quotas, quota).await;
    let path = format!("{quotas}/q");
    let used = || async {
        let quota = cluster.get(&path).await.unwrap_or_default();
        text(&quota["status"]["used"]["pods"])
    };
    cluster.until("1".to_owned(), used).await;
    cluster.create(PODS, pod("late", json!({}))).await;
    assert_eq!(used().await, "2");
    cluster.delete(&format!("{PODS}/early"), "Background").await;
    cluster.until("1".to_owned(), used).await;
    cluster.patch(&path, json!({"spec": {"hard": {"configmaps": "9"}}})).await;
    let counted = || async {
        let quota = cluster.get(&path).await.unwrap_or_default();
        quota["status"]["used"].clone()
    };
    // The root certificate is one.
    cluster.until(json!({"pods": "1", "configmaps": "1"}), counted).await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_follows_its_pods_and_holds_evictions_back() {
    let cluster = TestCluster::new(22).await;
    cluster.namespace("team").await;
    let labels = json!({"app": "a"});
    let template = json!({"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": labels}, "template": template}});
    cluster.create("/apis/apps/v1/namespaces/team/deployments", deployment).await;
    let budgets = "/apis/policy/v1/namespaces/team/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"},
        "spec": {"maxUnavailable": "40%", "selector": {"matchLabels": labels}}});
    cluster.create(budgets, budget).await;
    let path = format!("{budgets}/b");
    let status = || async {
        let status = cluster.get(&path).await.unwrap_or_default()["status"].clone();
        ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
            .map(|name| status[name].as_i64().unwrap_or(-1))
    };
    cluster.until([3, 1, 3, 2], status).await;
    let names = cluster.names(PODS).await;
    let evict = |name: &str| json!({"metadata": {"name": name}});
    let first = format!("{PODS}/{}/eviction", names[0]);
    cluster.create(&first, evict(&names[0])).await;
    let evicted = format!("{PODS}/{}", names[0]);
    cluster.until(true, || async { cluster.get(&evicted).await.is_none() }).await;
    // It is made again, and everything is as it was.
    cluster.until([3, 1, 3, 2], status).await;
}

#[tokio::test(start_paused = true)]
async fn claims_stay_while_pods_use_them() {
    let cluster = TestCluster::new(23).await;
    cluster.namespace("team").await;
    let claims = "/api/v1/namespaces/team/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create(claims, claim).await;
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    cluster.create(PODS, pod("p", volumes)).await;
    let path = format!("{claims}/c");
    cluster.delete(&path, "Background").await;
    let there = || async { cluster.get(&path).await.is_some() };
    // Time is paused: this is as long as everything that is going to happen takes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(there().await, "the pod still has it");
    cluster.delete(&format!("{PODS}/p"), "Background").await;
    cluster.until(false, there).await;
}
