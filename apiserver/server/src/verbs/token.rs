//! `/token`: a token for the object that the path names. Nothing is stored, so the stages of a
//! write are what is left of them: read, complete, admit, validate, admit, and sign.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;
use windlass_apiserver_access::{AdmissionRequest, Operation, token_request_kind};
use windlass_sdk_meta::Status;

use super::{Call, Target, change};
use crate::{
    body::WriteOptions,
    content,
    negotiate::{Accepted, Offer},
    read,
    server::store_status,
};

/// Answers a TokenRequest.
pub(super) async fn create(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let (server, kind) = (&call.server, token_request_kind());
    let tokens = server.authenticator().tokens().ok_or_else(Status::unknown_path)?;
    let accepted = Accepted::negotiate(&call.parts, Offer::TREE)?;
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let (mut request, mut warnings) =
        change::read_tree(call, body, kind.clone(), options.validation).await?;
    server.cache().fresh().await.map_err(store_status)?;
    let resource = target.kind.group_resource();
    let name = call.info.name.as_str();
    let account = read::resource(server, &target.kind)?
        .get(&target.namespace, name)
        .ok_or_else(|| Status::not_found(&resource, name))?;
    let lookup = &**server.cache();
    let mut admitted = AdmissionRequest {
        operation: Operation::Create,
        kind: &kind,
        resource: &resource,
        subresource: &call.info.subresource,
        namespace: &target.namespace,
        name,
        object: Some(&mut request),
        old: None,
        user: &call.user,
        dry_run: options.dry_run,
    };
    warnings.extend(server.admission().mutate(&mut admitted, lookup).await?);
    tokens.complete(&mut request, &account)?;
    tokens.validate(&request)?;
    let admitted = AdmissionRequest {
        operation: Operation::Create,
        kind: &kind,
        resource: &resource,
        subresource: &call.info.subresource,
        namespace: &target.namespace,
        name,
        object: Some(&mut request),
        old: None,
        user: &call.user,
        dry_run: options.dry_run,
    };
    warnings.extend(server.admission().validate(&admitted, lookup).await?);
    tokens.answer(&mut request, &account, lookup)?;
    Ok(respond(&request, &accepted, &warnings))
}

fn respond(request: &Value, accepted: &Accepted, warnings: &[String]) -> Response<Body> {
    let mut response = content::respond_tree(StatusCode::CREATED, request, accepted);
    content::add_warnings(&mut response, warnings);
    response
}
