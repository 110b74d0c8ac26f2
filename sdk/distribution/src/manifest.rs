//! What a manifest says of others: pure. The registry takes in every sort (image-spec, "Image Manifest"
//! and "Image Index"; Docker's two have the same shape), for it needs to know only what they lead to.

use std::collections::BTreeMap;

use serde::Deserialize;
use windlass_sdk_package::{
    DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, Descriptor, INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE, is_digest,
};

use crate::error::{Code, Refused};

const KNOWN: [&str; 4] =
    [MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, DOCKER_INDEX_MEDIA_TYPE];
/// Layers, or entries of an index: as many as a node reads of an image.
const DESCRIPTORS: usize = 256;

/// A manifest as far as a registry reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub media_type: String,
    /// What it says of itself, else the sort of its config.
    pub artifact_type: String,
    pub annotations: BTreeMap<String, String>,
    /// Config and layers. Those of layers that registries aren't given are left out.
    pub blobs: Vec<Descriptor>,
    /// Manifests that an index names.
    pub manifests: Vec<Descriptor>,
    /// The digest of what this is about; it need not be there.
    pub subject: Option<String>,
    /// Bytes of the manifest itself.
    pub size_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Facts {
    /// # Errors
    /// MANIFEST_INVALID with what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let invalid = |why: String| Refused::bad(Code::ManifestInvalid, why);
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("this is no manifest: {error}")))?;
        if wire.schema_version != 2 {
            let why = format!("schema version {} is not served here", wire.schema_version);
            return Err(invalid(why));
        }
        let by_shape = match (&wire.config, &wire.manifests) {
            (Some(_), None) => MANIFEST_MEDIA_TYPE,
            (None, Some(_)) => INDEX_MEDIA_TYPE,
            _ => return Err(invalid("a manifest has either a config or manifests".into())),
        };
        let media_type = wire.media_type.unwrap_or_else(|| by_shape.to_owned());
        let is_index = matches!(&*media_type, INDEX_MEDIA_TYPE | DOCKER_INDEX_MEDIA_TYPE);
        if !KNOWN.contains(&&*media_type) || is_index != wire.manifests.is_some() {
            return Err(invalid(format!("it can't be the {media_type:?} that it says it is")));
        }
        let config_type = wire.config.as_ref().map(|config| config.media_type.clone());
        let own = wire.artifact_type.filter(|text| !text.is_empty());
        let facts = Self {
            artifact_type: own.or(config_type).unwrap_or_default(),
            annotations: wire.annotations.unwrap_or_default(),
            blobs: wire.config.into_iter().chain(wire.layers.unwrap_or_default()).collect(),
            manifests: wire.manifests.unwrap_or_default(),
            subject: wire.subject.map(|subject| subject.digest),
            size_bytes: bytes.len() as u64,
            media_type,
        };
        facts.checked()
    }

    fn checked(mut self) -> Result<Self, Refused> {
        let invalid = |why: String| Refused::bad(Code::ManifestInvalid, why);
        if self.blobs.len().max(self.manifests.len()) > DESCRIPTORS {
            return Err(invalid(format!("it names more than {DESCRIPTORS} parts")));
        }
        self.blobs.retain(|blob| is_distributable(&blob.media_type));
        let parts = self.blobs.iter().chain(&self.manifests).map(|part| &part.digest);
        match parts.chain(&self.subject).find(|digest| !is_digest(digest)) {
            Some(digest) => Err(invalid(format!("it names {digest:?}, which is no digest"))),
            None => Ok(self),
        }
    }

    /// Bytes of all that it names.
    pub fn total_bytes(&self) -> u64 {
        self.blobs.iter().fold(self.size_bytes, |sum, blob| sum.saturating_add(blob.size))
    }
}

/// Some layers, by their licence, are fetched from their makers only.
fn is_distributable(media_type: &str) -> bool {
    !media_type.contains(".nondistributable.") && !media_type.contains(".foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(tree: Value, expected: Expect) {
        let said = match Facts::read(tree.to_string().as_bytes()) {
            Ok(facts) => format!(
                "{} {:?} blobs {} manifests {} subject {}",
                facts.media_type.rsplit('.').nth(1).unwrap_or_default(),
                facts.artifact_type,
                facts.blobs.len(),
                facts.manifests.len(),
                facts.subject.is_some()
            ),
            Err(refused) => refused.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn what_manifests_say() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let of = |media_type: &str| json!({"mediaType": media_type, "digest": digest, "size": 7});
        let (blob, config) = (of("x/layer"), of("x/config"));
        check(
            json!({"schemaVersion": 2, "config": config, "layers": [blob]}),
            expect![[r#"manifest "x/config" blobs 2 manifests 0 subject false"#]],
        );
        check(
            json!({"schemaVersion": 2, "config": config, "layers": null, "artifactType": "x/sbom",
                "subject": blob}),
            expect![[r#"manifest "x/sbom" blobs 1 manifests 0 subject true"#]],
        );
        let foreign = of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        check(
            json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST_MEDIA_TYPE, "config": config,
                "layers": [foreign]}),
            expect![[r#"manifest "x/config" blobs 1 manifests 0 subject false"#]],
        );
        check(
            json!({"schemaVersion": 2, "manifests": [blob, blob]}),
            expect![[r#"index "" blobs 0 manifests 2 subject false"#]],
        );
        check(
            json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "config": config}),
            expect![[
                r#"MANIFEST_INVALID: it can't be the "application/vnd.oci.image.index.v1+json" that it says it is"#
            ]],
        );
        check(
            json!({"schemaVersion": 2, "config": {"digest": "../x"}}),
            expect![[r#"MANIFEST_INVALID: it names "../x", which is no digest"#]],
        );
        check(
            json!({"schemaVersion": 1}),
            expect!["MANIFEST_INVALID: schema version 1 is not served here"],
        );
        check(
            json!({"schemaVersion": 2}),
            expect!["MANIFEST_INVALID: a manifest has either a config or manifests"],
        );
    }
}
