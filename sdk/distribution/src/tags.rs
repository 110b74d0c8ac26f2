//! end-8: the tags of a repository, a page at a time (distribution-spec, "Listing Tags").

use axum::response::{IntoResponse, Response};
use http::{header::LINK, request::Parts};
use serde_json::json;

use crate::{
    Registry, Repository,
    error::{Code, Refused},
    header,
    query::{encoded, page, parameter},
};

/// Tags at a time, however many are asked for.
const MOST: usize = 1_000;

pub(crate) fn list(
    registry: &Registry,
    at: &Repository,
    parts: &Parts,
) -> Result<Response, Refused> {
    let names = registry.storage.names(at);
    if names.is_empty() {
        let why = format!("nothing was pushed to {at}");
        return Err(Refused::not_found(Code::NameUnknown, why));
    }
    let mut tags: Vec<String> = names.into_iter().filter_map(|name| name.tag).collect();
    // "Lexical order", without regard to case; tags that differ in nothing else have an order too.
    let key = |tag: &String| (tag.to_ascii_lowercase(), tag.clone());
    tags.sort_by_cached_key(key);
    if let Some(last) = parameter(parts, "last") {
        tags.retain(|tag| key(tag) > key(&last));
    }
    let most = page(parts)?.unwrap_or(MOST).min(MOST);
    let more = tags.len() > most;
    tags.truncate(most);
    let mut response = axum::Json(json!({"name": at.to_string(), "tags": tags})).into_response();
    if let Some(last) = tags.last().filter(|_| more) {
        let next = format!("</v2/{at}/tags/list?n={most}&last={}>; rel=\"next\"", encoded(last));
        response.headers_mut().insert(LINK, header(&next)?);
    }
    Ok(response)
}
