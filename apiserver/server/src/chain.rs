//! What every request passes, in order, from both doors: the network and the in-process service.
//! `filters` is the whole chain; verbs come after it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::body::Body;
use futures::FutureExt as _;
use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use windlass_apiserver_access::{Attributes, User};
use windlass_sdk_meta::{Reason, Status};

use crate::{
    ApiServer, content, discovery, health, impersonation, issuer,
    limits::Class,
    local::Caller,
    mounts,
    negotiate::Accepted,
    openapi,
    request::RequestInfo,
    verbs::{self, Call},
};

/// A request that is neither a watch nor a stream is answered within this time, as upstream's.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers a request, whatever happens.
pub(crate) async fn handle(server: &Arc<ApiServer>, request: Request<Body>) -> Response<Body> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query());
    let accepted = Accepted::of_status(&parts);
    let guarded = AssertUnwindSafe(filters(server, &info, parts, body)).catch_unwind();
    let mut response = match guarded.await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => {
            if status.code >= 500 {
                tracing::warn!(verb = info.verb, path = %info.path, code = status.code, %status);
            }
            content::respond_status(&status, &accepted)
        }
        Err(panic) => {
            let why = panic_text(&*panic);
            tracing::error!(verb = info.verb, path = %info.path, why, "a handler panicked");
            let why = format!("This request caused apiserver to panic: {why}");
            content::respond_status(&Status::internal(why), &accepted)
        }
    };
    let kind = server.registry().resource(&info.group, &info.version, &info.resource);
    // Who asks for what isn't served doesn't hear about the kind.
    let refused = [405, 406, 415].contains(&response.status().as_u16());
    let sub = info.subresource.as_str();
    let reached =
        kind.filter(|kind| !refused && (sub.is_empty() || kind.subresource(sub).is_some()));
    if let Some(text) = reached.and_then(|kind| kind.strategy.deprecation()) {
        content::add_warnings(&mut response, &[text.to_owned()]);
    }
    server.metrics().observe(&info, response.status().as_u16(), began.elapsed());
    response
}

/// The chain, for all but what is mounted beside the API: authentication, impersonation,
/// authorisation, limits, bounds on time, then the verb.
async fn filters(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, Status> {
    if let Some(mount) = server.mount(&info.path) {
        return mounts::serve(server, mount, parts, body).await;
    }
    let user = authenticate(server, &parts)?;
    let user = impersonation::act_as(server, user, &parts.headers)?;
    authorize(server, &user, info)?;
    let class = Class::of(info);
    let permit = server.limits().admit(class).await?;
    let (server_, info_) = (server.clone(), info.clone());
    let call = Call { server: server_, user, parts, info: info_, warnings: Arc::default() };
    let verb = dispatch(server, call, body);
    if class == Class::LongRunning {
        return Ok(holding(permit, verb.await?));
    }
    tokio::time::timeout(REQUEST_TIMEOUT, verb).await.unwrap_or_else(|_| {
        let why = "Timeout: request did not complete within the allotted timeout";
        Err(Status::new(Reason::Timeout, why))
    })
}

/// The permit is given back when the client stops reading.
pub(crate) fn holding(
    permit: Option<OwnedSemaphorePermit>,
    response: Response<Body>,
) -> Response<Body> {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

pub(crate) fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

/// In process: the identity that the service was made with. Over the network: a client
/// certificate, a bearer token, or nobody; credentials that don't hold are 401.
pub(crate) fn authenticate(server: &ApiServer, parts: &Parts) -> Result<Arc<User>, Status> {
    match parts.extensions.get::<Caller>() {
        Some(Caller::Component(user)) => return Ok(user.clone()),
        Some(Caller::Peer(Some(Ok(user)))) => return Ok(user.clone()),
        Some(Caller::Peer(Some(Err(_)))) => return Err(unauthorized()),
        Some(Caller::Peer(None)) | None => {}
    }
    let Some(credentials) = parts.headers.get(header::AUTHORIZATION) else {
        return Ok(Arc::new(User::anonymous()));
    };
    let token = credentials.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.ok_or_else(unauthorized)?;
    server.authenticator().bearer(token, &**server.cache()).map_err(|why| {
        tracing::debug!(why, "a bearer token is not accepted");
        unauthorized()
    })
}

pub(crate) fn authorize(server: &ApiServer, user: &User, info: &RequestInfo) -> Result<(), Status> {
    let attributes = Attributes {
        user,
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        fields: &info.fields,
        path: &info.path,
        is_resource: info.is_resource,
    };
    let decision = server.authorizer().authorize(&attributes, &**server.cache());
    match decision.allowed() {
        true => Ok(()),
        false => Err(attributes.forbidden(decision.reason())),
    }
}

async fn dispatch(
    server: &Arc<ApiServer>,
    call: Call,
    body: Body,
) -> Result<Response<Body>, Status> {
    if call.info.is_resource {
        return verbs::serve(call, body).await;
    }
    let (path, parts) = (call.info.path.as_str(), &call.parts);
    if !matches!(call.info.verb, "get" | "head") {
        return Err(Status::method_not_allowed());
    }
    if let Some(answer) = health::serve(server, &call.info)
        .or_else(|| issuer::serve(server, path))
        .or_else(|| openapi::serve(server, &call.info, parts))
        .or_else(|| discovery::serve(server.registry(), path, parts))
    {
        return answer;
    }
    match path {
        "/metrics" => {
            let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok(content::plain(StatusCode::OK, media, server.metrics().encode(server)))
        }
        _ => Err(Status::unknown_path()),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown reason")
}
