//! Objects in the form that a client asked for. The common form, a whole object in its stored
//! version, is a copy of shared bytes; everything else goes through a tree.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::io::Write as _;
use windlass_apiserver_registry::{GroupVersion, IncludeObject, Kind, partial_metadata};
use windlass_sdk_meta::{Clock, Object, Status};

use crate::{
    cache::Form,
    content::{self, Accepted, Shape},
    request::Query,
};

/// Lists from this many objects on are sent as they are written, not gathered first.
const STREAM_FROM_OBJECTS: usize = 500;
/// Size of the pieces then.
const PIECE_BYTES: usize = 64 * 1024;

/// How to write objects of one kind for one request.
#[derive(Clone)]
pub(crate) struct Renderer {
    pub kind: Arc<Kind>,
    pub at: GroupVersion,
    pub accepted: Accepted,
    include: IncludeObject,
    clock: Arc<dyn Clock>,
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub revision: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl Renderer {
    pub fn new(
        kind: Arc<Kind>,
        at: GroupVersion,
        accepted: Accepted,
        query: &Query,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Status> {
        let include = query.get("includeObject").unwrap_or_default();
        let include = IncludeObject::parse(include).ok_or_else(|| {
            Status::bad_request(format!("unrecognized includeObject value: {include:?}"))
        })?;
        Ok(Self { kind, at, accepted, include, clock })
    }

    /// Requests with equal forms get equal bytes.
    pub fn form(&self) -> Form {
        let Self { at, accepted, include, .. } = self;
        Form(format!("{:?} {}/{} {include:?}", accepted.shape, at.group, at.version).into())
    }

    fn is_stored_form(&self, object: &Object) -> bool {
        self.accepted.shape == Shape::Object
            && self.at == *self.kind.storage()
            && self.kind.strategy.serves_stored(object)
    }

    /// An answer that is one object.
    pub fn one(&self, code: StatusCode, object: &Object) -> Response<Body> {
        let mut out = Vec::new();
        self.write(object, object.revision, true, &mut out);
        content::respond(code, out, &self.accepted)
    }

    /// Writes an object on its own, as get and watch show it: in a Table, it is the only row.
    pub fn write(&self, object: &Object, revision: u64, headers: bool, out: &mut Vec<u8>) {
        if self.is_stored_form(object) {
            return write_stored(object, revision, out);
        }
        let tree = self.tree(object, revision);
        let value = match self.accepted.shape {
            Shape::Object => tree,
            Shape::Metadata => partial_metadata(&tree),
            Shape::Table => {
                let metadata = json!({"resourceVersion": revision.to_string()});
                let row = self.kind.row(&tree, self.include, self.clock.now());
                self.kind.table(vec![row], metadata, headers)
            }
        };
        to_json(&value, out);
    }

    /// Writes an object as an item of a list; in a Table, a row.
    fn write_item(&self, object: &Object, out: &mut Vec<u8>) {
        if self.is_stored_form(object) {
            return write_stored(object, object.revision, out);
        }
        let tree = self.tree(object, object.revision);
        let value = match self.accepted.shape {
            Shape::Object => tree,
            Shape::Metadata => partial_metadata(&tree),
            Shape::Table => self.kind.row(&tree, self.include, self.clock.now()),
        };
        to_json(&value, out);
    }

    fn tree(&self, object: &Object, revision: u64) -> Value {
        let mut tree = self.kind.tree_of(object);
        if revision == 0 {
            tree["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
        } else if revision != object.revision {
            tree["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        }
        self.kind.convert(&mut tree, &self.at);
        tree
    }

    /// A bookmark's object: nothing but a revision.
    pub fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.accepted.shape {
            Shape::Table => self.kind.table(Vec::new(), metadata, false),
            Shape::Metadata => partial_metadata(&json!({"metadata": metadata})),
            Shape::Object => json!({"kind": self.kind.kind, "apiVersion": self.at.api_version(),
                "metadata": metadata}),
        }
    }

    /// An answer that is a list.
    pub fn list(self, objects: Vec<Arc<Object>>, meta: &ListMeta) -> Response<Body> {
        let (prefix, suffix) = self.frame_of_list(meta);
        let pieces = Pieces {
            gzip: None,
            objects: objects.into_iter(),
            renderer: self,
            prefix: Some(prefix),
            suffix: Some(suffix),
            first: true,
        };
        if pieces.objects.len() < STREAM_FROM_OBJECTS || pieces.renderer.accepted.yaml {
            let accepted = pieces.renderer.accepted;
            let all: Vec<u8> = pieces.flatten().collect();
            return content::respond(StatusCode::OK, all, &accepted);
        }
        pieces.stream()
    }

    /// What stands before and after the items.
    fn frame_of_list(&self, meta: &ListMeta) -> (Vec<u8>, &'static [u8]) {
        let mut metadata = match meta.revision {
            // What is computed has none.
            0 => json!({}),
            revision => json!({"resourceVersion": revision.to_string()}),
        };
        if let Some(token) = &meta.continue_token {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = meta.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        let (head, items) = match self.accepted.shape {
            Shape::Object => (
                json!({"kind": self.kind.list_kind, "apiVersion": self.at.api_version(),
                    "metadata": metadata}),
                "items",
            ),
            Shape::Metadata => (
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata}),
                "items",
            ),
            Shape::Table => (
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "columnDefinitions": self.kind.column_definitions()}),
                "rows",
            ),
        };
        let mut prefix = Vec::new();
        to_json(&head, &mut prefix);
        // The head is an object with members: its closing brace moves behind the items.
        prefix.pop();
        prefix.extend_from_slice(format!(",{items:?}:[").as_bytes());
        (prefix, b"]}")
    }
}

/// A list, written piece by piece.
struct Pieces {
    renderer: Renderer,
    objects: std::vec::IntoIter<Arc<Object>>,
    prefix: Option<Vec<u8>>,
    suffix: Option<&'static [u8]>,
    first: bool,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Pieces {
    fn stream(mut self) -> Response<Body> {
        let gzip = self.renderer.accepted.gzip;
        if gzip {
            self.gzip = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        }
        let pieces =
            futures::stream::iter(self.map(|piece| Ok::<_, axum::Error>(Bytes::from(piece))));
        let mut response = content::plain(StatusCode::OK, "application/json", Bytes::new());
        *response.body_mut() = Body::from_stream(pieces);
        if gzip {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }

    /// The next piece before compression.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let mut out = self.prefix.take().unwrap_or_default();
        while out.len() < PIECE_BYTES {
            let Some(object) = self.objects.next() else {
                out.extend_from_slice(self.suffix.take().unwrap_or_default());
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            self.renderer.write_item(&object, &mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.gzip.is_none() {
            return self.piece();
        }
        loop {
            let piece = self.piece();
            // Writing into memory has no way to fail.
            let Some(piece) = piece else {
                let encoder = self.gzip.take()?;
                return encoder.finish().ok().filter(|rest| !rest.is_empty());
            };
            let encoder = self.gzip.as_mut()?;
            let _ = encoder.write_all(&piece);
            if !encoder.get_ref().is_empty() {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
    }
}

fn write_stored(object: &Object, revision: u64, out: &mut Vec<u8>) {
    match revision {
        // A dry run of a create has none, and neither has what is computed.
        0 => out.extend_from_slice(object.encoded().bytes()),
        revision => object.encoded().write_with_revision(revision, out),
    }
}

pub(crate) fn to_json(value: &Value, out: &mut Vec<u8>) {
    // Writing JSON of a tree into memory has no way to fail.
    let _ = serde_json::to_writer(out, value);
}
