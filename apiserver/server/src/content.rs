//! What comes in and what goes out: media types, body bounds, compression and the forms of an
//! answer. Verbs hand over finished bytes or a `Status` and never touch a header.

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use windlass_sdk_meta::{Reason, Status};

/// Bytes of a request body that carries an object, as upstream's.
pub(crate) const BODY_BYTES: usize = 3 * 1024 * 1024;
/// Answers from this size on are compressed for clients that accept it, as upstream's.
const GZIP_FROM_BYTES: usize = 128 * 1024;
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The form in which a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// `PartialObjectMetadata` and its list.
    Metadata,
}

/// What a request's `Accept` header comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub shape: Shape,
    pub yaml: bool,
    pub gzip: bool,
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyType {
    Json,
    Yaml,
    Protobuf,
}

impl Accepted {
    /// The first of the client's media types that can be served; 406 where none can.
    /// `shapes`: Table and metadata-only are possible here.
    pub fn negotiate(headers: &HeaderMap, shapes: bool) -> Result<Self, Status> {
        let gzip = accepts_gzip(headers);
        let accept = joined(headers, &header::ACCEPT);
        if accept.trim().is_empty() {
            return Ok(Self { shape: Shape::Object, yaml: false, gzip });
        }
        let found = accept.split(',').find_map(|range| served(range, shapes));
        let (shape, yaml) = found.ok_or_else(|| {
            let types = format!("{JSON}, {YAML}, application/vnd.kubernetes.protobuf");
            let is_known = |range: &str| served(range.split(';').next()?, shapes);
            if accept.split(',').any(|range| is_known(range).is_some()) {
                let why = format!("only the following media types are accepted: {types}");
                return Status::new(Reason::NotAcceptable, why);
            }
            let why = format!("406: Not Acceptable\n\nAvailable representations: {types}");
            Status { details: Some(Box::default()), ..Status::new(Reason::NotAcceptable, why) }
        })?;
        Ok(Self { shape, yaml, gzip })
    }
}

/// What one media range means here; None: it can't be served.
fn served(range: &str, shapes: bool) -> Option<(Shape, bool)> {
    let mut parts = range.split(';').map(str::trim);
    let yaml = match parts.next()? {
        JSON | "*/*" | "application/*" => false,
        YAML => true,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    if kind.is_empty() {
        return Some((Shape::Object, yaml));
    }
    let known = shapes && group == "meta.k8s.io" && version == "v1";
    match kind {
        "Table" if known => Some((Shape::Table, yaml)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if known => {
            Some((Shape::Metadata, yaml))
        }
        _ => None,
    }
}

/// The type of a request's body; 415 for anything that isn't read here.
pub(crate) fn body_type(headers: &HeaderMap) -> Result<BodyType, Status> {
    match media_type(headers) {
        "" | JSON => Ok(BodyType::Json),
        YAML => Ok(BodyType::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyType::Protobuf),
        _ => Err(unsupported(&[JSON, YAML, "application/vnd.kubernetes.protobuf"])),
    }
}

/// `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

pub(crate) fn unsupported(types: &[&str]) -> Status {
    let list = types.join(", ");
    let why = format!(
        "the body of the request was in an unknown format - accepted media types include: {list}"
    );
    Status::new(Reason::UnsupportedMediaType, why)
}

/// Reads a whole body; 413 past the bound.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {BODY_BYTES}"),
        )),
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// An answer in JSON, or what the client asked for instead.
pub(crate) fn respond(code: StatusCode, json: Vec<u8>, accepted: &Accepted) -> Response<Body> {
    let (bytes, media) = match accepted.yaml {
        true => (to_yaml(&json), YAML),
        false => (json, JSON),
    };
    if !accepted.gzip || bytes.len() < GZIP_FROM_BYTES {
        return plain(code, media, bytes);
    }
    let mut response = plain(code, media, gzip(&bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// An answer that is a small JSON value.
pub(crate) fn respond_value(code: StatusCode, value: &Value) -> Response<Body> {
    plain(code, JSON, serde_json::to_vec(value).unwrap_or_default())
}

/// An error as its client reads it.
pub(crate) fn respond_status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond_value(code, &status.to_json());
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Bytes of any media type, never to be cached.
pub(crate) fn plain(
    code: StatusCode,
    media: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Adds `Warning: 299 - "..."` for each warning, bounded as upstream bounds them.
pub(crate) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    const TOTAL_BYTES: usize = 4 * 1024;
    const BYTES: usize = 256;
    let mut total = 0;
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= BYTES).last();
        let text = if text.len() > BYTES { &text[..end.unwrap_or(0)] } else { &text };
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        total += quoted.len();
        if total > TOTAL_BYTES {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    joined(headers, &header::ACCEPT_ENCODING)
        .split(',')
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"))
}

pub(crate) fn joined(headers: &HeaderMap, name: &header::HeaderName) -> String {
    let values: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let out = Vec::with_capacity(bytes.len() / 4);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    // Writing into memory has no way to fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn to_yaml(json: &[u8]) -> Vec<u8> {
    let tree: Value = serde_json::from_slice(json).unwrap_or_default();
    serde_yaml_ng::to_string(&tree).unwrap_or_default().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(accepts: &[&str], expected: Expect) {
        let mut out = String::new();
        for accept in accepts {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("header"));
            let answer = match Accepted::negotiate(&headers, true) {
                Ok(accepted) => format!("{:?} yaml={}", accepted.shape, accepted.yaml),
                Err(status) => format!("{} {}", status.code, status.message),
            };
            out += &format!("{accept}: {answer}\n");
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn accept_headers() {
        check(
            &[
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                "application/json;as=Table;v=v9;g=meta.k8s.io",
                "application/vnd.kubernetes.protobuf,application/json",
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                "application/yaml",
                "*/*",
                "text/html",
            ],
            expect![[r#"
                application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json: Table yaml=false
                application/json;as=Table;v=v9;g=meta.k8s.io: 406 only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf
                application/vnd.kubernetes.protobuf,application/json: Object yaml=false
                application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json: Metadata yaml=false
                application/yaml: Object yaml=true
                */*: Object yaml=false
                text/html: 406 only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf
            "#]],
        );
    }
}
