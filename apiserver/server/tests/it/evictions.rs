//! Evictions over HTTP, and the warning of kinds that nothing acts on.

use expect_test::expect;

use crate::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A cluster in which pods can be made.
async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    let account =
        r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#;
    assert_eq!(cluster.run(account).await.code, 201);
    cluster
}

/// A bound pod that is ready.
async fn running(cluster: &Cluster, name: &str) {
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"a":"b"}}}},"spec":{{"nodeName":"n","containers":[{{"name":"c","image":"i:1"}}]}}}}"#
    );
    assert_eq!(cluster.run(&format!("POST {PODS} {body}")).await.code, 201);
    let status =
        r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    let answer = cluster.run(&format!("PATCH {PODS}/{name}/status merge {status}")).await;
    assert_eq!(answer.code, 200);
}

fn evict(name: &str, more: &str) -> String {
    format!(
        r#"POST {PODS}/{name}/eviction {{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{name}"}}{more}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_evictions_back() {
    let cluster = cluster().await;
    for name in ["p", "q"] {
        running(&cluster, name).await;
    }
    let budget = format!(
        r#"POST {BUDGETS} {{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{{"name":"x"}},"spec":{{"minAvailable":1,"selector":{{"matchLabels":{{"a":"b"}}}}}}}}"#
    );
    let says = |allowed: u8| {
        format!(
            r#"PATCH {BUDGETS}/x/status merge {{"status":{{"observedGeneration":1,"disruptionsAllowed":{allowed},"currentHealthy":1,"desiredHealthy":1}}}}"#
        )
    };
    let dry = evict("p", r#","deleteOptions":{"dryRun":["All"]}"#);
    let other = evict("p", r#","deleteOptions":{"preconditions":{"uid":"other"}}"#);
    let none = evict("nope", "");
    let wrong = format!(r#"POST {PODS}/q/eviction {{"metadata":{{"name":"p"}}}}"#);
    let (p, q, none_allowed, one_allowed) = (evict("p", ""), evict("q", ""), says(0), says(1));
    let pod = format!("GET {PODS}/p");
    let script: [&str; 12] =
        [&budget, &p, &none_allowed, &p, &one_allowed, &wrong, &none, &dry, &p, &q, &pod, &other];
    cluster.session(&script, expect![[r#"
        POST /apis/policy/v1/namespaces/default/poddisruptionbudgets {"apiVersion":"policy/v1","ki
            201 PodDisruptionBudget x +6
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.
        PATCH /apis/policy/v1/namespaces/default/poddisruptionbudgets/x/status merge {"status":{"o
            200 PodDisruptionBudget x +7
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.
        PATCH /apis/policy/v1/namespaces/default/poddisruptionbudgets/x/status merge {"status":{"o
            200 PodDisruptionBudget x +8
        POST /api/v1/namespaces/default/pods/q/eviction {"metadata":{"name":"p"}}
            400 BadRequest: name in URL does not match name in Eviction object
        POST /api/v1/namespaces/default/pods/nope/eviction {"apiVersion":"policy/v1","kind":"Evict
            404 NotFound: pods "nope" not found
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            201 Success
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            201 Success
        POST /api/v1/namespaces/default/pods/q/eviction {"apiVersion":"policy/v1","kind":"Eviction
            429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.
        GET /api/v1/namespaces/default/pods/p
            200 Pod p +11
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            409 Conflict: Operation cannot be fulfilled on Pod "p": the UID in the precondition (other) does not match the UID in record (UID). The object might have been deleted and then recreated
    "#]]).await;
    let pod = cluster.get(&format!("{PODS}/p")).await;
    expect![[r#"30 {"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI","message":"Eviction API: evicting","lastTransitionTime":"2026-11-23T17:20:00Z"}"#]].assert_eq(&format!(
        "{} {}",
        pod["metadata"]["deletionGracePeriodSeconds"], pod["status"]["conditions"][1]
    ));
    let budget = cluster.get(&format!("{BUDGETS}/x")).await;
    expect![[r#"{"observedGeneration":1,"disruptionsAllowed":0,"currentHealthy":1,"desiredHealthy":1,"expectedPods":0,"conditions":[{"type":"DisruptionAllowed","status":"False","reason":"InsufficientPods","message":"","observedGeneration":1,"lastTransitionTime":"2026-11-23T17:20:00Z"}],"disruptedPods":{"p":"2026-11-23T17:20:00Z"}}"#]].assert_eq(&format!("{}", budget["status"]));
    let answer = cluster.run(&evict("q", "")).await;
    expect![[r#"{"causes":[{"reason":"DisruptionBudget","message":"The disruption budget x needs 1 healthy pods and has 1 currently"}]}"#]].assert_eq(&answer.json()["details"].to_string());
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_budget_just_go() {
    let cluster = cluster().await;
    running(&cluster, "p").await;
    let body = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i:1"}]}}"#;
    let unbound = format!("POST {PODS} {body}");
    let short = evict("p", r#","deleteOptions":{"gracePeriodSeconds":3}"#);
    let (gone, list) = (evict("q", ""), format!("GET {PODS}"));
    let script: [&str; 4] = [&unbound, &short, &gone, &list];
    cluster
        .session(
            &script,
            expect![[r#"
        POST /api/v1/namespaces/default/pods {"apiVersion":"v1","kind":"Pod","metadata":{"name":"q
            201 Pod q +4
        POST /api/v1/namespaces/default/pods/p/eviction {"apiVersion":"policy/v1","kind":"Eviction
            201 Success
        POST /api/v1/namespaces/default/pods/q/eviction {"apiVersion":"policy/v1","kind":"Eviction
            201 Success
        GET /api/v1/namespaces/default/pods
            200 PodList [p]
    "#]],
        )
        .await;
    let pod = cluster.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 3);
}

#[tokio::test(start_paused = true)]
async fn writes_of_what_nothing_acts_on_warn() {
    let cluster = cluster().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let body = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i:1"}]}}}}"#;
    let lines = [
        format!("POST {jobs} {body}"),
        format!(r#"PATCH {jobs}/j merge {{"spec":{{"parallelism":2}}}}"#),
        format!(r#"PATCH {jobs}/j/status merge {{"status":{{"active":1}}}}"#),
        format!("DELETE {jobs}/j"),
        "GET /apis/scheduling.k8s.io/v1/priorityclasses".to_owned(),
    ];
    let script: Vec<&str> = lines.iter().map(String::as_str).collect();
    cluster.session(&script, expect![[r#"
        POST /apis/batch/v1/namespaces/default/jobs {"apiVersion":"batch/v1","kind":"Job","metadat
            201 Job j +2 | 299 - "no controller acts on Job objects in this version of Windlass: they are only stored"
        PATCH /apis/batch/v1/namespaces/default/jobs/j merge {"spec":{"parallelism":2}}
            200 Job j +3 | 299 - "no controller acts on Job objects in this version of Windlass: they are only stored"
        PATCH /apis/batch/v1/namespaces/default/jobs/j/status merge {"status":{"active":1}}
            200 Job j +4
        DELETE /apis/batch/v1/namespaces/default/jobs/j
            200 Job j +5 | 299 - "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
        GET /apis/scheduling.k8s.io/v1/priorityclasses
            200 PriorityClassList [system-cluster-critical system-node-critical]
    "#]]).await;
}
