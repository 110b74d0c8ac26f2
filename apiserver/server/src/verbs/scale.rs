//! `/scale`: an autoscaling/v1 Scale over whatever kind has replicas.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;
use windlass_apiserver_access::Operation;
use windlass_apiserver_registry::{partial_metadata, read_scale, scale_table, write_scale};
use windlass_apiserver_schema::FieldValidation;
use windlass_sdk_meta::{GroupVersionKind, Status};

use super::{Call, Target, change, finish};
use crate::{
    body::WriteOptions,
    content,
    negotiate::{Accepted, Offer, Shape},
    read,
    render::include_object,
    write::Proposal,
};

pub(super) async fn get(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let accepted = Accepted::negotiate(&call.parts, Offer { shapes: true, ..Offer::TREE })?;
    let include = include_object(&call.info.query)?;
    let version = call.info.query.get("resourceVersion").unwrap_or_default();
    let at = (target.namespace.as_str(), call.info.name.as_str());
    let object = read::get(&call.server, &target.kind, at, version).await?;
    let scale = read_scale(&target.kind, &target.kind.tree_of(&object))?;
    let shaped = match accepted.shape {
        Shape::Object => scale,
        Shape::Metadata => partial_metadata(&scale),
        Shape::Table => scale_table(&scale, include, call.server.clock().now()),
    };
    Ok(content::respond_tree(StatusCode::OK, &shaped, &accepted))
}

/// What the client wants the Scale to be.
enum Wish {
    Whole(Value),
    Patch(change::Patch),
}

/// PUT or PATCH of the Scale.
pub(super) async fn change(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let accepted = Accepted::negotiate(&call.parts, Offer::TREE)?;
    let patching = call.info.verb == "patch";
    let kind = if patching { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(&call.info.query, kind)?;
    let (wish, mut warnings) = match patching {
        true => (
            Wish::Patch(
                change::Patch::read(call, body, target.kind.is_custom(), options.validation)
                    .await?,
            ),
            vec![],
        ),
        false => {
            let read = change::read_tree(call, body, scale_kind(), options.validation).await?;
            (Wish::Whole(read.0), read.1)
        }
    };
    let manager = call.manager(&options.field_manager);
    let name = call.info.name.as_str();
    let write = call.write(target, Operation::Update, name, &manager, options.dry_run);
    let mut found = Vec::new();
    let written = write
        .run(&mut |old| {
            let old = old.ok_or_else(|| Status::not_found(&target.kind.group_resource(), name))?;
            let (object, warned) = wanted(target, &wish, old, options.validation)?;
            found = warned;
            Ok(Proposal::Review {
                kind: scale_kind(),
                object,
                apply: |kind, object, scale, _| write_scale(kind, object, scale),
            })
        })
        .await?;
    warnings.extend(found);
    let mut tree = written.tree.clone();
    tree["metadata"]["resourceVersion"] = written.object.revision.to_string().into();
    let response = respond(target, &tree, &accepted)?;
    Ok(finish(response, written, warnings))
}

fn wanted(
    target: &Target,
    wish: &Wish,
    old: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match wish {
        Wish::Whole(scale) => Ok((scale.clone(), Vec::new())),
        Wish::Patch(patch) => {
            let mut scale = read_scale(&target.kind, old)?;
            patch.apply(&mut scale, &scale_kind())?;
            crate::body::check_as(&scale, &scale_kind().into(), validation)
        }
    }
}

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn respond(target: &Target, object: &Value, accepted: &Accepted) -> Result<Response<Body>, Status> {
    let scale = read_scale(&target.kind, object)?;
    Ok(content::respond_tree(StatusCode::OK, &scale, accepted))
}
