//! Deployments and ReplicaSets from nothing to available, to another template and back.

use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    cluster::{TestCluster, text},
    node::BROKEN,
};

pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ns/deployments";
pub const SETS: &str = "/apis/apps/v1/namespaces/ns/replicasets";
pub const PODS: &str = "/api/v1/namespaces/ns/pods";

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// What `kubectl rollout status` waits for.
pub async fn rolled_out(cluster: &TestCluster, name: &str) -> bool {
    let path = format!("{DEPLOYMENTS}/{name}");
    let Some(deployment) = cluster.get(&path).await else { return false };
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    let wanted = spec["replicas"].as_i64().unwrap();
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    status["observedGeneration"].as_i64() >= deployment["metadata"]["generation"].as_i64()
        && count("updatedReplicas") == wanted
        && count("replicas") == wanted
        && count("availableReplicas") == wanted
}

async fn show(cluster: &TestCluster, name: &str) -> String {
    let deployment = cluster.get(&format!("{DEPLOYMENTS}/{name}")).await.unwrap();
    let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    let mut out = format!("revision {}\n", text(revision));
    for condition in deployment["status"]["conditions"].as_array().unwrap() {
        let word = |key: &str| text(&condition[key]);
        out += &format!("{}={} {}\n", word("type"), word("status"), word("reason"));
    }
    for set in cluster.list(SETS).await {
        let containers = &set["spec"]["template"]["spec"]["containers"];
        let annotations = &set["metadata"]["annotations"];
        let status = &set["status"];
        out += &format!(
            "set of {}: {} replicas, {} ready, revision {}\n",
            text(&containers[0]["image"]),
            set["spec"]["replicas"],
            status["readyReplicas"].as_i64().unwrap_or(0),
            text(&annotations["deployment.kubernetes.io/revision"]),
        );
    }
    out
}

async fn events(cluster: &TestCluster, reason: &str) -> Vec<String> {
    let events = cluster.list("/api/v1/namespaces/ns/events").await;
    let of_reason = events.iter().filter(|event| event["reason"] == reason);
    let mut messages: Vec<String> = of_reason.map(|event| text(&event["message"])).collect();
    messages.sort();
    messages
}

#[tokio::test(start_paused = true)]
async fn rollout_and_rollback() {
    let cluster = TestCluster::new(1).await;
    cluster.namespace("ns").await;
    cluster.create(DEPLOYMENTS, deployment("web", 3, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    expect![[r#"
        revision 1
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
        set of v1: 3 replicas, 3 ready, revision 1
    "#]]
    .assert_eq(&show(&cluster, "web").await);
    assert_eq!(cluster.node.pods_ever(), 3);

    cluster.patch(&format!("{DEPLOYMENTS}/web"), image("v2")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    expect![[r#"
        revision 2
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
        set of v2: 3 replicas, 3 ready, revision 2
        set of v1: 0 replicas, 0 ready, revision 1
    "#]]
    .assert_eq(&show(&cluster, "web").await);
    assert_eq!(cluster.node.pods_ever(), 6);

    // What `kubectl rollout undo` sends.
    cluster.patch(&format!("{DEPLOYMENTS}/web"), image("v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    expect![[r#"
        revision 3
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
        set of v2: 0 replicas, 0 ready, revision 2
        set of v1: 3 replicas, 3 ready, revision 3
    "#]]
    .assert_eq(&show(&cluster, "web").await);
    assert_eq!(cluster.node.pods_ever(), 9);
    cluster.until(3, || async { cluster.list(PODS).await.len() }).await;
    cluster.until(3, || async { events(&cluster, "SuccessfulDelete").await.len() / 2 }).await;
    let scaled = events(&cluster, "ScalingReplicaSet").await;
    assert!(scaled.len() >= 10, "{scaled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_template_stops_and_is_told() {
    let cluster = TestCluster::new(2).await;
    cluster.namespace("ns").await;
    let mut own = deployment("web", 4, "v1");
    own["spec"]["progressDeadlineSeconds"] = 10.into();
    cluster.create(DEPLOYMENTS, own).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster.patch(&format!("{DEPLOYMENTS}/web"), image(BROKEN)).await;
    let reason = || async {
        let deployment = cluster.get(&format!("{DEPLOYMENTS}/web")).await.unwrap();
        let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap();
        let progressing = conditions.iter().find(|condition| condition["type"] == "Progressing");
        text(&progressing.unwrap()["reason"])
    };
    cluster.until("ProgressDeadlineExceeded".to_owned(), reason).await;
    expect![[r#"
        revision 2
        Available=True MinimumReplicasAvailable
        Progressing=False ProgressDeadlineExceeded
        set of broken: 2 replicas, 0 ready, revision 2
        set of v1: 3 replicas, 3 ready, revision 1
    "#]]
    .assert_eq(&show(&cluster, "web").await);
}

#[tokio::test(start_paused = true)]
async fn late_watches_double_nothing() {
    for (seed, lag_ms) in [(3, 1), (4, 35), (5, 400), (6, 3000)] {
        let cluster = TestCluster::with_late_watches(seed, Duration::from_millis(lag_ms)).await;
        cluster.namespace("ns").await;
        let path = format!("{DEPLOYMENTS}/web");
        cluster.create(DEPLOYMENTS, deployment("web", 12, "v1")).await;
        cluster.until(true, || rolled_out(&cluster, "web")).await;
        assert_eq!(cluster.node.pods_ever(), 12);
        assert_eq!(cluster.list(SETS).await.len(), 1);
        cluster.patch(&path, json!({"spec": {"replicas": 5}})).await;
        cluster.until(5, || async { cluster.list(PODS).await.len() }).await;
        cluster.until(true, || rolled_out(&cluster, "web")).await;
        assert_eq!(cluster.node.pods_ever(), 12);
        cluster.patch(&path, json!({"spec": {"replicas": 9}})).await;
        cluster.until(true, || rolled_out(&cluster, "web")).await;
        assert_eq!(cluster.node.pods_ever(), 16);
        cluster.patch(&path, image("v2")).await;
        cluster.until(true, || rolled_out(&cluster, "web")).await;
        assert_eq!(cluster.node.pods_ever(), 25);
    }
}

#[tokio::test(start_paused = true)]
async fn many_pods() {
    let cluster = TestCluster::new(4).await;
    cluster.namespace("ns").await;
    cluster.create(DEPLOYMENTS, deployment("web", 520, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    assert_eq!(cluster.node.pods_ever(), 520);
}

#[tokio::test(start_paused = true)]
async fn recreate_lets_old_pods_end_first() {
    let cluster = TestCluster::new(5).await;
    cluster.namespace("ns").await;
    let mut own = deployment("web", 2, "v1");
    own["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create(DEPLOYMENTS, own).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster.patch(&format!("{DEPLOYMENTS}/web"), image("v2")).await;
    let images = || async {
        let pods = cluster.list(PODS).await;
        let mut images: Vec<String> =
            pods.iter().map(|pod| text(&pod["spec"]["containers"][0]["image"])).collect();
        images.sort();
        images.dedup();
        assert!(images.len() < 2, "old and new pods run together");
        images
    };
    cluster.until(vec!["v2".to_owned()], images).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
}

#[tokio::test(start_paused = true)]
async fn paused_deployments_wait_and_history_is_bounded() {
    let cluster = TestCluster::new(6).await;
    cluster.namespace("ns").await;
    let mut own = deployment("web", 1, "v1");
    own["spec"]["revisionHistoryLimit"] = 1.into();
    cluster.create(DEPLOYMENTS, own).await;
    for version in ["v2", "v3", "v4"] {
        cluster.until(true, || rolled_out(&cluster, "web")).await;
        cluster.patch(&format!("{DEPLOYMENTS}/web"), image(version)).await;
    }
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster.until(2, || async { cluster.list(SETS).await.len() }).await;
    let path = format!("{DEPLOYMENTS}/web");
    cluster.patch(&path, json!({"spec": {"paused": true}})).await;
    cluster.patch(&path, image("v5")).await;
    let observed = || async {
        let deployment = cluster.get(&path).await.unwrap();
        deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
    };
    cluster.until(true, observed).await;
    assert_eq!(cluster.list(SETS).await.len(), 2);
    cluster.patch(&path, json!({"spec": {"paused": false}})).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    expect![[r#"
        revision 5
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
        set of v4: 0 replicas, 0 ready, revision 4
        set of v5: 1 replicas, 1 ready, revision 5
    "#]]
    .assert_eq(&show(&cluster, "web").await);
}

/// Everything there is, as the server tells it.
async fn history(seed: u64) -> String {
    let cluster = TestCluster::new(seed).await;
    cluster.namespace("ns").await;
    cluster.create(DEPLOYMENTS, deployment("web", 5, "v1")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    cluster.patch(&format!("{DEPLOYMENTS}/web"), image("v2")).await;
    cluster.until(true, || rolled_out(&cluster, "web")).await;
    let mut out = String::new();
    for path in [DEPLOYMENTS, SETS, PODS, "/api/v1/namespaces/ns/events"] {
        for object in cluster.list(path).await {
            out += &format!("{object}\n");
        }
    }
    out
}

#[test]
fn one_seed_is_one_history() {
    // A runtime each: what an earlier run left behind would shift the turns of a later one.
    let run = |seed| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(history(seed))
    };
    let (a, b, c) = (run(7), run(7), run(8));
    let differing = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    assert_eq!(differing, None, "two runs of one seed differ");
    assert_eq!(a.len(), b.len());
    assert!(a != c);
}
