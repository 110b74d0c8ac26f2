//! The forms in which WebAssembly is packaged and moved: building one from bytes, reading one, and
//! saying what is inside. Knows no store, no cluster and no engine.
//!
//! What is built is the CNCF TAG Runtime WASM OCI artifact
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>): a config and exactly
//! one layer; or, for other runtimes, an image of the ordinary sort (`compat.rs`). What is read has
//! any form that wasm is found in: `resolve.rs` tells them apart.

mod artifact;
mod attachment;
mod binary;
mod compat;
mod metadata;
mod oci;
mod resolve;
mod spin;

use sha2::{Digest as _, Sha256};

pub use artifact::{Artifact, Component, Config, WASM_CONFIG_MEDIA_TYPE, WASM_MEDIA_TYPE};
pub use attachment::{Attachment, is_signature, signature_tag};
pub use binary::{Inspection, Sort, inspect};
pub use compat::Compat;
pub use metadata::{BOM_MEDIA_TYPE, BOM_SECTION, append_section, bom};
pub use oci::{
    DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, Descriptor, Document,
    IMAGE_CONFIG_MEDIA_TYPE, INDEX_MEDIA_TYPE, ImageConfig, Index, MANIFEST_MEDIA_TYPE, Manifest,
    Platform, RunConfig, is_digest,
};
pub use resolve::{
    BY_POD, Decision, Form, WasmPlace, accept, pick, resolve, resolve_for, says_wasm,
    spin_application, spin_archives, spin_layer,
};
pub use spin::{SpinApp, SpinComponent, SpinContent, SpinFile, SpinRoute, SpinVariable};

/// Why bytes are not a package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("not a WebAssembly binary: {0}")]
    NotWasm(String),
    #[error("the WebAssembly binary is damaged: {0}")]
    Damaged(String),
    #[error("not a WASM artifact: {0}")]
    NotAnArtifact(String),
    /// It is an image, but nothing of it runs on this node.
    #[error("not an image that runs here: {0}")]
    Refused(String),
    /// It is an image of the ordinary sort: a container engine runs it.
    #[error("not an image that holds wasm: {0}")]
    Container(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// `sha256:` and the lower-case hex of the hash, as OCI names content.
pub fn digest(bytes: &[u8]) -> String {
    Hasher::default().update(bytes).finish()
}

/// Hashes content that comes in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn update(mut self, bytes: &[u8]) -> Self {
        self.add(bytes);
        self
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> String {
        let mut text = String::from("sha256:");
        for byte in self.0.finalize() {
            text += &format!("{byte:02x}");
        }
        text
    }
}
