//! Lists, written piece by piece: a list of all pods of a large cluster is never in memory as a
//! whole, except in protobuf, whose head names the length of the rest.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_registry::partial_metadata;
use windlass_apiserver_schema::{ProtobufList, Target};
use windlass_sdk_meta::{Object, Status};

use super::{Renderer, to_json, write_stored};
use crate::{
    content,
    negotiate::{Encoding, JSON, PROTOBUF, Shape},
};

/// About the size of a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// `metadata` of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub revision: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl Renderer {
    /// An answer that is a list.
    pub fn list(self, objects: Vec<Arc<Object>>, meta: &ListMeta) -> Response<Body> {
        let head = self.head_of_list(meta);
        let accepted = self.accepted;
        if accepted.encoding == Encoding::Protobuf {
            match self.protobuf_list(&objects, &head) {
                Ok(pieces) => {
                    let pieces = pieces.into_iter();
                    return content::respond_pieces(
                        StatusCode::OK,
                        PROTOBUF,
                        pieces,
                        accepted.gzip,
                    );
                }
                Err(why) => {
                    tracing::error!(kind = %self.kind.kind, why, "a list has no form in protobuf");
                    let status = Status::internal(format!("{why}; ask for JSON"));
                    return content::respond_status(&status, &accepted);
                }
            }
        }
        let pieces = Pieces::new(self, objects, head);
        if accepted.encoding == Encoding::Yaml || accepted.pretty {
            let all: Vec<u8> = pieces.flatten().collect();
            return content::respond(StatusCode::OK, all, &accepted);
        }
        content::respond_pieces(StatusCode::OK, JSON, pieces, accepted.gzip)
    }

    /// A list without its items.
    fn head_of_list(&self, meta: &ListMeta) -> Value {
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
        self.accepted.in_version(match self.accepted.shape {
            Shape::Object => json!({"kind": self.kind.list_kind,
                "apiVersion": self.at.api_version(), "metadata": metadata}),
            Shape::Metadata => json!({"kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Shape::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "columnDefinitions": self.kind.column_definitions()}),
        })
    }

    /// The pieces of a list in protobuf. Errors: why it has none.
    fn protobuf_list(&self, objects: &[Arc<Object>], head: &Value) -> Result<Vec<Vec<u8>>, String> {
        let target = match self.accepted.shape {
            Shape::Metadata => Target::new("meta.k8s.io", "v1", "PartialObjectMetadataList"),
            _ => Target::new(&self.at.group, &self.at.version, &self.kind.list_kind),
        };
        let list = ProtobufList::new(&target, head).map_err(|error| error.to_string())?;
        let (mut pieces, mut piece, mut bytes) = (vec![Vec::new()], Vec::new(), 0);
        for object in objects {
            list.item(&self.item(object), &mut piece)?;
            if piece.len() >= PIECE_BYTES {
                bytes += piece.len();
                pieces.push(std::mem::take(&mut piece));
            }
        }
        bytes += piece.len();
        piece.extend_from_slice(list.end());
        pieces.push(piece);
        pieces[0] = list.start(bytes);
        Ok(pieces)
    }

    /// An object as an item of a list; in a Table, a row.
    fn item(&self, object: &Object) -> Value {
        let revision = object.revision;
        self.accepted.item_in_version(match self.accepted.shape {
            Shape::Object => self.tree(object, revision),
            Shape::Metadata => partial_metadata(&self.tree(object, revision)),
            Shape::Table => self.row(object, revision),
        })
    }
}

/// A list in JSON, written piece by piece.
struct Pieces {
    renderer: Renderer,
    objects: std::vec::IntoIter<Arc<Object>>,
    prefix: Option<Vec<u8>>,
    suffix: Option<&'static [u8]>,
    first: bool,
}

impl Pieces {
    fn new(renderer: Renderer, objects: Vec<Arc<Object>>, head: Value) -> Self {
        let items = if renderer.accepted.shape == Shape::Table { "rows" } else { "items" };
        let mut prefix = Vec::new();
        to_json(&head, &mut prefix);
        // The head is an object with members: its closing brace moves behind the items.
        prefix.pop();
        prefix.extend_from_slice(format!(",{items:?}:[").as_bytes());
        Self {
            renderer,
            objects: objects.into_iter(),
            prefix: Some(prefix),
            suffix: Some(b"]}"),
            first: true,
        }
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = self.prefix.take().unwrap_or_default();
        while out.len() < PIECE_BYTES {
            let Some(object) = self.objects.next() else {
                out.extend_from_slice(self.suffix.take().unwrap_or_default());
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            match self.renderer.is_stored_form(&object) {
                true => write_stored(&object, object.revision, &mut out),
                false => to_json(&self.renderer.item(&object), &mut out),
            }
        }
        (!out.is_empty()).then_some(out)
    }
}
