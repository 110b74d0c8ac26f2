//! Create, update, patch and bind: what each makes of the body and of what is stored.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use windlass_apiserver_access::Operation;
use windlass_apiserver_registry::{
    apply_at as apply_config, bind as bind_pod, json_patch, merge_patch,
};
use windlass_apiserver_schema::{FieldValidation, strategic_merge};
use windlass_sdk_meta::{GroupVersionKind, Reason, Status};

use super::{Call, Target, answer, finish, success};
use crate::{
    body::{self, Of, WriteOptions},
    content::{self, BodyType},
    write::Proposal,
};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A body that is read once, and again only where an attempt used it up.
struct Source {
    bytes: Bytes,
    body_type: BodyType,
    of: Of,
    validation: FieldValidation,
    first: Option<Value>,
    warnings: Vec<String>,
}

/// How a patch is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    Json,
    Merge,
    Strategic,
}

/// A patch, read.
pub(super) struct Patch {
    pub kind: PatchType,
    pub patch: Value,
    pub validation: FieldValidation,
}

impl Source {
    async fn read(
        call: &Call,
        body: Body,
        of: impl Into<Of>,
        validation: FieldValidation,
    ) -> Result<Self, Status> {
        let of = of.into();
        let body_type = content::body_type(&call.parts.headers)?;
        let bytes = content::read_body(body).await?;
        let (tree, warnings) = body::read(&bytes, body_type, &of, validation)?;
        call.warnings.lock().clone_from(&warnings);
        Ok(Self { bytes, body_type, of, validation, first: Some(tree), warnings })
    }

    fn tree(&mut self) -> Result<Value, Status> {
        match self.first.take() {
            Some(tree) => Ok(tree),
            None => {
                let read = body::read(&self.bytes, self.body_type, &self.of, self.validation);
                read.map(|(tree, _)| tree)
            }
        }
    }
}

impl Patch {
    /// Reads a patch; 415 for types that aren't served.
    pub async fn read(
        call: &Call,
        body: Body,
        is_custom: bool,
        validation: FieldValidation,
    ) -> Result<Self, Status> {
        let kind = match content::media_type(&call.parts.headers) {
            JSON_PATCH => PatchType::Json,
            MERGE_PATCH => PatchType::Merge,
            STRATEGIC_PATCH if !is_custom => PatchType::Strategic,
            _ if is_custom => {
                let known = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH];
                return Err(content::unsupported(&known));
            }
            _ => {
                return Err(Status {
                    details: Some(Box::default()),
                    ..Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type")
                });
            }
        };
        let bytes = content::read_body(body).await?;
        let patch = serde_json::from_slice(&bytes)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self { kind, patch, validation })
    }

    /// Applies it to a tree of that kind.
    pub fn apply(&self, tree: &mut Value, kind: &GroupVersionKind) -> Result<(), Status> {
        match self.kind {
            PatchType::Json => json_patch(tree, &self.patch),
            PatchType::Merge => merge_patch(tree, &self.patch),
            PatchType::Strategic => {
                let schema = windlass_apiserver_schema::Schema::builtin();
                let facts = schema.kind(&kind.group, &kind.version, &kind.kind);
                let facts =
                    facts.ok_or_else(|| content::unsupported(&[JSON_PATCH, MERGE_PATCH]))?;
                strategic_merge(tree, &self.patch, facts).map_err(Status::from)
            }
        }
    }
}

pub(super) async fn create(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let renderer = target.renderer(call, true)?;
    let of = Of::kind(&target.kind, &target.at);
    let mut source = Source::read(call, body, of, options.validation).await?;
    let manager = call.manager(&options.field_manager);
    let write = call.write(target, Operation::Create, "", &manager, options.dry_run);
    let written = write
        .run(&mut |_| identified(call, target, &mut source, None).map(Proposal::Create))
        .await?;
    Ok(answer(written, &renderer, source.warnings))
}

/// Takes owners that are there twice out of an object, and returns what to tell its client.
fn single_owners(tree: &mut Value, what: &str) -> Option<String> {
    let owners = tree["metadata"].get_mut("ownerReferences")?.as_array_mut()?;
    let mut seen: Vec<Value> = Vec::new();
    let mut twice: Vec<String> = Vec::new();
    for owner in std::mem::take(owners) {
        if seen.contains(&owner) {
            twice.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            seen.push(owner);
        }
    }
    *owners = seen;
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains {what}; API server dedups owner references in \
             1.20+, and may reject such requests as early as 1.24; please fix your requests; \
             duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

/// The body, held to its request, in the stored version.
fn identified(
    call: &Call,
    target: &Target,
    source: &mut Source,
    name: Option<&str>,
) -> Result<Value, Status> {
    let mut tree = source.tree()?;
    let said = tree["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(name) = name.filter(|_| said.is_empty()) {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    target.kind.identify(&mut tree, &target.at, &target.namespace, name)?;
    let warning = single_owners(&mut tree, "duplicate entries");
    call.warnings.lock().extend(warning.clone().filter(|text| !source.warnings.contains(text)));
    // A body may be read again where a write has to be tried again.
    source.warnings.extend(warning.filter(|text| !source.warnings.contains(text)));
    target.kind.convert(&mut tree, target.kind.storage());
    Ok(tree)
}

pub(super) async fn update(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "UpdateOptions")?;
    let renderer = target.renderer(call, true)?;
    let of = Of::kind(&target.kind, &target.at);
    let mut source = Source::read(call, body, of, options.validation).await?;
    let manager = call.manager(&options.field_manager);
    let name = call.info.name.as_str();
    let write = call.write(target, Operation::Update, name, &manager, options.dry_run);
    let upsert = target.kind.create_on_update && call.info.subresource.is_empty();
    let written = write
        .run(&mut |old| match old {
            None if upsert => {
                call.may_create()?;
                identified(call, target, &mut source, Some(name)).map(Proposal::Create)
            }
            // What the body says comes first.
            None => identified(call, target, &mut source, Some(name))
                .and_then(|_| Err(Status::not_found(&target.kind.group_resource(), name))),
            Some(_) => identified(call, target, &mut source, Some(name)).map(Proposal::Update),
        })
        .await?;
    Ok(answer(written, &renderer, source.warnings))
}

pub(super) async fn patch(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "PatchOptions")?;
    let applies = applies(call);
    options.check_apply(applies)?;
    if applies {
        return apply(call, target, body, &options).await;
    }
    let renderer = target.renderer(call, true)?;
    let patch = Patch::read(call, body, target.kind.is_custom(), options.validation).await?;
    let manager = call.manager(&options.field_manager);
    let name = call.info.name.as_str();
    let write = call.write(target, Operation::Update, name, &manager, options.dry_run);
    let mut warnings = Vec::new();
    let written = write
        .run(&mut |old| {
            let old = old.ok_or_else(|| Status::not_found(&target.kind.group_resource(), name))?;
            let (tree, found) = patched(target, &patch, old, name)?;
            warnings = found;
            Ok(Proposal::Update(tree))
        })
        .await?;
    Ok(answer(written, &renderer, warnings))
}

/// A PATCH is a server-side apply.
pub(super) fn applies(call: &Call) -> bool {
    content::media_type(&call.parts.headers) == APPLY_PATCH
}

/// Server-side apply: the body is what its manager wants, and makes the object where there is none.
async fn apply(
    call: &Call,
    target: &Target,
    body: Body,
    options: &WriteOptions,
) -> Result<Response<Body>, Status> {
    let renderer = target.renderer(call, true)?;
    let bytes = content::read_body(body).await?;
    let (kind, name) = (&target.kind, call.info.name.as_str());
    let (mut config, warnings) =
        body::read_config(&bytes, &Of::kind(kind, &target.at), options.validation)?;
    kind.identify(&mut config, &target.at, &target.namespace, Some(name))?;
    let manager = &options.field_manager;
    let mut write = call.write(target, Operation::Update, name, manager, options.dry_run);
    write.applies = true;
    let (by, force) = (write.by(), options.force == Some(true));
    let now = call.server.clock().now();
    let may_make = kind.has_verb("create") && call.info.subresource.is_empty();
    let written = write
        .run(&mut |old| {
            if old.is_none() {
                if !may_make {
                    return Err(Status::not_found(&kind.group_resource(), name));
                }
                call.may_create()?;
            }
            let object = apply_config(kind, &target.at, old, &config, by, force, now)?;
            let (object, _) = body::check(&object, kind, kind.storage(), FieldValidation::Ignore)?;
            Ok(if old.is_some() { Proposal::Update(object) } else { Proposal::Create(object) })
        })
        .await?;
    Ok(answer(written, &renderer, warnings))
}

/// What a patch makes of the stored object, in the stored version.
fn patched(
    target: &Target,
    patch: &Patch,
    old: &Value,
    name: &str,
) -> Result<(Value, Vec<String>), Status> {
    let kind = &target.kind;
    let mut tree = old.clone();
    kind.convert(&mut tree, &target.at);
    patch.apply(&mut tree, &kind.gvk_in(&target.at))?;
    let (mut tree, warnings) = body::check(&tree, kind, &target.at, patch.validation)?;
    kind.identify(&mut tree, &target.at, &target.namespace, Some(name))?;
    kind.convert(&mut tree, kind.storage());
    Ok((tree, warnings))
}

/// `pods/NAME/binding`.
pub(super) async fn bind(
    call: &Call,
    target: &Target,
    name: &str,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let gvk = binding_kind();
    let source = Source::read(call, body, gvk, options.validation).await?;
    bind_with(call, target, name, source, &options).await
}

/// POST of a Binding to its collection: the body names the pod.
pub(super) async fn bind_by_body(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let target = Target::of(call, "", "v1", "pods")?;
    if target.namespace.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let mut source = Source::read(call, body, binding_kind(), options.validation).await?;
    let tree = source.tree()?;
    let name = tree["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    source.first = Some(tree);
    bind_with(call, &target, &name, source, &options).await
}

fn binding_kind() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Binding")
}

async fn bind_with(
    call: &Call,
    target: &Target,
    name: &str,
    mut source: Source,
    options: &WriteOptions,
) -> Result<Response<Body>, Status> {
    let manager = call.manager(&options.field_manager);
    let mut write = call.write(target, Operation::Create, name, &manager, options.dry_run);
    write.subresource = "binding";
    let written = write
        .run(&mut |old| {
            if old.is_none() {
                return Err(Status::not_found(&target.kind.group_resource(), name));
            }
            Ok(Proposal::Review {
                kind: binding_kind(),
                object: source.tree()?,
                apply: |_, pod, binding, cx| bind_pod(pod, binding, cx),
            })
        })
        .await?;
    Ok(finish(success(call, StatusCode::CREATED, None), written, source.warnings))
}

/// Reads a new object of the target's kind, held to its request.
pub(super) async fn read_identified(
    call: &Call,
    target: &Target,
    body: Body,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let of = Of::kind(&target.kind, &target.at);
    let mut source = Source::read(call, body, of, validation).await?;
    let tree = identified(call, target, &mut source, None)?;
    Ok((tree, source.warnings))
}

pub(super) async fn read_tree(
    call: &Call,
    body: Body,
    kind: GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let mut source = Source::read(call, body, kind, validation).await?;
    Ok((source.tree()?, source.warnings))
}
