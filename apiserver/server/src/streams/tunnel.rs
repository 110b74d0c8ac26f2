//! Requests that are upgraded: the other side's answer is the client's, and from then on bytes are
//! copied both ways.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use windlass_sdk_meta::Status;

use super::{Address, pass_on, request};
use crate::verbs::Call;

/// Passes an upgrade on to a kubelet's path.
pub(super) async fn to_kubelet(
    call: &mut Call,
    address: &Address,
    path: &str,
    query: &str,
) -> Result<Response<Body>, Status> {
    let upgrade = wanted(&call.parts.headers)
        .ok_or_else(|| Status::bad_request("Upgrade request required"))?;
    let mut request = request(address, &call.parts.method, path, query)?.map(|()| Body::empty());
    pass_on(&call.parts.headers, request.headers_mut());
    ask_for(&upgrade, &mut request);
    let client = call.parts.extensions.remove::<OnUpgrade>();
    let response = call.server.kubelets().send(address, request).await.map_err(|why| {
        let Address { host, port } = address;
        Status::internal(format!("error dialing backend: https://{host}:{port}{path}: {why}"))
    })?;
    Ok(join(client, response))
}

/// What the request wants to be upgraded to, where it wants that.
pub(super) fn wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut tokens = headers.get_all(header::CONNECTION).iter().filter_map(|value| {
        let mut tokens = value.to_str().ok()?.split(',');
        tokens.find(|token| token.trim().eq_ignore_ascii_case("upgrade"))
    });
    tokens.next()?;
    headers.get(header::UPGRADE).cloned()
}

pub(super) fn ask_for(upgrade: &HeaderValue, request: &mut Request<Body>) {
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, upgrade.clone());
}

/// The other side's answer; where it grants the upgrade, both connections are joined once the
/// client has the answer.
pub(super) fn join(client: Option<OnUpgrade>, mut response: Response<Body>) -> Response<Body> {
    let granted = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upgraded = granted.then(|| hyper::upgrade::on(&mut response));
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(if granted { Body::empty() } else { body });
    *answer.status_mut() = parts.status;
    pass_on(&parts.headers, answer.headers_mut());
    let (Some(upgraded), Some(client)) = (upgraded, client) else { return answer };
    for name in [header::CONNECTION, header::UPGRADE] {
        copy(&parts.headers, &name, answer.headers_mut());
    }
    tokio::spawn(async move {
        let (Ok(near), Ok(far)) = tokio::join!(client, upgraded) else { return };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        // Ends when both directions have, or one breaks off: then there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    answer
}

fn copy(from: &HeaderMap, name: &HeaderName, to: &mut HeaderMap) {
    if let Some(value) = from.get(name) {
        to.insert(name.clone(), value.clone());
    }
}
