//! The folder: `blobs/sha256/HEX`, `index.json`, `oci-layout` (OCI image layout 1.0), and `ingest/`
//! for what is on its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use windlass_runtime_api::Image;
use windlass_sdk_package::{
    Artifact, Hasher, MANIFEST_MEDIA_TYPE, Manifest, PackageError, digest, inspect,
};

use crate::reference::{Reference, ReferenceError};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const BUILTIN: &str = "windlass.dev/builtin";
/// Bytes that are read from an import at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The images of one node; clones share it.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    index: BTreeMap<String, Entry>,
    /// Content that was hashed since the store was opened.
    verified: BTreeSet<String>,
}

#[derive(Clone)]
struct Entry {
    digest: String,
    size: u64,
    builtin: bool,
}

/// An image that comes with the program. A later program's replaces it, a person's import stays.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub reference: &'static str,
    pub wasm: &'static [u8],
}

/// What a node tells about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub names: Vec<String>,
    pub digest: String,
    pub size_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image name {name:?}: {source}")]
    Reference { name: String, source: ReferenceError },
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("the image is larger than {bound_bytes} bytes")]
    TooLarge { bound_bytes: u64 },
    /// The sender went away, or the stream broke.
    #[error("the upload was interrupted: {0}")]
    Interrupted(io::Error),
    #[error("{path} is damaged ({why}); import the image again")]
    Damaged { path: String, why: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// `index.json`, as far as it is used.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl ImageStore {
    /// Opens a folder, making it where it isn't there; puts in the images that come with the
    /// program; removes imports that were cut off and content that no name leads to.
    pub fn open(dir: &Path, builtin: &[Builtin]) -> Result<Self, ImageError> {
        let ingest = dir.join("ingest");
        match fs::remove_dir_all(&ingest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&ingest, error));
            }
            _ => {}
        }
        for folder in [&dir.join("blobs/sha256"), &ingest] {
            fs::create_dir_all(folder).map_err(|error| io_error(folder, error))?;
        }
        let state = State { index: read_index(dir)?, verified: BTreeSet::new() };
        let store = Self(Arc::new(Inner { dir: dir.to_owned(), state: Mutex::new(state) }));
        store.write(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for image in builtin {
            store.add_builtin(image)?;
        }
        store.remove_unused();
        Ok(store)
    }

    /// Takes in wasm bytes under a name, at most `bound_bytes` of them. Until it returns nothing of
    /// it can be seen, and if it fails nothing is left.
    pub async fn import(
        &self,
        reference: &str,
        mut wasm: impl AsyncRead + Unpin,
        bound_bytes: u64,
    ) -> Result<Image, ImageError> {
        let reference = parse(reference)?;
        let part = self.part()?;
        let file = part.reopen().map_err(|error| io_error(part.path(), error))?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut hasher, mut size, mut piece) = (Hasher::default(), 0, vec![0; PIECE_BYTES]);
        loop {
            let read = wasm.read(&mut piece).await.map_err(ImageError::Interrupted)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > bound_bytes {
                return Err(ImageError::TooLarge { bound_bytes });
            }
            hasher.add(&piece[..read]);
            let written = file.write_all(&piece[..read]).await;
            written.map_err(|error| io_error(part.path(), error))?;
        }
        file.sync_all().await.map_err(|error| io_error(part.path(), error))?;
        let store = self.clone();
        let add = move || store.add(&reference, part, &hasher.finish(), size, false);
        match tokio::task::spawn_blocking(add).await {
            Ok(added) => added,
            Err(error) => Err(io_error(&self.0.dir, io::Error::other(error))),
        }
    }

    /// The image with this name, where it is here. The first time after `open` its content is
    /// hashed and compared.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let wanted = parse(reference)?;
        let Some(entry) = self.entry(&wanted) else { return Ok(None) };
        let manifest = Manifest::read(&self.verified_blob(&entry.digest)?)?;
        let Some(wasm) = manifest.wasm() else { return Ok(None) };
        let path = self.blob(&wasm.digest);
        self.verify(&wasm.digest, wasm.size)?;
        Ok(Some(Image {
            reference: reference.to_owned(),
            digest: entry.digest,
            wasm_digest: wasm.digest.clone(),
            wasm_path: path,
        }))
    }

    /// Everything that is here, by digest.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.0.state.lock();
        let mut by_digest: BTreeMap<&str, Listed> = BTreeMap::new();
        for (name, entry) in &state.index {
            let listed = by_digest.entry(&entry.digest).or_insert_with(|| Listed {
                names: Vec::new(),
                digest: entry.digest.clone(),
                size_bytes: entry.size,
            });
            listed.names.push(name.clone());
        }
        by_digest.into_values().collect()
    }

    fn add_builtin(&self, image: &Builtin) -> Result<(), ImageError> {
        let reference = parse(image.reference)?;
        let wasm_digest = digest(image.wasm);
        let inspection = inspect(&mut io::Cursor::new(image.wasm))?;
        let artifact = Artifact::build(&inspection, &wasm_digest, image.wasm.len() as u64);
        let known = self.entry(&reference);
        let is_so = known.as_ref().is_some_and(|known| known.digest == artifact.digest);
        if known.is_some_and(|known| !known.builtin) || (is_so && self.blob(&wasm_digest).exists())
        {
            return Ok(());
        }
        let part = self.part()?;
        fs::write(part.path(), image.wasm).map_err(|error| io_error(part.path(), error))?;
        self.add(&reference, part, &wasm_digest, image.wasm.len() as u64, true).map(drop)
    }

    /// Moves whole content to its place, then makes its name known.
    fn add(
        &self,
        reference: &Reference,
        part: NamedTempFile,
        wasm_digest: &str,
        size: u64,
        builtin: bool,
    ) -> Result<Image, ImageError> {
        let mut file = part.reopen().map_err(|error| io_error(part.path(), error))?;
        let artifact = Artifact::build(&inspect(&mut file)?, wasm_digest, size);
        let wasm_path = self.blob(wasm_digest);
        part.persist(&wasm_path).map_err(|error| io_error(&wasm_path, error.error))?;
        self.write(&self.blob(&artifact.config_digest), &artifact.config)?;
        self.write(&self.blob(&artifact.digest), &artifact.manifest)?;
        let mut state = self.0.state.lock();
        // The blobs were replaced by what was just hashed.
        state.verified.extend([wasm_digest.to_owned(), artifact.digest.clone()]);
        let entry = Entry { digest: artifact.digest.clone(), size, builtin };
        state.index.insert(reference.to_string(), entry);
        self.write_index(&state.index)?;
        Ok(Image {
            reference: reference.to_string(),
            digest: artifact.digest,
            wasm_digest: wasm_digest.to_owned(),
            wasm_path,
        })
    }

    fn entry(&self, wanted: &Reference) -> Option<Entry> {
        let state = self.0.state.lock();
        match &wanted.digest {
            None => state.index.get(&wanted.to_string()).cloned(),
            Some(digest) => state
                .index
                .iter()
                .find(|(name, entry)| {
                    let same_name = name.parse::<Reference>().is_ok_and(|r| r.name == wanted.name);
                    entry.digest == *digest && same_name
                })
                .map(|(_, entry)| entry.clone()),
        }
    }

    fn verify(&self, wanted: &str, size: u64) -> Result<(), ImageError> {
        let path = self.blob(wanted);
        let found = fs::metadata(&path).map_err(|error| io_error(&path, error))?.len();
        if found != size {
            return Err(damaged(&path, format!("it has {found} bytes instead of {size}")));
        }
        if self.0.state.lock().verified.contains(wanted) {
            return Ok(());
        }
        let mut file = fs::File::open(&path).map_err(|error| io_error(&path, error))?;
        let (mut hasher, mut piece) = (Hasher::default(), vec![0; PIECE_BYTES]);
        loop {
            let read = io::Read::read(&mut file, &mut piece);
            match read.map_err(|error| io_error(&path, error))? {
                0 => break,
                read => hasher.add(&piece[..read]),
            }
        }
        if hasher.finish() != wanted {
            return Err(damaged(&path, "its content has another digest".to_owned()));
        }
        self.0.state.lock().verified.insert(wanted.to_owned());
        Ok(())
    }

    fn verified_blob(&self, wanted: &str) -> Result<Vec<u8>, ImageError> {
        let path = self.blob(wanted);
        let bytes = fs::read(&path).map_err(|error| io_error(&path, error))?;
        if digest(&bytes) != wanted {
            return Err(damaged(&path, "its content has another digest".to_owned()));
        }
        Ok(bytes)
    }

    /// Content of images whose name was given to another is dropped when nothing runs yet.
    fn remove_unused(&self) {
        let mut used = BTreeSet::new();
        for entry in self.0.state.lock().index.values() {
            used.insert(entry.digest.clone());
            let manifest = fs::read(self.blob(&entry.digest)).ok();
            let Some(manifest) = manifest.and_then(|bytes| Manifest::read(&bytes).ok()) else {
                continue;
            };
            used.insert(manifest.config.digest.clone());
            used.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        let Ok(blobs) = fs::read_dir(self.0.dir.join("blobs/sha256")) else { return };
        for blob in blobs.flatten() {
            let digest = format!("sha256:{}", blob.file_name().to_string_lossy());
            if !used.contains(&digest)
                && let Err(error) = fs::remove_file(blob.path())
            {
                tracing::warn!(path = %blob.path().display(), %error, "unused content stays");
            }
        }
    }

    fn write_index(&self, index: &BTreeMap<String, Entry>) -> Result<(), ImageError> {
        let manifests = index.iter().map(|(name, entry)| {
            let mut annotations = BTreeMap::from([(REF_NAME.to_owned(), name.clone())]);
            if entry.builtin {
                annotations.insert(BUILTIN.to_owned(), "true".to_owned());
            }
            IndexEntry {
                media_type: MANIFEST_MEDIA_TYPE.to_owned(),
                digest: entry.digest.clone(),
                size: entry.size,
                annotations,
            }
        });
        let index = Index { schema_version: 2, manifests: manifests.collect() };
        let path = self.0.dir.join("index.json");
        let bytes = serde_json::to_vec(&index).map_err(|error| io_error(&path, error.into()))?;
        self.write(&path, &bytes)
    }

    /// Writes a small file whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let part = self.part()?;
        fs::write(part.path(), bytes)
            .and_then(|()| part.as_file().sync_all())
            .map_err(|error| io_error(part.path(), error))?;
        part.persist(path).map(drop).map_err(|error| io_error(path, error.error))
    }

    fn part(&self) -> Result<NamedTempFile, ImageError> {
        let ingest = self.0.dir.join("ingest");
        NamedTempFile::new_in(&ingest).map_err(|error| io_error(&ingest, error))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.0.dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }
}

fn read_index(dir: &Path) -> Result<BTreeMap<String, Entry>, ImageError> {
    let path = dir.join("index.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error(&path, error)),
    };
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
    let entries = index.manifests.into_iter().filter_map(|entry| {
        let builtin = entry.annotations.contains_key(BUILTIN);
        let name = entry.annotations.get(REF_NAME)?.clone();
        Some((name, Entry { digest: entry.digest, size: entry.size, builtin }))
    });
    Ok(entries.collect())
}

fn parse(reference: &str) -> Result<Reference, ImageError> {
    reference.parse().map_err(|source| ImageError::Reference { name: reference.to_owned(), source })
}

fn damaged(path: &Path, why: String) -> ImageError {
    ImageError::Damaged { path: path.display().to_string(), why }
}

fn io_error(path: &Path, source: io::Error) -> ImageError {
    ImageError::Io { path: path.display().to_string(), source }
}
