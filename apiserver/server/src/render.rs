//! Objects in the form that a client asked for. The common form, a whole object in its stored
//! version, is a copy of shared bytes; everything else goes through a tree.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_registry::{GroupVersion, IncludeObject, Kind, partial_metadata};
use windlass_apiserver_schema::watch_frame;
use windlass_sdk_meta::{Clock, Object, Status};

use crate::{
    cache::{EventType, Form},
    content,
    negotiate::{Accepted, Encoding, JSON, Shape},
    request::Query,
};

mod list;

pub(crate) use list::ListMeta;

/// How to write objects of one kind for one request.
#[derive(Clone)]
pub(crate) struct Renderer {
    pub kind: Arc<Kind>,
    pub at: GroupVersion,
    pub accepted: Accepted,
    include: IncludeObject,
    clock: Arc<dyn Clock>,
}

impl Renderer {
    pub fn new(
        kind: Arc<Kind>,
        at: GroupVersion,
        accepted: Accepted,
        query: &Query,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Status> {
        let include = include_object(query)?;
        Ok(Self { kind, at, accepted, include, clock })
    }

    /// Requests with equal forms get equal bytes.
    pub fn form(&self) -> Form {
        let Self { at, accepted, include, .. } = self;
        let Accepted { shape, beta, encoding, .. } = accepted;
        let version = format!("{}/{}", at.group, at.version);
        Form(format!("{shape:?} {beta} {encoding:?} {version} {include:?}").into())
    }

    fn is_stored_form(&self, object: &Object) -> bool {
        self.accepted.shape == Shape::Object
            && self.at == *self.kind.storage()
            && self.kind.strategy.serves_stored(object)
    }

    /// An answer that is one object.
    pub fn one(&self, code: StatusCode, object: &Object) -> Response<Body> {
        if self.accepted.encoding == Encoding::Protobuf {
            return content::respond_tree(
                code,
                &self.shaped(object, object.revision, true),
                &self.accepted,
            );
        }
        let mut out = Vec::new();
        self.write_json(object, object.revision, true, &mut out);
        content::respond(code, out, &self.accepted)
    }

    /// Writes an object on its own, as a watch shows it: in a Table, it is the only row.
    fn write_json(&self, object: &Object, revision: u64, headers: bool, out: &mut Vec<u8>) {
        match self.is_stored_form(object) {
            true => write_stored(object, revision, out),
            false => to_json(&self.shaped(object, revision, headers), out),
        }
    }

    /// An object on its own, in the shape that the client asked for.
    fn shaped(&self, object: &Object, revision: u64, headers: bool) -> Value {
        let shaped = match self.accepted.shape {
            Shape::Object => self.tree(object, revision),
            Shape::Metadata => partial_metadata(&self.tree(object, revision)),
            Shape::Table => {
                let metadata = json!({"resourceVersion": revision.to_string()});
                self.kind.table(vec![self.row(object, revision)], metadata, headers)
            }
        };
        self.accepted.in_version(shaped)
    }

    /// Writes an event of a watch.
    pub fn event(
        &self,
        event: EventType,
        object: &Object,
        revision: u64,
        headers: bool,
        out: &mut Vec<u8>,
    ) {
        if self.accepted.encoding == Encoding::Protobuf {
            return self.frame(event.name(), &self.shaped(object, revision, headers), out);
        }
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(event.name().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        self.write_json(object, revision, headers, out);
        out.extend_from_slice(b"}\n");
    }

    /// Writes a bookmark: an event whose object is nothing but a revision.
    pub fn bookmark(&self, revision: u64, initial_end: bool, out: &mut Vec<u8>) {
        self.frame("BOOKMARK", &self.bookmark_object(revision, initial_end), out);
    }

    /// Writes the error that ends a watch.
    pub fn error(&self, status: &Status, out: &mut Vec<u8>) {
        self.frame("ERROR", &status.to_json(), out);
    }

    /// The media type of a watch.
    pub fn stream_media(&self) -> &'static str {
        match self.accepted.encoding {
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => JSON,
        }
    }

    fn frame(&self, event: &str, object: &Value, out: &mut Vec<u8>) {
        if self.accepted.encoding != Encoding::Protobuf {
            to_json(&json!({"type": event, "object": object}), out);
            return out.push(b'\n');
        }
        match content::to_protobuf(object) {
            Some(bytes) => watch_frame(event, &bytes, out),
            // Whoever watches must not miss it silently: its watch ends and it lists again.
            None => {
                let why = "an object has no form in protobuf; ask for JSON";
                let status = content::to_protobuf(&Status::internal(why).to_json());
                watch_frame("ERROR", &status.unwrap_or_default(), out);
            }
        }
    }

    /// A row of a Table. Cells are made of the stored form, which has all that any version tells.
    fn row(&self, object: &Object, revision: u64) -> Value {
        let stored = self.stored_tree(object, revision);
        let mut row = self.kind.row(&stored, self.include, self.clock.now());
        if self.include == IncludeObject::Object {
            self.kind.convert(&mut row["object"], &self.at);
        }
        row
    }

    fn tree(&self, object: &Object, revision: u64) -> Value {
        let mut tree = self.stored_tree(object, revision);
        self.kind.convert(&mut tree, &self.at);
        tree
    }

    fn stored_tree(&self, object: &Object, revision: u64) -> Value {
        let mut tree = self.kind.tree_of(object);
        if revision == 0 {
            tree["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
        } else if revision != object.revision {
            tree["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        }
        tree
    }

    fn bookmark_object(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.accepted.in_version(match self.accepted.shape {
            Shape::Table => self.kind.table(Vec::new(), metadata, false),
            Shape::Metadata => partial_metadata(&json!({"metadata": metadata})),
            Shape::Object => json!({"kind": self.kind.kind, "apiVersion": self.at.api_version(),
                "metadata": metadata}),
        })
    }
}

/// What of its object a row of a Table is to hold.
pub(crate) fn include_object(query: &Query) -> Result<IncludeObject, Status> {
    let include = query.get("includeObject").unwrap_or_default();
    IncludeObject::parse(include).ok_or_else(|| {
        Status::bad_request(format!("unrecognized includeObject value: {include:?}"))
    })
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
