//! The folder: `blobs/sha256/HEX`, `index.json`, `oci-layout` (OCI image layout 1.0), `settled/HEX`
//! for what was decided about each image, `trees/HEX` for files that components of Spin applications
//! see, and `ingest/` for what is on its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};
use windlass_runtime_api::Image;
use windlass_sdk_package::{
    Artifact, BY_POD, Form, MANIFEST_MEDIA_TYPE, PackageError, digest, inspect,
};

use crate::{
    archive,
    error::ImageError,
    pull::Pulls,
    reference::Reference,
    registries::Registries,
    settle::{Settled, settle},
    staging::{Staging, digest_of},
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const BUILTIN: &str = "windlass.dev/builtin";
const PULLED: &str = "windlass.dev/pulled";
const PUSHED: &str = "windlass.dev/pushed";
const LEFT: &str = "windlass.dev/left";
/// Nothing of it runs on a node by itself.
const OTHER: &str = "windlass.dev/other";
/// Bytes that are read from an import at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// The largest image, packed and unpacked.
pub const IMAGE_LIMIT_BYTES: u64 = 512 * 1024 * 1024;

/// The images of one node; clones share it.
#[derive(Clone)]
pub struct ImageStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub dir: PathBuf,
    pub state: Mutex<State>,
    /// Held by who brings content until a name leads to it, and alone by who drops content.
    pub gate: RwLock<()>,
    pulls: Pulls,
    registries: Registries,
    pub pushed: Notify,
    /// Images that pods use, where it is known which.
    pub users: OnceLock<Users>,
}

/// Names of images that pods use now; None while that isn't known.
pub type Users = Box<dyn Fn() -> Option<Vec<String>> + Send + Sync>;

#[derive(Default)]
pub(crate) struct State {
    pub index: Names,
    /// Content that was hashed since the store was opened.
    pub verified: BTreeSet<String>,
}

pub(crate) type Names = BTreeMap<String, Entry>;

#[derive(Clone)]
pub(crate) struct Entry {
    pub digest: String,
    /// Bytes of the wasm, or of all where there is none.
    pub size: u64,
    pub origin: Origin,
    /// It is kept and served, and is no wasm for this node: a container's image, a signature.
    pub is_other: bool,
}

/// Where an image of the node came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It comes with the program.
    Builtin,
    /// A person put it on the node: there may be no registry that has it.
    Imported,
    Pulled,
    /// A client of the cluster's registry brought it.
    Pushed,
    /// The cluster's registry had it and has it no more; it stays on the node while pods use it.
    Left,
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

/// Everything the node knows of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    pub name: String,
    pub digest: String,
    pub origin: Origin,
    #[serde(flatten)]
    pub settled: Settled,
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
        Self::open_with(dir, builtin, Registries::default())
    }

    /// The same for a node that is told how to reach registries.
    pub fn open_with(
        dir: &Path,
        builtin: &[Builtin],
        registries: Registries,
    ) -> Result<Self, ImageError> {
        let ingest = dir.join("ingest");
        match fs::remove_dir_all(&ingest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::io(&ingest, error));
            }
            _ => {}
        }
        for folder in [&dir.join("blobs/sha256"), &dir.join("settled"), &dir.join("trees"), &ingest]
        {
            fs::create_dir_all(folder).map_err(|error| ImageError::io(folder, error))?;
        }
        let state = State { index: read_index(dir)?, verified: BTreeSet::new() };
        let store = Self(Arc::new(Inner {
            dir: dir.to_owned(),
            state: Mutex::new(state),
            gate: RwLock::default(),
            pulls: Pulls::default(),
            registries,
            pushed: Notify::new(),
            users: OnceLock::new(),
        }));
        store.write(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for image in builtin {
            store.add_builtin(image)?;
        }
        store.remove_unused()?;
        Ok(store)
    }

    /// Takes in an image under a name, at most `bound_bytes` of it: a wasm binary, or an archive of
    /// an OCI layout or of `docker save`, which the bytes tell. Until it returns nothing of it can be
    /// seen, and if it fails nothing is left.
    pub async fn import(
        &self,
        reference: &str,
        mut upload: impl AsyncRead + Unpin,
        bound_bytes: u64,
    ) -> Result<Image, ImageError> {
        let reference = parse(reference)?;
        let part = self.part()?;
        let file = part.reopen().map_err(|error| ImageError::io(part.path(), error))?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut size, mut piece) = (0, vec![0; PIECE_BYTES]);
        loop {
            let read = upload.read(&mut piece).await.map_err(ImageError::Interrupted)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > bound_bytes {
                return Err(ImageError::TooLarge { bound_bytes });
            }
            let written = file.write_all(&piece[..read]).await;
            written.map_err(|error| ImageError::io(part.path(), error))?;
        }
        file.flush().await.map_err(|error| ImageError::io(part.path(), error))?;
        drop(file);
        let store = self.clone();
        let add = move || {
            let staging = store.staging()?;
            let top = archive::take_in(part.path(), &reference, &staging, bound_bytes)?;
            drop(part);
            store.commit(staging, &reference, &top, false, Origin::Imported)
        };
        self.blocking(add).await
    }

    /// The image with this name, where it is here. The first time after `open` its content is
    /// hashed and compared.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        self.find_for(reference, false)
    }

    /// The same for a pod that may say that the image holds wasm.
    pub fn find_for(
        &self,
        reference: &str,
        pod_says_wasm: bool,
    ) -> Result<Option<Image>, ImageError> {
        let Some(found) = self.inspect_for(reference, pod_says_wasm)? else { return Ok(None) };
        self.verify(&found.settled.wasm_digest, found.settled.wasm_size)?;
        self.image(reference, &found.digest, &found.settled).map(Some)
    }

    /// What is known of the image with this name, where it is here.
    pub fn inspect(&self, reference: &str) -> Result<Option<Inspected>, ImageError> {
        self.inspect_for(reference, true)
    }

    fn inspect_for(
        &self,
        reference: &str,
        pod_says_wasm: bool,
    ) -> Result<Option<Inspected>, ImageError> {
        let wanted = parse(reference)?;
        let Some((name, entry)) = self.entry(&wanted) else { return Ok(None) };
        let settled = self.settled(&entry.digest, pod_says_wasm)?;
        Ok(Some(Inspected { name, digest: entry.digest, origin: entry.origin, settled }))
    }

    /// Where the image with this name came from, where it is here.
    pub fn origin(&self, reference: &str) -> Option<Origin> {
        let (_, entry) = self.entry(&parse(reference).ok()?)?;
        Some(entry.origin)
    }

    /// All wasm that is here, by digest.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.0.state.lock();
        let mut by_digest: BTreeMap<&str, Listed> = BTreeMap::new();
        for (name, entry) in state.index.iter().filter(|(_, entry)| !entry.is_other) {
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
        let known = self.entry(&reference).map(|(_, entry)| entry);
        let is_so = known.as_ref().is_some_and(|known| known.digest == artifact.digest);
        let own = known.is_some_and(|known| known.origin != Origin::Builtin);
        if own || (is_so && self.blob(&wasm_digest).exists()) {
            return Ok(());
        }
        let staging = self.staging()?;
        for content in [image.wasm, &artifact.config, &artifact.manifest] {
            staging.put(content)?;
        }
        self.commit(staging, &reference, &artifact.digest, false, Origin::Builtin).map(drop)
    }

    /// Decides what the image is, moves its content to its place, then makes its name known.
    pub(crate) fn commit(
        &self,
        staging: Staging,
        reference: &Reference,
        top: &str,
        pod_says_wasm: bool,
        origin: Origin,
    ) -> Result<Image, ImageError> {
        let places = |digest: &str| {
            let places = [staging.path(digest), self.blob(digest)];
            places.into_iter().find(|path| path.is_file())
        };
        let _held = self.hold();
        let settled = settle(top, pod_says_wasm, &places, &staging, IMAGE_LIMIT_BYTES)?;
        self.place(&staging, top, &settled)?;
        self.name(reference, top, &settled, origin)
    }

    /// Moves what an image needs from a staging folder to its place, and keeps what was decided.
    pub(crate) fn place(
        &self,
        staging: &Staging,
        top: &str,
        settled: &Settled,
    ) -> Result<(), ImageError> {
        for digest in &settled.content {
            let (from, to) = (staging.path(digest), self.blob(digest));
            if from.is_file() {
                fs::rename(&from, &to).map_err(|error| ImageError::io(&to, error))?;
                // It was hashed on its way in.
                self.0.state.lock().verified.insert(digest.clone());
            }
        }
        self.keep_settled(top, settled)
    }

    /// Gives an image that is here whole a name (more).
    pub(crate) fn name(
        &self,
        reference: &Reference,
        top: &str,
        settled: &Settled,
        origin: Origin,
    ) -> Result<Image, ImageError> {
        // First: an image whose files are not all there gets no name.
        let image = self.image(&reference.to_string(), top, settled)?;
        let (digest, size) = (top.to_owned(), settled.wasm_size);
        let entry = Entry { digest, size, origin, is_other: false };
        self.change(|index| set(index, reference, entry))?;
        Ok(image)
    }

    /// Changes what names lead to; on disk first, so that no failure is half done.
    pub(crate) fn change<T>(&self, how: impl FnOnce(&mut Names) -> T) -> Result<T, ImageError> {
        let mut state = self.0.state.lock();
        let mut index = state.index.clone();
        let done = how(&mut index);
        self.write_index(&index)?;
        state.index = index;
        Ok(done)
    }

    /// Keeps content from being dropped until a name leads to it.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.0.gate.read_recursive()
    }

    /// What was decided about the image with this digest; decided again where that isn't kept. What
    /// only a pod's word told is kept apart: for another pod the image is a container.
    fn settled(&self, top: &str, pod_says_wasm: bool) -> Result<Settled, ImageError> {
        match self.settled_so(top, false) {
            Err(ImageError::Package(PackageError::Container(_))) if pod_says_wasm => {
                self.settled_so(top, true)
            }
            settled => settled,
        }
    }

    fn settled_so(&self, top: &str, by_pod: bool) -> Result<Settled, ImageError> {
        // The name leads to the first document: it must be what was decided about.
        crate::staging::document(&self.blob(top), top)?;
        let kept = fs::read(self.settled_path(top, by_pod)).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Settled>(&bytes).ok());
        // A node of an earlier version left the application out.
        let whole = |settled: &Settled| {
            settled.decision.form != Form::SpinApplication || settled.decision.spin.is_some()
        };
        if let Some(settled) = kept.filter(whole) {
            return Ok(settled);
        }
        let (staging, _held) = (self.staging()?, self.hold());
        let places = |digest: &str| Some(self.blob(digest)).filter(|path| path.is_file());
        let settled = settle(top, by_pod, &places, &staging, IMAGE_LIMIT_BYTES)?;
        let (from, to) = (staging.path(&settled.wasm_digest), self.blob(&settled.wasm_digest));
        if from.is_file() {
            fs::rename(&from, &to).map_err(|error| ImageError::io(&to, error))?;
        }
        self.keep_settled(top, &settled)?;
        Ok(settled)
    }

    fn keep_settled(&self, top: &str, settled: &Settled) -> Result<(), ImageError> {
        let path = self.settled_path(top, settled.decision.why == BY_POD);
        let bytes =
            serde_json::to_vec(settled).map_err(|error| ImageError::io(&path, error.into()))?;
        self.write(&path, &bytes)
    }

    /// The image with this digest where all its content is here, whatever it is called.
    pub(crate) fn whole(&self, top: &str, pod_says_wasm: bool) -> Option<Settled> {
        let settled = self.settled(top, pod_says_wasm).ok()?;
        let there = settled.content.iter().all(|digest| self.blob(digest).is_file());
        (there && self.verify(&settled.wasm_digest, settled.wasm_size).is_ok()).then_some(settled)
    }

    pub(crate) fn pulls(&self) -> &Pulls {
        &self.0.pulls
    }

    pub(crate) fn registries(&self) -> &Registries {
        &self.0.registries
    }

    pub(crate) fn staging(&self) -> Result<Staging, ImageError> {
        Staging::new(&self.0.dir.join("ingest"))
    }

    /// Runs what reads and writes files off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => Err(ImageError::io(&self.0.dir, io::Error::other(error))),
        }
    }

    pub(crate) fn entry(&self, wanted: &Reference) -> Option<(String, Entry)> {
        let state = self.0.state.lock();
        let is_wanted = |(name, entry): &(&String, &Entry)| match &wanted.digest {
            None => **name == wanted.to_string(),
            Some(digest) => {
                let same_name = name.parse::<Reference>().is_ok_and(|r| r.name == wanted.name);
                entry.digest == *digest && same_name
            }
        };
        let found = match &wanted.digest {
            None => state.index.get_key_value(&wanted.to_string()),
            Some(_) => state.index.iter().find(is_wanted),
        };
        found.map(|(name, entry)| (name.clone(), entry.clone()))
    }

    fn verify(&self, wanted: &str, size: u64) -> Result<(), ImageError> {
        let path = self.blob(wanted);
        let found = fs::metadata(&path).map_err(|error| ImageError::io(&path, error))?.len();
        if found != size {
            return Err(ImageError::damaged(
                &path,
                format!("it has {found} bytes instead of {size}"),
            ));
        }
        if self.0.state.lock().verified.contains(wanted) {
            return Ok(());
        }
        if digest_of(&path).map_err(|error| ImageError::io(&path, error))? != wanted {
            return Err(ImageError::damaged(&path, "its content has another digest"));
        }
        self.0.state.lock().verified.insert(wanted.to_owned());
        Ok(())
    }

    /// The digests that names lead to.
    pub(crate) fn tops(&self) -> Vec<String> {
        self.0.state.lock().index.values().map(|entry| entry.digest.clone()).collect()
    }

    fn write_index(&self, index: &Names) -> Result<(), ImageError> {
        let manifests = index.iter().map(|(name, entry)| {
            let mut annotations = BTreeMap::from([(REF_NAME.to_owned(), name.clone())]);
            let origin = match entry.origin {
                Origin::Builtin => Some(BUILTIN),
                Origin::Pulled => Some(PULLED),
                Origin::Pushed => Some(PUSHED),
                Origin::Left => Some(LEFT),
                Origin::Imported => None,
            };
            let marks = origin.into_iter().chain(entry.is_other.then_some(OTHER));
            annotations.extend(marks.map(|key| (key.to_owned(), "true".to_owned())));
            IndexEntry {
                media_type: MANIFEST_MEDIA_TYPE.to_owned(),
                digest: entry.digest.clone(),
                size: entry.size,
                annotations,
            }
        });
        let index = Index { schema_version: 2, manifests: manifests.collect() };
        let path = self.0.dir.join("index.json");
        let bytes =
            serde_json::to_vec(&index).map_err(|error| ImageError::io(&path, error.into()))?;
        self.write(&path, &bytes)
    }

    /// Writes a small file whole or not at all.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let part = self.part()?;
        fs::write(part.path(), bytes)
            .and_then(|()| part.as_file().sync_all())
            .map_err(|error| ImageError::io(part.path(), error))?;
        part.persist(path).map(drop).map_err(|error| ImageError::io(path, error.error))
    }

    pub(crate) fn part(&self) -> Result<NamedTempFile, ImageError> {
        let ingest = self.0.dir.join("ingest");
        NamedTempFile::new_in(&ingest).map_err(|error| ImageError::io(&ingest, error))
    }

    pub(crate) fn settled_path(&self, digest: &str, by_pod: bool) -> PathBuf {
        let suffix = if by_pod { ".by-pod" } else { "" };
        self.0.dir.join("settled").join(digest.trim_start_matches("sha256:").to_owned() + suffix)
    }

    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.0.dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }
}

/// Makes a name lead to an image. What was pushed stays by its digest when its tag is given to another.
pub(crate) fn set(index: &mut Names, reference: &Reference, entry: Entry) {
    let (digest, is_pushed) = (entry.digest.clone(), entry.origin == Origin::Pushed);
    let before = index.insert(reference.to_string(), entry);
    let moved = before.filter(|before| before.origin == Origin::Pushed && before.digest != digest);
    if let Some(before) = moved {
        keep_by_digest(index, reference, before);
    }
    if is_pushed && !reference.tag.is_empty() {
        index.remove(&by_digest(reference, &digest).to_string());
    }
}

/// Gives a pushed image that lost a tag its digest as a name, unless it has another tag.
pub(crate) fn keep_by_digest(index: &mut Names, of: &Reference, entry: Entry) {
    let same = |(name, known): (&String, &Entry)| {
        known.digest == entry.digest
            && known.origin != Origin::Left
            && name.parse::<Reference>().is_ok_and(|r| r.name == of.name)
    };
    if !index.iter().any(same) {
        index.insert(by_digest(of, &entry.digest).to_string(), entry);
    }
}

pub(crate) fn by_digest(of: &Reference, digest: &str) -> Reference {
    Reference { tag: String::new(), digest: Some(digest.to_owned()), ..of.clone() }
}

fn read_index(dir: &Path) -> Result<Names, ImageError> {
    let path = dir.join("index.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Names::new()),
        Err(error) => return Err(ImageError::io(&path, error)),
    };
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| ImageError::damaged(&path, error.to_string()))?;
    let entries = index.manifests.into_iter().filter_map(|entry| {
        let has = |key| entry.annotations.contains_key(key);
        let origin = match () {
            () if has(BUILTIN) => Origin::Builtin,
            () if has(PULLED) => Origin::Pulled,
            () if has(PUSHED) => Origin::Pushed,
            () if has(LEFT) => Origin::Left,
            () => Origin::Imported,
        };
        let name = entry.annotations.get(REF_NAME)?.clone();
        let (digest, size, is_other) = (entry.digest, entry.size, has(OTHER));
        Some((name, Entry { digest, size, origin, is_other }))
    });
    Ok(entries.collect())
}

pub(crate) fn parse(reference: &str) -> Result<Reference, ImageError> {
    reference.parse().map_err(|source| ImageError::Reference { name: reference.to_owned(), source })
}
