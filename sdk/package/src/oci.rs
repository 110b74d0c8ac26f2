//! OCI manifests, indexes and image configs, as far as an image is resolved by them
//! (<https://github.com/opencontainers/image-spec>; Docker's own media types have the same shape).
//! What is read here came from outside: counts are bounded, digests are digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::PackageError;

pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST_MEDIA_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_INDEX_MEDIA_TYPE: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
pub const IMAGE_CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// Docker itself stops at 127 layers.
const LAYERS: usize = 256;
const PLATFORMS: usize = 256;

/// What a name or a digest leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub manifests: Vec<Descriptor>,
}

/// Content by its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    /// Bytes.
    pub size: u64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

/// `application/vnd.oci.image.config.v1+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    #[serde(deserialize_with = "or_default")]
    pub config: RunConfig,
}

/// `config` of an image's config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    pub working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

impl Document {
    /// Tells by the members what it is: media types are optional, and lie.
    pub fn read(bytes: &[u8]) -> Result<Self, PackageError> {
        let not = |why: String| PackageError::NotAnArtifact(why);
        let tree: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| not(format!("its manifest is no JSON: {error}")))?;
        if tree["schemaVersion"] == 1 {
            return Err(not("its manifest has schema version 1, which is obsolete".into()));
        }
        let malformed = |error| not(format!("its manifest is no OCI manifest: {error}"));
        let document = if tree["manifests"].is_array() {
            Self::Index(serde_json::from_value(tree).map_err(malformed)?)
        } else {
            Self::Manifest(serde_json::from_value(tree).map_err(malformed)?)
        };
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), PackageError> {
        let not = |why: String| Err(PackageError::NotAnArtifact(why));
        let content = match self {
            Self::Index(index) if index.manifests.len() > PLATFORMS => {
                return not(format!("its index has more than {PLATFORMS} entries"));
            }
            Self::Manifest(manifest) if manifest.layers.len() > LAYERS => {
                return not(format!("it has more than {LAYERS} layers"));
            }
            Self::Index(index) => index.manifests.iter().collect::<Vec<_>>(),
            Self::Manifest(manifest) => {
                std::iter::once(&manifest.config).chain(&manifest.layers).collect()
            }
        };
        match content.iter().find(|content| !is_digest(&content.digest)) {
            Some(content) => not(format!("{:?} is no SHA-256 digest", content.digest)),
            None => Ok(()),
        }
    }
}

/// `sha256:` and 64 lower-case hex digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Go writes null where nothing was set.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(tree: Value, expected: Expect) {
        let text = match Document::read(tree.to_string().as_bytes()) {
            Ok(Document::Index(index)) => format!("index of {}", index.manifests.len()),
            Ok(Document::Manifest(manifest)) => format!("manifest of {}", manifest.layers.len()),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn told_by_members() {
        let of = |digest: &str| json!({"mediaType": "x/y", "digest": digest, "size": 1});
        let good = of(&format!("sha256:{}", "a".repeat(64)));
        check(json!({"schemaVersion": 2, "manifests": [good]}), expect!["index of 1"]);
        check(
            json!({"schemaVersion": 2, "config": good, "layers": [good, good], "annotations": null}),
            expect!["manifest of 2"],
        );
        check(
            json!({"schemaVersion": 2, "config": good, "layers": null}),
            expect!["manifest of 0"],
        );
        check(
            json!({"schemaVersion": 2, "config": good, "layers": [of("sha256:../../x")]}),
            expect![[r#"not a WASM artifact: "sha256:../../x" is no SHA-256 digest"#]],
        );
        check(
            json!({"schemaVersion": 1}),
            expect!["not a WASM artifact: its manifest has schema version 1, which is obsolete"],
        );
        check(
            json!([]),
            expect![
                "not a WASM artifact: its manifest is no OCI manifest: invalid length 0, expected struct Manifest with 5 elements"
            ],
        );
        let many = vec![good.clone(); LAYERS + 1];
        check(
            json!({"schemaVersion": 2, "config": good, "layers": many}),
            expect!["not a WASM artifact: it has more than 256 layers"],
        );
    }
}
