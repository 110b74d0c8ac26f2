//! Who is let in, and what is said to who isn't.

use crate::{CONFIG, Desk};

#[tokio::test]
async fn the_base_says_who_one_must_be() {
    let desk = Desk::usual();
    let answer = desk.ask_as(None, "GET /v2/", &[], "").await;
    assert!(answer.header("www-authenticate").starts_with("Basic realm="));
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    answer.refused(401, "UNAUTHORIZED");
    desk.ask_as(Some("bob"), "GET /v2/", &[], "").await.is(200);
    desk.ask("GET /v2", "").await.is(200);
    desk.ask("POST /v2/", "").await.refused(405, "UNSUPPORTED");
}

#[tokio::test]
async fn each_endpoint_asks_for_its_right() {
    let desk = Desk::usual();
    let digest = desk.image("shop/cart", "v1", &[]).await;
    let blob = desk.blob("shop/cart", CONFIG).await;
    let pulls = [
        "GET /v2/shop/cart/manifests/v1".to_owned(),
        "HEAD /v2/shop/cart/manifests/v1".to_owned(),
        format!("GET /v2/shop/cart/blobs/{blob}"),
        "GET /v2/shop/cart/tags/list".to_owned(),
        format!("GET /v2/shop/cart/referrers/{digest}"),
    ];
    for line in &pulls {
        desk.ask_as(Some("eve"), line, &[], "").await.is(200);
        desk.ask_as(None, line, &[], "").await.is(401);
        desk.ask_as(Some("bob"), line, &[], "").await.is(403);
    }
    let changes = [
        "POST /v2/shop/cart/blobs/uploads/".to_owned(),
        "PATCH /v2/shop/cart/blobs/uploads/x".to_owned(),
        "PUT /v2/shop/cart/blobs/uploads/x".to_owned(),
        "GET /v2/shop/cart/blobs/uploads/x".to_owned(),
        "DELETE /v2/shop/cart/blobs/uploads/x".to_owned(),
        "PUT /v2/shop/cart/manifests/v1".to_owned(),
        "DELETE /v2/shop/cart/manifests/v1".to_owned(),
        format!("DELETE /v2/shop/cart/blobs/{blob}"),
    ];
    for line in &changes {
        let said = desk.ask_as(Some("eve"), line, &[], "").await.refused(403, "DENIED");
        assert!(said.starts_with("eve may not") && said.ends_with("shop/cart"), "{line}: {said}");
        desk.ask_as(None, line, &[], "").await.refused(401, "UNAUTHORIZED");
    }
    // A tag that is there is updated, and one that isn't is created.
    let said = desk.ask_as(Some("eve"), "PUT /v2/shop/cart/manifests/v1", &[], "").await;
    assert_eq!(said.refused(403, "DENIED"), "eve may not Update shop/cart");
    let said = desk.ask_as(Some("eve"), "PUT /v2/shop/cart/manifests/v2", &[], "").await;
    assert_eq!(said.refused(403, "DENIED"), "eve may not Create shop/cart");
}

#[tokio::test]
async fn content_of_another_repository_is_not_shown() {
    let desk = Desk::usual();
    let digest = desk.image("secret/plan", "v1", &[b"the plan"]).await;
    let blob = windlass_sdk_package::digest(b"the plan");
    desk.image("shop/cart", "v1", &[]).await;
    let line = format!("GET /v2/shop/cart/blobs/{blob}");
    desk.ask(&line, "").await.refused(404, "BLOB_UNKNOWN");
    let line = format!("GET /v2/shop/cart/manifests/{digest}");
    desk.ask(&line, "").await.refused(404, "MANIFEST_UNKNOWN");
    // Nor does a manifest that names it lead to it.
    let config = desk.part("shop/cart", "x/config", CONFIG).await;
    let stolen = serde_json::json!({"mediaType": "x/layer", "digest": blob, "size": 8});
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [stolen]});
    desk.manifest("shop/cart", "v2", &manifest).await.refused(404, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn what_is_nowhere_is_said() {
    let desk = Desk::usual();
    desk.ask("GET /v2/_catalog", "").await.refused(404, "UNSUPPORTED");
    let said = desk.ask("GET /v2/cart/tags/list", "").await.refused(400, "NAME_INVALID");
    assert!(said.contains("NAMESPACE/NAME"), "{said}");
    desk.ask("GET /v2/shop/cart/tags/list", "").await.refused(404, "NAME_UNKNOWN");
    let answer = desk.ask("PATCH /v2/shop/cart/manifests/v1", "").await;
    assert_eq!(answer.header("allow"), "GET, HEAD, PUT, DELETE");
    answer.refused(405, "UNSUPPORTED");
}
