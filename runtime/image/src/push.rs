//! Pushing to registries. Wasm goes there as a CNCF artifact or as an ordinary image, content first
//! and its name last, so that no name ever leads to what isn't all there. What a registry has is not
//! sent again.

use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use http::HeaderValue;
use oci_client::{Client, Reference as Remote, RegistryOperation, secrets::RegistryAuth};
use windlass_sdk_package::{
    Artifact, Attachment, BOM_MEDIA_TYPE, Compat, MANIFEST_MEDIA_TYPE, bom, digest, inspect,
};

use crate::{
    credentials::Credentials,
    error::ImageError,
    meter::Meter,
    pull::{Refused, again, client, ways},
    registries::{Endpoint, Registries},
    store::{IMAGE_LIMIT_BYTES, parse},
};

/// What one request of a push carries at most.
const PIECE_BYTES: usize = 4 << 20;

/// How wasm is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As a CNCF artifact.
    Artifact,
    /// As an image of the ordinary sort, for containerd, Docker and crun.
    Compat,
}

/// An image that a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its name with the digest, which always leads to these bytes.
    pub image: String,
    /// `sha256:...` of the manifest.
    pub digest: String,
    /// Of the wasm.
    pub size_bytes: u64,
    /// `sha256:...` of its bill of materials, where the registry lists that as being about it.
    pub bom: Option<String>,
}

/// Wasm as a registry takes it, in this order: content by its digest, the document that names it.
#[derive(Clone, Debug)]
pub struct Package {
    pub blobs: [(Bytes, String); 2],
    pub manifest: Bytes,
    /// `sha256:...` of the manifest.
    pub digest: String,
    /// Of the wasm.
    pub size_bytes: u64,
    /// What it is made of, where it says so.
    pub bom: Option<Attachment>,
}

impl Package {
    /// `name` is the image's, without a tag: some forms tell the file's name by it.
    ///
    /// # Errors
    /// Bytes that are no wasm, or too many.
    pub fn build(packing: Packing, name: &str, wasm: Bytes) -> Result<Self, ImageError> {
        let size_bytes = wasm.len() as u64;
        if size_bytes > IMAGE_LIMIT_BYTES {
            return Err(ImageError::TooLarge { bound_bytes: IMAGE_LIMIT_BYTES });
        }
        let inspection = inspect(&mut std::io::Cursor::new(&wasm))?;
        let bom = bom(&mut std::io::Cursor::new(&wasm))?;
        let about = |manifest: &[u8]| {
            bom.as_ref().map(|bom| Attachment::build(manifest, BOM_MEDIA_TYPE, bom))
        };
        Ok(match packing {
            Packing::Artifact => {
                let wasm_digest = digest(&wasm);
                let artifact = Artifact::build(&inspection, &wasm_digest, size_bytes);
                let bom = about(&artifact.manifest);
                let config = (artifact.config.into(), artifact.config_digest);
                let (manifest, digest) = (artifact.manifest.into(), artifact.digest);
                Self { blobs: [(wasm, wasm_digest), config], manifest, digest, size_bytes, bom }
            }
            Packing::Compat => {
                let file = name.rsplit('/').next().unwrap_or(name);
                let image = Compat::build(&inspection, file, &wasm).map_err(|error| {
                    let why = format!("it can't be packed: {error}");
                    ImageError::Push { image: name.to_owned(), why }
                })?;
                let bom = about(&image.manifest);
                let blobs = image.blobs.map(|(bytes, digest)| (bytes.into(), digest));
                let (manifest, digest) = (image.manifest.into(), image.digest);
                Self { blobs, manifest, digest, size_bytes, bom }
            }
        })
    }
}

/// Pushes wasm under a name and a tag (`latest` where none is said), with each of the credentials
/// that are for the place, or as nobody where there is none.
///
/// # Errors
/// A name with a digest, bytes that are no wasm, and what the registry says.
pub async fn push(
    registries: &Registries,
    name: &str,
    credentials: &Credentials,
    wasm: Bytes,
    packing: Packing,
) -> Result<Pushed, ImageError> {
    let failed = |why: String| ImageError::Push { image: name.to_owned(), why };
    let wanted = parse(name)?;
    if wanted.digest.is_some() {
        return Err(failed("what is pushed is named by a tag; its digest follows from it".into()));
    }
    let package = Package::build(packing, &wanted.name, wasm)?;
    let remote: Remote =
        wanted.to_string().parse().map_err(|error| failed(format!("{wanted}: {error}")))?;
    let own = registries.endpoints(&remote).into_iter().find(|endpoint| !endpoint.is_mirror);
    let endpoint = own.ok_or_else(|| failed("its registry is not known".into()))?;
    let mut last = String::new();
    for auth in ways(&endpoint, &remote, credentials) {
        let meter = registries.meter();
        let push = Push { remote: &remote, auth: &auth, endpoint: &endpoint, meter };
        match push.run(&package).await {
            Ok(bom) => {
                let Package { digest, size_bytes, .. } = package;
                let image = format!("{}@{digest}", wanted.name);
                return Ok(Pushed { image, digest, size_bytes, bom });
            }
            Err(Refused::Denied(why)) => last = format!("push access denied: {why}"),
            Err(Refused::NotFound) => return Err(failed("the registry has no such place".into())),
            Err(Refused::Passing(why) | Refused::Other(why)) => return Err(failed(why)),
            Err(Refused::Image(error)) => return Err(error),
        }
    }
    Err(failed(last))
}

/// To one place with one credential.
struct Push<'a> {
    remote: &'a Remote,
    auth: &'a RegistryAuth,
    endpoint: &'a Endpoint,
    meter: &'a Meter,
}

impl Push<'_> {
    /// The digest of the bill of materials, where the registry lists it.
    async fn run(&self, package: &Package) -> Result<Option<String>, Refused> {
        let client = client(self.endpoint)?;
        again(|| client.auth(self.remote, self.auth, RegistryOperation::Push).boxed()).await?;
        for (bytes, digest) in &package.blobs {
            self.blob(&client, bytes, digest).await?;
        }
        self.manifest(&client, self.remote, &package.manifest).await?;
        let Some(bom) = &package.bom else { return Ok(None) };
        // The image is there: one that can't be said to be made of something is no failure.
        let attached = self.attach(&client, &package.digest, bom).await;
        Ok(attached.unwrap_or_default().then(|| bom.digest.clone()))
    }

    /// Whether the registry lists it then: one that knows no referrers keeps it unseen.
    async fn attach(
        &self,
        client: &Client,
        image: &str,
        what: &Attachment,
    ) -> Result<bool, Refused> {
        for (bytes, digest) in &what.blobs {
            self.blob(client, &Bytes::copy_from_slice(bytes), digest).await?;
        }
        let at = self.remote.clone_with_digest(what.digest.clone());
        self.manifest(client, &at, &Bytes::copy_from_slice(&what.manifest)).await?;
        let image = self.remote.clone_with_digest(image.to_owned());
        let listed = again(|| client.pull_referrers(&image, None).boxed()).await?;
        Ok(listed.manifests.iter().any(|entry| entry.digest == what.digest))
    }

    async fn manifest(&self, client: &Client, at: &Remote, bytes: &Bytes) -> Result<(), Refused> {
        let media = HeaderValue::from_static(MANIFEST_MEDIA_TYPE);
        again(|| client.push_manifest_raw(at, bytes.clone(), media.clone()).boxed()).await.map(drop)
    }

    async fn blob(&self, client: &Client, bytes: &Bytes, digest: &str) -> Result<(), Refused> {
        self.meter.expect(bytes.len() as u64);
        if again(|| client.blob_exists(self.remote, digest).boxed()).await? {
            self.meter.done(bytes.len() as u64);
            return Ok(());
        }
        if bytes.len() > PIECE_BYTES {
            let send = || client.push_blob_stream(self.remote, self.pieces(bytes), digest).boxed();
            match again(send).await {
                // It may be one that takes content whole only.
                Err(Refused::Other(_)) => {}
                sent => return sent.map(drop),
            }
        }
        let send = || client.push_blob(self.remote, bytes.clone(), digest).boxed();
        again(send).await?;
        self.meter.done(bytes.len() as u64);
        Ok(())
    }

    /// Large content as it is sent, one request a piece.
    fn pieces(
        &self,
        bytes: &Bytes,
    ) -> impl Stream<Item = oci_client::errors::Result<Bytes>> + Send {
        let (mut rest, meter) = (bytes.clone(), self.meter.clone());
        stream::iter(std::iter::from_fn(move || {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            meter.done(piece.len() as u64);
            (!piece.is_empty()).then_some(Ok(piece))
        }))
    }
}
