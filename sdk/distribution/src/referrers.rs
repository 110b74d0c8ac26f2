//! end-12: what manifests of a repository are about another one: signatures, bills of materials
//! (distribution-spec, "Listing Referrers").

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{
    HeaderName,
    header::{CONTENT_TYPE, LINK},
    request::Parts,
};
use serde_json::{Value, json};
use windlass_sdk_package::INDEX_MEDIA_TYPE;

use crate::{
    Registry, Repository,
    error::Refused,
    header,
    manifest::Facts,
    query::{encoded, parameter},
};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// An index of descriptors, empty where there are none; as many as fit a manifest, and where to ask
/// for the next.
pub(crate) async fn list(
    registry: &Arc<Registry>,
    at: &Repository,
    subject: &str,
    parts: &Parts,
) -> Result<Response, Refused> {
    let wanted = parameter(parts, "artifactType").filter(|text| !text.is_empty());
    let last = parameter(parts, "last").unwrap_or_default();
    let (of, place) = (subject.to_owned(), at.clone());
    let all = registry.blocking(move |registry| Ok(registry.manifests_of(&place))).await?;
    let fits = |(digest, facts): &(&String, &Arc<Facts>)| {
        facts.subject.as_ref() == Some(&of)
            && **digest > last
            && wanted.as_ref().is_none_or(|wanted| facts.artifact_type == *wanted)
    };
    let mut left = registry.limits.manifest_bytes;
    let (mut page, mut next) = (Vec::<Value>::new(), None);
    for (digest, facts) in all.iter().filter(fits) {
        let descriptor = descriptor(digest, facts);
        let bytes = descriptor.to_string().len() + 1;
        // One that fills a page alone is shown all the same.
        if bytes > left && !page.is_empty() {
            next = page.last().and_then(|shown| shown["digest"].as_str()).map(str::to_owned);
            break;
        }
        left = left.saturating_sub(bytes);
        page.push(descriptor);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": page});
    let mut answer = Response::builder().header(CONTENT_TYPE, INDEX_MEDIA_TYPE);
    let mut filter = String::new();
    if let Some(wanted) = &wanted {
        answer = answer.header(FILTERS, "artifactType");
        filter = format!("&artifactType={}", encoded(wanted));
    }
    if let Some(last) = next {
        let next = format!("</v2/{at}/referrers/{subject}?last={last}{filter}>; rel=\"next\"");
        answer = answer.header(LINK, header(&next)?);
    }
    answer.body(Body::from(index.to_string())).map_err(Refused::failed)
}

fn descriptor(digest: &str, facts: &Facts) -> Value {
    let mut descriptor = json!({
        "mediaType": facts.media_type,
        "digest": digest,
        "size": facts.size_bytes,
    });
    if !facts.artifact_type.is_empty() {
        descriptor["artifactType"] = facts.artifact_type.as_str().into();
    }
    if !facts.annotations.is_empty() {
        descriptor["annotations"] = json!(facts.annotations);
    }
    descriptor
}
