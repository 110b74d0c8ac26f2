//! Quotas hold at the commit, however many write at once.

use expect_test::expect;
use futures::future::join_all;
use serde_json::json;

use crate::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota of maps whose usage was counted, as its controller would.
async fn bounded(cluster: &Cluster, most: u32) {
    let quota =
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": most.to_string()}}});
    assert_eq!(cluster.run(&format!("POST {QUOTAS} {quota}")).await.code, 201);
    let status =
        json!({"status": {"hard": {"configmaps": most.to_string()}, "used": {"configmaps": "0"}}});
    let answer = cluster.run(&format!("PATCH {QUOTAS}/q/status merge {status}")).await;
    assert_eq!(answer.code, 200);
}

async fn used(cluster: &Cluster) -> String {
    let quota = cluster.get(&format!("{QUOTAS}/q")).await;
    quota["status"]["used"]["configmaps"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn writers_at_once_never_exceed_a_quota() {
    let cluster = Cluster::new().await;
    bounded(&cluster, 7).await;
    let create = |at: usize| {
        let cluster = &cluster;
        async move {
            let body = json!({"metadata": {"name": format!("m{at}")}});
            cluster.run(&format!("POST {MAPS} {body}")).await.code
        }
    };
    let mut codes = join_all((0..40).map(create)).await;
    codes.sort_unstable();
    assert_eq!((codes[..7].to_vec(), codes[7..].to_vec()), (vec![201; 7], vec![403; 33]));
    assert_eq!(used(&cluster).await, "7");
    let list = cluster.get(MAPS).await;
    let names = list["items"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(|map| map["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 7);
    let lines: Vec<_> = names.iter().map(|name| format!("DELETE {MAPS}/{name}")).collect();
    let deletes = lines.iter().map(|line| cluster.run(line));
    assert!(join_all(deletes).await.iter().all(|answer| answer.code == 200));
    assert_eq!(used(&cluster).await, "0");
}

#[tokio::test(start_paused = true)]
async fn what_a_quota_answers() {
    let cluster = Cluster::new().await;
    bounded(&cluster, 1).await;
    let map = |name: &str, query: &str| {
        format!("POST {MAPS}{query} {}", json!({"metadata": {"name": name}}))
    };
    let show = format!("GET {QUOTAS}/q");
    let gone = format!("DELETE {MAPS}/a");
    let (dry, a, again, b) = (map("a", "?dryRun=All"), map("a", ""), map("a", ""), map("b", ""));
    let script: [&str; 7] = [&dry, &a, &again, &b, &gone, &b, &show];
    cluster.session(&script, expect![[r#"
        POST /api/v1/namespaces/default/configmaps?dryRun=All {"metadata":{"name":"a"}}
            201 ConfigMap a
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}
            201 ConfigMap a +3
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}
            403 Forbidden: configmaps "a" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b"}}
            403 Forbidden: configmaps "b" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1
        DELETE /api/v1/namespaces/default/configmaps/a
            200 Success
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b"}}
            201 ConfigMap b +5
        GET /api/v1/namespaces/default/resourcequotas/q
            200 ResourceQuota q +5
    "#]]).await;
}
