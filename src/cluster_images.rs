//! The cluster's registry as a client of it: what `push`, `pull`, `inspect` and `deploy` say to it, with
//! the credentials of a kubeconfig. Other registries are asked by `windlass_runtime_image`, which
//! knows no such credentials.

use std::io::{Seek, Write};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{
    Request, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tower::{BoxError, ServiceExt};
use windlass_runtime_image::{
    Attached, CLUSTER_REGISTRY, Meter, Package, Packing, Pushed, Reference,
};
use windlass_sdk_package::{
    DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, Descriptor, Document, Hasher,
    INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest, digest, pick, signature_tag,
};

use crate::{
    cli::UsageError,
    connect::{self, Body, Connection, Refused},
};

/// Manifests that lead to one another.
const DEPTH: usize = 3;

/// An image of the cluster's registry.
pub struct ClusterImage {
    reference: Reference,
    repository: String,
}

impl ClusterImage {
    /// None: the name is one of another registry's, or of a node's.
    pub fn of(name: &str) -> anyhow::Result<Option<Self>> {
        let Some(repository) = name.strip_prefix(&format!("{CLUSTER_REGISTRY}/")) else {
            return Ok(None);
        };
        let reference: Reference =
            name.parse().map_err(|why| UsageError(format!("image name {name:?}: {why}")))?;
        let repository = repository.split(['@', ':']).next().unwrap_or(repository).to_owned();
        if repository.split('/').count() != 2 {
            let why = format!("image name {name:?} is not {CLUSTER_REGISTRY}/NAMESPACE/NAME:TAG");
            return Err(UsageError(why).into());
        }
        Ok(Some(Self { reference, repository }))
    }

    pub fn name(&self) -> String {
        self.reference.to_string()
    }

    /// The repository as images of pods name it.
    pub fn repository(&self) -> &str {
        &self.reference.name
    }

    /// Pushes wasm: content first and its name last. `with_bom`: its bill of materials follows, as an
    /// artifact of its own.
    pub async fn push(
        &self,
        cluster: &Connection,
        wasm: Bytes,
        packing: Packing,
        with_bom: bool,
        meter: &Meter,
    ) -> anyhow::Result<Pushed> {
        if self.reference.digest.is_some() {
            let why = "what is pushed is named by a tag; its digest follows from it";
            return Err(UsageError(why.into()).into());
        }
        let package = Package::build(packing, &self.reference.name, wasm)?;
        let failed = || format!("{} can't be pushed", self.reference);
        for (bytes, digest) in &package.blobs {
            meter.expect(bytes.len() as u64);
            self.push_blob(cluster, bytes, digest).await.with_context(failed)?;
            meter.done(bytes.len() as u64);
        }
        let tag = &self.reference.tag;
        self.push_manifest(cluster, package.manifest, tag).await.with_context(failed)?;
        let bom = package.bom.filter(|_| with_bom);
        if let Some(bom) = &bom {
            for (bytes, digest) in &bom.blobs {
                let bytes = Bytes::copy_from_slice(bytes);
                self.push_blob(cluster, &bytes, digest).await.with_context(failed)?;
            }
            let manifest = Bytes::copy_from_slice(&bom.manifest);
            self.push_manifest(cluster, manifest, &bom.digest).await.with_context(failed)?;
        }
        Ok(Pushed {
            image: format!("{}@{}", self.reference.name, package.digest),
            digest: package.digest,
            size_bytes: package.size_bytes,
            bom: bom.map(|bom| bom.digest),
        })
    }

    async fn push_manifest(
        &self,
        cluster: &Connection,
        manifest: Bytes,
        name: &str,
    ) -> Result<(), Refused> {
        let request = Request::put(self.path(&format!("manifests/{name}")))
            .header(CONTENT_TYPE, MANIFEST_MEDIA_TYPE)
            .body(whole(manifest))
            .map_err(anyhow::Error::from)?;
        ask(cluster, request).await.map(drop)
    }

    /// What the registry keeps about the image with this digest.
    pub async fn attached(
        &self,
        cluster: &Connection,
        digest: &str,
    ) -> anyhow::Result<Vec<Attached>> {
        let failed = || format!("what is about {} can't be listed", self.reference);
        let path = self.path(&format!("referrers/{digest}"));
        let listed = ask(cluster, Request::get(path).body(connect::nothing())?).await;
        let listed: Value = serde_json::from_slice(&listed.with_context(failed)?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = listed["manifests"].as_array().into_iter().flatten();
        let mut found: Vec<Attached> = listed
            .map(|entry| Attached::listed(&text(&entry["artifactType"]), &text(&entry["digest"])))
            .collect();
        let path = self.path(&format!("manifests/{}", signature_tag(digest)));
        match ask(cluster, Request::get(path).body(connect::nothing())?).await {
            Ok(manifest) => found.push(Attached::by_tag(&windlass_sdk_package::digest(&manifest))),
            Err(refused) if refused.is_not_found() => {}
            Err(refused) => return Err(anyhow::Error::from(refused).context(failed())),
        }
        Ok(found)
    }

    /// The tags of its repository, as many as the registry tells at a time; none where nothing was
    /// pushed to it.
    pub async fn tags(&self, cluster: &Connection) -> Result<Vec<String>, Refused> {
        let request = Request::get(self.path("tags/list")).body(connect::nothing());
        match ask(cluster, request.map_err(anyhow::Error::from)?).await {
            Ok(listed) => {
                let listed: Value = serde_json::from_slice(&listed).map_err(anyhow::Error::from)?;
                let tags = listed["tags"].as_array().into_iter().flatten();
                Ok(tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
            }
            Err(refused) if refused.is_not_found() => Ok(Vec::new()),
            Err(refused) => Err(refused),
        }
    }

    /// The digest that a tag of its repository leads to, and that of the only layer there.
    pub async fn layer(
        &self,
        cluster: &Connection,
        tag: &str,
    ) -> anyhow::Result<(String, Option<String>)> {
        let manifest = self.document(cluster, tag).await?;
        let layer = match Document::read(&manifest) {
            Ok(Document::Manifest(Manifest { layers, .. })) if layers.len() == 1 => {
                layers.into_iter().next().map(|layer| layer.digest)
            }
            // It is no build of ours.
            _ => None,
        };
        Ok((digest(&manifest), layer))
    }

    /// Takes a tag of its repository away, or a digest with all tags that lead to it.
    pub async fn remove(&self, cluster: &Connection, name: &str) -> Result<(), Refused> {
        let request = Request::delete(self.path(&format!("manifests/{name}")));
        let request = request.body(connect::nothing()).map_err(anyhow::Error::from)?;
        match ask(cluster, request).await {
            Err(refused) if !refused.is_not_found() => Err(refused),
            _ => Ok(()),
        }
    }

    async fn push_blob(
        &self,
        cluster: &Connection,
        bytes: &Bytes,
        digest: &str,
    ) -> Result<(), Refused> {
        let path = self.path(&format!("blobs/{digest}"));
        let is_there = Request::head(path).body(connect::nothing()).map_err(anyhow::Error::from)?;
        match ask(cluster, is_there).await {
            Err(refused) if refused.is_not_found() => {}
            known => return known.map(drop),
        }
        // Asked before anything is sent: a client that sends sees a broken connection, and not why it
        // is refused.
        let request = Request::post(self.path("blobs/uploads/")).body(connect::nothing());
        let request = request.map_err(anyhow::Error::from)?;
        let begun = cluster.clone().oneshot(request).await.map_err(anyhow::Error::from_boxed)?;
        let place = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let path = place.map(|place| format!("{place}?digest={digest}"));
        let status = begun.status();
        let body = begun.into_body().collect().await.map_err(anyhow::Error::from)?.to_bytes();
        answer(status, body)?;
        let path = path.context("the registry says no place to upload to")?;
        let request = Request::put(path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(whole(bytes.clone()))
            .map_err(anyhow::Error::from)?;
        ask(cluster, request).await.map(drop)
    }

    /// Gets the image as an archive of an OCI layout, of which the content was compared with its digests.
    pub async fn fetch(
        &self,
        cluster: &Connection,
        meter: &Meter,
    ) -> anyhow::Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        let mut archive = tar::Builder::new(file.reopen()?);
        let mut wanted =
            self.reference.digest.clone().unwrap_or_else(|| self.reference.tag.clone());
        let mut top = None;
        for _ in 0..DEPTH {
            let manifest = self.document(cluster, &wanted).await?;
            let of = Descriptor {
                media_type: MANIFEST_MEDIA_TYPE.to_owned(),
                digest: digest(&manifest),
                size: manifest.len() as u64,
                ..Descriptor::default()
            };
            append(&mut archive, &blob_path(&of.digest), &manifest)?;
            top.get_or_insert(of);
            match Document::read(&manifest)? {
                Document::Index(index) => wanted = pick(&index)?.0.digest.clone(),
                Document::Manifest(manifest) => {
                    for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                        meter.expect(part.size);
                        self.blob(cluster, part, &mut archive, meter).await?;
                    }
                    let index = json!({"schemaVersion": 2, "manifests": [top]});
                    append(&mut archive, "index.json", index.to_string().as_bytes())?;
                    archive.finish()?;
                    return Ok(file);
                }
            }
        }
        bail!("the index of {} leads to an index and so on", self.reference)
    }

    async fn document(&self, cluster: &Connection, wanted: &str) -> anyhow::Result<Bytes> {
        let accepted = [
            MANIFEST_MEDIA_TYPE,
            INDEX_MEDIA_TYPE,
            DOCKER_MANIFEST_MEDIA_TYPE,
            DOCKER_INDEX_MEDIA_TYPE,
        ];
        let request = Request::get(self.path(&format!("manifests/{wanted}")))
            .header(http::header::ACCEPT, accepted.join(", "))
            .body(connect::nothing())?;
        let asked = ask(cluster, request).await;
        let bytes = asked.map_err(|refused| match refused.is_not_found() {
            true => anyhow::anyhow!("{}: not found in the cluster's registry", self.reference),
            false => {
                let what = format!("{} can't be pulled", self.reference);
                anyhow::Error::from(refused).context(what)
            }
        })?;
        match wanted.contains(':') && digest(&bytes) != wanted {
            true => bail!("{wanted} came damaged: it has the digest {}", digest(&bytes)),
            false => Ok(bytes),
        }
    }

    /// One blob into the archive; it comes through a file, for it may be large.
    async fn blob(
        &self,
        cluster: &Connection,
        part: &Descriptor,
        archive: &mut tar::Builder<std::fs::File>,
        meter: &Meter,
    ) -> anyhow::Result<()> {
        let broken = || format!("{} can't be pulled: {} broke off", self.reference, part.digest);
        let path = self.path(&format!("blobs/{}", part.digest));
        let request = Request::get(path).body(connect::nothing())?;
        let response = cluster.clone().oneshot(request).await;
        let response = response.map_err(anyhow::Error::from_boxed).with_context(broken)?;
        if !response.status().is_success() {
            bail!("{} lacks {}: {}", self.reference, part.digest, response.status());
        }
        let (mut file, mut body) = (tempfile::tempfile()?, response.into_body());
        let (mut size_bytes, mut hasher) = (0, Hasher::default());
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.with_context(broken)?.into_data() else { continue };
            size_bytes += piece.len() as u64;
            if size_bytes > part.size {
                break;
            }
            hasher.add(&piece);
            file.write_all(&piece)?;
            meter.done(piece.len() as u64);
        }
        if size_bytes != part.size {
            bail!("{} is not the {} bytes that {} says", part.digest, part.size, self.reference);
        }
        let found = hasher.finish();
        if found != part.digest {
            bail!("{} of {} came damaged: it has the digest {found}", part.digest, self.reference);
        }
        file.rewind()?;
        let mut header = tar::Header::new_ustar();
        header.set_size(size_bytes);
        header.set_mode(0o644);
        Ok(archive.append_data(&mut header, blob_path(&part.digest), file)?)
    }

    fn path(&self, below: &str) -> String {
        format!("/v2/{}/{below}", self.repository)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn append(
    archive: &mut tar::Builder<std::fs::File>,
    path: &str,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    Ok(archive.append_data(&mut header, path, bytes)?)
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(BoxError::from).boxed_unsync()
}

/// The body of an answer; a refusal in the registry's words.
async fn ask(cluster: &Connection, request: Request<Body>) -> Result<Bytes, Refused> {
    let (status, body) = connect::ask_raw(cluster, request).await?;
    answer(status, body)
}

fn answer(status: StatusCode, body: Bytes) -> Result<Bytes, Refused> {
    if status.is_success() {
        return Ok(body);
    }
    let tree = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let said = tree["errors"][0]["message"].as_str().or(tree["message"].as_str());
    let message = match (said, status) {
        (Some(said), _) => said.to_owned(),
        (None, StatusCode::NOT_FOUND) => "the cluster has no such image, or no registry".to_owned(),
        (None, status) => format!("the cluster's registry answers {status}"),
    };
    Err(Refused::Status { status, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_names_are_the_cluster_s() {
        let check = |name: &str| match ClusterImage::of(name) {
            Ok(Some(image)) => image.repository,
            Ok(None) => "another's".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check("windlass.local/shop/cart:v1"), "shop/cart");
        let hex = "0".repeat(64);
        assert_eq!(check(&format!("windlass.local/shop/cart@sha256:{hex}")), "shop/cart");
        assert_eq!(check("windlass.local.example/shop/cart"), "another's");
        assert_eq!(check("shop/cart"), "another's");
        let wrong = "image name \"windlass.local/cart\" is not windlass.local/NAMESPACE/NAME:TAG";
        assert_eq!(check("windlass.local/cart"), wrong);
        assert!(check("windlass.local/shop/Cart").contains("must be lowercase"));
    }
}
