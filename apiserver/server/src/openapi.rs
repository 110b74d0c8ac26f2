//! `/openapi/v3`: an index of the served group-versions, and one document for each, made when it
//! is first asked for: kubectl asks for those of the kinds it works with, not for all.

use std::{collections::BTreeMap, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use windlass_apiserver_custom::{Dialect, definitions, fingerprint};
use windlass_apiserver_registry::{Kind, Registry, Rows, Subresource};
use windlass_apiserver_schema::{Descriptions, ResourcePath, Schema, openapi_v3};
use windlass_sdk_meta::{Reason, Status};

use crate::{ApiServer, content, discovery::hex, request::RequestInfo};

const JSON: &str = "application/json";

/// Documents made so far, by group-version path (`api/v1`, `apis/apps/v1`).
pub(crate) struct Documents {
    descriptions: Arc<dyn Descriptions + Send + Sync>,
    made: Mutex<BTreeMap<String, Document>>,
}

#[derive(Clone)]
struct Document {
    bytes: Bytes,
    etag: HeaderValue,
    /// Of what it was made from, as the index has it.
    hash: String,
}

impl Documents {
    pub fn new(descriptions: Arc<dyn Descriptions + Send + Sync>) -> Self {
        Self { descriptions, made: Mutex::default() }
    }

    /// The document of a group-version; None where nothing is served in it.
    fn get(&self, registry: &Registry, path: &str) -> Option<Document> {
        let (group, version) = group_version(path)?;
        let rows = registry.rows();
        let served = group_versions(&rows);
        let hash = served.get(path)?.clone();
        let mut made = self.made.lock();
        // Custom kinds come and go.
        made.retain(|path, document| served.get(path) == Some(&document.hash));
        if let Some(document) = made.get(path) {
            return Some(document.clone());
        }
        let tree = self.build(&rows, group, version);
        let bytes = Bytes::from(serde_json::to_vec(&tree).unwrap_or_default());
        let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)).to_uppercase());
        let document = Document { bytes, etag: HeaderValue::from_str(&etag).ok()?, hash };
        made.insert(path.to_owned(), document.clone());
        Some(document)
    }

    fn build(&self, rows: &Rows, group: &str, version: &str) -> Value {
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
        let mut custom = Map::new();
        let mut names: BTreeMap<&str, (String, String)> = BTreeMap::new();
        for kind in &served {
            if let Some((name, list, schemas)) = definitions(kind, Dialect::V3) {
                custom.extend(schemas);
                names.insert(&kind.plural, (name, list));
            }
        }
        let named = |kind: &Kind, sub: Option<&Subresource>| {
            let (name, list) = names.get(&*kind.plural)?;
            sub.is_none_or(|sub| sub.kind == kind.kind).then_some((name.as_str(), list.as_str()))
        };
        let paths: Vec<ResourcePath<'_>> = all
            .iter()
            .map(|(kind, sub, verbs)| ResourcePath {
                custom: named(kind, *sub),
                plural: &kind.plural,
                subresource: sub.map(|sub| &*sub.name),
                kind_group: sub.map_or(group, |sub| &sub.group),
                kind_version: sub.map_or(version, |sub| &sub.version),
                kind: sub.map_or(&kind.kind, |sub| &sub.kind),
                namespaced: kind.namespaced,
                verbs,
            })
            .collect();
        openapi_v3(group, version, &paths, custom, &*self.descriptions)
    }
}

/// The answer where the path is one of these.
pub(crate) fn serve(
    server: &ApiServer,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Option<Result<Response<Body>, Status>> {
    if info.path == "/openapi/v2" {
        return Some(Ok(version_2(headers)));
    }
    let rest = info.path.strip_prefix("/openapi/v3")?.trim_matches('/');
    if !accepts_json(headers) {
        let why = format!("only the following media types are accepted: {JSON}");
        return Some(Err(Status::new(Reason::NotAcceptable, why)));
    }
    if rest.is_empty() {
        return Some(Ok(content::respond_value(StatusCode::OK, &index(&server.registry().rows()))));
    }
    let document = server.documents().get(server.registry(), rest)?;
    let known = headers.get(header::IF_NONE_MATCH) == Some(&document.etag);
    let mut response = match known {
        true => content::plain(StatusCode::NOT_MODIFIED, JSON, Bytes::new()),
        false => content::respond(
            StatusCode::OK,
            document.bytes.to_vec(),
            &content::Accepted {
                shape: content::Shape::Object,
                yaml: false,
                gzip: content::accepts_gzip(headers),
            },
        ),
    };
    response.headers_mut().insert(header::ETAG, document.etag);
    Some(Ok(response))
}

/// Clients that miss a kind in version 3 look it up in version 2 before they say that it is unknown.
/// Everything served is described in version 3, so this one describes nothing.
fn version_2(headers: &HeaderMap) -> Response<Body> {
    // Not the type that clients ask for: its `@` is no character of a media type (RFC 9110, 5.6.2).
    const BINARY: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accept = content::joined(headers, &header::ACCEPT);
    if !accept.contains("proto-openapi.spec.v2") {
        let document = json!({"swagger": "2.0", "paths": {}, "definitions": {},
            "info": {"title": "Kubernetes", "version": Schema::builtin().version()}});
        return content::respond_value(StatusCode::OK, &document);
    }
    // The fields `swagger`, `info`, `paths` and `definitions` of gnostic's Document.
    let text = |out: &mut Vec<u8>, tag: u8, text: &[u8]| {
        // Every text here is shorter than 128 bytes, so its length is one byte.
        out.extend_from_slice(&[tag, text.len() as u8]);
        out.extend_from_slice(text);
    };
    let (mut info, mut document) = (Vec::new(), Vec::new());
    text(&mut info, 0x0a, b"Kubernetes");
    text(&mut info, 0x12, Schema::builtin().version().as_bytes());
    text(&mut document, 0x0a, b"2.0");
    text(&mut document, 0x12, &info);
    text(&mut document, 0x42, b"");
    text(&mut document, 0x4a, b"");
    content::plain(StatusCode::OK, BINARY, document)
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let accept = content::joined(headers, &header::ACCEPT);
    accept.trim().is_empty()
        || accept.split(',').any(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            [JSON, "*/*", "application/*"].contains(&media)
        })
}

/// `{"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=..."}}}`
fn index(registry: &Rows) -> Value {
    let paths: Map<String, Value> = group_versions(registry)
        .into_iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// Served group-versions, with a hash of what is served in each: of names, so that the index costs
/// no document.
fn group_versions(registry: &Rows) -> BTreeMap<String, String> {
    let mut served: BTreeMap<String, String> = BTreeMap::new();
    for kind in registry.kinds() {
        for at in &kind.served {
            let root = if at.group.is_empty() { "api" } else { "apis" };
            let names = served.entry(format!("{root}/{}", at.api_version())).or_default();
            *names += &kind.plural;
            *names += fingerprint(kind).unwrap_or_default();
            kind.subresources.iter().for_each(|sub| *names += &format!("/{},", sub.name));
        }
    }
    let build = (Schema::builtin().version(), env!("CARGO_PKG_VERSION"));
    for names in served.values_mut() {
        *names = hex(&Sha256::digest(format!("{build:?}{names}"))).to_uppercase();
    }
    served
}

fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}
