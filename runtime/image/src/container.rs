//! Images of ordinary containers from registries that the node's configuration names: fetched by the
//! node like any image, and handed to the container engine as an archive in the form of `docker
//! save`, so that mirrors, trust and credentials are the same for every image, and the engine needs
//! no configuration of its own. Nothing of it stays in the node's store. What the cluster's own
//! registry has goes to the engine in the same form.

use std::{
    fs::{self, File},
    io::BufReader,
};

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt};
use windlass_sdk_package::{Descriptor, Document, Manifest, PackageError};

use crate::{
    error::ImageError,
    pull::{Pull, Refused, size},
    reference::Reference,
    staging::{self, Staging},
    store::ImageStore,
    zstd::Frames,
};

/// An index in an index.
const DEPTH: usize = 3;
/// The largest image of a container, packed, and one layer of it unpacked.
const CONTAINER_LIMIT_BYTES: u64 = 16 << 30;
/// Of an archive on its way to the engine.
const PIPE_BYTES: usize = 256 << 10;
const BLOCK_BYTES: usize = 512;
const DIGEST: &str = "sha256:";

/// An image as an engine loads it.
pub struct ContainerArchive {
    /// The name that the engine gives it: a digest can't be a name of a loaded image.
    pub name: String,
    /// The engine's id of it: the digest of its config.
    pub id: String,
    pub size_bytes: u64,
    pub archive: std::pin::Pin<Box<dyn AsyncRead + Send>>,
}

/// The name under which an image is loaded: for a digest a tag that tells it, since engines learn
/// digests from registries only.
pub fn loaded_name(reference: &str) -> String {
    let Some((name, digest)) = reference.split_once('@') else { return reference.to_owned() };
    let without_tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let name = without_tag.map_or(name, |(name, _)| name);
    format!("{name}:{}", digest.replacen(':', "-", 1))
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Pull {
    /// Fetches a container's image for this machine, whole, to a staging folder.
    pub(crate) async fn container(self) -> Result<ContainerArchive, Refused> {
        let client = self.sign_in().await?;
        let top = self.document(&client, &self.remote).await?;
        let staging = self.store.staging()?;
        let mut bytes = top;
        let mut depth = 0;
        let manifest = loop {
            match Document::read(&bytes).map_err(ImageError::from)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) if depth < DEPTH => {
                    let entry = self.remote.clone_with_digest(native(&index.manifests)?);
                    bytes = self.document(&client, &entry).await?;
                    depth += 1;
                }
                Document::Index(_) => {
                    return Err(Refused::Other("its index leads to an index and so on".into()));
                }
            }
        };
        let size_bytes = size(&manifest, CONTAINER_LIMIT_BYTES)?;
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if !staging.path(&part.digest).is_file() {
                self.content(&client, part, &staging).await?;
            }
        }
        let wanted = self.wanted.clone();
        let made = move || archive(&manifest, &wanted, staging, size_bytes);
        Ok(stream(self.store.blocking(made).await?))
    }
}

/// The same of an image whose content a store has.
pub(crate) fn of_store(
    store: &ImageStore,
    top: &str,
    wanted: &Reference,
) -> Result<Archive, ImageError> {
    let (mut digest, mut depth) = (top.to_owned(), 0);
    let manifest = loop {
        match Document::read(&staging::document(&store.blob(&digest), &digest)?)? {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) if depth < DEPTH => digest = native(&index.manifests)?,
            Document::Index(_) => {
                return Err(ImageError::Archive("has an index that leads to an index".into()));
            }
        }
        depth += 1;
    };
    let size_bytes = size(&manifest, CONTAINER_LIMIT_BYTES)?;
    let staging = store.staging()?;
    for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
        let (from, to) = (store.blob(&part.digest), staging.path(&part.digest));
        // So that it stays while an engine reads it, whatever is dropped meanwhile.
        if !to.is_file() {
            fs::hard_link(&from, &to).map_err(|error| ImageError::io(&from, error))?;
        }
    }
    archive(&manifest, wanted, staging, size_bytes)
}

/// Begins to write the archive to whoever reads it.
pub(crate) fn stream(of: Archive) -> ContainerArchive {
    let Archive { name, id, size_bytes, parts, staging } = of;
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        // Whoever reads may stop; what breaks off is refused by the engine.
        if let Err(error) = write(far, &parts).await {
            tracing::debug!(%error, "an image on its way to the engine");
        }
        drop(staging);
    });
    ContainerArchive { name, id, size_bytes, archive: Box::pin(near) }
}

/// The entry of an index for this machine.
fn native(entries: &[Descriptor]) -> Result<String, ImageError> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|of| of.os == "linux" && of.architecture == architecture)
    };
    // One without a platform is for all.
    let found = entries.iter().find(fits).or(match entries {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    });
    found.map(|entry| entry.digest.clone()).ok_or_else(|| {
        let why = format!("its index has no entry for linux/{architecture}");
        PackageError::NotAnArtifact(why).into()
    })
}

/// One file of the archive: its name there, and what is in it.
enum Part {
    Bytes(String, Vec<u8>),
    File(String, std::path::PathBuf),
}

/// Name, id and files of an archive, and the folder that they are in.
pub(crate) struct Archive {
    name: String,
    id: String,
    size_bytes: u64,
    parts: Vec<Part>,
    staging: Staging,
}

fn archive(
    manifest: &Manifest,
    wanted: &Reference,
    staging: Staging,
    size_bytes: u64,
) -> Result<Archive, ImageError> {
    let id = manifest.config.digest.clone();
    let config = staging::document(&staging.path(&id), &id)?;
    let read: Config = serde_json::from_slice(&config).map_err(|error| {
        ImageError::Archive(format!("has a config that can't be read: {error}"))
    })?;
    if read.rootfs.diff_ids.len() != manifest.layers.len() {
        let (layers, told) = (manifest.layers.len(), read.rootfs.diff_ids.len());
        let why = format!("has {layers} layers, but its config tells of {told}");
        return Err(ImageError::Archive(why));
    }
    let name = loaded_name(&wanted.to_string());
    let file = |digest: &str, end: &str| format!("{}{end}", digest.trim_start_matches(DIGEST));
    let mut parts = vec![Part::Bytes(file(&id, ".json"), config)];
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let inside = file(&layer.digest, ".tar");
        layers.push(inside.clone());
        parts.push(Part::File(inside, unpacked(layer, &staging)?));
    }
    let told = json!([{"Config": file(&id, ".json"), "RepoTags": [name], "Layers": layers}]);
    parts.push(Part::Bytes("manifest.json".into(), told.to_string().into_bytes()));
    Ok(Archive { name, id, size_bytes, parts, staging })
}

/// The layer in a form that every engine reads: what is compressed by Zstandard is unpacked.
fn unpacked(layer: &Descriptor, staging: &Staging) -> Result<std::path::PathBuf, ImageError> {
    let path = staging.path(&layer.digest);
    if !layer.media_type.ends_with("+zstd") {
        return Ok(path);
    }
    let file = File::open(&path).map_err(|error| ImageError::io(&path, error))?;
    let (digest, _) =
        staging.copy(&mut Frames::new(BufReader::new(file)), CONTAINER_LIMIT_BYTES)?;
    Ok(staging.path(&digest))
}

async fn write(mut to: tokio::io::DuplexStream, parts: &[Part]) -> std::io::Result<()> {
    let header = |name: &str, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_path(name)?;
        header.set_cksum();
        Ok::<_, std::io::Error>(header)
    };
    for part in parts {
        let size = match part {
            Part::Bytes(name, bytes) => {
                to.write_all(header(name, bytes.len() as u64)?.as_bytes()).await?;
                to.write_all(bytes).await?;
                bytes.len() as u64
            }
            Part::File(name, path) => {
                let mut file = tokio::fs::File::open(path).await?;
                let size = file.metadata().await?.len();
                to.write_all(header(name, size)?.as_bytes()).await?;
                tokio::io::copy(&mut file, &mut to).await?
            }
        };
        let over = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or(0);
        to.write_all(&[0; BLOCK_BYTES][..(BLOCK_BYTES - over) % BLOCK_BYTES]).await?;
    }
    to.write_all(&[0; 2 * BLOCK_BYTES]).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loaded_images() {
        for (reference, expected) in [
            ("a.example/b:v1", "a.example/b:v1"),
            ("a.example:5000/b@sha256:0a", "a.example:5000/b:sha256-0a"),
            ("a.example:5000/b:v1@sha256:0a", "a.example:5000/b:sha256-0a"),
        ] {
            assert_eq!(loaded_name(reference), expected);
        }
    }
}
