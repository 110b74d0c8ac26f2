//! Content that is about an image, as registries keep it: a manifest whose subject is the image's
//! (OCI image-spec 1.1, manifest.md "Guidelines for Artifact Usage"). Signatures are found the same
//! way, or by the tag that cosign gives them.

use serde_json::json;

use crate::{Descriptor, digest, oci::MANIFEST_MEDIA_TYPE};

const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// Types of artifacts that are signatures: sigstore's bundles, cosign's and notation's.
const SIGNATURES: [&str; 3] = [
    "application/vnd.dev.sigstore.bundle",
    "application/vnd.dev.cosign.artifact.sig",
    "application/vnd.cncf.notary.signature",
];

/// One thing that is about an image. Building it twice gives the same digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The config and the content, each with its digest.
    pub blobs: [(Vec<u8>, String); 2],
    pub manifest: Vec<u8>,
    /// Of the manifest.
    pub digest: String,
}

impl Attachment {
    /// Content of a type, about the image whose manifest this is.
    pub fn build(subject: &[u8], media_type: &str, content: &[u8]) -> Self {
        let describe = |media_type: &str, bytes: &[u8]| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest(bytes),
            size: bytes.len() as u64,
            ..Descriptor::default()
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": media_type,
            "config": describe(EMPTY_MEDIA_TYPE, EMPTY),
            "layers": [describe(media_type, content)],
            "subject": describe(MANIFEST_MEDIA_TYPE, subject),
        });
        let manifest = manifest.to_string().into_bytes();
        let blobs = [EMPTY, content].map(|bytes| (bytes.to_vec(), digest(bytes)));
        Self { blobs, digest: digest(&manifest), manifest }
    }
}

/// Whether an artifact of this type signs its subject. That it is there is no proof: who verifies it
/// needs to know whose signature counts.
pub fn is_signature(artifact_type: &str) -> bool {
    SIGNATURES.iter().any(|known| artifact_type.starts_with(known))
}

/// The tag under which cosign puts signatures of the image with this digest.
pub fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replacen(':', "-", 1))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::BOM_MEDIA_TYPE;

    #[test]
    fn it_is_about_its_subject() {
        let bom = Attachment::build(b"{\"schemaVersion\":2}", BOM_MEDIA_TYPE, b"{\"a\":1}");
        expect![[r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.cyclonedx+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.cyclonedx+json","digest":"sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862","size":7}],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f","size":19}}"#]].assert_eq(&String::from_utf8_lossy(&bom.manifest));
        assert_eq!(digest(&bom.blobs[1].0), bom.blobs[1].1);
    }

    #[test]
    fn signatures_are_known_by_type_or_tag() {
        assert!(is_signature("application/vnd.dev.sigstore.bundle.v0.3+json"));
        assert!(!is_signature(BOM_MEDIA_TYPE));
        assert_eq!(signature_tag("sha256:abc"), "sha256-abc.sig");
    }
}
