//! What nobody needs goes; what somebody needs stays.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_sdk_distribution::Limits;
use windlass_sdk_package::digest;

use crate::{CONFIG, Desk, wait_for};

fn at_once() -> Limits {
    Limits { unnamed: Duration::ZERO, upload_idle: Duration::ZERO, ..Limits::default() }
}

#[tokio::test]
async fn content_that_no_manifest_leads_to_goes_after_its_grace() {
    let desk = Desk::usual();
    desk.image("shop/cart", "v1", &[b"kept"]).await;
    desk.image("shop/till", "v1", &[b"kept"]).await;
    desk.image("shop/till", "v2", &[b"gone"]).await;
    desk.blob("shop/cart", b"unnamed").await;
    assert_eq!(desk.files("blobs/sha256"), 6);
    for tag in ["v1", "v2"] {
        let got = desk.ask(&format!("GET /v2/shop/till/manifests/{tag}"), "").await;
        let digest = got.header("docker-content-digest").to_owned();
        desk.ask(&format!("DELETE /v2/shop/till/manifests/{digest}"), "").await.is(202);
    }
    // Young content stays, and is counted.
    assert!(desk.registry.tidy().await >= 2);
    assert_eq!(desk.files("blobs/sha256"), 6);
    let later = Desk::open(Arc::new(tempfile::tempdir().expect("a folder")), at_once());
    later.image("shop/cart", "v1", &[b"kept"]).await;
    later.blob("shop/cart", b"unnamed").await;
    later.image("shop/cart", "v1", &[b"other"]).await;
    assert_eq!(later.registry.tidy().await, 0);
    // One manifest that has the tag, one that had it, their layers, and a config for both.
    assert_eq!(later.files("blobs/sha256"), 5);
    let line = format!("GET /v2/shop/cart/blobs/{}", digest(b"unnamed"));
    later.ask(&line, "").await.refused(404, "BLOB_UNKNOWN");
    let line = format!("GET /v2/shop/cart/blobs/{}", digest(b"kept"));
    later.ask(&line, "").await.is(200);
}

#[tokio::test]
async fn a_deletion_is_followed_by_itself() {
    let desk = Desk::with(Limits { unnamed: Duration::from_millis(50), ..Limits::default() });
    let shutdown = CancellationToken::new();
    let tidy = tokio::spawn(desk.registry.clone().keep_tidy(shutdown.clone()));
    let digest = desk.image("shop/cart", "v1", &[b"layer"]).await;
    desk.ask(&format!("DELETE /v2/shop/cart/manifests/{digest}"), "").await.is(202);
    wait_for("all of it goes", || desk.files("blobs/sha256") == 0).await;
    shutdown.cancel();
    tidy.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn uploads_that_are_left_go() {
    let desk = Desk::usual();
    let begun = desk.ask("POST /v2/shop/cart/blobs/uploads/", "").await.is(202);
    let place = begun.header("location").to_owned();
    desk.ask(&format!("PATCH {place}"), "half").await.is(202);
    assert_eq!(desk.files("ingest"), 1);
    tokio::time::advance(Duration::from_secs(29 * 60)).await;
    desk.registry.tidy().await;
    desk.ask(&format!("GET {place}"), "").await.is(204);
    tokio::time::advance(Duration::from_secs(31 * 60)).await;
    desk.registry.tidy().await;
    assert_eq!(desk.files("ingest"), 0);
    desk.ask(&format!("GET {place}"), "").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn what_a_killed_process_left_goes_at_the_next_start() {
    let desk = Desk::usual();
    let begun = desk.ask("POST /v2/shop/cart/blobs/uploads/", "").await.is(202);
    desk.ask(&format!("PATCH {}", begun.header("location")), "half").await.is(202);
    desk.blob("shop/cart", CONFIG).await;
    assert_eq!((desk.files("ingest"), desk.files("blobs/sha256")), (1, 1));
    let folder = desk.folder.clone();
    // Nothing is dropped when a process is killed.
    std::mem::forget(desk);
    let again = Desk::open(folder, Limits::default());
    assert_eq!((again.files("ingest"), again.files("blobs/sha256")), (0, 0));
}
