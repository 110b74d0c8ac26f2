//! Lists: selectors, chunks, revisions.

use expect_test::expect;

use crate::Cluster;

async fn with_maps(count: usize) -> Cluster {
    let cluster = Cluster::new().await;
    for number in 0..count {
        let even = if number % 2 == 0 { "yes" } else { "no" };
        let line = format!(
            r#"POST /api/v1/namespaces/default/configmaps {{"metadata":{{"name":"m{number}","labels":{{"even":"{even}"}}}}}}"#
        );
        assert_eq!(cluster.run(&line).await.code, 201);
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn selectors_and_revisions() {
    let cluster = with_maps(5).await;
    cluster
        .session(
            &[
                "GET /api/v1/configmaps",
                "GET /api/v1/namespaces/kube-system/configmaps",
                "GET /api/v1/configmaps?labelSelector=even%3Dyes",
                "GET /api/v1/configmaps?labelSelector=even+in+(no)",
                "GET /api/v1/configmaps?labelSelector=even+in+(no",
                "GET /api/v1/configmaps?fieldSelector=metadata.name%3Dm3",
                "GET /api/v1/configmaps?fieldSelector=metadata.namespace!%3Ddefault",
                "GET /api/v1/configmaps?fieldSelector=data.k%3Dv",
                "GET /api/v1/configmaps?limit=2&labelSelector=even%3Dyes",
                                "GET /api/v1/configmaps?resourceVersion=0",
                "GET /api/v1/configmaps?resourceVersionMatch=Exact",
                "GET /api/v1/configmaps?continue=rubbish",
                "GET /api/v1/namespaces?fieldSelector=metadata.name%3Ddefault",
            ],
            expect![[r#"
                GET /api/v1/configmaps
                    200 ConfigMapList [m0 m1 m2 m3 m4]
                GET /api/v1/namespaces/kube-system/configmaps
                    200 ConfigMapList []
                GET /api/v1/configmaps?labelSelector=even%3Dyes
                    200 ConfigMapList [m0 m2 m4]
                GET /api/v1/configmaps?labelSelector=even+in+(no)
                    200 ConfigMapList [m1 m3]
                GET /api/v1/configmaps?labelSelector=even+in+(no
                    400 BadRequest: unable to parse requirement: no ')' in "even in (no"
                GET /api/v1/configmaps?fieldSelector=metadata.name%3Dm3
                    200 ConfigMapList [m3]
                GET /api/v1/configmaps?fieldSelector=metadata.namespace!%3Ddefault
                    200 ConfigMapList []
                GET /api/v1/configmaps?fieldSelector=data.k%3Dv
                    400 BadRequest: "data.k" is not a known field selector: only "metadata.name", "metadata.namespace"
                GET /api/v1/configmaps?limit=2&labelSelector=even%3Dyes
                    200 ConfigMapList [m0 m2] continues
                GET /api/v1/configmaps?resourceVersion=0
                    200 ConfigMapList [m0 m1 m2 m3 m4]
                GET /api/v1/configmaps?resourceVersionMatch=Exact
                    422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
                GET /api/v1/configmaps?continue=rubbish
                    400 BadRequest: continue key is not valid: Invalid last symbol 104, offset 6.
                GET /api/v1/namespaces?fieldSelector=metadata.name%3Ddefault
                    200 NamespaceList [default]
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_future_is_a_timeout() {
    let cluster = with_maps(1).await;
    for url in [
        "/api/v1/configmaps?resourceVersion=1000000",
        "/api/v1/configmaps?resourceVersion=1000000&resourceVersionMatch=Exact",
        "/api/v1/namespaces/default/configmaps/m0?resourceVersion=1000000",
    ] {
        let status = cluster.get(url).await;
        assert_eq!((&status["code"], &status["reason"]), (&504.into(), &"Timeout".into()));
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
    }
}

/// All chunks show the state of the first, whatever happens between.
#[tokio::test(start_paused = true)]
async fn chunks_are_consistent() {
    let cluster = with_maps(300).await;
    let mut seen = Vec::new();
    let mut url = "/api/v1/namespaces/default/configmaps?limit=70".to_owned();
    loop {
        let page = cluster.get(&url).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        seen.extend(items.iter().map(|i| i["metadata"]["name"].as_str().unwrap_or("").to_owned()));
        if seen.len() == 70 {
            assert_eq!(page["metadata"]["remainingItemCount"], 230);
        }
        // Change what has been shown, what has not, and add something.
        for name in ["m0", "m77", "m99"] {
            cluster.run(&format!("DELETE /api/v1/namespaces/default/configmaps/{name}")).await;
        }
        let new = r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"zz"}}"#;
        cluster.run(new).await;
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        url = format!("/api/v1/namespaces/default/configmaps?limit=70&continue={token}");
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn old_tokens_expire_and_can_go_on_anyhow() {
    let cluster = with_maps(6).await;
    let page = cluster.get("/api/v1/configmaps?limit=2").await;
    let token = page["metadata"]["continue"].as_str().expect("a token");
    // Something changes each minute, and after some time the history before it is dropped.
    for minute in 0..12 {
        cluster.clock.advance(60);
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let line = format!(
            r#"POST /api/v1/namespaces/default/configmaps {{"metadata":{{"name":"n{minute}"}}}}"#
        );
        cluster.run(&line).await;
    }
    let answer = cluster.run(&format!("GET /api/v1/configmaps?limit=2&continue={token}")).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (410, &"Expired".into()));
    let status = answer.json();
    let token = status["metadata"]["continue"].as_str().expect("an inconsistent token");
    let answer = cluster.run(&format!("GET /api/v1/configmaps?limit=2&continue={token}")).await;
    expect!["200 ConfigMapList [m2 m3] remaining=14 continues"].assert_eq(&answer.summary());
}

/// Any earlier state within the history is a look-up.
#[tokio::test(start_paused = true)]
async fn exact_states() {
    let cluster = Cluster::new().await;
    let mut states = Vec::new();
    for number in 0..200 {
        let name = format!("m{}", number % 13);
        let url = "/api/v1/namespaces/default/configmaps";
        match number % 3 {
            0 => cluster.run(&format!(r#"POST {url} {{"metadata":{{"name":"{name}"}}}}"#)).await,
            1 => {
                let line = format!(r#"PATCH {url}/{name} merge {{"data":{{"n":"{number}"}}}}"#);
                cluster.run(&line).await
            }
            _ => cluster.run(&format!("DELETE {url}/m{}", (number * 7) % 13)).await,
        };
        let list = cluster.get(url).await;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned();
        states.push((version, list["items"].clone()));
    }
    for (version, items) in states {
        let url = format!(
            "/api/v1/namespaces/default/configmaps?resourceVersion={version}&resourceVersionMatch=Exact"
        );
        assert_eq!(cluster.get(&url).await["items"], items, "at {version}");
    }
}
