//! `/scale`: an autoscaling/v1 Scale over whatever kind has replicas.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;
use windlass_apiserver_access::Operation;
use windlass_apiserver_registry::{
    apply_scale, partial_metadata, read_scale, scale_table, write_applied_scale, write_scale,
};
use windlass_apiserver_schema::FieldValidation;
use windlass_sdk_meta::{GroupVersionKind, Status};

use super::{Call, Target, change, finish};
use crate::{
    body::{WriteOptions, check_as, read_config},
    content,
    negotiate::{Accepted, Offer, Shape},
    read,
    render::include_object,
    write::{Apply, Proposal},
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
    Ok(content::respond_tree(StatusCode::OK, &accepted.in_version(shaped), &accepted))
}

/// What the client wants the Scale to be.
enum Wish {
    Whole(Value),
    Patch(change::Patch),
    /// By server-side apply.
    Config(Value),
}

impl Wish {
    /// Reads the body of a PUT or PATCH. The second part holds warnings.
    async fn read(
        call: &Call,
        target: &Target,
        body: Body,
        options: &WriteOptions,
    ) -> Result<(Self, Vec<String>), Status> {
        let validation = options.validation;
        if call.info.verb != "patch" {
            let (scale, warnings) = change::read_tree(call, body, scale_kind(), validation).await?;
            return Ok((Self::Whole(scale), warnings));
        }
        let applies = change::applies(call);
        options.check_apply(applies)?;
        if applies {
            let bytes = content::read_body(body).await?;
            let (config, warnings) = read_config(&bytes, &scale_kind().into(), validation)?;
            return Ok((Self::Config(config), warnings));
        }
        let custom = target.kind.is_custom();
        let patch = change::Patch::read(call, body, custom, validation).await?;
        Ok((Self::Patch(patch), Vec::new()))
    }
}

/// PUT or PATCH of the Scale.
pub(super) async fn change(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let accepted = Accepted::negotiate(&call.parts, Offer::TREE)?;
    let kind = if call.info.verb == "patch" { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(&call.info.query, kind)?;
    let (wish, mut warnings) = Wish::read(call, target, body, &options).await?;
    let manager = call.manager(&options.field_manager);
    let name = call.info.name.as_str();
    let mut write = call.write(target, Operation::Update, name, &manager, options.dry_run);
    write.applies = matches!(wish, Wish::Config(_));
    let (by, force) = (write.by(), options.force == Some(true));
    let now = call.server.clock().now();
    let mut found = Vec::new();
    let written = write
        .run(&mut |old| {
            let old = old.ok_or_else(|| Status::not_found(&target.kind.group_resource(), name))?;
            let (object, warned) = match &wish {
                Wish::Whole(scale) => (scale.clone(), Vec::new()),
                Wish::Patch(patch) => patched(target, patch, old, options.validation)?,
                Wish::Config(config) => {
                    let scale = apply_scale(&target.kind, old, config, by, force, now)?;
                    check_as(&scale, &scale_kind().into(), FieldValidation::Ignore)?
                }
            };
            found = warned;
            let apply: Apply = match by.applies {
                true => |kind, object, scale, _| write_applied_scale(kind, object, scale),
                false => |kind, object, scale, _| write_scale(kind, object, scale),
            };
            Ok(Proposal::Review { kind: scale_kind(), object, apply })
        })
        .await?;
    warnings.extend(found);
    let mut tree = written.tree.clone();
    tree["metadata"]["resourceVersion"] = written.object.revision.to_string().into();
    let response = respond(target, &tree, &accepted)?;
    Ok(finish(response, written, warnings))
}

/// What a patch makes of the Scale of a stored object.
fn patched(
    target: &Target,
    patch: &change::Patch,
    old: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let mut scale = read_scale(&target.kind, old)?;
    patch.apply(&mut scale, &scale_kind())?;
    check_as(&scale, &scale_kind().into(), validation)
}

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn respond(target: &Target, object: &Value, accepted: &Accepted) -> Result<Response<Body>, Status> {
    let scale = read_scale(&target.kind, object)?;
    Ok(content::respond_tree(StatusCode::OK, &scale, accepted))
}
