//! What others need to check tokens of service accounts by themselves: the issuer's metadata and
//! its public keys, at the paths that OpenID Connect names. Open to service accounts by RBAC.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use windlass_apiserver_access::ISSUER;
use windlass_sdk_meta::Status;

use crate::{ApiServer, content};

const METADATA: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// The document where the path is one of these and tokens are issued.
pub(crate) fn serve(server: &ApiServer, path: &str) -> Option<Result<Response<Body>, Status>> {
    let tokens = server.authenticator().tokens()?;
    match path {
        METADATA => {
            // The address that the certificate covers whatever resolver a client has.
            let base = match server.services().endpoint() {
                Some(endpoint) => format!("https://{endpoint}"),
                None => ISSUER.to_owned(),
            };
            let document = tokens.discovery(&format!("{base}{KEYS}"));
            Some(Ok(public(&document, "application/json")))
        }
        KEYS => Some(Ok(public(&tokens.keys(), "application/jwk-set+json"))),
        _ => None,
    }
}

/// Clients may keep it for an hour, as upstream says.
fn public(document: &Value, media: &'static str) -> Response<Body> {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut response = content::plain(StatusCode::OK, media, bytes);
    let keep = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    response
}
