//! What a registry keeps about an image beside it: signatures, bills of materials, attestations. That
//! something is there is told, and nothing of it is believed.

use futures::FutureExt;
use oci_client::{Reference as Remote, RegistryOperation, secrets::RegistryAuth};
use serde::Serialize;
use windlass_sdk_package::{is_signature, signature_tag};

use crate::{
    credentials::Credentials,
    error::ImageError,
    pull::{Refused, again, client, ways},
    registries::{Endpoint, Registries},
    store::parse,
};

/// Entries of a registry's list that are told.
const MOST: usize = 64;
/// How signatures under cosign's tag are told.
pub const BY_TAG: &str = "cosign's tag";

/// One thing that is about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// Its media type, or how else it was found.
    pub kind: String,
    pub digest: String,
    pub is_signature: bool,
}

impl Attached {
    /// As a registry's list of referrers tells it.
    pub fn listed(artifact_type: &str, digest: &str) -> Self {
        let is_signature = is_signature(artifact_type);
        Self { kind: artifact_type.to_owned(), digest: digest.to_owned(), is_signature }
    }

    /// A signature that was found by its tag.
    pub fn by_tag(digest: &str) -> Self {
        Self { kind: BY_TAG.to_owned(), digest: digest.to_owned(), is_signature: true }
    }
}

/// What the registry of an image keeps about the manifest with this digest.
///
/// # Errors
/// A name that is none, and what the registry says.
pub async fn attached(
    registries: &Registries,
    name: &str,
    credentials: &Credentials,
    digest: &str,
) -> Result<Vec<Attached>, ImageError> {
    let failed = |why: String| ImageError::Pull { image: name.to_owned(), why };
    let wanted = parse(name)?;
    let remote: Remote =
        wanted.to_string().parse().map_err(|error| failed(format!("{wanted}: {error}")))?;
    let own = registries.endpoints(&remote).into_iter().find(|endpoint| !endpoint.is_mirror);
    let endpoint = own.ok_or_else(|| failed("its registry is not known".into()))?;
    let mut last = String::new();
    for auth in ways(&endpoint, &remote, credentials) {
        match ask(&endpoint, &remote, &auth, digest).await {
            Ok(found) => return Ok(found),
            Err(refused) => last = refused.say(name),
        }
    }
    Err(failed(last))
}

async fn ask(
    endpoint: &Endpoint,
    remote: &Remote,
    auth: &RegistryAuth,
    digest: &str,
) -> Result<Vec<Attached>, Refused> {
    let client = client(endpoint)?;
    again(|| client.auth(remote, auth, RegistryOperation::Pull).boxed()).await?;
    let image = remote.clone_with_digest(digest.to_owned());
    let index = again(|| client.pull_referrers(&image, None).boxed()).await?;
    let mut found: Vec<Attached> = index
        .manifests
        .iter()
        .take(MOST)
        .map(|entry| Attached::listed(entry.artifact_type.as_deref().unwrap_or(""), &entry.digest))
        .collect();
    let (registry, repository) = (remote.registry().to_owned(), remote.repository().to_owned());
    let signed = Remote::with_tag(registry, repository, signature_tag(digest));
    match again(|| client.fetch_manifest_digest(&signed, auth).boxed()).await {
        Ok(digest) => found.push(Attached::by_tag(&digest)),
        Err(Refused::NotFound) => {}
        Err(refused) => return Err(refused),
    }
    Ok(found)
}
