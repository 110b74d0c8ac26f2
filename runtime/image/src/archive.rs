//! What a person hands to `windlass image import`: a wasm file, a tar of an OCI layout, or what
//! `docker save` writes (with or without gzip). What it is, its bytes tell.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use serde::Deserialize;
use windlass_sdk_package::{
    Artifact, Descriptor, Document, IMAGE_CONFIG_MEDIA_TYPE, Index, MANIFEST_MEDIA_TYPE, Manifest,
    inspect,
};

use crate::{error::ImageError, extract::unpacked, reference::Reference, staging::Staging};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// How an image is called in a layout: by most tools, and by containerd's.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// `index.json` and `manifest.json`.
const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Files in an archive.
const FILES: usize = 10_000;

/// Takes the file's content into `out`; returns the digest of the document that the name leads to.
pub(crate) fn take_in(
    file: &Path,
    reference: &Reference,
    out: &Staging,
    bound_bytes: u64,
) -> Result<String, ImageError> {
    let io = |error| ImageError::io(file, error);
    let mut head = Vec::new();
    fs::File::open(file).map_err(io)?.take(512).read_to_end(&mut head).map_err(io)?;
    // The magic of POSIX and GNU tar.
    if head.starts_with(&[0x1f, 0x8b]) || head.get(257..262) == Some(b"ustar") {
        let files = read(file, out, bound_bytes)?;
        return files.top(reference, out);
    }
    let mut wasm = fs::File::open(file).map_err(io)?;
    let inspection = inspect(&mut wasm)?;
    io::Seek::rewind(&mut wasm).map_err(io)?;
    let (digest, size) = out.copy(&mut wasm, bound_bytes)?;
    let artifact = Artifact::build(&inspection, &digest, size);
    out.put(&artifact.config)?;
    out.put(&artifact.manifest)
}

#[derive(Default)]
struct Files {
    index: Option<Vec<u8>>,
    docker: Option<Vec<u8>>,
    /// Digest and size by path.
    content: BTreeMap<String, (String, u64)>,
    /// `docker save` of older engines links layers that images share.
    links: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn read(file: &Path, out: &Staging, bound_bytes: u64) -> Result<Files, ImageError> {
    let broken = |error: io::Error| ImageError::Archive(format!("can't be read: {error}"));
    let mut archive = tar::Archive::new(unpacked(file)?);
    let (mut files, mut left) = (Files::default(), bound_bytes);
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        if count >= FILES {
            return Err(ImageError::Archive(format!("has more than {FILES} files")));
        }
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").to_owned();
        if let Some(target) = entry.link_name().map_err(broken)? {
            let target = target.to_string_lossy().trim_start_matches("../").to_owned();
            files.links.insert(path, target);
            continue;
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if matches!(path.as_str(), "index.json" | "manifest.json") {
            let mut bytes = Vec::new();
            (&mut entry).take(DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(broken)?;
            let place = if path == "index.json" { &mut files.index } else { &mut files.docker };
            *place = Some(bytes);
            continue;
        }
        let (digest, size) = match out.copy(&mut entry, left) {
            Err(ImageError::TooLarge { .. }) => return Err(ImageError::TooLarge { bound_bytes }),
            copied => copied?,
        };
        left -= size;
        if let Some(hex) = path.strip_prefix("blobs/sha256/")
            && digest.trim_start_matches("sha256:") != hex
        {
            return Err(ImageError::Archive(format!("is damaged: {path} has another digest")));
        }
        files.content.insert(path, (digest, size));
    }
    Ok(files)
}

impl Files {
    fn top(&self, reference: &Reference, out: &Staging) -> Result<String, ImageError> {
        match (&self.index, &self.docker) {
            (Some(index), _) => from_layout(index, reference, out),
            (None, Some(docker)) => self.docker_image(docker, reference, out),
            (None, None) => Err(ImageError::Archive(
                "is no image: it has neither index.json (OCI layout) nor manifest.json (docker save)"
                    .into(),
            )),
        }
    }

    /// Builds the manifest that `docker save` of older engines leaves out.
    fn docker_image(
        &self,
        bytes: &[u8],
        reference: &Reference,
        out: &Staging,
    ) -> Result<String, ImageError> {
        let images: Vec<DockerImage> = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Archive(format!("has a wrong manifest.json: {error}")))?;
        let named = |image: &&DockerImage| {
            image.repo_tags.iter().flatten().any(|tag| is_called(tag, reference))
        };
        let image = match images.as_slice() {
            [only] => only,
            several => several.iter().find(named).ok_or_else(|| {
                let names = several.iter().flat_map(|image| image.repo_tags.iter().flatten());
                several_images(names.cloned().collect())
            })?,
        };
        let descriptor = |path: &String, media_type: &str| {
            let at = self.links.get(path).unwrap_or(path);
            let (digest, size) = self
                .content
                .get(at)
                .ok_or_else(|| ImageError::Archive(format!("lacks {path}, which it names")))?;
            Ok::<_, ImageError>(Descriptor {
                media_type: media_type.to_owned(),
                digest: digest.clone(),
                size: *size,
                ..Descriptor::default()
            })
        };
        let layers = image.layers.iter().map(|path| descriptor(path, LAYER));
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST_MEDIA_TYPE.to_owned()),
            config: descriptor(&image.config, IMAGE_CONFIG_MEDIA_TYPE)?,
            layers: layers.collect::<Result<_, _>>()?,
            annotations: BTreeMap::new(),
        };
        // Plain data with string keys has no way to fail.
        out.put(&serde_json::to_vec(&manifest).unwrap_or_default())
    }
}

fn from_layout(bytes: &[u8], reference: &Reference, out: &Staging) -> Result<String, ImageError> {
    let Document::Index(index) = Document::read(bytes)? else {
        return Err(ImageError::Archive("has an index.json that is no index".into()));
    };
    match choose(&index, reference)? {
        Some(entry) => Ok(entry.digest.clone()),
        None => out.put(bytes),
    }
}

/// The entry that is meant; None: all of them, one a platform.
fn choose<'a>(
    index: &'a Index,
    reference: &Reference,
) -> Result<Option<&'a Descriptor>, ImageError> {
    let names = |entry: &Descriptor| -> Vec<String> {
        NAMES.iter().filter_map(|key| entry.annotations.get(*key).cloned()).collect()
    };
    let named = |entry: &&Descriptor| names(entry).iter().any(|name| is_called(name, reference));
    match index.manifests.as_slice() {
        [only] => Ok(Some(only)),
        [] => Err(ImageError::Archive("holds no image".into())),
        several => match several.iter().find(named) {
            Some(entry) => Ok(Some(entry)),
            None if several.iter().all(|entry| entry.platform.is_some()) => Ok(None),
            None => Err(several_images(several.iter().flat_map(names).collect())),
        },
    }
}

/// Tools write the whole name, or the tag alone.
fn is_called(name: &str, reference: &Reference) -> bool {
    name.parse::<Reference>().is_ok_and(|name| name == *reference) || name == reference.tag
}

fn several_images(names: Vec<String>) -> ImageError {
    ImageError::Archive(format!(
        "holds several images: import it under the name of one of them ({})",
        names.join(", ")
    ))
}
