//! Tags and referrers.

use serde_json::json;
use windlass_sdk_distribution::Limits;

use crate::{CONFIG, Desk};

#[tokio::test]
async fn tags_come_in_order_and_in_pages() {
    let desk = Desk::usual();
    for tag in ["v10", "B", "a", "v1"] {
        desk.image("shop/cart", tag, &[]).await;
    }
    let all = desk.ask("GET /v2/shop/cart/tags/list", "").await.is(200);
    assert_eq!(all.json(), json!({"name": "shop/cart", "tags": ["a", "B", "v1", "v10"]}));
    assert!(all.headers.get("link").is_none());
    let page = desk.ask("GET /v2/shop/cart/tags/list?n=3", "").await;
    assert_eq!(page.json()["tags"], json!(["a", "B", "v1"]));
    assert_eq!(page.header("link"), "</v2/shop/cart/tags/list?n=3&last=v1>; rel=\"next\"");
    let rest = desk.ask("GET /v2/shop/cart/tags/list?n=3&last=v1", "").await;
    assert_eq!(rest.json()["tags"], json!(["v10"]));
    assert!(rest.headers.get("link").is_none());
    assert_eq!(desk.ask("GET /v2/shop/cart/tags/list?n=0", "").await.json()["tags"], json!([]));
    // The mark need not be a tag.
    let after = desk.ask("GET /v2/shop/cart/tags/list?last=c", "").await;
    assert_eq!(after.json()["tags"], json!(["v1", "v10"]));
    desk.ask("GET /v2/shop/cart/tags/list?n=x", "").await.refused(400, "UNSUPPORTED");
    // A repository may have manifests and no tags.
    desk.image("shop/till", "v1", &[]).await;
    desk.ask("DELETE /v2/shop/till/manifests/v1", "").await.is(202);
    assert_eq!(desk.ask("GET /v2/shop/till/tags/list", "").await.is(200).json()["tags"], json!([]));
}

#[tokio::test]
async fn referrers_are_told_by_what_they_are_about() {
    let desk = Desk::with(Limits { manifest_bytes: 900, ..Limits::default() });
    let subject = desk.image("shop/cart", "v1", &[]).await;
    let about = json!({"mediaType": "x/y", "digest": subject, "size": 1});
    let config = desk.part("shop/cart", "x/signature", CONFIG).await;
    let signature = json!({"schemaVersion": 2, "config": config, "layers": [], "subject": about,
        "annotations": {"by": "ada"}});
    let mut sbom = signature.clone();
    sbom["artifactType"] = "x/sbom".into();
    for manifest in [&signature, &sbom] {
        let digest = windlass_sdk_package::digest(manifest.to_string().as_bytes());
        let answer = desk.manifest("shop/cart", &digest, manifest).await.is(201);
        assert_eq!(answer.header("oci-subject"), subject);
    }
    let path = format!("/v2/shop/cart/referrers/{subject}");
    let all = desk.ask(&format!("GET {path}"), "").await.is(200);
    assert_eq!(all.header("content-type"), "application/vnd.oci.image.index.v1+json");
    let index = all.json();
    let mut types: Vec<_> = index["manifests"].as_array().expect("a list").iter().collect();
    types.sort_by_key(|of| of["artifactType"].to_string());
    assert_eq!(types.len(), 2);
    assert_eq!(types[0]["artifactType"], "x/sbom");
    assert_eq!(types[1]["artifactType"], "x/signature");
    assert_eq!(types[1]["annotations"], json!({"by": "ada"}));
    assert_eq!(types[1]["size"], signature.to_string().len());

    let some = desk.ask(&format!("GET {path}?artifactType=x%2Fsbom"), "").await.is(200);
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    assert_eq!(some.json()["manifests"].as_array().expect("a list").len(), 1);
    let none = format!("sha256:{}", "0".repeat(64));
    let empty = desk.ask(&format!("GET /v2/shop/cart/referrers/{none}"), "").await.is(200);
    assert_eq!(empty.json()["manifests"], json!([]));
    desk.ask("GET /v2/shop/cart/referrers/x", "").await.refused(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn referrers_that_don_t_fit_one_answer_come_in_the_next() {
    let desk = Desk::with(Limits { manifest_bytes: 1_200, ..Limits::default() });
    let subject = desk.image("shop/cart", "v1", &[]).await;
    let config = desk.part("shop/cart", "x/signature", CONFIG).await;
    for number in 0..5 {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [],
            "subject": {"mediaType": "x/y", "digest": subject, "size": 1},
            "annotations": {"number": "x".repeat(200 + number)}});
        desk.manifest("shop/cart", &format!("s{number}"), &manifest).await.is(201);
    }
    let (mut next, mut seen) = (Some(format!("/v2/shop/cart/referrers/{subject}")), Vec::new());
    while let Some(path) = next {
        let page = desk.ask(&format!("GET {path}"), "").await.is(200);
        assert!(page.body.len() < 1_400, "{}", page.body.len());
        let found = page.json()["manifests"].as_array().expect("a list").clone();
        seen.extend(found.iter().map(|of| of["digest"].to_string()));
        let link = page.headers.get("link").and_then(|link| link.to_str().ok());
        next = link
            .map(|link| link.trim_start_matches('<').split('>').next().expect("a path").to_owned());
    }
    seen.dedup();
    assert_eq!(seen.len(), 5);
}
