//! Blobs in: whole, in pieces, interrupted, wrong, too many.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use windlass_sdk_distribution::Limits;
use windlass_sdk_package::digest;

use crate::Desk;

const BEGIN: &str = "POST /v2/shop/cart/blobs/uploads/";

async fn begin(desk: &Desk) -> String {
    desk.ask(BEGIN, "").await.is(202).header("location").to_owned()
}

/// Sends its bytes, then breaks off as a connection does.
fn broken(bytes: &'static [u8]) -> Body {
    let pieces = [Ok(Bytes::from_static(bytes)), Err(io::Error::other("reset"))];
    Body::from_stream(stream::iter(pieces))
}

#[tokio::test]
async fn pieces_make_a_blob() {
    let desk = Desk::usual();
    let place = begin(&desk).await;
    let range = |range| [("content-range", range)];
    let answer = desk.ask_with(&format!("PATCH {place}"), &range("0-3"), "0123").await.is(202);
    assert_eq!((answer.header("range"), answer.header("location")), ("0-3", &*place));
    // Out of order, and the way on.
    for wrong in ["3-5", "5-7", "x", "6-4"] {
        let answer = desk.ask_with(&format!("PATCH {place}"), &range(wrong), "345").await;
        assert_eq!((answer.header("range"), answer.header("location")), ("0-3", &*place));
        answer.refused(416, "BLOB_UPLOAD_INVALID");
    }
    desk.ask_with(&format!("PATCH {place}"), &range("4-5"), "45").await.is(202);
    let status = desk.ask(&format!("GET {place}"), "").await.is(204);
    assert_eq!(status.header("range"), "0-5");
    let digest = digest(b"012345678");
    let line = format!("PUT {place}?digest={digest}");
    let answer = desk.ask_with(&line, &range("6-8"), "678").await.is(201);
    assert_eq!(answer.header("location"), format!("/v2/shop/cart/blobs/{digest}"));
    assert_eq!(desk.ask(&format!("GET {}", answer.header("location")), "").await.body, "012345678");
    desk.ask(&line, "").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(desk.files("ingest"), 0);
}

#[tokio::test]
async fn one_request_or_two_make_a_blob_too() {
    let desk = Desk::usual();
    let text: &'static [u8] = b"whole";
    let digest = digest(text);
    let line = format!("{BEGIN}?digest={digest}");
    let answer = desk.ask(&line, text).await.is(201);
    assert_eq!(answer.header("docker-content-digest"), digest);
    let place = begin(&desk).await;
    desk.ask(&format!("PUT {place}?digest={digest}"), text).await.is(201);
    // A stream of unknown length, and an end without bytes.
    let place = begin(&desk).await;
    let pieces = [Ok::<_, io::Error>(Bytes::from_static(b"wh")), Ok(Bytes::from_static(b"ole"))];
    desk.ask(&format!("PATCH {place}"), Body::from_stream(stream::iter(pieces))).await.is(202);
    desk.ask(&format!("PUT {place}?digest={digest}"), "").await.is(201);
    assert_eq!((desk.files("ingest"), desk.files("blobs/sha256")), (0, 1));
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke_off() {
    let desk = Desk::usual();
    let place = begin(&desk).await;
    desk.ask(&format!("PATCH {place}"), broken(b"0123")).await.refused(400, "BLOB_UPLOAD_INVALID");
    let status = desk.ask(&format!("GET {place}"), "").await.is(204);
    assert_eq!(status.header("range"), "0-3");
    let digest = digest(b"012345");
    let line = format!("PUT {place}?digest={digest}");
    desk.ask(&line, broken(b"4")).await.refused(400, "BLOB_UPLOAD_INVALID");
    desk.ask(&line, "5").await.is(201);
    // In one request there is nothing to go on with.
    let line = format!("{BEGIN}?digest={digest}");
    desk.ask(&line, broken(b"0123")).await.refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(desk.files("ingest"), 0);
}

#[tokio::test]
async fn what_is_not_what_it_is_said_to_be_leaves_nothing() {
    let desk = Desk::usual();
    let wrong = digest(b"another");
    let place = begin(&desk).await;
    let said = desk.ask(&format!("PUT {place}?digest={wrong}"), "this").await;
    let said = said.refused(400, "DIGEST_INVALID");
    assert!(said.contains(&digest(b"this")) && said.contains(&wrong), "{said}");
    let line = format!("{BEGIN}?digest={wrong}");
    desk.ask(&line, "this").await.refused(400, "DIGEST_INVALID");
    let line = format!("{BEGIN}?digest=md5:00");
    desk.ask(&line, "this").await.refused(400, "DIGEST_INVALID");
    let place = begin(&desk).await;
    desk.ask(&format!("PUT {place}"), "this").await.refused(400, "DIGEST_INVALID");
    let lengths = [("content-range", "0-3"), ("content-length", "5")];
    desk.ask_with(&format!("PATCH {place}"), &lengths, "01234").await.refused(400, "SIZE_INVALID");
    let short = [("content-range", "0-9")];
    desk.ask_with(&format!("PATCH {place}"), &short, "01234").await.refused(400, "SIZE_INVALID");
    assert_eq!((desk.files("ingest"), desk.files("blobs/sha256")), (0, 0));
}

#[tokio::test]
async fn an_upload_is_cancelled_and_belongs_to_its_repository() {
    let desk = Desk::usual();
    let place = begin(&desk).await;
    let elsewhere = place.replace("shop/cart", "shop/till");
    desk.ask(&format!("GET {elsewhere}"), "").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    desk.ask(&format!("DELETE {place}"), "").await.is(204);
    desk.ask(&format!("DELETE {place}"), "").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    desk.ask(&format!("PATCH {place}"), "x").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(desk.files("ingest"), 0);
}

#[tokio::test]
async fn bounds_are_held() {
    let desk = Desk::with(Limits { blob_bytes: 8, uploads: 2, ..Limits::default() });
    let (first, _second) = (begin(&desk).await, begin(&desk).await);
    desk.ask(BEGIN, "").await.refused(429, "TOOMANYREQUESTS");
    desk.ask(&format!("PATCH {first}"), "0123").await.is(202);
    let said = desk.ask(&format!("PATCH {first}"), "45678").await.refused(413, "SIZE_INVALID");
    assert_eq!(said, "the blob is larger than 8 bytes");
    // It ended with that, so there is room for another.
    begin(&desk).await;
}
