//! From a request that may go on to what it does. `serve` is the table of verbs and subresources;
//! reads go to `read` and `watch`, every change to `write`.

mod change;
mod evict;
mod remove;
mod reviews;
mod scale;
mod token;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Response, StatusCode, header, request::Parts};
use parking_lot::Mutex;
use serde_json::{Value, json};
use windlass_apiserver_access::{Operation, User};
use windlass_apiserver_registry::{GroupVersion, Kind, manager_name};
use windlass_sdk_meta::{GroupResource, Status};

use crate::{
    ApiServer, chain, computed, content,
    negotiate::{Accepted, Offer},
    options::ListOptions,
    read,
    render::Renderer,
    request::RequestInfo,
    streams,
    write::{Outcome, Write, Written},
};

/// A request that has passed the chain.
pub(crate) struct Call {
    pub server: Arc<ApiServer>,
    pub user: Arc<User>,
    pub parts: Parts,
    pub info: RequestInfo,
    /// What the body gave reason to warn of: told also where the request is refused.
    pub warnings: Arc<Mutex<Vec<String>>>,
}

/// The kind that a request is about, in the version it asks for.
pub(crate) struct Target {
    pub kind: Arc<Kind>,
    pub at: GroupVersion,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
}

/// Answers a request for a resource.
pub(crate) async fn serve(call: Call, body: Body) -> Result<Response<Body>, Status> {
    let RequestInfo { group, version, resource, .. } = &call.info;
    let kind = call.server.registry().resource(group, version, resource);
    let warning = kind.as_ref().and_then(|kind| kind.warning.clone());
    let names = kind.filter(|kind| kind.storage().group != *group);
    let names = names.map(|kind| (kind.group_resource(), GroupResource::new(group, resource)));
    let (accepted, of_body) = (Accepted::of_status(&call.parts), call.warnings.clone());
    let answer = answer_to(call, body).await;
    let mut response = match answer.map_err(|status| as_asked(status, names)) {
        Err(status) if status.code < 500 && (warning.is_some() || !of_body.lock().is_empty()) => {
            let mut response = content::respond_status(&status, &accepted);
            content::add_warnings(&mut response, &of_body.lock());
            response
        }
        answer => answer?,
    };
    if let Some(warning) = warning {
        content::add_warnings(&mut response, &[warning.into_owned()]);
    }
    Ok(response)
}

/// A kind that two groups serve is called by the one that was asked, also where it is refused.
/// `names`: of the group that stores it and of that one, where these differ.
fn as_asked(mut status: Status, names: Option<(GroupResource, GroupResource)>) -> Status {
    let Some((stored, asked)) = names else { return status };
    status.message = status.message.replacen(&format!("{stored} \""), &format!("{asked} \""), 1);
    if let Some(details) = &mut status.details
        && (&details.kind, &details.group) == (&stored.resource, &stored.group)
    {
        details.group = asked.group;
    }
    status
}

async fn answer_to(call: Call, body: Body) -> Result<Response<Body>, Status> {
    let info = &call.info;
    if (info.group.as_str(), info.resource.as_str(), info.verb) == ("", "bindings", "create") {
        return change::bind_by_body(&call, body).await;
    }
    let target = Target::find(&call)?;
    // A proxied request may have any method.
    if call.parts.method == Method::HEAD && info.subresource != "proxy" {
        return Err(Status::method_not_allowed());
    }
    let kind = &target.kind;
    if !info.tail.is_empty() && info.subresource != "proxy" {
        return Err(Status::unknown_path());
    }
    if info.subresource.is_empty() {
        let named = !info.name.is_empty();
        let fits = match info.verb {
            "create" => !named,
            "get" | "update" | "patch" | "delete" => named,
            _ => true,
        };
        if !fits || !kind.has_verb(info.verb) || !target.scope_fits(info) {
            return Err(Status::method_not_allowed());
        }
        return match info.verb {
            "create" if kind.virtual_only => reviews::create(&call, &target, body).await,
            "get" if kind.computed.is_some() => computed::get(&call, &target).await,
            "list" if kind.computed.is_some() => computed::list(&call, &target).await,
            "get" => get(&call, &target).await,
            "list" => list(&call, &target).await,
            "watch" => watch(&call, &target).await,
            "create" => change::create(&call, &target, body).await,
            "update" => change::update(&call, &target, body).await,
            "patch" => change::patch(&call, &target, body).await,
            "delete" => remove::one(&call, &target, body).await,
            "deletecollection" => remove::collection(&call, &target, body).await,
            _ => Err(Status::method_not_allowed()),
        };
    }
    let sub = kind.subresource(&info.subresource).ok_or_else(Status::unknown_path)?;
    if !sub.verbs.iter().any(|verb| verb == info.verb) || !target.scope_fits(info) {
        return Err(Status::method_not_allowed());
    }
    match (info.subresource.as_str(), info.verb) {
        ("log", _) => streams::log(&call, &target).await,
        ("proxy", _) => streams::proxy(call, &target, body).await,
        ("exec" | "attach" | "portforward", _) => streams::connect(call, &target).await,
        ("scale", "get") => scale::get(&call, &target).await,
        ("scale", "update" | "patch") => scale::change(&call, &target, body).await,
        ("binding", "create") => change::bind(&call, &target, &info.name, body).await,
        ("eviction", "create") => evict::create(&call, &target, body).await,
        ("token", "create") => token::create(&call, &target, body).await,
        (_, "get") => get(&call, &target).await,
        (_, "update") => change::update(&call, &target, body).await,
        (_, "patch") => change::patch(&call, &target, body).await,
        _ => Err(Status::unknown_path()),
    }
}

impl Target {
    fn find(call: &Call) -> Result<Self, Status> {
        let RequestInfo { group, version, resource, .. } = &call.info;
        Self::of(call, group, version, resource)
    }

    pub fn of(call: &Call, group: &str, version: &str, plural: &str) -> Result<Self, Status> {
        let kind = call.server.registry().resource(group, version, plural);
        let kind = kind.ok_or_else(Status::unknown_path)?;
        let at = kind.version(group, version).ok_or_else(Status::unknown_path)?.clone();
        let namespace = if kind.namespaced { call.info.namespace.clone() } else { String::new() };
        Ok(Self { kind, at, namespace })
    }

    /// A cluster-scoped kind has no namespace in its path (a Namespace's is its own name), and one
    /// object of a namespaced kind is only reached through its namespace.
    fn scope_fits(&self, info: &RequestInfo) -> bool {
        match self.kind.namespaced {
            true => !info.namespace.is_empty() || matches!(info.verb, "list" | "watch"),
            false => info.namespace.is_empty() || info.namespace == info.name,
        }
    }

    pub fn renderer(&self, call: &Call, shapes: bool) -> Result<Renderer, Status> {
        let gvk = self.kind.gvk_in(&self.at);
        let facts = windlass_apiserver_schema::Target::new(&gvk.group, &gvk.version, &gvk.kind);
        let stream = call.info.verb == "watch";
        let offer = Offer { protobuf: facts.has_protobuf(), shapes, stream };
        let accepted = Accepted::negotiate(&call.parts, offer)?;
        let (kind, at, clock) = (self.kind.clone(), self.at.clone(), call.server.clock().clone());
        Renderer::new(kind, at, accepted, &call.info.query, clock)
    }
}

impl Call {
    /// Who is named in `managedFields`.
    pub fn manager(&self, field_manager: &str) -> String {
        let agent = self.parts.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        manager_name(field_manager, agent)
    }

    /// A PUT of something that doesn't exist needs the right to create, too.
    pub fn may_create(&self) -> Result<(), Status> {
        let info = RequestInfo { verb: "create", ..self.info.clone() };
        chain::authorize(&self.server, &self.user, &info)
    }

    pub fn write<'a>(
        &'a self,
        target: &'a Target,
        operation: Operation,
        name: &'a str,
        manager: &'a str,
        dry_run: bool,
    ) -> Write<'a> {
        Write {
            server: &self.server,
            kind: &target.kind,
            user: &self.user,
            operation,
            subresource: &self.info.subresource,
            namespace: &target.namespace,
            admission_namespace: &self.info.namespace,
            name,
            dry_run,
            manager,
            applies: false,
            at: Some(&target.at),
            told: Some(&self.warnings),
        }
    }
}

async fn get(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let renderer = target.renderer(call, true)?;
    let version = call.info.query.get("resourceVersion").unwrap_or_default();
    let at = (target.namespace.as_str(), call.info.name.as_str());
    let object = read::get(&call.server, &target.kind, at, version).await?;
    Ok(renderer.one(StatusCode::OK, &object))
}

async fn list(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let renderer = target.renderer(call, true)?;
    let options = ListOptions::parse(&call.info.query)?;
    let filter = read::filter(&target.kind, &target.at, &target.namespace, &options)?;
    read::list(&call.server, renderer, &filter, &options).await
}

async fn watch(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let renderer = target.renderer(call, true)?;
    let options = ListOptions::parse(&call.info.query)?;
    let mut filter = read::filter(&target.kind, &target.at, &target.namespace, &options)?;
    if !call.info.name.is_empty() {
        filter.name = Some(call.info.name.as_str().into());
    }
    watch::serve(call, renderer, filter, &options).await
}

/// The answer to a write: the object as it is now.
fn answer(written: Written, renderer: &Renderer, warnings: Vec<String>) -> Response<Body> {
    let code = match written.outcome {
        Outcome::Created => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let response = renderer.one(code, &written.object);
    finish(response, written, warnings)
}

/// Adds what every answer to a write carries.
fn finish(
    mut response: Response<Body>,
    written: Written,
    mut warnings: Vec<String>,
) -> Response<Body> {
    warnings.extend(written.warnings);
    content::add_warnings(&mut response, &warnings);
    response.extensions_mut().insert(written.stages);
    response
}

fn success(call: &Call, code: StatusCode, details: Option<Value>) -> Response<Body> {
    let mut status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    match details {
        Some(details) => status["details"] = details,
        None => status["code"] = json!(code.as_u16()),
    }
    content::respond_tree(code, &status, &Accepted::of_status(&call.parts))
}
