//! Blobs out, in part and whole, and away.

use windlass_sdk_package::digest;

use crate::Desk;

const TEXT: &[u8] = b"0123456789";

#[tokio::test]
async fn a_blob_is_served_whole_and_in_part() {
    let desk = Desk::usual();
    let digest = desk.blob("shop/cart", TEXT).await;
    let path = format!("/v2/shop/cart/blobs/{digest}");
    let head = desk.ask(&format!("HEAD {path}"), "").await.is(200);
    assert_eq!(
        (head.header("content-length"), head.header("docker-content-digest")),
        ("10", &*digest)
    );
    assert!(head.body.is_empty());
    assert_eq!(desk.ask(&format!("GET {path}"), "").await.is(200).body, TEXT);
    for (range, status, body, told) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
    ] {
        let part = desk.ask_with(&format!("GET {path}"), &[("range", range)], "").await.is(status);
        assert_eq!((&*part.body, part.header("content-range")), (body.as_bytes(), told));
    }
    let past = desk.ask_with(&format!("GET {path}"), &[("range", "bytes=10-")], "").await;
    assert_eq!(past.header("content-range"), "bytes */10");
    past.refused(416, "SIZE_INVALID");
}

#[tokio::test]
async fn a_blob_goes_unless_a_manifest_needs_it() {
    let desk = Desk::usual();
    desk.image("shop/cart", "v1", &[TEXT]).await;
    let needed = format!("DELETE /v2/shop/cart/blobs/{}", digest(TEXT));
    let said = desk.ask(&needed, "").await.refused(405, "UNSUPPORTED");
    assert!(said.contains("needs it"), "{said}");
    let digest = desk.blob("shop/cart", b"free").await;
    let line = format!("DELETE /v2/shop/cart/blobs/{digest}");
    desk.ask(&line, "").await.is(202);
    desk.ask(&line, "").await.refused(404, "BLOB_UNKNOWN");
    desk.ask(&format!("GET /v2/shop/cart/blobs/{digest}"), "").await.is(404);
    let line = "GET /v2/shop/cart/blobs/sha512:00";
    desk.ask(line, "").await.refused(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_it_may_be_pulled() {
    let desk = Desk::usual();
    let digest = desk.blob("shop/cart", TEXT).await;
    let mount =
        |from: &str| format!("POST /v2/shop/till/blobs/uploads/?mount={digest}&from={from}");
    let answer = desk.ask(&mount("shop/cart"), "").await.is(201);
    assert_eq!(answer.header("location"), format!("/v2/shop/till/blobs/{digest}"));
    assert_eq!(desk.ask(&format!("GET {}", answer.header("location")), "").await.body, TEXT);
    // What isn't there, or may not be seen, is to be uploaded.
    desk.ask(&mount("library"), "").await.is(202);
    let answer = desk.ask(&mount("shop/none"), "").await.is(202);
    assert!(answer.header("location").starts_with("/v2/shop/till/blobs/uploads/"));
    let only = format!("POST /v2/shop/till/blobs/uploads/?mount={digest}");
    desk.ask(&only, "").await.is(202);
}
