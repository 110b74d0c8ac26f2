//! The read path: gets, lists and where watches start, all out of the watch cache.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use windlass_apiserver_registry::{GroupVersion, Kind};
use windlass_sdk_meta::{FieldSelector, Object, Reason, Selector, Status};

use crate::{
    ApiServer,
    cache::{Cache, Filter, Page, PageRequest, ResourceCache, page},
    content,
    negotiate::Accepted,
    options::{ListOptions, ListState, continue_token},
    render::{ListMeta, Renderer},
    server::store_status,
};

/// The cache of a kind; every stored kind has one.
pub(crate) fn resource(server: &ApiServer, kind: &Kind) -> Result<Arc<ResourceCache>, Status> {
    server.cache().resource(&kind.group_resource()).ok_or_else(Status::unknown_path)
}

/// One object; `resource_version` as for lists: absent is most recent, 0 is whatever is here.
pub(crate) async fn get(
    server: &ApiServer,
    kind: &Kind,
    (namespace, name): (&str, &str),
    resource_version: &str,
) -> Result<Arc<Object>, Status> {
    match crate::options::parse_revision(resource_version)? {
        None => {
            server.cache().fresh().await.map_err(store_status)?;
        }
        Some(0) => {}
        Some(revision) => not_older_than(server.cache(), revision).await?,
    }
    let object = resource(server, kind)?.get(namespace, name);
    object.ok_or_else(|| Status::not_found(&kind.group_resource(), name))
}

/// What a list or watch narrows to; 400 for selectors that can't be read or that name a field the
/// kind doesn't offer.
pub(crate) fn filter(
    kind: &Kind,
    at: &GroupVersion,
    namespace: &str,
    options: &ListOptions,
) -> Result<Filter, Status> {
    let labels = Selector::parse(&options.label_selector)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let written = FieldSelector::parse(&options.field_selector)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let mut filter = Filter { labels, ..Filter::default() };
    if !namespace.is_empty() {
        filter.namespace = Some(namespace.into());
    }
    for (label, equal, value) in written.0 {
        let path = kind
            .field_path(&at.group, &label)
            .ok_or_else(|| Status::bad_request(kind.unknown_label(&label)))?;
        match (path, equal) {
            ("metadata.name", true) => filter.name = Some(value.into()),
            // A list inside one namespace that selects another finds nothing.
            ("metadata.namespace", true) if filter.namespace.is_none() => {
                filter.namespace = Some(value.into());
            }
            _ => filter.fields.0.push((path.to_owned(), equal, value)),
        }
    }
    if !kind.namespaced && filter.name.is_some() {
        filter.namespace = Some("".into());
    }
    Ok(filter)
}

/// Answers a list.
pub(crate) async fn list(
    server: &ApiServer,
    renderer: Renderer,
    filter: &Filter,
    options: &ListOptions,
) -> Result<Response<Body>, Status> {
    let (page, meta) = match find(server, &renderer.kind, filter, options).await {
        Ok(found) => found,
        Err(Missed::Status(status)) => return Err(status),
        Err(Missed::Expired(token)) => return Ok(expired(token, &renderer.accepted)),
    };
    Ok(renderer.list(page.objects, &meta))
}

enum Missed {
    Status(Status),
    /// The chunked list can only go on inconsistently, with this token.
    Expired(String),
}

impl From<Status> for Missed {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

async fn find(
    server: &ApiServer,
    kind: &Kind,
    filter: &Filter,
    options: &ListOptions,
) -> Result<(Page, ListMeta), Missed> {
    let cache = server.cache();
    let resource = &*resource(server, kind)?;
    let mut request = PageRequest { filter, after: None, limit: options.limit };
    let (page, revision) = match options.list_state()? {
        ListState::Exact(revision) => {
            let page = exact(cache, resource, revision, &request).await?;
            (page.ok_or_else(|| too_old(revision, cache))?, revision)
        }
        ListState::Continue { revision, after } => {
            let key = (after.0.as_str().into(), after.1.as_str().into());
            request.after = Some(&key);
            let page = exact(cache, resource, revision, &request).await?;
            let token = || continue_token(None, (&after.0, &after.1));
            (page.ok_or_else(|| Missed::Expired(token()))?, revision)
        }
        ListState::ContinueAnyhow { after } => {
            cache.fresh().await.map_err(store_status)?;
            let key = (after.0.as_str().into(), after.1.as_str().into());
            newest(cache, resource, &PageRequest { after: Some(&key), ..request })
        }
        state => {
            match state {
                ListState::MostRecent => {
                    cache.fresh().await.map_err(store_status)?;
                }
                ListState::NotOlderThan(revision) => not_older_than(cache, revision).await?,
                _ => {}
            }
            newest(cache, resource, &request)
        }
    };
    let last = page.objects.last().filter(|_| page.more);
    let meta = ListMeta {
        revision,
        continue_token: last
            .map(|last| continue_token(Some(revision), (&last.namespace, &last.name))),
        remaining: page.remaining,
    };
    Ok((page, meta))
}

/// The newest state, and a revision up to which it is complete.
fn newest(cache: &Cache, resource: &ResourceCache, request: &PageRequest<'_>) -> (Page, u64) {
    // Read first: whatever is in memory then is at least as new.
    let reached = cache.reached();
    let (page, changed_at) = resource.page_of_newest(request);
    (page, reached.max(changed_at))
}

/// The state as of a revision; None where that is too long ago.
async fn exact(
    cache: &Cache,
    resource: &ResourceCache,
    revision: u64,
    request: &PageRequest<'_>,
) -> Result<Option<Page>, Status> {
    not_older_than(cache, revision).await?;
    if revision < cache.oldest_exact() {
        return Ok(None);
    }
    Ok(resource.at_revision(revision).map(|root| page(&root, request)))
}

/// Waits until a revision is here; 504 where it is in the future.
pub(crate) async fn not_older_than(cache: &Cache, revision: u64) -> Result<(), Status> {
    if cache.reached() >= revision {
        return Ok(());
    }
    let current = cache.store().current_revision().await.map_err(store_status)?;
    if revision <= current && cache.wait_for(revision).await {
        return Ok(());
    }
    let why = format!("Too large resource version: {revision}, current: {current}");
    let mut status = Status::new(Reason::Timeout, format!("Timeout: {why}")).with_cause(
        "ResourceVersionTooLarge",
        "Too large resource version",
        "",
    );
    status.details.get_or_insert_default().retry_after_seconds = 1;
    Err(status)
}

fn too_old(revision: u64, cache: &Cache) -> Status {
    let oldest = cache.oldest_exact();
    Status::new(Reason::Expired, format!("too old resource version: {revision} ({oldest})"))
}

/// 410 with a token that goes on from where the list was, in whatever is newest then.
fn expired(token: String, accepted: &Accepted) -> Response<Body> {
    let why = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let status = Status::new(Reason::Expired, why);
    let mut json = status.to_json();
    json["metadata"] = serde_json::json!({"continue": token});
    content::respond_tree(StatusCode::GONE, &json, accepted)
}
