//! A namespace that is cleared leaves nothing, and takes nothing of another along.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::{SinkExt, channel::mpsc};
use parking_lot::Mutex;
use serde_json::json;
use windlass_runtime_image::{Credentials, Origin};
use windlass_sdk_distribution::Limits;
use windlass_sdk_package::{MANIFEST_MEDIA_TYPE, digest};

use crate::{COMPONENT, CONFIG, Desk, wait_for};

const CLEAR: &str = "DELETE /v2/_windlass/namespaces/shop";

#[tokio::test]
async fn a_namespace_goes_with_all_of_its_repositories() {
    let desk = Desk::usual();
    desk.image("shop/cart", "v1", &[b"shop's", b"both's"]).await;
    desk.image("shop/till", "v1", &[b"till's"]).await;
    desk.blob("shop/cart", b"unnamed").await;
    desk.blob("shop/cart", b"both's, unnamed").await;
    desk.blob("store/cart", b"both's, unnamed").await;
    desk.image("shop-2/cart", "v1", &[b"both's"]).await;
    desk.ask_as(Some("eve"), CLEAR, &[], "").await.refused(403, "DENIED");
    desk.ask_as(None, CLEAR, &[], "").await.refused(401, "UNAUTHORIZED");
    desk.ask("GET /v2/_windlass/namespaces/shop", "").await.refused(405, "UNSUPPORTED");

    desk.ask(CLEAR, "").await.is(202);
    for repository in ["shop/cart", "shop/till"] {
        let path = format!("GET /v2/{repository}/tags/list");
        desk.ask(&path, "").await.refused(404, "NAME_UNKNOWN");
        let path = format!("GET /v2/{repository}/manifests/v1");
        desk.ask(&path, "").await.refused(404, "MANIFEST_UNKNOWN");
    }
    let blob =
        |repository: &str, bytes: &[u8]| format!("HEAD /v2/{repository}/blobs/{}", digest(bytes));
    desk.ask(&blob("shop/cart", b"unnamed"), "").await.is(404);
    desk.ask(&blob("shop/cart", b"both's"), "").await.is(404);
    // What is another's stays: its manifest, a config, a layer, and what it has no name for yet.
    desk.ask("GET /v2/shop-2/cart/manifests/v1", "").await.is(200);
    desk.ask(&blob("shop-2/cart", b"both's"), "").await.is(200);
    desk.ask(&blob("store/cart", b"both's, unnamed"), "").await.is(200);
    assert_eq!(desk.files("blobs/sha256"), 4);
    // Again: there is nothing, and that is well.
    desk.ask(CLEAR, "").await.is(202);
}

#[tokio::test]
async fn an_upload_that_is_under_way_then_comes_to_nothing() {
    let desk = Desk::usual();
    let begun = desk.ask("POST /v2/shop/cart/blobs/uploads/", "").await.is(202);
    let place = begun.header("location").to_owned();
    let (mut bytes, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let line = format!("PUT {place}?digest={}", digest(b"halfway"));
    let upload = desk.ask(&line, Body::from_stream(body));
    let rest = async {
        bytes.send(Ok("half".into())).await.expect("it is read");
        wait_for("it is written to", || desk.files("ingest") == 1).await;
        desk.ask(CLEAR, "").await.is(202);
        bytes.send(Ok("way".into())).await.expect("it is read");
        drop(bytes);
    };
    let (answer, ()) = tokio::join!(upload, rest);
    answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!((desk.files("ingest"), desk.files("blobs/sha256")), (0, 0));
}

#[tokio::test]
async fn what_a_pod_elsewhere_uses_stays_on_the_node_until_it_does_not() {
    let desk = Desk::usual();
    let in_use = Arc::new(Mutex::new(Vec::new()));
    let users = in_use.clone();
    desk.store.tell_users(Box::new(move || Some(users.lock().clone())));
    for repository in ["shop/cart", "shop/till"] {
        let config = desk.part(repository, "application/vnd.wasm.config.v0+json", CONFIG).await;
        let layer = desk.part(repository, "application/wasm", COMPONENT).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE,
            "config": config, "layers": [layer]});
        desk.manifest(repository, "v1", &manifest).await.is(201);
    }
    let name = "windlass.local/shop/cart:v1";
    in_use.lock().push(name.to_owned());

    desk.ask(CLEAR, "").await.is(202);
    assert!(desk.store.find(name).expect("no error").is_some());
    assert!(desk.store.find("windlass.local/shop/till:v1").expect("no error").is_none());
    // The registry has it no more: neither for clients nor for a pod that wants it pulled.
    desk.ask("GET /v2/shop/cart/tags/list", "").await.refused(404, "NAME_UNKNOWN");
    desk.ask("GET /v2/shop/cart/manifests/v1", "").await.refused(404, "MANIFEST_UNKNOWN");
    desk.ask("DELETE /v2/shop/cart/manifests/v1", "").await.refused(404, "MANIFEST_UNKNOWN");
    assert!(desk.store.pull(name, &Credentials::default()).await.is_err());
    // It is still so after a restart, of which nobody knows yet what pods use.
    let again = Desk::open(desk.folder.clone(), Limits::default());
    assert_eq!(again.registry.tidy().await, 1);
    assert_eq!(again.store.origin(name), Some(Origin::Left));

    assert_eq!(desk.registry.tidy().await, 1);
    in_use.lock().clear();
    desk.registry.tidy().await;
    assert!(desk.store.find(name).expect("no error").is_none());
}
