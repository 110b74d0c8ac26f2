//! `/openapi/v3`: an index of the served group-versions, and one document for each; `/openapi/v2`: one
//! for all, in JSON and in gnostic's protobuf. Each is made when it is first asked for, since kubectl
//! asks only for those of the kinds it works with, and kept compressed, which is a tenth of its size.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use windlass_apiserver_custom::{Dialect, definitions, fingerprint};
use windlass_apiserver_registry::{Kind, Rows, Subresource};
use windlass_apiserver_schema::{
    Descriptions, OpenApiV2, OwnSchema, Pieces, ResourcePath, Schema, describe, openapi_v3,
};
use windlass_sdk_meta::{Reason, Status};

use crate::{
    ApiServer, content,
    discovery::hex,
    negotiate::{JSON, accepts_json},
    request::RequestInfo,
};

/// Part of every document's hash: to be counted up when documents are made differently, because
/// clients keep them for a year.
const MADE_AS: u32 = 2;
/// For how long clients may keep a document whose URL has its hash.
const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Documents of version 2 in JSON and in protobuf, by these names among those of version 3.
const V2_JSON: &str = "v2 in JSON";
const V2_BINARY: &str = "v2 in protobuf";

/// Hashes of what is described, by group-version path.
type Hashes = BTreeMap<String, String>;

/// Documents made so far, by group-version path (`api/v1`, `apis/apps/v1`).
pub(crate) struct Documents {
    descriptions: Arc<dyn Descriptions + Send + Sync>,
    made: Mutex<BTreeMap<String, Document>>,
}

#[derive(Clone)]
struct Document {
    /// Of what is described.
    hash: String,
    /// Compressed.
    gzip: Bytes,
}

impl Documents {
    pub fn new(descriptions: Arc<dyn Descriptions + Send + Sync>) -> Self {
        Self { descriptions, made: Mutex::default() }
    }

    /// A document, made where there is none of this hash yet; `all`: what is served now.
    fn get(
        &self,
        all: &Hashes,
        name: &str,
        hash: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Document {
        let mut made = self.made.lock();
        // Group-versions come and go with the kinds that came at run time.
        made.retain(|name, _| [V2_JSON, V2_BINARY].contains(&&**name) || all.contains_key(name));
        if let Some(document) = made.get(name).filter(|document| document.hash == hash) {
            return document.clone();
        }
        let document = Document { hash: hash.to_owned(), gzip: compress(&make()) };
        made.insert(name.to_owned(), document.clone());
        document
    }

    fn version_3(&self, rows: &Rows, group: &str, version: &str) -> Vec<u8> {
        served_in(rows, group, version, Dialect::V3, |paths| {
            openapi_v3(group, version, paths, &*self.descriptions)
        })
    }

    fn version_2(&self, rows: &Rows, all: &Hashes, binary: bool) -> Vec<u8> {
        let mut document = OpenApiV2::new(binary);
        for path in all.keys() {
            let Some((group, version)) = group_version(path) else { continue };
            let pieces: &mut dyn Pieces = &mut document;
            served_in(rows, group, version, Dialect::V2, |paths| {
                describe(group, version, paths, &*self.descriptions, pieces);
            });
        }
        document.finish()
    }
}

/// What is served in a group-version. Kinds that come at run time say in `own` what they are.
fn served_in<T>(
    rows: &Rows,
    group: &str,
    version: &str,
    dialect: Dialect,
    with: impl FnOnce(&[ResourcePath<'_>]) -> T,
) -> T {
    let served: Vec<_> =
        rows.kinds().filter(|kind| kind.version(group, version).is_some()).collect();
    let main = served.iter().map(|kind| (&**kind, None));
    let subs = served
        .iter()
        .flat_map(|kind| kind.subresources.iter().map(move |sub| (&**kind, Some(sub))));
    // Verbs are kept apart so that the paths can borrow them.
    let all: Vec<(&Kind, Option<&Subresource>, Vec<&str>)> = main
        .chain(subs)
        .map(|(kind, sub)| {
            let verbs = sub.map_or(&kind.verbs, |sub| &sub.verbs);
            (&**kind, sub, verbs.iter().map(|verb| &**verb).collect())
        })
        .collect();
    let described: BTreeMap<&str, (String, String, Map<String, Value>)> = served
        .iter()
        .filter_map(|kind| Some((&*kind.plural, definitions(kind, dialect)?)))
        .collect();
    let own = |kind: &Kind, sub: Option<&Subresource>| {
        let (name, list, schemas) = described.get(&*kind.plural)?;
        let own = OwnSchema { name, list, schemas };
        sub.is_none_or(|sub| sub.kind == kind.kind).then_some(own)
    };
    let paths: Vec<ResourcePath<'_>> = all
        .iter()
        .map(|(kind, sub, verbs)| ResourcePath {
            plural: &kind.plural,
            subresource: sub.map(|sub| &*sub.name),
            kind_group: sub.map_or(group, |sub| &sub.group),
            kind_version: sub.map_or(version, |sub| &sub.version),
            kind: sub.map_or(&kind.kind, |sub| &sub.kind),
            namespaced: kind.namespaced,
            verbs,
            own: own(kind, *sub),
        })
        .collect();
    with(&paths)
}

/// The answer where the path is one of these.
pub(crate) fn serve(
    server: &ApiServer,
    info: &RequestInfo,
    request: &Parts,
) -> Option<Result<Response<Body>, Status>> {
    let headers = &request.headers;
    if info.path == "/openapi/v2" {
        return Some(version_2(server, headers));
    }
    let rest = info.path.strip_prefix("/openapi/v3")?.trim_matches('/');
    if !accepts_json(headers) {
        let why = format!("only the following media types are accepted: {JSON}");
        return Some(Err(Status::new(Reason::NotAcceptable, why)));
    }
    // One moment's table: what is told and its hash belong together.
    let rows = server.registry().rows();
    let all = group_versions(&rows);
    if rest.is_empty() {
        let index = serde_json::to_vec(&index(&all)).unwrap_or_default();
        let etag = digest(&index);
        let answer = || content::plain(StatusCode::OK, JSON, index);
        return Some(Ok(tagged(headers, &etag, answer)));
    }
    let hash = all.get(rest)?;
    let (group, version) = group_version(rest)?;
    let asked = info.query.get("hash").filter(|asked| !asked.is_empty());
    if asked.is_some_and(|asked| asked != hash) {
        return Some(Ok(moved(&url(rest, hash))));
    }
    let mut response = tagged(headers, hash, || {
        let documents = server.documents();
        let make = || documents.version_3(&rows, group, version);
        documents.get(&all, rest, hash, make).answer(JSON, headers)
    });
    if asked.is_some() {
        keep(response.headers_mut(), server);
    }
    Some(Ok(response))
}

/// The media type of an answer isn't the one that Go clients ask for: its `@` is no character of a
/// media type (RFC 9110, 5.6.2).
fn version_2(server: &ApiServer, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    const BINARY: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let accept = content::joined(headers, &header::ACCEPT);
    let media = |range: &str| range.split(';').next().unwrap_or_default().trim().to_owned();
    let first = accept
        .split(',')
        .map(media)
        .find(|media| [JSON, "*/*", "application/*", BINARY, ASKED, ""].contains(&media.as_str()));
    let Some(first) = first else {
        let why = format!("only the following media types are accepted: {JSON}, {BINARY}");
        return Err(Status::new(Reason::NotAcceptable, why));
    };
    let (name, media, binary) = match first.ends_with("+protobuf") {
        true => (V2_BINARY, BINARY, true),
        false => (V2_JSON, JSON, false),
    };
    let (documents, rows) = (server.documents(), server.registry().rows());
    let all = group_versions(&rows);
    let hash = digest(format!("{all:?}").as_bytes());
    Ok(tagged(headers, &hash, || {
        let make = || documents.version_2(&rows, &all, binary);
        documents.get(&all, name, &hash, make).answer(media, headers)
    }))
}

impl Document {
    fn answer(&self, media: &'static str, headers: &HeaderMap) -> Response<Body> {
        if content::accepts_gzip(headers) {
            let mut response = content::plain(StatusCode::OK, media, self.gzip.clone());
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            return response;
        }
        let mut whole = Vec::new();
        match GzDecoder::new(&*self.gzip).read_to_end(&mut whole) {
            Ok(_) => content::plain(StatusCode::OK, media, whole),
            // What was compressed here is read back.
            Err(_) => content::plain(StatusCode::INTERNAL_SERVER_ERROR, media, Bytes::new()),
        }
    }
}

/// What `answer` makes, with its tag; nothing but the tag for who has it already.
fn tagged(
    headers: &HeaderMap,
    hash: &str,
    answer: impl FnOnce() -> Response<Body>,
) -> Response<Body> {
    let etag = format!("\"{hash}\"");
    let known = content::joined(headers, &header::IF_NONE_MATCH);
    let known = known.split(',').any(|known| [etag.as_str(), "*"].contains(&known.trim()));
    let mut response = match known {
        true => content::plain(StatusCode::NOT_MODIFIED, JSON, Bytes::new()),
        false => answer(),
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    // A hash is hexadecimal.
    headers.extend(HeaderValue::from_str(&etag).ok().map(|etag| (header::ETAG, etag)));
    response
}

/// The answer to a hash of an earlier document.
fn moved(url: &str) -> Response<Body> {
    let mut response = content::plain(StatusCode::MOVED_PERMANENTLY, JSON, Bytes::new());
    response.headers_mut().extend(HeaderValue::from_str(url).ok().map(|to| (header::LOCATION, to)));
    response
}

/// A URL with the hash of its document names the same bytes for ever.
fn keep(headers: &mut HeaderMap, server: &ApiServer) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let kept = jiff::SignedDuration::from_secs(KEPT.as_secs() as i64);
    let expires = server.clock().now().checked_add(kept).ok();
    let expires = expires.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let expires = expires.and_then(|text| HeaderValue::from_str(&text).ok());
    headers.extend(expires.map(|at| (header::EXPIRES, at)));
}

fn compress(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory has no way to fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// `{"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=..."}}}`
fn index(all: &Hashes) -> Value {
    let paths: Map<String, Value> = all
        .iter()
        .map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": url(path, hash)})))
        .collect();
    json!({"paths": paths})
}

fn url(path: &str, hash: &str) -> String {
    format!("/openapi/v3/{path}?hash={hash}")
}

/// Served group-versions, with a hash of what is served in each: of names, and of what defines the
/// kinds that came at run time, so that the index costs no document.
fn group_versions(rows: &Rows) -> Hashes {
    let mut served = Hashes::new();
    for kind in rows.kinds() {
        for at in &kind.served {
            let root = if at.group.is_empty() { "api" } else { "apis" };
            let names = served.entry(format!("{root}/{}", at.api_version())).or_default();
            *names += &format!("{} {:?}:", kind.plural, kind.verbs);
            *names += fingerprint(kind).unwrap_or_default();
            let subs = kind.subresources.iter();
            subs.for_each(|sub| *names += &format!("{} {:?}, ", sub.name, sub.verbs));
        }
    }
    let build = (Schema::builtin().version(), env!("CARGO_PKG_VERSION"), MADE_AS);
    for names in served.values_mut() {
        *names = digest(format!("{build:?}{names}").as_bytes());
    }
    served
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)).to_uppercase()
}

fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}
