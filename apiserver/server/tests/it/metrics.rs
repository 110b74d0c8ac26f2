//! metrics.k8s.io over kubelets that answer, that don't, and that aren't there.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use axum::{Json, Router, body::Body, routing::get};
use expect_test::expect;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use windlass_apiserver_access::User;

use crate::network::{Network, kubelet_of};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

fn used(name: &str, nanos: u64) -> Value {
    json!({"name": name, "cpu": {"time": "2026-11-23T10:00:00Z", "usageNanoCores": nanos},
        "memory": {"workingSetBytes": nanos / 100}})
}

/// Two nodes, of which one answers, and three pods, of which one is measured.
async fn cluster(asked: Arc<AtomicU32>) -> Network {
    let network = Network::new().await;
    let pods = json!([{"podRef": {"name": "web", "namespace": "default", "uid": "u-web"},
        "containers": [used("main", 250_000_000), used("side", 1_000)]}]);
    let uid = Arc::new(std::sync::Mutex::new(String::new()));
    let known = uid.clone();
    let summary = move || {
        asked.fetch_add(1, SeqCst);
        let mut pods = pods.clone();
        pods[0]["podRef"]["uid"] = json!(*known.lock().expect("not poisoned"));
        async move { Json(json!({"node": used("", 2_000_000_000), "pods": pods})) }
    };
    let refuse = || async { (StatusCode::INTERNAL_SERVER_ERROR, "no") };
    let good = kubelet_of(&network.ca, Router::new().route("/stats/summary", get(summary))).await;
    let bad = kubelet_of(&network.ca, Router::new().route("/stats/summary", get(refuse))).await;
    let cluster = &network.cluster;
    let mut lines = vec![
        r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#.into(),
    ];
    for (name, address) in [("good", good), ("bad", bad)] {
        let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}});
        lines.push(format!(
            r#"POST /api/v1/nodes {{"metadata":{{"name":"{name}","labels":{{"disk":"fast"}}}}}}"#
        ));
        lines.push(format!(r#"PATCH /api/v1/nodes/{name}/status merge {{"status":{status}}}"#));
    }
    for (name, node) in [("web", "good"), ("new", "good"), ("lost", "bad"), ("waiting", "")] {
        lines.push(format!(
            r#"POST /api/v1/namespaces/default/pods {{"metadata":{{"name":"{name}","labels":{{"app":"{name}"}}}},"spec":{{"nodeName":"{node}","containers":[{{"name":"main","image":"i"}}]}}}}"#
        ));
    }
    for line in lines {
        let answer = cluster.run(&line).await;
        assert!(answer.code < 300, "{line}: {}", answer.summary());
    }
    let web = cluster.get("/api/v1/namespaces/default/pods/web").await;
    *uid.lock().expect("not poisoned") = web["metadata"]["uid"].as_str().expect("a uid").to_owned();
    network
}

#[tokio::test]
async fn metrics_are_what_nodes_measure() {
    let asked = Arc::new(AtomicU32::new(0));
    let network = cluster(asked.clone()).await;
    let namespaced = format!("{METRICS}/namespaces/default/pods");
    network
        .cluster
        .session(
            &[
                &format!("GET {METRICS}/nodes"),
                &format!("GET {METRICS}/nodes/good"),
                &format!("GET {METRICS}/nodes/bad"),
                &format!("GET {METRICS}/nodes?labelSelector=disk%3Dslow"),
                &format!("GET {METRICS}/pods"),
                &format!("GET {namespaced}"),
                &format!("GET {namespaced}?labelSelector=app%3Dweb"),
                &format!("GET {namespaced}?labelSelector=app%3Dnew"),
                &format!("GET {METRICS}/namespaces/other/pods"),
                &format!("GET {namespaced}/web"),
                &format!("GET {namespaced}/new"),
                &format!("GET {namespaced}?fieldSelector=spec.nodeName%3Dgood"),
                &format!("POST {namespaced} {{}}"),
                &format!("GET {METRICS}/pods?watch=1"),
                "GET /apis/metrics.k8s.io/v1/nodes",
            ],
            expect![[r#"
                GET /apis/metrics.k8s.io/v1beta1/nodes
                    200 NodeMetricsList [good]
                GET /apis/metrics.k8s.io/v1beta1/nodes/good
                    200 NodeMetrics good
                GET /apis/metrics.k8s.io/v1beta1/nodes/bad
                    404 NotFound: nodes.metrics.k8s.io "bad" not found
                GET /apis/metrics.k8s.io/v1beta1/nodes?labelSelector=disk%3Dslow
                    200 NodeMetricsList []
                GET /apis/metrics.k8s.io/v1beta1/pods
                    200 PodMetricsList [web]
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods
                    200 PodMetricsList [web]
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dweb
                    200 PodMetricsList [web]
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dnew
                    200 PodMetricsList []
                GET /apis/metrics.k8s.io/v1beta1/namespaces/other/pods
                    200 PodMetricsList []
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods/web
                    200 PodMetrics web
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods/new
                    404 NotFound: pods.metrics.k8s.io "new" not found
                GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods?fieldSelector=spec.nodeName%3Dgoo
                    400 BadRequest: "spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace"
                POST /apis/metrics.k8s.io/v1beta1/namespaces/default/pods {}
                    405 MethodNotAllowed: the server does not allow this method on the requested resource
                GET /apis/metrics.k8s.io/v1beta1/pods?watch=1
                    405 MethodNotAllowed: the server does not allow this method on the requested resource
                GET /apis/metrics.k8s.io/v1/nodes
                    200 NodeMetricsList [good]
            "#]],
        )
        .await;
    // One question served them all.
    assert_eq!(asked.load(SeqCst), 1);
    let answer = network.cluster.get(&format!("{namespaced}/web")).await;
    let mut shown = answer.clone();
    shown["metadata"]["creationTimestamp"] = json!("now");
    expect![[r#"{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{"name":"web","creationTimestamp":"now","namespace":"default","labels":{"app":"web"}},"timestamp":"2026-11-23T10:00:00Z","window":"30s","containers":[{"name":"main","usage":{"cpu":"250m","memory":"2500000"}},{"name":"side","usage":{"cpu":"1000n","memory":"10"}}]}"#]].assert_eq(&shown.to_string());
    let newer = network.cluster.get("/apis/metrics.k8s.io/v1/nodes/good").await;
    assert_eq!(newer["apiVersion"], "metrics.k8s.io/v1");
    assert_eq!(newer["metadata"]["labels"], json!({"disk": "fast"}));
    assert_eq!(newer["metadata"]["resourceVersion"], Value::Null);
    let table = Request::get(format!("{METRICS}/nodes"))
        .header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Body::empty());
    let table = network.cluster.read(table.expect("a request")).await.json();
    assert_eq!(table["rows"][0]["cells"], json!(["good", "2000m", "20000000", "30s"]), "{table:#}");
}

#[tokio::test]
async fn metrics_are_read_by_who_may_view() {
    let network = cluster(Arc::default()).await;
    let binding = json!({"metadata": {"name": "v"}, "subjects": [{"kind": "User", "name": "eve",
        "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"kind": "ClusterRole",
        "name": "view", "apiGroup": "rbac.authorization.k8s.io"}});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let path = format!("{METRICS}/namespaces/default/pods");
    let eve = network.cluster.as_user(User::authenticated("eve", &[]));
    assert_eq!(eve.run(&format!("GET {path}")).await.code, 403);
    assert_eq!(network.cluster.run(&format!("POST {rbac} {binding}")).await.code, 201);
    // A most recent read: the authoriser's view is as new.
    network.cluster.get(rbac).await;
    assert_eq!(eve.run(&format!("GET {path}")).await.code, 200);
    assert_eq!(eve.run(&format!("GET {METRICS}/nodes")).await.code, 403);
}
