//! Manifests in, out and away; what was pushed is an image of the node.

use serde_json::json;
use windlass_runtime_image::{Credentials, Origin};
use windlass_sdk_package::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, digest};

use crate::{COMPONENT, CONFIG, Desk};

#[tokio::test]
async fn a_pushed_component_is_an_image_of_the_node() {
    let desk = Desk::usual();
    let digest = desk.image("shop/cart", "v1", &[]).await;
    // Of no layers: it is kept, and no image that runs.
    assert!(desk.store.list().is_empty());
    let config = desk.part("shop/cart", "application/vnd.wasm.config.v0+json", CONFIG).await;
    let layer = desk.part("shop/cart", "application/wasm", COMPONENT).await;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config,
        "layers": [layer]});
    desk.manifest("shop/cart", "v1", &manifest).await.is(201);
    let wasm = windlass_sdk_package::digest(manifest.to_string().as_bytes());
    assert_eq!(*desk.pushed.lock(), [format!("shop/cart@{digest}"), format!("shop/cart@{wasm}")]);
    for name in
        ["windlass.local/shop/cart:v1".to_owned(), format!("windlass.local/shop/cart@{wasm}")]
    {
        let image = desk.store.find(&name).expect("no error").expect("it is there");
        assert_eq!(
            (image.digest, std::fs::read(&image.wasm_path).expect("a file")),
            (wasm.clone(), COMPONENT.to_vec())
        );
        // Also where the pod's policy is to pull: nobody else has it.
        let pulled = desk.store.pull(&name, &Credentials::default()).await.expect("it is here");
        assert_eq!((pulled.image.reference, pulled.size_bytes), (name.clone(), 8));
        assert_eq!(desk.store.origin(&name), Some(Origin::Pushed));
    }
    let listed = desk.store.list();
    assert_eq!(listed[0].names, ["windlass.local/shop/cart:v1"]);
    // The manifest that the tag led to before is still there, by its digest, also after a restart.
    let again = Desk::open(desk.folder.clone(), Default::default());
    for desk in [&desk, &again] {
        desk.ask(&format!("GET /v2/shop/cart/manifests/{digest}"), "").await.is(200);
        let line = format!("GET /v2/shop/cart/blobs/{}", windlass_sdk_package::digest(CONFIG));
        desk.ask(&line, "").await.is(200);
    }
    // What was never pushed is told so, with the way out.
    let absent = again.store.pull("windlass.local/shop/none:v1", &Credentials::default()).await;
    let said = absent.expect_err("it is nowhere").to_string();
    assert!(said.contains("windlass push windlass.local/shop/none:TAG FILE"), "{said}");
}

#[tokio::test]
async fn a_manifest_is_served_as_it_was_pushed() {
    let desk = Desk::usual();
    let digest = desk.image("shop/cart", "v1", &[b"layer"]).await;
    for reference in ["v1", &*digest] {
        let head = desk.ask(&format!("HEAD /v2/shop/cart/manifests/{reference}"), "").await.is(200);
        assert!(head.body.is_empty());
        let got = desk.ask(&format!("GET /v2/shop/cart/manifests/{reference}"), "").await.is(200);
        for answer in [&head, &got] {
            assert_eq!(answer.header("docker-content-digest"), digest);
            assert_eq!(answer.header("content-type"), MANIFEST_MEDIA_TYPE);
            assert_eq!(answer.header("content-length"), got.body.len().to_string());
        }
        assert_eq!(windlass_sdk_package::digest(&got.body), digest);
    }
    let line = "GET /v2/shop/cart/manifests/v2";
    let said = desk.ask(line, "").await.refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(said, "shop/cart has no manifest v2");
    // Damage on the disk is never served.
    let path = desk.folder.path().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[0] = b' ';
    std::fs::write(&path, bytes).expect("written");
    let said = desk.ask("GET /v2/shop/cart/manifests/v1", "").await.refused(500, "UNKNOWN");
    assert!(said.contains("is damaged"), "{said}");
}

#[tokio::test]
async fn what_can_t_be_taken_in_is_refused() {
    let desk = Desk::usual();
    let config = desk.part("shop/cart", "x/config", CONFIG).await;
    let none = format!("sha256:{}", "0".repeat(64));
    let of =
        |digest: &str, size: u64| json!({"mediaType": "x/layer", "digest": digest, "size": size});
    let with = |layer: serde_json::Value| json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config, "layers": [layer]});
    let missing = desk.manifest("shop/cart", "v1", &with(of(&none, 1))).await.is(404);
    assert_eq!(missing.json()["errors"][0]["detail"], json!({"digest": none}));
    missing.refused(404, "MANIFEST_BLOB_UNKNOWN");
    let config_digest = digest(CONFIG);
    let said = desk.manifest("shop/cart", "v1", &with(of(&config_digest, 3))).await;
    let said = said.refused(400, "MANIFEST_INVALID");
    assert!(said.contains("has 2 bytes, not the 3"), "{said}");
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [of(&none, 1)]});
    desk.manifest("shop/cart", "v1", &index).await.refused(404, "MANIFEST_BLOB_UNKNOWN");
    desk.ask("PUT /v2/shop/cart/manifests/v1", "{").await.refused(400, "MANIFEST_INVALID");
    let whole = with(of(&config_digest, 2));
    let line = format!("PUT /v2/shop/cart/manifests/{none}");
    desk.ask(&line, whole.to_string()).await.refused(400, "DIGEST_INVALID");
    let line = "PUT /v2/shop/cart/manifests/v1";
    let said = desk.ask_with(line, &[("content-type", INDEX_MEDIA_TYPE)], whole.to_string()).await;
    said.refused(400, "MANIFEST_INVALID");
    let said = desk.ask("PUT /v2/shop/cart/manifests/.x", whole.to_string()).await;
    said.refused(400, "MANIFEST_INVALID");
    let huge = " ".repeat((4 << 20) + 1);
    desk.ask(line, huge).await.refused(413, "SIZE_INVALID");
    // Nothing of all that can be seen.
    desk.ask("GET /v2/shop/cart/tags/list", "").await.refused(404, "NAME_UNKNOWN");
    assert_eq!(desk.files("blobs/sha256"), 1);
    assert!(desk.pushed.lock().is_empty());
}

#[tokio::test]
async fn an_index_leads_to_manifests_of_its_repository() {
    let desk = Desk::usual();
    let digest = desk.image("shop/cart", "v1", &[b"layer"]).await;
    let entry = json!({"mediaType": MANIFEST_MEDIA_TYPE, "digest": digest, "size": 1,
        "platform": {"os": "linux", "architecture": "amd64"}});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [entry]});
    desk.manifest("shop/cart", "all", &index).await.is(201);
    let got = desk.ask("GET /v2/shop/cart/manifests/all", "").await.is(200);
    assert_eq!(got.header("content-type"), INDEX_MEDIA_TYPE);
    // Its entry is needed though its own tag goes, and though somebody deletes it.
    desk.ask("DELETE /v2/shop/cart/manifests/v1", "").await.is(202);
    desk.ask(&format!("DELETE /v2/shop/cart/manifests/{digest}"), "").await.is(202);
    desk.registry.tidy().await;
    desk.ask(&format!("GET /v2/shop/cart/manifests/{digest}"), "").await.is(200);
}

#[tokio::test]
async fn a_tag_goes_alone_and_a_manifest_with_its_tags() {
    let desk = Desk::usual();
    let digest = desk.image("shop/cart", "v1", &[]).await;
    desk.image("shop/cart", "latest", &[]).await;
    desk.ask("DELETE /v2/shop/cart/manifests/v1", "").await.is(202);
    desk.ask("DELETE /v2/shop/cart/manifests/v1", "").await.refused(404, "MANIFEST_UNKNOWN");
    desk.ask("GET /v2/shop/cart/manifests/v1", "").await.is(404);
    desk.ask("GET /v2/shop/cart/manifests/latest", "").await.is(200);
    let line = format!("DELETE /v2/shop/cart/manifests/{digest}");
    desk.ask(&line, "").await.is(202);
    desk.ask(&line, "").await.refused(404, "MANIFEST_UNKNOWN");
    desk.ask("GET /v2/shop/cart/manifests/latest", "").await.is(404);
    desk.ask("GET /v2/shop/cart/tags/list", "").await.refused(404, "NAME_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pushes_of_one_tag_leave_one_of_them() {
    let desk = Desk::usual();
    let contents: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    for _ in 0..10 {
        let layers = contents.map(|bytes| [bytes]);
        let pushes = layers.iter().map(|layers| desk.image("shop/cart", "v1", layers));
        let digests = futures::future::join_all(pushes).await;
        let got = desk.ask("GET /v2/shop/cart/manifests/v1", "").await.is(200);
        assert!(digests.iter().any(|digest| digest == got.header("docker-content-digest")));
        // The others are whole, by their digests.
        for digest in digests {
            let got = desk.ask(&format!("GET /v2/shop/cart/manifests/{digest}"), "").await.is(200);
            let layer = got.json()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
            desk.ask(&format!("GET /v2/shop/cart/blobs/{layer}"), "").await.is(200);
        }
    }
    let tags = desk.ask("GET /v2/shop/cart/tags/list", "").await.json();
    assert_eq!(tags["tags"], json!(["v1"]));
}
