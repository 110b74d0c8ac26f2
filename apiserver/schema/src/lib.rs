//! The Kubernetes API as data: which types there are, how they are written in JSON, YAML and protobuf,
//! how they are patched, and how they are described to clients. Knows no HTTP, no store and no kind by
//! name.

mod config;
pub mod decode;
pub mod defaults;
pub mod facts;
mod golang;
mod node;
pub mod openapi;
pub mod protobuf;
pub mod strategic;

pub use config::decode_config;
pub use decode::{DecodeError, Decoded, FieldValidation, Format, Target, decode, decode_value};
pub use defaults::{apply_defaults, drop_empty_lists};
pub use facts::{Field, KindFacts, ResourceFacts, Schema, Shape, Type, TypeRef};
pub use openapi::{
    Descriptions, NoDescriptions, OpenApiV2, OwnSchema, Pieces, ResourcePath, describe, openapi_v3,
};
pub use protobuf::{ProtobufList, decode_protobuf, encode_protobuf, watch_frame};
pub use strategic::{PatchError, strategic_merge};
