use expect_test::expect;
use serde_json::json;
use windlass_sdk_client::{Api, Delete, Patch, Select};
use windlass_sdk_types::{ConfigMap, Kind, Node, Pod, api::core::v1::PodSpec};

use crate::fake::{Answer, Fake};

const CONFLICT: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","message":"Operation cannot be fulfilled","code":409,"details":{"name":"a","kind":"pods"}}"#;

#[tokio::test(start_paused = true)]
async fn requests_and_errors() {
    let answers = [
        Answer::Json(
            201,
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7"}}"#,
        ),
        Answer::Json(409, CONFLICT),
        Answer::Json(200, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#),
        Answer::Json(200, r#"{"kind":"Status","status":"Success"}"#),
        Answer::Json(404, r#"{"reason":"NotFound","message":"nodes \"x\" not found","code":404}"#),
        Answer::Json(201, r#"{"kind":"Status","status":"Success"}"#),
        Answer::Json(200, r#"{"kind":"Pod"}"#),
    ];
    let fake = Fake::new(answers);
    let api = Api::new(fake.client(), "test");
    let mut pod = Pod { spec: Some(PodSpec::default()), ..Pod::default() };
    pod.metadata.name = Some("a".into());
    pod.metadata.namespace = Some("n".into());
    let stored = api.create(&pod).await.unwrap();
    assert_eq!((stored.uid(), stored.resource_version()), ("u", "7"));
    assert!(api.update_status(&stored).await.unwrap_err().is_conflict());
    let patch = Patch::Merge(json!({"status": {"phase": "Running"}})).only_uid("u");
    api.patch_status::<Pod>("n", "a", &patch).await.unwrap();
    api.delete::<Pod>("n", "a", &Delete::only("u").now()).await.unwrap();
    let missing = api.get::<Node>("", "x").await.unwrap_err();
    assert!(missing.is_not_found());
    assert_eq!(missing.to_string(), r#"nodes "x" not found"#);
    api.bind("n", "a", "u", "node-a").await.unwrap();
    assert!(matches!(
        api.get::<ConfigMap>("n", "c").await,
        Err(windlass_sdk_client::Error::Malformed(_))
    ));
    assert!(api.get::<Node>("", "x").await.unwrap_err().is_transient());
    expect![[r#"
        POST /api/v1/namespaces/n/pods application/json {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n"},"spec":{"containers":[]}}
        PUT /api/v1/namespaces/n/pods/a/status application/json {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","resourceVersion":"7","uid":"u"}}
        PATCH /api/v1/namespaces/n/pods/a/status application/merge-patch+json {"status":{"phase":"Running"},"metadata":{"uid":"u"}}
        DELETE /api/v1/namespaces/n/pods/a application/json {"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"u"},"gracePeriodSeconds":0}
        GET /api/v1/nodes/x
        POST /api/v1/namespaces/n/pods/a/binding application/json {"apiVersion":"v1","kind":"Binding","metadata":{"namespace":"n","name":"a","uid":"u"},"target":{"apiVersion":"v1","kind":"Node","name":"node-a"}}
        GET /api/v1/namespaces/n/configmaps/c
        GET /api/v1/nodes/x"#]]
    .assert_eq(&fake.log());
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages() {
    let answers = [
        Answer::Json(
            200,
            r#"{"kind":"PodList","metadata":{"resourceVersion":"5","continue":"t/1"},"items":[{"metadata":{"name":"a"}}]}"#,
        ),
        Answer::Json(
            200,
            r#"{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"b"}}]}"#,
        ),
    ];
    let fake = Fake::new(answers);
    let select = Select { labels: "app in (x,y)".into(), fields: String::new() };
    let pods = Api::new(fake.client(), "test").list::<Pod>("n", &select).await.unwrap();
    assert_eq!(pods.iter().map(Kind::name).collect::<Vec<_>>(), ["a", "b"]);
    expect![[r#"
        GET /api/v1/namespaces/n/pods?limit=500&labelSelector=app%20in%20%28x%2Cy%29
        GET /api/v1/namespaces/n/pods?limit=500&labelSelector=app%20in%20%28x%2Cy%29&continue=t%2F1"#]]
    .assert_eq(&fake.log());
}
