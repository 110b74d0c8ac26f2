//! Delete, of one object and of a collection.

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_access::Operation;
use windlass_apiserver_registry::{DeleteOptions, Preconditions};
use windlass_apiserver_schema::FieldValidation;
use windlass_sdk_meta::{GroupResource, GroupVersionKind, Reason, Status};

use super::{Call, Target, finish, success};
use crate::{
    body,
    cache::PageRequest,
    content,
    options::ListOptions,
    read,
    render::ListMeta,
    request::Query,
    server::store_status,
    write::{Outcome, Proposal, Written},
};

/// Deletions of a collection that are under way at once: enough for them to share flushes.
const AT_ONCE: usize = 32;

pub(super) async fn one(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = read_options(call, body).await?;
    let warnings = warn(call, target, &options);
    let renderer = target.renderer(call, true)?;
    let written = delete(call, target, &call.info.name, &options).await?;
    let response = match written.outcome {
        Outcome::Removed if !target.kind.returns_deleted => {
            success(call, StatusCode::OK, Some(details(target, &written)))
        }
        _ => renderer.one(StatusCode::OK, &written.object),
    };
    Ok(finish(response, written, warnings))
}

/// What the kind warns of where a deletion leaves open what becomes of dependents.
fn warn(call: &Call, target: &Target, options: &DeleteOptions) -> Vec<String> {
    let open = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
    let text = target.kind.strategy.deletion_warning().filter(|_| open);
    let warnings: Vec<String> = text.into_iter().map(str::to_owned).collect();
    call.warnings.lock().clone_from(&warnings);
    warnings
}

fn details(target: &Target, written: &Written) -> Value {
    let resource = GroupResource::new(&target.at.group, &target.kind.plural);
    let mut details = json!({"name": &*written.object.name});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details["kind"] = json!(resource.resource);
    details["uid"] = json!(&*written.object.uid);
    details
}

async fn delete(
    call: &Call,
    target: &Target,
    name: &str,
    options: &DeleteOptions,
) -> Result<Written, Status> {
    let dry_run = options.dry_run.iter().any(|what| what == "All");
    let write = call.write(target, Operation::Delete, name, "", dry_run);
    write.run(&mut |_| Ok(Proposal::Delete(options.clone()))).await
}

/// Deletes what a list with the same selectors would find, and answers with that list.
pub(super) async fn collection(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = read_options(call, body).await?;
    let warnings = warn(call, target, &options);
    let renderer = target.renderer(call, true)?;
    let list = ListOptions::parse(&call.info.query)?;
    list.list_state()?;
    let filter = read::filter(&target.kind, &target.at, &target.namespace, &list)?;
    let cache = call.server.cache();
    let revision = cache.fresh().await.map_err(store_status)?;
    let request = PageRequest { filter: &filter, after: None, limit: list.limit };
    let (page, _) = read::resource(&call.server, &target.kind)?.page_of_newest(&request);
    let mut done: Vec<Option<Written>> = Vec::with_capacity(page.objects.len());
    for objects in page.objects.chunks(AT_ONCE) {
        let mut deletions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(objects.len());
        for object in objects {
            deletions.push(Box::pin(delete_found(call, target, object, &options)));
        }
        done.extend(futures::future::try_join_all(deletions).await?);
    }
    let stages = done.iter().flatten().next().map(|written| written.stages.clone());
    // As they were found.
    let found = page.objects.into_iter().zip(&done).filter(|(_, written)| written.is_some());
    let objects = found.map(|(object, _)| object).collect();
    let mut response = renderer.list(objects, &ListMeta { revision, ..ListMeta::default() });
    response.extensions_mut().insert(stages.unwrap_or_default());
    content::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Deletes one object of a collection; None where it is gone already.
async fn delete_found(
    call: &Call,
    target: &Target,
    object: &windlass_sdk_meta::Object,
    options: &DeleteOptions,
) -> Result<Option<Written>, Status> {
    let within = Target {
        kind: target.kind.clone(),
        at: target.at.clone(),
        namespace: object.namespace.to_string(),
    };
    match delete(call, &within, &object.name, options).await {
        Ok(written) => Ok(Some(written)),
        Err(status) if status.reason == Reason::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// The options: the body's if there is one, else the query's.
async fn read_options(call: &Call, body: Body) -> Result<DeleteOptions, Status> {
    let bytes = content::read_body(body).await?;
    if bytes.is_empty() {
        let options = from_query(&call.info.query);
        options.check()?;
        return Ok(options);
    }
    let body_type = content::body_type(&call.parts.headers)?;
    // They come in any group-version: in the objects' own, in v1, in this one.
    let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
    let read = body::read(&bytes, body_type, &kind.into(), FieldValidation::Ignore);
    let (tree, _) = read.map_err(of_another_kind)?;
    let mut options: DeleteOptions = serde_json::from_value(tree)
        .map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))?;
    // kubectl names a dry run in both places, other clients in one.
    if options.dry_run.is_empty() {
        options.dry_run = from_query(&call.info.query).dry_run;
    }
    options.check()?;
    Ok(options)
}

/// Of options upstream says only that there is no such kind.
fn of_another_kind(mut status: Status) -> Status {
    let prefix = " cannot be handled as a DeleteOptions: ";
    if let Some((_, why)) = status.message.split_once(prefix)
        && why.starts_with("no kind")
    {
        status.message = why.to_owned();
    }
    status
}

fn from_query(query: &Query) -> DeleteOptions {
    let text = |key: &str| query.get(key).filter(|text| !text.is_empty()).map(str::to_owned);
    let preconditions = Preconditions {
        uid: text("preconditions.uid"),
        resource_version: text("preconditions.resourceVersion"),
    };
    DeleteOptions {
        grace_period_seconds: query.number("gracePeriodSeconds"),
        preconditions: Some(preconditions),
        orphan_dependents: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
        propagation_policy: text("propagationPolicy"),
        dry_run: query.all("dryRun").filter(|v| !v.is_empty()).map(str::to_owned).collect(),
    }
}
