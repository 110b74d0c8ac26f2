//! Manifests in and out (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting
//! Manifests"). A manifest is taken in when all that it leads to is in its repository, so that whoever
//! finds a name finds everything.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use futures::StreamExt;
use http::{
    HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    request::Parts,
};

use crate::{
    CONTENT_DIGEST, Registry, Repository, Target,
    access::Action,
    error::{Code, Refused},
    manifest::Facts,
    storage::NewManifest,
};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// end-3: as it was pushed.
pub(crate) async fn get(
    registry: &Arc<Registry>,
    at: &Repository,
    target: Target,
    head_only: bool,
) -> Result<Response, Refused> {
    let at = at.clone();
    let read = move |registry: &Registry| {
        let digest = registry.resolve(&at, &target).ok_or_else(|| unknown(&at, &target))?;
        registry.document(&digest).map(|bytes| (digest, bytes))
    };
    let (digest, bytes) = registry.blocking(read).await?;
    let answer = Response::builder()
        .header(CONTENT_TYPE, Facts::read(&bytes)?.media_type)
        .header(CONTENT_LENGTH, bytes.len())
        .header(CONTENT_DIGEST, digest);
    let body = if head_only { Body::empty() } else { bytes.into() };
    answer.body(body).map_err(Refused::failed)
}

/// What a push of this name is: a tag that leads somewhere is given another meaning.
pub(crate) fn put_action(registry: &Registry, at: &Repository, target: &Target) -> Action {
    let is_known = matches!(target, Target::Tag(_)) && registry.resolve(at, target).is_some();
    if is_known { Action::Update } else { Action::Create }
}

/// end-7: takes a manifest in under a tag, or by its digest alone.
pub(crate) async fn put(
    registry: &Arc<Registry>,
    at: &Repository,
    target: Target,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refused> {
    let bytes = whole(body, registry.limits.manifest_bytes).await?;
    let facts = Facts::read(&bytes)?;
    let said = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let said = said.and_then(|said| said.split(';').next()).map(str::trim);
    if let Some(said) = said.filter(|said| *said != facts.media_type) {
        let why = format!("it was sent as {said:?}, but is a {:?}", facts.media_type);
        return Err(Refused::bad(Code::ManifestInvalid, why));
    }
    let digest = windlass_sdk_package::digest(&bytes);
    if let Target::Digest(wanted) = &target
        && *wanted != digest
    {
        let why = format!("the manifest has the digest {digest}, not {wanted}");
        return Err(Refused::bad(Code::DigestInvalid, why));
    }
    let place = format!("/v2/{at}/manifests/{digest}");
    let mut answer = Response::builder()
        .status(StatusCode::CREATED)
        .header(LOCATION, place)
        .header(CONTENT_DIGEST, &digest);
    if let Some(subject) = &facts.subject {
        answer = answer.header(SUBJECT, subject);
    }
    let entered = registry.enter(parts, put_action(registry, at, &target), at).await?;
    let (at, of) = (at.clone(), digest.clone());
    let named = move |registry: &Registry| {
        let _entered = entered;
        let needs = registry.needs(&at, &facts)?;
        let manifest = NewManifest { digest: of, bytes, needs, size_bytes: facts.total_bytes() };
        let tag = match &target {
            Target::Tag(tag) => Some(tag.as_str()),
            Target::Digest(_) => None,
        };
        registry.storage.name(&at, tag, &manifest)?;
        (registry.pushed)(&at, &manifest.digest);
        Ok(())
    };
    registry.blocking(named).await?;
    answer.body(Body::empty()).map_err(Refused::failed)
}

/// end-9: takes a tag away, or a manifest with all of its tags.
pub(crate) async fn delete(
    registry: &Arc<Registry>,
    at: &Repository,
    target: Target,
) -> Result<Response, Refused> {
    let at = at.clone();
    let delete = move |registry: &Registry| match registry.storage.remove(&at, &target)? {
        true => Ok(()),
        false => Err(unknown(&at, &target)),
    };
    registry.blocking(delete).await?;
    registry.untidy.notify_one();
    let answer = Response::builder().status(StatusCode::ACCEPTED);
    answer.body(Body::empty()).map_err(Refused::failed)
}

impl Registry {
    /// The digests of all that a manifest needs, each of which is in the repository and as large as
    /// it says. What it is about (`subject`) may come later.
    fn needs(&self, at: &Repository, facts: &Facts) -> Result<Vec<String>, Refused> {
        let missing = |what: &str, digest: &str| {
            Refused::not_found(Code::ManifestBlobUnknown, format!("{at} has no {what} {digest}"))
                .about(digest)
        };
        let known = self.manifests_of(at);
        for of in &facts.manifests {
            if !known.contains_key(&of.digest) {
                return Err(missing("manifest", &of.digest));
            }
        }
        for of in &facts.blobs {
            let needs = |facts: &Arc<Facts>| facts.blobs.iter().any(|has| has.digest == of.digest);
            let is_here = self.links.has(at, &of.digest) || known.values().any(needs);
            let found = is_here.then(|| self.storage.content(&of.digest)).flatten();
            let found = found.ok_or_else(|| missing("blob", &of.digest))?;
            if found.size_bytes != of.size {
                let why = format!(
                    "{} has {} bytes, not the {} that the manifest says",
                    of.digest, found.size_bytes, of.size
                );
                return Err(Refused::bad(Code::ManifestInvalid, why));
            }
        }
        Ok(facts.blobs.iter().chain(&facts.manifests).map(|of| of.digest.clone()).collect())
    }
}

/// The bytes of a body, refused as soon as they are too many.
async fn whole(body: Body, most_bytes: usize) -> Result<Vec<u8>, Refused> {
    let (mut bytes, mut pieces) = (Vec::new(), body.into_data_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            Refused::bad(Code::ManifestInvalid, format!("the manifest was interrupted: {error}"))
        })?;
        if bytes.len() + piece.len() > most_bytes {
            let why = format!("the manifest is larger than {most_bytes} bytes");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, why));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn unknown(at: &Repository, target: &Target) -> Refused {
    let (Target::Tag(name) | Target::Digest(name)) = target;
    Refused::not_found(Code::ManifestUnknown, format!("{at} has no manifest {name}"))
}
