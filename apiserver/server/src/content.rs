//! What comes in and what goes out: media types, body bounds and compression. Verbs hand over
//! finished bytes, a tree or a `Status` and never touch a header.

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use windlass_apiserver_schema::{Target, encode_protobuf};
use windlass_sdk_meta::{Reason, Status};

use crate::negotiate::{Accepted, Encoding, JSON, PROTOBUF, YAML};

/// Bytes of a request body that carries an object, as upstream's.
pub(crate) const BODY_BYTES: usize = 3 * 1024 * 1024;
/// Answers from this size on are compressed for clients that accept it, as upstream's.
const GZIP_FROM_BYTES: usize = 128 * 1024;
/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyType {
    Json,
    Yaml,
    Protobuf,
}

/// The type of a request's body; 415 for anything that isn't read here.
pub(crate) fn body_type(headers: &HeaderMap) -> Result<BodyType, Status> {
    match media_type(headers) {
        "" | JSON => Ok(BodyType::Json),
        YAML => Ok(BodyType::Yaml),
        PROTOBUF => Ok(BodyType::Protobuf),
        _ => Err(unsupported(&[JSON, YAML, PROTOBUF])),
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

/// An answer in JSON, in the spelling of it that the client asked for: YAML, or with line breaks.
pub(crate) fn respond(code: StatusCode, json: Vec<u8>, accepted: &Accepted) -> Response<Body> {
    let bytes = match accepted.encoding {
        Encoding::Yaml => to_yaml(&json),
        Encoding::Json if accepted.pretty => pretty(json),
        _ => json,
    };
    let media = if accepted.encoding == Encoding::Yaml { YAML } else { JSON };
    respond_pieces(code, media, std::iter::once(bytes), accepted.gzip)
}

/// An answer that is a tree with its `apiVersion` and `kind`.
pub(crate) fn respond_tree(code: StatusCode, tree: &Value, accepted: &Accepted) -> Response<Body> {
    if accepted.encoding == Encoding::Protobuf
        && let Some(bytes) = to_protobuf(tree)
    {
        return respond_pieces(code, PROTOBUF, std::iter::once(bytes), accepted.gzip);
    }
    respond(code, serde_json::to_vec(tree).unwrap_or_default(), accepted)
}

/// A tree in protobuf; None for what has no such form. Clients read the type of an answer and not
/// only what they asked for, so JSON is the way out.
pub(crate) fn to_protobuf(tree: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| tree[name].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let target = Target::new(group, version, text("kind"));
    let bytes = target.has_protobuf().then(|| encode_protobuf(tree, &target))?;
    bytes.inspect_err(|error| tracing::error!(%error, "an answer has no form in protobuf")).ok()
}

/// An answer in pieces that follow each other. It is sent whole where it is small; from 128 KiB on
/// it is compressed, for who accepts that, and sent as it is made.
pub(crate) fn respond_pieces(
    code: StatusCode,
    media: &'static str,
    pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
    gzip: bool,
) -> Response<Body> {
    let mut pieces = pieces.fuse();
    let mut first = pieces.next().unwrap_or_default();
    while first.len() <= GZIP_FROM_BYTES {
        let Some(piece) = pieces.next() else { return plain(code, media, first) };
        first.extend_from_slice(&piece);
    }
    let pieces = std::iter::once(first).chain(pieces);
    let mut response = plain(code, media, Bytes::new());
    if !gzip {
        *response.body_mut() = streamed(pieces);
        return response;
    }
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    *response.body_mut() = streamed(Compressed { pieces, encoder: Some(encoder) });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn streamed(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Body {
    let pieces = pieces.map(|piece| Ok::<_, axum::Error>(Bytes::from(piece)));
    Body::from_stream(futures::stream::iter(pieces))
}

/// Pieces, compressed as they come.
struct Compressed<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Compressed<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Writing into memory has no way to fail.
            let Some(piece) = self.pieces.next() else {
                let encoder = self.encoder.take()?;
                return encoder.finish().ok().filter(|rest| !rest.is_empty());
            };
            let encoder = self.encoder.as_mut()?;
            let _ = encoder.write_all(&piece);
            if !encoder.get_ref().is_empty() {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
    }
}

/// An answer that is a small JSON value.
pub(crate) fn respond_value(code: StatusCode, value: &Value) -> Response<Body> {
    plain(code, JSON, serde_json::to_vec(value).unwrap_or_default())
}

/// An error as its client reads it.
pub(crate) fn respond_status(status: &Status, accepted: &Accepted) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond_tree(code, &status.to_json(), accepted);
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

fn pretty(json: Vec<u8>) -> Vec<u8> {
    let tree = serde_json::from_slice::<Value>(&json);
    tree.ok().and_then(|tree| serde_json::to_vec_pretty(&tree).ok()).unwrap_or(json)
}

fn to_yaml(json: &[u8]) -> Vec<u8> {
    let tree: Value = serde_json::from_slice(json).unwrap_or_default();
    serde_yaml_ng::to_string(&tree).unwrap_or_default().into_bytes()
}
