//! The CNCF artifact: an OCI manifest whose config says what the component needs and whose only
//! layer is the wasm binary. Building it twice from the same bytes gives the same digest, so
//! `created` is the epoch.

use serde::{Deserialize, Serialize};

use crate::{
    Inspection, Sort, digest,
    oci::{Descriptor, MANIFEST_MEDIA_TYPE, Manifest},
};

pub const WASM_CONFIG_MEDIA_TYPE: &str = "application/vnd.wasm.config.v0+json";
pub const WASM_MEDIA_TYPE: &str = "application/wasm";

/// The two documents that go with the wasm bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    pub manifest: Vec<u8>,
    /// Of the manifest: what `imageID` shows.
    pub digest: String,
    pub config: Vec<u8>,
    pub config_digest: String,
}

/// `application/vnd.wasm.config.v0+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub architecture: String,
    pub os: String,
    pub layer_digests: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub exports: Vec<String>,
    pub imports: Vec<String>,
}

impl Artifact {
    /// Packages wasm bytes that have this digest and size.
    pub fn build(inspection: &Inspection, wasm_digest: &str, wasm_size: u64) -> Self {
        let component = (inspection.sort == Sort::Component).then(|| Component {
            exports: inspection.exports.clone(),
            imports: inspection.imports.clone(),
        });
        let config = Config {
            created: "1970-01-01T00:00:00Z".to_owned(),
            author: None,
            architecture: "wasm".to_owned(),
            os: inspection.sort.os().to_owned(),
            layer_digests: vec![wasm_digest.to_owned()],
            component,
        };
        let config = json(&config);
        let config_digest = digest(&config);
        let descriptor = |media_type: &str, digest: &str, size: u64| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            ..Descriptor::default()
        };
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST_MEDIA_TYPE.to_owned()),
            config: descriptor(WASM_CONFIG_MEDIA_TYPE, &config_digest, config.len() as u64),
            layers: vec![descriptor(WASM_MEDIA_TYPE, wasm_digest, wasm_size)],
            annotations: inspection.annotations.clone(),
        });
        Self { digest: digest(&manifest), manifest, config, config_digest }
    }
}

/// Plain data with string keys has no way to fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn builds_what_it_reads() {
        let inspection = Inspection {
            sort: Sort::Component,
            imports: vec!["wasi:cli/environment@0.2.0".into()],
            exports: vec!["wasi:http/incoming-handler@0.2.0".into()],
            annotations: [("org.opencontainers.image.title".into(), "cart".into())].into(),
        };
        let artifact = Artifact::build(&inspection, "sha256:abc", 42);
        assert_eq!(artifact, Artifact::build(&inspection, "sha256:abc", 42));
        expect![[r#"{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":["sha256:abc"],"component":{"exports":["wasi:http/incoming-handler@0.2.0"],"imports":["wasi:cli/environment@0.2.0"]}}"#]]
            .assert_eq(&String::from_utf8_lossy(&artifact.config));
        let manifest: Manifest = serde_json::from_slice(&artifact.manifest).expect("own form");
        assert_eq!(manifest.config.digest, artifact.config_digest);
        assert_eq!(manifest.layers[0].size, 42);
        assert_eq!(manifest.annotations, inspection.annotations);
    }
}
